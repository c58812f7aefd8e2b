import json

from sqlalchemy import select, update

from mcp_server.errors import InvalidRequestError
from mcp_server.store.schema import studies, trials, workspace_info
from mcp_server.workspace import Workspace
from tests.cli.test_status import run


def test_doctor_is_content_with_a_fresh_workspace(workspace: Workspace) -> None:
    result = run(workspace, "doctor")

    assert result.exit_code == 0, result.output
    assert "No study yet." in result.output
    assert "All 11 invariants hold." in result.output


def test_doctor_finds_a_damaged_database(finished: Workspace) -> None:
    for file in finished.settings.workspace.glob("optuna.db-*"):
        file.unlink()
    (finished.settings.workspace / "optuna.db").write_bytes(b"not a database at all" * 100)

    result = run(finished, "doctor")

    assert result.exit_code == 1
    assert "FAIL  I8: optuna.db is damaged" in result.output


def test_doctor_says_when_nobody_runs_a_study(finished: Workspace) -> None:
    with finished.store.write() as connection:
        connection.execute(update(studies).values(state="queued"))

    assert "warn  Nobody runs study." in run(finished, "doctor").output


def test_doctor_finds_trials_that_run_in_a_study_that_ended(finished: Workspace) -> None:
    with finished.store.write() as connection:
        connection.execute(update(trials).where(trials.c.number == 1).values(state="running"))

    result = run(finished, "doctor")

    assert result.exit_code == 1
    assert "FAIL  I5: study 'study', trial 1: it is marked as running in a study that is finished" in result.output


def test_doctor_as_json_has_what_was_found_and_what_is_broken(finished: Workspace) -> None:
    with finished.store.write() as connection:
        connection.execute(update(studies).values(n_trials=9))

    told = json.loads(run(finished, "doctor", "--json").output)

    assert {finding["level"] for finding in told["findings"]} >= {"ok"}
    (broken,) = told["violations"]
    assert (broken["invariant"], broken["study"]) == ("I3", "study")


def test_repairs_are_in_the_json_when_nobody_is_asked(finished: Workspace) -> None:
    half = finished.settings.workspace / "mlflow.db.new"
    half.write_text("half", encoding="utf-8")

    refused = run(finished, "doctor", "--json", "--repair")
    assert isinstance(refused.exception, InvalidRequestError)
    assert half.exists()

    told = json.loads(run(finished, "doctor", "--json", "--repair", "--yes").output)
    assert (told["repaired"], told["violations"]) == ([f"Remove {half}."], [])


def test_a_workspace_of_a_newer_version_is_told_beside_everything_else(finished: Workspace) -> None:
    with finished.store.write() as connection:
        connection.execute(update(workspace_info).where(workspace_info.c.key == "schema_version").values(value="999"))

    result = run(finished, "doctor")

    assert result.exit_code == 1
    assert "FAIL  The workspace was written by a newer version" in result.output
    assert "All required packages are there" in result.output


def test_a_repair_that_fails_is_told_and_the_others_are_done(finished: Workspace) -> None:
    with finished.store.write() as connection:
        spec = connection.scalar(select(studies.c.spec))
        connection.execute(update(studies).values(spec={**spec, "space": {"x": {"low": 2, "high": 1}}}))
        connection.execute(update(trials).where(trials.c.number == 1).values(state="running"))
    half = finished.settings.workspace / "mlflow.db.new"
    half.write_text("half", encoding="utf-8")

    told = run(finished, "doctor", "--repair", "--yes").output

    assert "FAIL  End what is marked as running in study 'study'. This version cannot read the study." in told
    assert f"done  Remove {half}." in told
