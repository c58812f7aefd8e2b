"""The contract of executors as tests: subclass, build yours, run pytest.

```python
class TestMyExecutor(ProcessExecutorContract):
    def build(self, slots: int) -> Executor:
        return MyExecutor(slots)
```
"""

import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import JsonValue

from mcp_server.errors import ConflictError
from mcp_server.execution import Charged, Ended, Executor, Reported
from mcp_server.testing.bench import Bench, running
from mcp_server.types import AttemptState


class ExecutorContract(ABC):
    """What holds for every executor. Subclasses are called `Test...` and build theirs."""

    @abstractmethod
    def build(self, slots: int) -> Executor:
        """An executor with so many slots; the suite closes it."""

    @pytest.fixture
    def bench(self, tmp_path: Path) -> Iterator[Bench]:
        """An executor with two slots on the bench."""
        executor = self.build(2)
        yield Bench(executor, tmp_path)
        executor.close()

    def test_a_trial_completes_with_its_value_and_its_time(self, bench: Bench) -> None:
        ended = bench.run("quadratic")
        assert (ended.state, ended.error) == ("completed", None)
        assert ended.result is not None
        assert ended.result.value == pytest.approx(0.75**2 + 2**2)
        assert ended.seconds > 0

    def test_processor_time_is_measured(self, bench: Bench) -> None:
        assert 0.1 <= bench.run("busy", seconds=0.2).cpu_seconds < 30  # noqa: PLR2004 - a fifth of a second, and slack

    def test_the_parts_of_a_result_arrive(self, bench: Bench) -> None:
        result = bench.run("return_parts").result
        assert result is not None
        assert (result.value, result.std, result.folds, result.metrics) == (0.5, 0.25, [0.25, 0.75], {"seconds": 2.0})

    def test_reports_come_in_order_and_before_the_end(self, bench: Bench) -> None:
        task = bench.submit("report_values", values=[3.0, 2.0, 1.0])
        for step, value in enumerate([3.0, 2.0, 1.0]):
            assert bench.report() == Reported(task.job_id, step, value, value)
            bench.executor.answer(task.job_id, prune=False)
        ended = bench.end()
        assert (ended.job_id, ended.state) == (task.job_id, "completed")

    def test_a_trial_waits_for_the_answer_to_its_report(self, bench: Bench) -> None:
        task = bench.submit("report_values", values=[3.0, 2.0])
        bench.report()
        assert bench.executor.wait(0.2) == []
        bench.executor.answer(task.job_id, prune=False)
        assert bench.report().step == 1

    def test_a_trial_that_is_told_to_stop_ends_as_pruned(self, bench: Bench) -> None:
        task = bench.submit("report_values", values=[3.0, 2.0, 1.0])
        bench.report()
        bench.executor.answer(task.job_id, prune=True)
        ended = bench.end()
        assert (ended.state, ended.result) == ("pruned", None)

    def test_a_report_carries_the_running_score_and_a_step_counts_once(self, bench: Bench) -> None:
        task = bench.submit("report_running")
        assert bench.report() == Reported(task.job_id, 3, 0.5, 0.25)
        bench.executor.answer(task.job_id, prune=False)
        (ended,) = bench.executor.wait(60.0)
        assert isinstance(ended, Ended)

    def test_charges_arrive_before_the_end(self, bench: Bench) -> None:
        task = bench.submit("charge", token_prices={"small": [1e-3, 0.0]})
        *charges, ended = bench.events(3)
        assert charges == [Charged(task.job_id, 0.25), Charged(task.job_id, 1.0)]
        assert isinstance(ended, Ended)

    @pytest.mark.parametrize(("value", "reason"), [(float("nan"), "reported nan at step 0"), ("0.9", "reported 0.9")])
    def test_a_report_that_is_no_finite_number_fails_the_trial(
        self, bench: Bench, value: JsonValue, reason: str
    ) -> None:
        ended = bench.run("report_values", values=[value])
        assert ended.state == "failed"
        assert reason in str(ended.error)

    def test_an_exception_fails_the_trial_with_its_type_and_text(self, bench: Bench) -> None:
        ended = bench.run("fail", message="the learning rate\nis negative")
        assert (ended.state, ended.error) == ("failed", "ValueError: the learning rate is negative")

    def test_running_out_of_memory_is_told_apart(self, bench: Bench) -> None:
        assert bench.run("fail_allocation").state == "oom"

    def test_sys_exit_without_a_metric_fails_the_trial(self, bench: Bench) -> None:
        ended = bench.run("exit_early")
        assert (ended.state, ended.error) == ("failed", "the trial called sys.exit(0) without returning a metric")

    @pytest.mark.parametrize(
        ("kind", "reason"),
        [
            ("nan", "objective returned nan"),
            ("inf", "objective returned inf"),
            ("text", "objective returned 0.9 (str) and not a number"),
            ("none", "objective returned None (NoneType) and not a number"),
            ("list", "objective returned [0.9] (list) and not a number"),
            ("bool", "objective returned True (bool) and not a number"),
            ("huge", "objective returned a number that is too large"),
        ],
    )
    def test_a_result_that_cannot_be_optimised_fails_the_trial(self, bench: Bench, kind: str, reason: str) -> None:
        ended = bench.run("return_oddity", kind=kind)
        assert (ended.state, ended.error) == ("failed", reason)

    def test_an_objective_that_cannot_be_loaded_fails_the_trial(self, bench: Bench) -> None:
        ended = bench.run("missing")
        assert ended.state == "failed"
        assert "has no attribute 'missing'" in str(ended.error)

    def test_objectives_are_found_on_the_python_path_of_the_task(self, bench: Bench) -> None:
        (bench.folder / "objective_of_a_user.py").write_text("def score(trial):\n    return 0.125\n")
        result = bench.run("objective_of_a_user:score", python_path=[str(bench.folder)]).result
        assert result is not None
        assert result.value == 0.125  # noqa: PLR2004 - what the file says

    def test_running_out_of_memory_of_a_gpu_is_told_by_its_name(self, bench: Bench) -> None:
        name = "OutOfMemoryError"  # as torch.cuda's, which is a RuntimeError
        code = f"class {name}(RuntimeError): pass\ndef fail(trial):\n    raise {name}('CUDA out of memory')\n"
        (bench.folder / "objective_of_a_gpu.py").write_text(code)
        assert bench.run("objective_of_a_gpu:fail", python_path=[str(bench.folder)]).state == "oom"

    def test_slots_are_never_exceeded_and_free_again_at_an_end(self, bench: Bench) -> None:
        jobs = {bench.wait_for_go()[0].job_id for _ in range(2)}
        with pytest.raises(ConflictError, match="slots are busy"):
            bench.submit("noop")
        bench.go_file.touch()
        assert {ended.job_id for ended in bench.ends(2)} == jobs
        assert bench.run("noop").state == "completed"

    def test_slots_change_while_trials_run(self, bench: Bench) -> None:
        bench.executor.resize(1)
        assert bench.executor.slots == 1
        bench.wait_for_go()
        with pytest.raises(ConflictError):
            bench.submit("noop")
        bench.executor.resize(2)
        assert bench.run("noop").state == "completed"

    def test_a_job_id_is_taken_while_it_runs(self, bench: Bench) -> None:
        task, _ = bench.wait_for_go()
        with pytest.raises(ConflictError, match=task.job_id):
            bench.executor.submit(task)

    def test_a_cancelled_trial_ends_once_and_as_cancelled(self, bench: Bench) -> None:
        task, _ = bench.wait_for_go()
        bench.executor.cancel(task.job_id)
        bench.executor.cancel(task.job_id)
        ended = bench.end()
        assert (ended.job_id, ended.state) == (task.job_id, "cancelled")
        assert bench.run("noop").state == "completed"

    def test_answers_and_cancels_for_jobs_that_are_not_there_are_ignored(self, bench: Bench) -> None:
        for job_id in (bench.run("noop").job_id, "never seen"):
            bench.executor.answer(job_id, prune=True)
            bench.executor.cancel(job_id)
        assert bench.executor.wait(0.05) == []

    def test_waiting_comes_back_empty_when_nothing_happens(self, bench: Bench) -> None:
        assert bench.executor.wait(0.01) == []

    def test_two_executors_work_side_by_side(self, bench: Bench, tmp_path: Path) -> None:
        bench.wait_for_go()
        other = self.build(1)
        try:
            assert Bench(other, tmp_path).run("noop").state == "completed"
        finally:
            other.close()
        bench.go_file.touch()
        assert bench.end().state == "completed"


class ProcessExecutorContract(ExecutorContract):
    """What holds besides for an executor whose trials are processes on this machine."""

    def test_an_exit_past_python_fails_the_trial(self, bench: Bench) -> None:
        ended = bench.run("exit_at_once", code=0)
        assert ended.state == "failed"
        assert ended.error == "the trial's process ended with exit code 0 without returning a metric"

    def test_charges_of_a_trial_that_dies_arrive(self, bench: Bench) -> None:
        task = bench.submit("charge", token_prices={"small": [1e-3, 0.0]}, then="exit")
        *charges, ended = bench.events(3)
        assert charges == [Charged(task.job_id, 0.25), Charged(task.job_id, 1.0)]
        assert isinstance(ended, Ended)
        assert ended.state == "failed"

    def test_a_segmentation_fault_fails_the_trial_and_the_next_one_runs(self, bench: Bench) -> None:
        ended = bench.run("segfault")
        assert (ended.state, ended.error) == ("failed", "signal 11 (SIGSEGV)")
        assert bench.run("noop").state == "completed"

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
    def test_a_worker_that_somebody_kills_is_lost(self, bench: Bench, number: signal.Signals) -> None:
        task, pid = bench.wait_for_go()
        os.kill(pid, number)
        ended = bench.end()
        assert (ended.job_id, ended.state) == (task.job_id, "lost")

    def test_a_trial_that_takes_too_long_ends_as_timeout(self, bench: Bench) -> None:
        _, pid = bench.wait_for_go(timeout_s=2.0)  # it has to report before, on a busy machine too
        ended = bench.end()
        assert (ended.state, ended.error) == ("timeout", "the trial took longer than 2 s")
        assert running(pid) == []

    @pytest.mark.parametrize(("then", "state"), [("return", "completed"), ("sleep", "timeout"), ("die", "failed")])
    def test_no_child_and_no_daemon_of_a_trial_outlives_it(self, bench: Bench, then: str, state: AttemptState) -> None:
        bench.start_processes(then, timeout_s=2.0)
        assert bench.end().state == state
        assert running(*bench.pids) == []

    def test_the_children_of_a_running_trial_survive_the_end_of_another(self, bench: Bench) -> None:
        task = bench.start_processes("sleep")
        assert bench.run("exit_at_once", code=1).state == "failed"
        assert running(*bench.pids) == bench.pids
        bench.executor.cancel(task.job_id)
        assert bench.end().state == "cancelled"
        assert running(*bench.pids) == []

    def test_nothing_runs_after_close(self, bench: Bench) -> None:
        _, pid = bench.wait_for_go()
        bench.start_processes("sleep")
        bench.executor.close()
        assert running(pid, *bench.pids) == []

    @pytest.mark.parametrize("objective", ["hang_up", "scribble"])
    def test_a_trial_that_breaks_its_pipe_fails_and_is_ended(self, bench: Bench, objective: str) -> None:
        assert bench.run(objective, timeout_s=30.0).state == "failed"
        assert bench.run("noop").state == "completed"

    def test_all_output_goes_to_the_log_even_when_the_trial_dies(self, bench: Bench) -> None:
        task = bench.submit("say", number=4)
        assert bench.end().state == "failed"
        assert set(Path(task.log_path).read_text().splitlines()) == {"from stdout", "from stderr", "from below"}

    def test_the_traceback_of_a_failure_is_in_the_log(self, bench: Bench) -> None:
        task = bench.submit("fail", message="no such column")
        bench.end()
        text = Path(task.log_path).read_text()
        assert "Traceback" in text
        assert "ValueError: no such column" in text

    def test_a_log_that_cannot_be_written_fails_no_trial(self, bench: Bench) -> None:
        (bench.folder / "logs").write_text("a file where a folder should be")
        assert bench.run("print_lines", lines=1000).state == "completed"

    def test_a_trial_sees_its_number_and_its_environment(self, bench: Bench) -> None:
        number = bench.run("environment", number=17, variable="OPTUNA_TRIAL_NUMBER").result
        extra = bench.run("environment", variable="EXTRA", environment={"EXTRA": "42"}).result
        assert number is not None
        assert extra is not None
        assert (number.value, extra.value) == (17.0, 42.0)

    def test_the_environment_is_set_before_the_objective_is_imported(self, bench: Bench) -> None:
        result = bench.run("number_at_import", number=23).result
        assert result is not None
        assert result.value == 23  # noqa: PLR2004 - the number above

    def test_trials_do_not_draw_the_same_random_numbers(self, bench: Bench) -> None:
        results = [bench.run("draw").result for _ in range(2)]
        assert results[0] != results[1]

    def test_a_large_payload_arrives(self, bench: Bench) -> None:
        assert bench.run("report_values", values=[1.0], ballast="x" * 2_000_000).state == "completed"
