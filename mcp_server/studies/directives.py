"""What a runner does about the orders that meet it while it runs, besides starting and stopping the whole study."""

from collections.abc import Iterable, Mapping
from typing import cast

from mcp_server.execution import Executor
from mcp_server.studies.ledger import Command, Ledger, Orders
from mcp_server.studies.memory import SamplerMemory
from mcp_server.studies.orders import ENQUEUE, STOP_TRIAL
from mcp_server.studies.projection import Attempt
from mcp_server.types import Params

STOPPED = "it was stopped on its own"


class Directives:
    """Candidates to try next, trials to stop, and changes of the space.

    Everything is derived from rows, so another runner goes on where this one was killed: a candidate waits until the
    transaction that makes it a trial, an order to stop a trial until that trial has ended.
    """

    def __init__(self, ledger: Ledger, memory: SamplerMemory, executor: Executor) -> None:
        self._ledger = ledger
        self._memory = memory
        self._executor = executor
        self._candidates: list[Command] = []

    def look(self, orders: Orders, running: Mapping[str, Attempt], due: Iterable[Attempt]) -> list[Attempt]:
        """Carry out what is new, and name those of the trials `due` again that are to end instead."""
        if orders.space_version != self._memory.spaces.version:
            reported = {attempt.number: attempt.reports for attempt in running.values()}
            self._memory.rebuild(self._ledger.trials.known(reported), self._ledger.trials.spaces())
        found = self._ledger.pending_commands(ENQUEUE, STOP_TRIAL) if orders.commands else []
        self._candidates = [command for command in found if command.action == ENQUEUE]
        stops = [command for command in found if command.action == STOP_TRIAL]
        return self._stop({cast("int", command.arguments["trial"]): command for command in stops}, running, due)

    def _stop(
        self, stops: Mapping[int, Command], running: Mapping[str, Attempt], due: Iterable[Attempt]
    ) -> list[Attempt]:
        unfinished = {attempt.number for attempt in due}
        for job_id, attempt in running.items():
            unfinished.add(attempt.number)
            if attempt.number in stops:
                self._executor.cancel(job_id)
        for number, command in stops.items():
            if number not in unfinished:
                self._ledger.close_command(command)
        return [attempt for attempt in due if attempt.number in stops]

    def next_candidate(self) -> tuple[Params, int] | None:
        """Parameters that somebody wants tried and the order that says so, oldest first."""
        if not self._candidates:
            return None
        command = self._candidates.pop(0)
        return cast("Params", command.arguments["params"]), command.id
