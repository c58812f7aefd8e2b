import json
from collections import Counter
from pathlib import Path

import optuna
import psutil
import pytest
from sqlalchemy import select, update

from mcp_server.access import Principal, Role
from mcp_server.errors import StudyExistsError
from mcp_server.execution import Ended, TrialResult
from mcp_server.store.schema import attempts, outbox, studies, trials
from mcp_server.studies.ledger import Ledger
from mcp_server.studies.projection import Attempt
from mcp_server.studies.stopping import FAILURES_WITHOUT_SUCCESS
from mcp_server.workspace import Workspace
from tests.studies.running import callable_spec, open_memory, run_inline

HERE = str(Path(__file__).parent)
pytestmark = pytest.mark.stores


def spec(objective: str = "quadratic", **changed: object):
    return callable_spec(**{"objective": f"study_objectives:{objective}", "python_path": [HERE], **changed})


def start(workspace: Workspace, objective: str = "quadratic", **changed: object) -> None:
    workspace.studies.start(spec(objective, **changed), "tester")


def memory_of(workspace: Workspace, name: str = "study") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=f"sqlite:///{workspace.settings.workspace / 'optuna.db'}")


def study_id(workspace: Workspace) -> str:
    with workspace.store.read() as connection:
        return connection.execute(select(studies.c.id)).scalar_one()


def table(workspace: Workspace, name: str = "study") -> list[tuple[int, str, dict, float | None]]:
    return [(t.number, t.state, t.params, t.value) for t in workspace.studies.read.trials(name)]


def agree(workspace: Workspace) -> None:
    """Optuna has the same trials as we do, one to one."""
    states = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
    ours = [(t.number, states[t.state], t.value) for t in workspace.studies.read.trials("study")]
    known = memory_of(workspace).trials
    theirs = [(t.number, t.state.name, t.value if t.state.name == "COMPLETE" else None) for t in known]
    assert ours == theirs


def test_a_study_runs_its_total_of_trials_and_finishes(workspace: Workspace) -> None:
    start(workspace, n_trials=8)
    run_inline(workspace)

    status = workspace.studies.read.status("study")
    assert (status.state, status.stop_reason, status.n_complete) == ("finished", "trials", 8)
    assert status.best_value == min(value for *_, value in table(workspace))
    agree(workspace)


def test_ten_then_twenty_runs_exactly_the_ten_that_are_missing(workspace: Workspace) -> None:
    start(workspace, n_trials=10)
    run_inline(workspace)
    first = table(workspace)

    start(workspace, n_trials=20)
    run_inline(workspace)

    assert table(workspace)[:10] == first
    assert [number for number, *_ in table(workspace)] == list(range(20))
    agree(workspace)


def test_a_resume_with_a_number_of_parallel_trials_sets_it_whatever_was_ordered_before(workspace: Workspace) -> None:
    start(workspace, n_trials=3, parallel=1)
    workspace.studies.control("study", "set_parallel", Principal("tester", Role.OPERATOR), parallel=2)
    run_inline(workspace)

    start(workspace, n_trials=6, parallel=1)

    with workspace.store.read() as connection:
        assert connection.scalar(select(studies.c.parallel)) == 1


def test_a_resume_that_asks_for_no_more_trials_is_refused_with_the_state(workspace: Workspace) -> None:
    start(workspace, n_trials=3)
    run_inline(workspace)

    with pytest.raises(StudyExistsError, match=r"exists \(finished, 3 trials in total\).*n_trials > 3"):
        start(workspace, n_trials=3)


def test_a_resume_with_a_changed_space_lists_the_differences(workspace: Workspace) -> None:
    start(workspace, n_trials=3)

    with pytest.raises(StudyExistsError, match=r"search_space x: float -5\.\.5 -> float -1\.\.1"):
        start(workspace, n_trials=9, search_space={"x": {"low": -1.0, "high": 1.0}, "k": ["a", "b"]})


def test_a_lost_attempt_runs_again_under_its_own_number(workspace: Workspace, tmp_path: Path) -> None:
    start(workspace, "count_calls", n_trials=4, payload={"folder": str(tmp_path)})
    ledger = Ledger(workspace.store, workspace.settings, study_id(workspace))
    memory = open_memory(workspace, ledger)
    ledger.begin()
    memory.rebuild([])
    params = memory.begin(0, None)
    ledger.trials.open(Attempt(0, 0, params, "sampler", 1.0), "log")  # and here everything is killed

    memory.close()
    run_inline(workspace)

    assert Counter((tmp_path / "calls.txt").read_text().split()) == {"0": 1, "1": 1, "2": 1, "3": 1}
    assert table(workspace)[0][2] == params
    with workspace.store.read() as connection:
        assert connection.execute(
            select(attempts.c.attempt, attempts.c.state).where(attempts.c.number == 0).order_by(attempts.c.attempt)
        ).all() == [(0, "lost"), (1, "completed")]
    agree(workspace)


def test_a_trial_that_was_asked_for_but_never_recorded_is_used_again(workspace: Workspace) -> None:
    start(workspace, n_trials=4)
    ledger = Ledger(workspace.store, workspace.settings, study_id(workspace))
    memory = open_memory(workspace, ledger)
    ledger.begin()
    memory.rebuild([])
    memory.begin(0, None)  # the sampler has chosen, we have no row: killed in between

    memory.close()
    run_inline(workspace)

    assert [number for number, *_ in table(workspace)] == [0, 1, 2, 3]
    agree(workspace)


def test_a_result_that_optuna_never_heard_of_is_told_to_it(workspace: Workspace) -> None:
    start(workspace, n_trials=3)
    ledger = Ledger(workspace.store, workspace.settings, study_id(workspace))
    memory = open_memory(workspace, ledger)
    ledger.begin()
    memory.rebuild([])
    attempt = Attempt(0, 0, memory.begin(0, None), "sampler", 1.0)
    ledger.trials.open(attempt, "log")
    memory.opened(0, attempt.params)
    ledger.trials.close(attempt, Ended("j", "completed", 1.0, 1.0, TrialResult(42.0)), 1.0)  # killed before tell

    memory.close()
    run_inline(workspace)

    assert memory_of(workspace).trials[0].value == 42.0
    agree(workspace)


def test_a_deleted_sampler_memory_is_rebuilt_from_our_rows(workspace: Workspace) -> None:
    start(workspace, n_trials=5)
    run_inline(workspace)
    for file in workspace.settings.workspace.glob("optuna.db*"):
        file.unlink()

    start(workspace, n_trials=8)
    run_inline(workspace)

    assert len(memory_of(workspace).trials) == 8
    agree(workspace)


def test_a_trial_that_kills_its_worker_twice_is_failed_for_good(workspace: Workspace) -> None:
    start(workspace, n_trials=2)
    ledger = Ledger(workspace.store, workspace.settings, study_id(workspace))
    memory = open_memory(workspace, ledger)
    ledger.begin()
    memory.rebuild([])
    params = memory.begin(0, None)
    for number in range(2):
        attempt = Attempt(0, number, params, "sampler", 1.0)
        ledger.trials.open(attempt, "log")
        ledger.trials.lose(attempt, Ended("j", "lost", 1.0, error="killed"))

    memory.close()
    run_inline(workspace)

    poisoned = workspace.studies.read.trials("study")[0]
    assert poisoned.state == "failed"
    assert "killed its worker 2 times" in (poisoned.error or "")
    agree(workspace)


def test_a_failing_objective_fails_its_trials_only_and_keeps_the_reasons(workspace: Workspace) -> None:
    start(workspace, "raises_on_b", n_trials=12, sampler="random", seed=3)
    run_inline(workspace)

    status = workspace.studies.read.status("study")
    all_trials = workspace.studies.read.trials("study")
    failed = [t for t in all_trials if t.state == "failed"]
    assert status.state == "finished"
    assert status.n_failed == len(failed) == sum(t.params["k"] == "b" for t in all_trials) > 0
    assert {t.error for t in failed} == {"ValueError: b is not for me"}
    assert status.failures == {"failed": len(failed)}
    agree(workspace)


def test_a_study_whose_trials_all_fail_stops_with_the_reason(workspace: Workspace) -> None:
    start(workspace, "not_a_number", n_trials=50)
    run_inline(workspace)

    status = workspace.studies.read.status("study")
    assert (status.state, status.stop_reason, status.n_failed) == ("failed", "all_failed", FAILURES_WITHOUT_SUCCESS)
    assert "nan" in (status.error or "").lower()


@pytest.mark.parametrize(("warmup", "interval", "cut_at"), [(1, 1, 3), (4, 1, 5), (1, 3, 5)])
def test_the_median_pruner_cuts_a_bad_curve_at_the_first_step_it_may(
    workspace: Workspace, warmup: int, interval: int, cut_at: int
) -> None:
    start(
        workspace,
        "ramp",
        n_trials=4,
        direction="maximize",
        sampler="grid",
        search_space={"good": [3, 2, 1, 0]},
        pruner={"type": "median", "n_startup_trials": 3, "n_warmup_steps": warmup, "interval_steps": interval},
    )
    run_inline(workspace)

    last = workspace.studies.read.trials("study")[-1]
    assert (last.state, len(last.folds or [])) == ("pruned", cut_at)
    agree(workspace)


def test_without_a_pruner_nothing_is_cut(workspace: Workspace) -> None:
    start(
        workspace, "curve", n_trials=6, direction="maximize", sampler="grid", pruner="none",
        search_space={"x": [3.0, 2.0, 2.5, -9.0, -8.0, -7.0]},
    )  # fmt: skip
    run_inline(workspace)

    assert {t.state for t in workspace.studies.read.trials("study")} == {"complete"}


def test_the_wilcoxon_pruner_compares_folds_with_the_best_trial(workspace: Workspace) -> None:
    start(
        workspace, "curve", n_trials=2, direction="maximize", sampler="grid", search_space={"x": [3.0, -9.0]},
        pruner={"type": "wilcoxon", "p_threshold": 0.1, "n_startup_steps": 2},
    )  # fmt: skip
    run_inline(workspace)

    good, bad = workspace.studies.read.trials("study")
    assert (good.state, bad.state) == ("complete", "pruned")
    assert len(bad.folds or []) < 10


def test_the_grid_runs_every_point_once_and_says_that_it_is_exhausted(workspace: Workspace) -> None:
    start(workspace, n_trials=100, sampler="grid", search_space={"x": [1.0, 2.0, 3.0], "k": ["a", "b"]})
    run_inline(workspace)

    assert {tuple(params.values()) for *_, params, _ in table(workspace)} == {
        (x, k) for x in (1.0, 2.0, 3.0) for k in "ab"
    }
    status = workspace.studies.read.status("study")
    assert (status.state, status.stop_reason, status.n_complete) == ("finished", "grid_exhausted", 6)
    agree(workspace)


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_same_seed_gives_the_same_table(workspace: Workspace, sampler: str) -> None:
    for name in ("one", "two", "other"):
        start(workspace, name=name, n_trials=15, sampler=sampler, seed=7 if name != "other" else 8)
        run_inline(workspace, name)

    assert table(workspace, "one") == table(workspace, "two") != table(workspace, "other")


def test_the_first_trials_of_tpe_do_not_depend_on_results(workspace: Workspace) -> None:
    sampler = {"type": "tpe", "n_startup_trials": 5}
    for name, objective in (("one", "quadratic"), ("two", "raises_on_b")):
        start(workspace, objective, name=name, n_trials=5, sampler=sampler)
        run_inline(workspace, name)

    assert [params for *_, params, _ in table(workspace, "one")] == [
        params for *_, params, _ in table(workspace, "two")
    ]


def test_the_status_echoes_the_settings_of_the_sampler(workspace: Workspace) -> None:
    start(workspace, sampler={"type": "tpe", "n_startup_trials": 5})

    status = workspace.studies.read.status("study")
    assert status.sampler == {"type": "tpe", "n_startup_trials": 5, "multivariate": True, "constant_liar": True}


def test_a_stopped_study_keeps_what_finished_and_goes_on_when_resumed(workspace: Workspace) -> None:
    start(workspace, n_trials=5)
    run_inline(workspace)
    workspace.studies.control("study", "extend", "tester", n_trials=9)
    workspace.studies.control("study", "stop", "tester")
    run_inline(workspace)
    stopped = workspace.studies.read.status("study")
    assert (stopped.state, stopped.stop_reason, stopped.n_complete) == ("stopped", "user", 5)

    workspace.studies.control("study", "resume", "tester")
    run_inline(workspace)

    assert workspace.studies.read.status("study").n_complete == 9


def test_a_paused_study_starts_nothing_until_it_is_resumed(workspace: Workspace) -> None:
    start(workspace, n_trials=5)
    workspace.studies.control("study", "pause", "tester")
    run_inline(workspace)
    assert workspace.studies.read.status("study").state in {"paused", "queued"}
    assert table(workspace) == []

    workspace.studies.control("study", "resume", "tester")
    run_inline(workspace)

    assert workspace.studies.read.status("study").n_complete == 5


def test_a_study_past_its_time_stops_with_that_reason(workspace: Workspace) -> None:
    start(workspace, n_trials=5, timeout_s=100.0)
    with workspace.store.write() as connection:
        connection.execute(update(studies).values(elapsed_s=100.0))  # earlier runners used it up
    run_inline(workspace)

    status = workspace.studies.read.status("study")
    assert (status.state, status.stop_reason) == ("stopped", "timeout")


def test_no_trial_starts_that_the_cost_budget_does_not_cover(workspace: Workspace) -> None:
    start(workspace, n_trials=5, cost_budget_usd=1.0)
    run_inline(workspace)
    assert workspace.studies.read.status("study").state == "finished", "without a price nothing costs anything"

    with workspace.store.write() as connection:
        connection.execute(update(attempts).values(cost_usd=0.19))
    start(workspace, n_trials=9)
    run_inline(workspace)

    status = workspace.studies.read.status("study")
    assert (status.state, status.stop_reason, len(table(workspace))) == ("stopped", "budget", 5)


def test_every_ended_trial_is_owed_to_tracking_in_the_same_transaction(workspace: Workspace) -> None:
    start(workspace, n_trials=4)
    run_inline(workspace)

    with workspace.store.read() as connection:
        kinds = Counter(connection.scalars(select(outbox.c.kind)))
        payload = connection.scalars(select(outbox.c.payload).where(outbox.c.kind == "trial")).first()
    assert kinds == {"study": 1, "trial": 4, "study_end": 1}
    assert json.loads(json.dumps(payload))["best_so_far"] == table(workspace)[0][3]
    assert workspace.studies.read.status("study").tracking.pending == 6


def test_each_attempt_is_a_job_with_state_log_and_times(workspace: Workspace) -> None:
    start(workspace, n_trials=2)
    run_inline(workspace)

    jobs = workspace.studies.read.jobs("study")
    assert [(j.job_id, j.state) for j in jobs] == [("study/0/0", "completed"), ("study/1/0", "completed")]
    assert all(j.ended_at is not None and j.ended_at >= j.started_at and j.log_path for j in jobs)


def test_a_trial_row_holds_what_optuna_holds(workspace: Workspace) -> None:
    start(workspace, n_trials=6)
    run_inline(workspace)

    with workspace.store.read() as connection:
        rows = connection.execute(
            select(trials.c.number, trials.c.params, trials.c.value).order_by(trials.c.number)
        ).all()
    assert [(t.number, t.params, t.value) for t in memory_of(workspace).trials] == [tuple(r) for r in rows]


def test_the_best_trial_is_the_same_for_status_final_test_and_tracking(workspace: Workspace) -> None:
    start(workspace, n_trials=8, sampler="random", direction="minimize")
    run_inline(workspace)

    lowest = min(workspace.studies.read.trials("study"), key=lambda trial: trial.value or 0.0)
    best = Ledger(workspace.store, workspace.settings, study_id(workspace)).trials.best()
    with workspace.store.read() as connection:
        told = connection.scalars(select(outbox.c.payload).where(outbox.c.kind == "study_end")).one()
    assert workspace.studies.read.status("study").best_trial == lowest.number
    assert best == (lowest.number, lowest.params)
    assert told["metrics"]["best_value"] == lowest.value
    assert workspace.studies.read.page().studies.rows[0][-1] == lowest.value
    assert workspace.studies.read.compare("study", 1).trials.rows[0][0] == lowest.number


def test_a_study_that_somebody_deletes_from_optunas_file_goes_on(workspace: Workspace) -> None:
    start(workspace, n_trials=3)
    run_inline(workspace)
    optuna.delete_study(study_name="study", storage=f"sqlite:///{workspace.settings.workspace / 'optuna.db'}")

    start(workspace, n_trials=6)
    run_inline(workspace)

    assert workspace.studies.read.status("study").n_complete == 6
    agree(workspace)


def test_a_damaged_file_of_optuna_harms_no_study(workspace: Workspace) -> None:
    workspace.settings.workspace.mkdir(parents=True, exist_ok=True)
    (workspace.settings.workspace / "optuna.db").write_text("this is not a database", encoding="utf-8")

    start(workspace, n_trials=3)
    run_inline(workspace)

    assert workspace.studies.read.status("study").state == "finished"


def test_a_study_that_ended_has_closed_the_file_of_optuna(workspace: Workspace) -> None:
    workspace.studies.start(callable_spec(n_trials=2), "tester")
    run_inline(workspace)

    mine = str(workspace.settings.workspace / "optuna.db")
    assert not [file.path for file in psutil.Process().open_files() if file.path.startswith(mine)]


def test_the_tags_of_a_study_are_owed_to_all_of_its_runs(workspace: Workspace) -> None:
    start(workspace, n_trials=2, tags={"ticket": "A-7"})
    run_inline(workspace)

    with workspace.store.read() as connection:
        owed = [p for p in connection.scalars(select(outbox.c.payload)) if p["kind"] != "study_end"]
    assert len(owed) == 3
    assert {p["tags"]["ticket"] for p in owed} == {"A-7"}
