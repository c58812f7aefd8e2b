"""How studies share the places of a workspace: whose turn it is, and that nobody holds up the others."""

from dataclasses import replace
from pathlib import Path

import pytest

from mcp_server.store import Resource, Slot, SlotPool
from mcp_server.studies import slots as module
from mcp_server.studies.priority import Priority
from mcp_server.studies.slots import SlotKeeper
from mcp_server.studies.turns import Contender

AHEAD = Contender("b", "b", "bob", "normal", "running", 0, 10, 0, 0, 0, None, None)


class Table:
    """What the studies table says of everybody who runs, and the keepers that write to it."""

    def __init__(self, folder: Path, size: int, gpus: tuple[str, ...] = ()) -> None:
        self.pool = SlotPool(folder, size, gpus)
        self.rows: dict[str, Contender] = {}
        self.dead: set[str] = set()
        self._clock = 0.0

    def keeper(self, name: str, owner: str = "ann", priority: Priority = "normal", gpus: int = 0) -> "Study":
        self.rows[name] = replace(AHEAD, study_id=name, name=name, owner=owner, priority=priority, gpus=gpus)
        return Study(self, name, gpus)

    def look(self) -> list[Contender]:
        by_owner: dict[str, int] = {}
        for row in self.rows.values():
            by_owner[row.owner] = by_owner.get(row.owner, 0) + row.running
        return sorted(
            (replace(row, owners_running=by_owner[row.owner]) for row in self.rows.values()), key=lambda row: row.rank
        )

    def announce(self, name: str, resource: Resource | None) -> None:
        self._clock += 1.0
        since = None if resource is None else self._clock
        self.rows[name] = replace(self.rows[name], waits_for=resource, waiting_since=since)

    def run(self, name: str, change: int) -> None:
        self.rows[name] = replace(self.rows[name], running=self.rows[name].running + change)


class Study:
    """A study that starts and ends trials through its keeper."""

    def __init__(self, table: Table, name: str, gpus: int) -> None:
        self.table, self.name = table, name
        self.held: list[Slot] = []
        self.keeper = SlotKeeper(
            table.pool,
            name,
            gpus,
            look=table.look,
            announce=lambda resource: table.announce(name, resource),
            lives=lambda study_id: study_id not in table.dead,
        )

    def start(self, parallel: int = 8) -> bool:
        others = any(row.waits_for for name, row in self.table.rows.items() if name != self.name)
        slot = self.keeper.take(contended=others, parallel=parallel)
        if slot is not None:
            self.held.append(slot)
            self.table.run(self.name, 1)
        return slot is not None

    def end(self) -> None:
        self.table.run(self.name, -1)
        self.keeper.put_back(self.held.pop())

    @property
    def waits_for(self) -> Resource | None:
        return self.table.rows[self.name].waits_for


@pytest.fixture
def two(tmp_path: Path) -> Table:
    return Table(tmp_path, 2)


def test_a_study_alone_keeps_the_place_of_a_trial_for_the_next_one(two: Table) -> None:
    study = two.keeper("a")
    assert study.start()
    (lock,) = study.held[0].locks
    study.end()

    assert study.start()
    assert study.held[0].locks == (lock,)
    assert study.waits_for is None


def test_a_study_that_came_later_gets_the_next_place_that_becomes_free(two: Table) -> None:
    first, second = two.keeper("first"), two.keeper("second", "bob")
    assert first.start()
    assert first.start()
    assert not second.start()
    assert second.waits_for == "cpu"

    first.end()
    assert not first.start()
    assert second.start()

    second.end()
    assert second.start()  # it has none, the other one has one


def test_users_get_as_many_places_however_many_studies_they_start(tmp_path: Path) -> None:
    table = Table(tmp_path, 4)
    many = [table.keeper(f"ann-{i}", "ann") for i in range(3)]
    one = table.keeper("bob-0", "bob")
    for study in [many[0], many[1], many[2], many[0]]:
        assert study.start()
    assert not one.start()

    for _ in range(8):  # each trial that ends leaves its place to whose turn it is
        ending = max([*many, one], key=lambda study: len(study.held))
        ending.end()
        for study in (*many, one):
            study.start()

    assert len(one.held) == sum(len(study.held) for study in many) == 2


def test_a_higher_priority_goes_first_however_much_it_has(two: Table) -> None:
    urgent, normal = two.keeper("urgent", "ann", "high"), two.keeper("normal", "bob")
    assert urgent.start()
    assert normal.start()
    assert not urgent.start()

    normal.end()
    assert not normal.start()
    assert urgent.start()


def test_of_those_who_wait_only_the_next_one_takes_a_place(two: Table) -> None:
    holder, early, late = two.keeper("holder", "cid"), two.keeper("early", "ann"), two.keeper("late", "bob")
    assert holder.start()
    assert holder.start()
    assert not early.start()
    assert not late.start()
    holder.end()
    holder.keeper.rest()

    assert not late.start()
    assert early.start()


def test_a_place_that_nobody_ahead_takes_is_passed_on(two: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    holder, stopped, next_one = two.keeper("holder", "cid"), two.keeper("stopped", "ann"), two.keeper("next", "bob")
    assert holder.start()
    assert holder.start()
    assert not stopped.start()
    assert not next_one.start()
    holder.end()
    holder.keeper.rest()

    assert not next_one.start()
    monkeypatch.setattr(module, "PASS_OVER_S", 0.0)
    assert next_one.start()


def test_a_study_whose_runner_is_dead_holds_up_nobody(two: Table) -> None:
    killed, study = two.keeper("killed", "ann"), two.keeper("study", "bob")
    assert study.start()
    assert study.start()
    assert not killed.start()
    two.dead.add("killed")

    study.end()
    assert study.start()


def test_who_waits_for_a_gpu_does_not_keep_cores_from_others(tmp_path: Path) -> None:
    table = Table(tmp_path, 3, ("0",))
    training, waiting, table_study = (
        table.keeper(name, name, gpus=gpus) for name, gpus in zip("abc", (1, 1, 0), strict=True)
    )
    assert training.start()
    assert training.held[0].gpus == ("0",)
    assert not waiting.start()
    assert waiting.waits_for == "gpu"

    assert table_study.start()
    table_study.end()
    assert table_study.start()
    assert table_study.waits_for is None


def test_a_study_that_was_forced_above_the_cores_may_exceed_them_when_it_has_them_all(two: Table) -> None:
    forced, other = two.keeper("forced"), two.keeper("other", "bob")
    assert [forced.start(parallel=3) for _ in range(4)] == [True, True, True, False]
    assert [len(slot.locks) for slot in forced.held] == [1, 1, 0]
    assert not other.start()

    forced.end()
    forced.end()
    assert not forced.start(parallel=3)
    assert other.start()


def test_a_study_that_wants_nothing_more_frees_its_places_and_waits_for_nothing(two: Table) -> None:
    study, other = two.keeper("a"), two.keeper("b", "bob")
    assert study.start()
    assert study.start()
    assert not other.start()
    other.keeper.rest()
    assert other.waits_for is None

    study.end()
    study.keeper.rest()
    assert isinstance(two.pool.take(), Slot)
