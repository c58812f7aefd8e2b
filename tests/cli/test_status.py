import csv
import io
import json

from sqlalchemy import update
from typer.testing import CliRunner, Result

from mcp_server.cli import application
from mcp_server.store.schema import studies
from mcp_server.workspace import Workspace
from tests.studies.running import callable_spec


def run(workspace: Workspace, *arguments: str) -> Result:
    return CliRunner().invoke(application(), [*arguments, "--workspace", str(workspace.settings.workspace)])


def test_status_lists_the_studies(finished: Workspace) -> None:
    printed = run(finished, "status").output

    assert "study" in printed
    assert "finished" in printed


def test_status_of_one_study_says_how_it_went(finished: Workspace) -> None:
    printed = run(finished, "status", "study").output

    assert finished.studies.read.status("study").message in printed.replace("\n", " ")


def test_status_as_json_is_the_same_as_the_tool_s_answer(finished: Workspace) -> None:
    printed = json.loads(run(finished, "status", "study", "--json").output)

    assert printed["best_value"] == finished.studies.read.status("study").best_value


def test_the_exported_history_equals_what_is_stored(finished: Workspace) -> None:
    rows = list(csv.DictReader(io.StringIO(run(finished, "status", "study", "--trials").output)))

    stored = finished.studies.read.trials("study")
    assert [(int(r["number"]), r["state"], float(r["value"]), float(r["params.x"]), r["params.k"]) for r in rows] == [
        (t.number, t.state, t.value, t.params["x"], t.params["k"]) for t in stored
    ]


def test_an_unknown_study_is_an_error_with_near_names(finished: Workspace) -> None:
    result = run(finished, "status", "studi")

    assert result.exit_code != 0
    assert "Did you mean study?" in str(result.exception)


def test_text_that_looks_like_markup_is_printed_as_it_is(workspace: Workspace) -> None:
    workspace.studies.start(callable_spec("a[bold]b", n_trials=1), "tester")
    with workspace.store.write() as connection:
        connection.execute(update(studies).values(state="failed", error="no column [/tmp/x] or [age] :smile:"))

    assert "a[bold]b" in run(workspace, "status").output
    assert "no column [/tmp/x] or [age] :smile:" in run(workspace, "status", "a[bold]b").output


def test_a_token_of_the_wrong_type_is_not_repeated_in_the_error(workspace: Workspace) -> None:
    workspace.settings.workspace.mkdir(parents=True, exist_ok=True)
    (workspace.settings.workspace / "tuning.toml").write_text("http_token = 1234567890", encoding="utf-8")

    result = run(workspace, "status")

    assert "http_token" in str(result.exception)
    assert "1234567890" not in str(result.exception)


def test_the_queue_is_printed_for_people_and_for_programs(workspace: Workspace) -> None:
    workspace.studies.start(callable_spec("waiting", n_trials=3), "ann")

    told = run(workspace, "queue")
    assert "Nothing" not in told.output
    assert "waiting" in told.output
    assert json.loads(run(workspace, "queue", "--json").output)["studies"]["rows"][0][0] == "waiting"
