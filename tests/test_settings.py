from pathlib import Path

import pytest

from mcp_server.errors import InvalidRequestError
from mcp_server.settings import Settings
from mcp_server.workspace import Workspace


def test_the_command_line_beats_the_environment_which_beats_the_file(tmp_path: Path) -> None:
    (tmp_path / "tuning.toml").write_text('role = "viewer"\nport = 1111\nagent = "file"\n', encoding="utf-8")
    environment = {"TUNING_WORKSPACE": str(tmp_path), "TUNING_PORT": "2222", "TUNING_ROLE": "admin"}

    settings = Settings.load(environment, role="operator")

    assert (settings.role, settings.port, settings.agent) == ("operator", 2222, "file")


def test_the_role_may_also_be_set_by_the_name_that_clients_know() -> None:
    assert Settings.load({"MCP_SERVER_ROLE": "viewer"}).role == "viewer"
    assert Settings.load({"MCP_SERVER_ROLE": "viewer", "TUNING_ROLE": "admin"}).role == "admin"


def test_folders_come_as_a_path_list_and_toolsets_by_commas(tmp_path: Path) -> None:
    environment = {"TUNING_DATA_ROOTS": f"{tmp_path}/a:{tmp_path}/b", "TUNING_TOOLSETS": "tuning, team"}

    settings = Settings.load(environment)

    assert settings.data_roots == (tmp_path / "a", tmp_path / "b")
    assert settings.toolsets == ("tuning", "team")


def test_a_workspace_that_a_database_address_would_cut_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="must not contain"):
        Settings.load({}, workspace=tmp_path / "a?b")


@pytest.mark.parametrize("name", ["a #1", "50% more", "été & co"])
def test_an_unusual_workspace_keeps_its_databases_inside(tmp_path: Path, name: str) -> None:
    with Workspace(Settings(workspace=tmp_path / name)) as workspace:
        assert workspace.studies.read.page().total == 0

    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name / "workspace.db").exists()


@pytest.mark.parametrize(
    ("environment", "name"),
    [({"TUNING_PORT": "eighty"}, "port"), ({"TUNING_ROLE": "root"}, "role"), ({"TUNING_PARALLEL": "0"}, "parallel")],
)
def test_a_bad_value_names_the_setting_and_where_it_can_be_set(environment: dict[str, str], name: str) -> None:
    with pytest.raises(InvalidRequestError, match=rf"Setting '{name}'.*TUNING_{name.upper()}"):
        Settings.load(environment)


def test_a_file_that_is_no_toml_and_one_with_an_unknown_key_are_named(tmp_path: Path) -> None:
    (tmp_path / "tuning.toml").write_text("role =", encoding="utf-8")
    with pytest.raises(InvalidRequestError, match="not valid TOML"):
        Settings.load({}, workspace=tmp_path)

    (tmp_path / "tuning.toml").write_text('rolle = "admin"', encoding="utf-8")
    with pytest.raises(InvalidRequestError, match="'rolle'"):
        Settings.load({}, workspace=tmp_path)
