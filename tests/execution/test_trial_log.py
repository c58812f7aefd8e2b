"""What a trial prints arrives in its log, live, however much it is and whatever happens to the disk."""

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_server.execution.launchers import ForkLauncher
from mcp_server.execution.local import LocalExecutor
from mcp_server.execution.trial_log import KEPT_BYTES, LogLines, TrialLog
from mcp_server.testing.bench import Bench, eventually

LINE = 100


def lines(start: int, stop: int) -> bytes:
    return b"".join(b"%-99d\n" % number for number in range(start, stop))


def numbers(told: list[str]) -> list[int]:
    return [int(line) for line in told if not line.startswith("---")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trials" / "0.log"


def test_a_follower_sees_each_line_once_and_in_order_and_hears_what_it_missed(path: Path) -> None:
    log, followed, told = TrialLog(path), LogLines(path), []
    for start, stop in ((0, 5), (5, 9_000), (9_000, 25_000), (25_000, 90_000), (90_000, 90_010)):
        log.add(lines(start, stop))
        log.flush()
        told += followed.new_lines(last=False)
    log.close()
    told += followed.new_lines(last=True)

    seen = numbers([line.split()[0] if not line.startswith("---") else line for line in told if line.strip()])
    assert seen[:25_000] == list(range(25_000)), "what was there when somebody looked"
    assert seen[-1] == 90_009
    assert len(seen) == len(set(seen))
    (gap,) = [line for line in told if line.startswith("---")]
    missing = int(gap.split()[1].replace(",", ""))
    assert 0 <= LINE * (90_010 - len(seen)) - missing < LINE, "but for the half of a line that the rest begins with"


def test_a_reader_who_comes_late_gets_both_ends(path: Path) -> None:
    log = TrialLog(path)
    log.add(lines(0, 100_000))
    log.close()

    told = list(LogLines(path).new_lines(last=True))

    assert told[0].strip() == "0"
    assert told[-1].strip() == "99999"
    assert told[KEPT_BYTES // LINE + 1] == "--- 7,902,848 bytes left out here ---"
    assert path.stat().st_size < 2 * KEPT_BYTES + 100


def test_a_log_is_never_longer_than_three_times_what_it_keeps(path: Path) -> None:
    log = TrialLog(path)
    for start in range(0, 200_000, 3_000):
        log.add(lines(start, start + 3_000))
        log.flush()
        assert path.stat().st_size <= 3 * KEPT_BYTES
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.process
class TestRunningTrials:
    @pytest.fixture(params=["fork", "spawn"])
    def bench(self, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
        executor = LocalExecutor(2, threads=1, start_method=request.param)
        yield Bench(executor, tmp_path)
        executor.close()

    def test_what_a_trial_prints_after_a_flood_is_in_its_log_while_it_runs(self, bench: Bench) -> None:
        task = bench.submit("mcp_server.testing.greedy:flood_and_wait", mb=30, file=str(bench.go_file))
        followed = LogLines(Path(task.log_path))
        told: list[str] = []

        def follows() -> bool:
            told.extend(followed.new_lines(last=False))
            return told[-1:] == ["still here"]

        assert eventually(follows)
        bench.go_file.touch()
        assert bench.end().state == "completed"


@pytest.mark.process
def test_a_full_disk_fails_no_trial_and_the_log_is_whole_when_there_is_room_again(tmp_path: Path) -> None:
    executor = LocalExecutor(1, threads=1)
    try:
        bench = Bench(executor, tmp_path)
        assert isinstance(executor._launcher, ForkLauncher)
        server = executor._launcher._process.pid
        bench.run("mcp_server.testing.greedy:flood", mb=1)  # compiled now, as half a compiled file would stay for ever
        resource.prlimit(server, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))  # each write fails from there
        full = bench.submit("print_lines", number=1, lines=50_000)
        assert bench.end().state == "completed"
        assert Path(full.log_path).stat().st_size <= 4096

        held = bench.submit("mcp_server.testing.greedy:flood_and_wait", number=2, mb=1, file=str(bench.go_file))
        assert eventually(lambda: Path(held.log_path).exists() and Path(held.log_path).stat().st_size == 4096)
        resource.prlimit(server, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        bench.go_file.touch()
        assert bench.end().state == "completed"
        assert Path(held.log_path).read_bytes() == lines(0, 10_000) + b"still here\n"
    finally:
        executor.close()
