"""The contract of executors that keep their trials within limits, as tests; see `mcp_server.testing.executors`."""

import re
from pathlib import Path

import pytest

from mcp_server.execution.run_folder import RunFolder
from mcp_server.testing.bench import Bench
from mcp_server.testing.executors import ProcessExecutorContract

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

    def test_temporary_files_have_a_path_that_is_short_enough_for_a_socket(self, bench: Bench) -> None:
        bench.files /= "a" * 100
        assert bench.run(GREEDY + "listen_on_a_socket").error is None
