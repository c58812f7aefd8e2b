"""Waiting for a database that is locked, full or away: a whole transaction is repeated until the database takes it."""

import time
from collections.abc import Callable, Iterator
from functools import partial, wraps
from itertools import chain, repeat
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TypeVar

import structlog

from mcp_server.errors import DatabaseAwayError

if TYPE_CHECKING:
    from mcp_server.store.database import Store

FIRST_PAUSES_S = (0.1, 0.2, 0.5, 1.0, 2.0)
LATER_PAUSES_S = 5.0

Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")

log = structlog.get_logger()


class Witness(Protocol):
    """Who is told that a process waits for its database."""

    def away(self, reason: str) -> None:
        """Take note that a try failed, and why."""

    def may_try(self) -> bool:
        """Whether another try makes sense by now."""

    def back(self) -> None:
        """Take note that the database does what it should again."""


class Patience:
    """How a process waits that cannot do without the database.

    Attributes:
        pause: Called with the seconds between two tries; it may come back earlier.
        witness: Who is told of the waiting, if anybody.
    """

    def __init__(self, pause: Callable[[float], object] = time.sleep, witness: Witness | None = None) -> None:
        self.pause = pause
        self.witness = witness

    def insist(self, unit: Callable[[], Returned]) -> Returned:
        """What `unit` returns as soon as the database lets it. `unit` must leave nothing behind when it raises.

        Raises:
            BackendUnavailableError: If waiting does not help: the database is damaged, of another version, or gone.
        """
        since: float | None = None
        for seconds in _pauses():
            try:
                returned = unit()
            except DatabaseAwayError as exc:
                if since is None:
                    since = time.monotonic()
                    log.warning("waiting for the workspace database", error=str(exc))
                self._wait(exc.reason, seconds)
                continue
            if since is not None:
                log.info("the workspace database is back", seconds=round(time.monotonic() - since, 1))
                if self.witness is not None:
                    self.witness.back()
            return returned
        raise AssertionError("the pauses never end")

    def _wait(self, reason: str, seconds: float) -> None:
        if self.witness is None:
            self.pause(seconds)
            return
        self.witness.away(reason)
        self.pause(seconds)
        while not self.witness.may_try():
            self.pause(seconds)


def _pauses() -> Iterator[float]:
    return chain(FIRST_PAUSES_S, repeat(LATER_PAUSES_S))


class _Owner(Protocol):
    _store: "Store"


OwnerT = TypeVar("OwnerT", bound=_Owner)


def insistent(
    method: Callable[Concatenate[OwnerT, Arguments], Returned],
) -> Callable[Concatenate[OwnerT, Arguments], Returned]:
    """A method that is one transaction on `self._store`, repeated for as long as that store has patience."""

    @wraps(method)
    def insisting(self: OwnerT, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Returned:
        return self._store.insist(partial(method, self, *args, **kwargs))

    return insisting
