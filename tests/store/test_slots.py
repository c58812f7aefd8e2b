"""Places for trials as kernel locks: never more than there are, and free after any death."""

import subprocess
import sys
from pathlib import Path

import pytest

from mcp_server.store import Slot, SlotPool


def taken(pool: SlotPool, gpus: int = 0) -> Slot:
    slot = pool.take(gpus)
    assert isinstance(slot, Slot)
    return slot


def test_there_are_as_many_places_as_the_pool_has_whoever_asks(tmp_path: Path) -> None:
    mine, theirs = SlotPool(tmp_path, 2), SlotPool(tmp_path, 2)
    first, _second = taken(mine), taken(theirs)

    assert mine.take() == theirs.take() == "cpu"
    first.release()
    assert isinstance(theirs.take(), Slot)


def test_each_gpu_belongs_to_one_trial_at_a_time(tmp_path: Path) -> None:
    pool = SlotPool(tmp_path, 4, ("0", "1", "2"))
    pair, single = taken(pool, 2), taken(pool, 1)

    assert (pair.gpus, single.gpus) == (("0", "1"), ("2",))
    assert pool.take(1) == "gpu"
    pair.release()
    assert taken(pool, 1).gpus == ("0",)


def test_a_place_without_enough_gpus_leaves_nothing_taken(tmp_path: Path) -> None:
    pool = SlotPool(tmp_path, 1, ("0",))

    assert pool.take(2) == "gpu"
    assert taken(pool, 1).gpus == ("0",)


@pytest.mark.process
def test_a_killed_process_frees_its_places(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from mcp_server.store import SlotPool\n"
        "slots = [SlotPool(Path(sys.argv[1]), 2).take() for _ in range(2)]; print(flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    pool = SlotPool(tmp_path, 2)
    assert pool.take() == "cpu"

    holder.kill()
    holder.communicate()

    assert isinstance(pool.take(), Slot)
