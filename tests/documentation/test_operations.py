"""Every command and every setting of the page on operations, as it is written there."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mcp_server.cli import application
from mcp_server.health import PROMISES
from mcp_server.settings import Settings
from mcp_server.workspace import Workspace
from tests.conftest import eventually
from tests.processes.test_kill import OBJECTIVES, live
from tests.studies.running import callable_spec

__all__ = ["live"]

PAGE = (Path(__file__).resolve().parents[2] / "docs/howto/operations.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.process
def test_every_command_of_the_page_does_what_it_says(live: Workspace, tmp_path: Path) -> None:
    payload = {"folder": str(tmp_path), "hold": 1}
    spec = callable_spec(
        "churn", objective="study_objectives:gated", python_path=[OBJECTIVES], n_trials=4, payload=payload
    )
    live.studies.start(spec, "local")
    eventually(lambda: list(tmp_path.glob("pid-1-*")))
    lines = [line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines()]

    for line in lines:
        program, *words = shlex.split(line)
        done = CliRunner().invoke(
            application(), words, env={"TUNING_WORKSPACE": str(live.settings.workspace), "COLUMNS": "200"}
        )
        assert program == "tuning-mcp"
        assert done.exit_code == 0, (line, done.output, done.exception)

    assert len(lines) == 14
    assert [line.split()[1] for line in lines].count("resume") == 2


def test_the_settings_of_the_page_are_accepted(tmp_path: Path) -> None:
    (block,) = blocks("toml")
    (tmp_path / "tuning.toml").write_text(block, encoding="utf-8")

    loaded = Settings.load({}, workspace=tmp_path)

    assert loaded.notify_command == ("notify-send", "{title}", "{message}")


def test_the_page_lists_the_invariants_as_the_code_has_them() -> None:
    assert dict(re.findall(r"^\| (I\d+) \| (.*) \|$", PAGE, re.MULTILINE)) == dict(PROMISES)
