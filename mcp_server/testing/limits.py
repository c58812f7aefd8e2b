"""The contract of executors that keep their trials within limits, as tests; see `mcp_server.testing.executors`."""

import os
import re
import signal
from pathlib import Path

import pytest

from mcp_server.execution import TrialResult
from mcp_server.execution.run_folder import RunFolder
from mcp_server.testing.bench import Bench, running
from mcp_server.testing.executors import ProcessExecutorContract
from mcp_server.types import AttemptState

GREEDY = "mcp_server.testing.greedy:"


class LimitedExecutorContract(ProcessExecutorContract):
    """What holds besides for an executor that ends trials which take too much."""

    @pytest.mark.parametrize("children", [0, 2])
    def test_a_trial_that_takes_too_much_memory_ends_alone_as_out_of_memory(self, bench: Bench, children: int) -> None:
        other, _ = bench.wait_for_go()
        greedy = bench.submit(GREEDY + "hold_memory", memory_mb=200, mb=400, children=children)
        ended = bench.end()
        assert (ended.job_id, ended.state) == (greedy.job_id, "oom")
        assert re.fullmatch(
            r"out of memory: the trial took \d+ MB, and limits.trial_memory_mb allows 200 MB", str(ended.error)
        )
        bench.go_file.touch()
        ended = bench.end()
        assert (ended.job_id, ended.state) == (other.job_id, "completed")

    def test_memory_that_is_asked_for_at_once_and_is_far_too_much_is_refused(self, bench: Bench) -> None:
        ended = bench.run(GREEDY + "ask_for_too_much", memory_mb=200)
        assert (ended.state, ended.error) == ("oom", "out of memory: MemoryError")

    def test_a_trial_within_its_memory_completes(self, bench: Bench) -> None:
        assert bench.run(GREEDY + "use_memory", memory_mb=400, mb=100, seconds=1).state == "completed"

    def test_a_log_keeps_the_first_and_the_last_megabyte_and_says_what_it_leaves_out(self, bench: Bench) -> None:
        task = bench.submit(GREEDY + "flood", mb=30)
        assert bench.end().state == "completed"
        first, mark, last = Path(task.log_path).read_bytes().partition(b"\n--- 27,902,848 bytes left out here ---\n")
        assert (len(first), bool(mark), len(last)) == (2**20, True, 2**20)
        assert first.startswith(b"0 ")
        assert last.endswith(b"%-99d\n" % 299_999)

    def test_last_words_come_with_the_end_of_their_trial_and_disturb_nobody(self, bench: Bench) -> None:
        bench.wait_for_go()
        for number in range(200):
            task = bench.submit("say", number=number)
            assert bench.end().state == "failed"
            assert "from below" in Path(task.log_path).read_text()

    def test_a_short_log_is_whole(self, bench: Bench) -> None:
        task = bench.submit("print_lines", lines=20_000)
        assert bench.end().state == "completed"
        assert Path(task.log_path).read_text().split() == [str(number) for number in range(20_000)]

    @pytest.mark.parametrize("each_mb", [1, 100])
    def test_a_trial_whose_files_take_too_much_ends_alone_and_says_so(self, bench: Bench, each_mb: int) -> None:
        other, _ = bench.wait_for_go()
        ended = bench.run(GREEDY + "fill_disk", disk_mb=20, mb=100, each_mb=each_mb)
        assert ended.state == "failed"
        assert "limits.trial_disk_mb" in str(ended.error)
        bench.go_file.touch()
        ended = bench.end()
        assert (ended.job_id, ended.state) == (other.job_id, "completed")

    def test_a_library_that_does_not_tell_why_it_cannot_write_is_explained(self, bench: Bench) -> None:
        ended = bench.run(GREEDY + "fill_disk_by_numpy", disk_mb=20, mb=30)
        assert ended.state == "failed"
        assert str(ended.error).startswith("the trial's files grew past limits.trial_disk_mb, 20 MB: OSError")

    def test_a_trial_runs_in_a_folder_of_its_own_which_goes_with_it(self, bench: Bench) -> None:
        bench.files /= "a" * 100
        task = bench.submit(GREEDY + "leave_files", fail=False)
        result = bench.end().result
        assert result is not None
        link = RunFolder(bench.files / task.job_id).link
        assert result.value == 3  # noqa: PLR2004 - a file and two folders, nothing that was there before
        assert list(bench.files.iterdir()) == []
        assert link is not None
        assert not link.is_symlink()

    def test_what_a_failed_trial_left_can_be_looked_at(self, bench: Bench) -> None:
        task = bench.submit(GREEDY + "leave_files", fail=True)
        assert bench.end().error == "ValueError: no good"
        assert {path.name for path in (bench.files / task.job_id).iterdir()} == {"model.txt", "closed"}

    def test_a_lost_attempt_leaves_no_files(self, bench: Bench) -> None:
        _, pid = bench.wait_for_go()
        (next(bench.files.iterdir()) / "half a model").touch()
        os.kill(pid, signal.SIGKILL)
        assert bench.end().state == "lost"
        assert list(bench.files.iterdir()) == []

    def test_temporary_files_have_a_path_that_is_short_enough_for_a_socket(self, bench: Bench) -> None:
        bench.files /= "a" * 100
        assert bench.run(GREEDY + "listen_on_a_socket").error is None

    def test_what_is_in_the_way_of_a_short_path_fails_no_trial(self, bench: Bench) -> None:
        bench.files /= "a" * 100
        task = bench.submit(GREEDY + "leave_files", fail=False)
        bench.end()
        link = RunFolder(bench.files / task.job_id).link
        assert link is not None
        link.mkdir()
        bench.executor.submit(task)
        assert bench.end().state == "completed"
        link.rmdir()

    def test_a_log_is_not_written_through_a_link(self, bench: Bench, tmp_path: Path) -> None:
        target = tmp_path / "target"
        target.write_text("kept", encoding="utf-8")
        (bench.folder / "logs").mkdir()
        (bench.folder / "logs" / "0.log").symlink_to(target)
        assert bench.run("print_lines", lines=10).state == "completed"
        assert target.read_text(encoding="utf-8") == "kept"

    def test_many_processes_are_gone_with_their_trial(self, bench: Bench) -> None:
        ended = bench.run(GREEDY + "fork_many", processes=200, pids=str(bench.pids_file))
        assert ended.state == "completed"
        assert running(*bench.pids) == []

    def test_threads_that_do_not_end_keep_no_trial_from_ending(self, bench: Bench) -> None:
        assert bench.run(GREEDY + "start_many_threads", threads=300, memory_mb=200).state == "completed"

    @pytest.mark.parametrize("how", ["timeout", "cancelled"])
    def test_a_trial_that_ignores_signals_is_ended(self, bench: Bench, how: AttemptState) -> None:
        task = bench.submit(GREEDY + "ignore_signals", timeout_s=2.0 if how == "timeout" else None)
        pid = int(bench.report().value)
        bench.executor.answer(task.job_id, prune=False)
        if how == "cancelled":
            bench.executor.cancel(task.job_id)
        assert bench.end().state == how
        assert running(pid) == []

    def test_what_a_trial_does_to_its_surroundings_is_not_seen_by_the_next_one(self, bench: Bench) -> None:
        results = [bench.run(GREEDY + f"{what}_surroundings") for what in ("see", "change", "see")]
        assert [ended.error for ended in results] == [None] * 3
        before, _, after = [ended.result for ended in results]
        assert before == after != TrialResult(-1.0)

    def test_a_result_that_is_too_large_to_keep_fails_the_trial(self, bench: Bench) -> None:
        ended = bench.run(GREEDY + "return_much", folds=5_000_000)
        assert ended.state == "failed"
        assert ended.error == "objective returned 5,000,000 folds, and 10,000 are allowed"
