"""The command line around the server."""

from importlib.metadata import version

import pytest
from typer.testing import CliRunner

from mcp_server import cli


def run(*arguments):
    return CliRunner().invoke(cli.application(), arguments)


def test_the_help_names_every_command():
    told = run("--help").output

    assert all(f"  {name} " in told for name in cli.COMMANDS)


def test_serve_has_the_options_that_clients_configurations_use():
    told = run("serve", "--help").output

    options = ["--transport", "--host", "--port", "--workspace", "--data-root", "--role", "--toolsets", "--read-only"]
    assert [option for option in options if option not in told] == []


def test_version_is_the_one_of_the_distribution():
    assert run("version").output.strip() == version("tuning-mcp")


def test_a_setting_that_is_not_allowed_ends_in_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["tuning-mcp", "serve"])
    monkeypatch.setenv("TUNING_ROLE", "boss")

    with pytest.raises(SystemExit) as ended:
        cli.main()

    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("tuning-mcp: Setting 'role'")
    assert len(told.splitlines()) == 1


def test_only_the_command_that_is_named_is_imported(monkeypatch):
    asked = []
    monkeypatch.setattr(cli, "import_module", lambda name: asked.append(name) or __import__(name, fromlist=["x"]))
    monkeypatch.setattr("sys.argv", ["tuning-mcp", "version"])

    with pytest.raises(SystemExit):
        cli.main()

    assert asked == ["mcp_server.cli.serve"]
