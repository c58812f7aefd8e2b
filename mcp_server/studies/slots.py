"""The places that one study's trials hold, and when it lets another study go first."""

import time
from collections.abc import Callable

from mcp_server.store import Resource, Slot, SlotPool
from mcp_server.studies.turns import Contender

PASS_OVER_S = 1.0
"""How long a place may stay free for a study whose turn it is and that does not take it: it may be stopped."""
IGNORE_S = 30.0
"""How long such a study is then ignored."""

Look = Callable[[], list[Contender]]
Announce = Callable[[Resource | None], None]


class SlotKeeper:
    """Takes and returns places for a study's trials, so that studies share them fairly. It belongs to its runner.

    Who wants a place and cannot have it says so in its study's row. Whoever ends a trial meanwhile gives its place back
    unless it is its own turn again, and of those who wait only the one whose turn it is takes one. Nothing of this has
    to be right for the limit to hold: that is the kernel's, who knows which places are locked.

    Args:
        pool: The places of the workspace.
        study_id: Whose trials they are for.
        gpus: How many GPUs each trial gets.
        look: The studies that run or wait, the next one first.
        announce: Records what the study waits for from now on, or that it does not.
        lives: Whether a study has a runner; a study that waits without one cannot take its turn.
    """

    def __init__(
        self,
        pool: SlotPool,
        study_id: str,
        gpus: int,
        *,
        look: Look,
        announce: Announce,
        lives: Callable[[str], bool],
    ) -> None:
        self._pool = pool
        self._study_id = study_id
        self._gpus = gpus
        self._look = look
        self._announce = announce
        self._lives = lives
        self._spare: list[Slot] = []
        self._held = 0
        self._forced = 0
        self._waits_for: Resource | None = None
        self._free_since: float | None = None
        self._absent: dict[tuple[str, float | None], float] = {}

    @property
    def waiting(self) -> bool:
        """Whether the study wants a place that it does not have."""
        return self._waits_for is not None

    def take(self, *, contended: bool, parallel: int) -> Slot | None:
        """A place for one more trial, or None: then ask again soon.

        `contended` says whether other studies wait; `parallel` is how many trials the study may run, which may have
        been forced above what the machine has.
        """
        slot = self._own(contended=contended) or self._beyond(parallel) or self._taken(contended=contended)
        if slot is not None:
            self._held += 1
        return slot

    def put_back(self, slot: Slot) -> None:
        """A trial has ended; its place stays at hand for the next one."""
        self._held -= 1
        if slot.locks:
            self._spare.append(slot)
        else:
            self._forced -= 1

    def rest(self) -> None:
        """Nothing more is wanted: free what is at hand, and wait for nothing."""
        self._release_spare()
        self._free_since = None
        self._wait_for(None)

    def _own(self, *, contended: bool) -> Slot | None:
        if self._spare and contended and self._before_me():
            self._release_spare()
        return self._spare.pop() if self._spare else None

    def _taken(self, *, contended: bool) -> Slot | None:
        slot = self._pool.take(self._gpus)
        if not isinstance(slot, Slot):
            self._free_since = None
            self._wait_for(slot)
            return None
        ahead = self._before_me() if contended else []
        if ahead and not self._passed_over(ahead):
            slot.release()
            self._wait_for("cpu")
            return None
        self._free_since = None
        return slot

    def _beyond(self, parallel: int) -> Slot | None:
        """A place beyond those of the machine, for a study that was forced above them and holds them all."""
        extra = parallel - self._pool.size
        if self._gpus or self._forced >= extra or self._held - self._forced < self._pool.size:
            return None
        self._forced += 1
        return Slot((), ())

    def _before_me(self) -> list[Contender]:
        """Those who wait, can take a place, and go before this study."""
        found = self._look()
        mine = next((other.rank for other in found if other.study_id == self._study_id), None)
        return [
            other
            for other in found
            if other.study_id != self._study_id
            and (other.waits_for == "cpu" or (other.waits_for == "gpu" and self._gpus))
            and (mine is None or other.rank < mine)
            and self._absent.get((other.study_id, other.waiting_since), 0.0) < time.monotonic()
            and self._lives(other.study_id)
        ]

    def _passed_over(self, ahead: list[Contender]) -> bool:
        """Whether a place has been free for so long that those ahead do not seem to want it."""
        now = time.monotonic()
        if self._free_since is None:
            self._free_since = now
        if now - self._free_since < PASS_OVER_S:
            return False
        self._absent.update({(other.study_id, other.waiting_since): now + IGNORE_S for other in ahead})
        return True

    def _wait_for(self, resource: Resource | None) -> None:
        if resource != self._waits_for:
            self._waits_for = resource
            self._announce(resource)

    def _release_spare(self) -> None:
        while self._spare:
            self._spare.pop().release()


def devices(slot: Slot) -> dict[str, str]:
    """The environment that shows a trial the GPUs of its place and no others."""
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(slot.gpus)}
