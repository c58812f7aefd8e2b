"""The loop that runs one study: ask, submit, report, tell. The only caller of the sampler and of the executor."""

import time
from collections.abc import Callable
from dataclasses import replace

import structlog

from mcp_server.execution import Charged, Ended, Executor, Reported, TrialTask
from mcp_server.store import Slot
from mcp_server.studies.clock import RunningClock
from mcp_server.studies.directives import STOPPED, Directives
from mcp_server.studies.ledger import Command, Ledger, Orders
from mcp_server.studies.memory import SamplerMemory
from mcp_server.studies.orders import FINAL_TEST
from mcp_server.studies.pricing import Pricing
from mcp_server.studies.projection import Attempt, ReportedValue
from mcp_server.studies.reconcile import reconcile
from mcp_server.studies.samplers import Design
from mcp_server.studies.slots import SlotKeeper, devices
from mcp_server.studies.stopping import Limits, StopReason, Tally, Use, exhausted
from mcp_server.studies.trial_ledger import CANCELLED
from mcp_server.types import WAITS_FOR_APPROVAL, JsonObject, Params, StudyState

TICK_S = 0.2
ORDERS_EVERY_S = 0.1
SLOT_POLL_S = 0.05
SAVE_ELAPSED_S = 5.0
DEATHS_PER_TRIAL = 2
LOSSES_PER_TRIAL = 10  # with those it shared with other trials: it may be what kills them all
COMPLETE = frozenset({"trials", "grid_exhausted"})
AT_ONCE = frozenset({"timeout", "deadline"})
NOT_AGAIN = "its worker was lost, and the study ended before it could run again"
FINAL_TEST_OBJECTIVE = "mcp_server.training.evaluate:final_test"

log = structlog.get_logger()


class Runner:
    """Runs a study until it ends, is paused, or is stopped. The caller holds the study's lock."""

    def __init__(
        self,
        ledger: Ledger,
        memory: SamplerMemory,
        executor: Executor,
        slots: SlotKeeper,
        *,
        pricing: Pricing,
        logs: str,
        files: str | None = None,
        threads: int,
        wake: Callable[[], None],
    ) -> None:
        self._ledger = ledger
        self._memory = memory
        self._executor = executor
        self._slots = slots
        self._pricing = pricing
        self._logs = logs
        self._files = files
        self._threads = threads
        self._wake = wake
        self._definition = ledger.definition
        size = self._definition.spec.sampler.size(self._definition.space)  # counted once: a grid may be large
        self._size = None if size is None else size + self._offset
        self._designed = 0  # trials that follow the sampler's list, if it has one
        self._directives = Directives(ledger, memory, executor)
        self._running: dict[str, Attempt] = {}
        self._started: dict[str, float] = {}
        self._held: dict[str, Slot] = {}
        self._tally = Tally()
        self._due: list[Attempt] = []
        self._next = 0
        self._known_orders = ledger.orders()
        self._reason: StopReason | None = None
        self._look_again = 0.0
        self._clock = RunningClock(ledger.elapsed_s())
        self._saved = self._clock.elapsed_s

    @property
    def elapsed_s(self) -> float:
        """Running seconds of the study up to now, on a clock that no one sets."""
        return self._clock.elapsed_s

    def run(self) -> None:
        """Carry out what the study's orders say, then the commands that wait for it."""
        orders = self._ledger.orders()
        if orders.state in {"queued", "running"}:
            self._resume()
            if orders.state == "queued":  # somebody asked for it again: what failed before may work now
                self._tally.forgive()
            self._trials()
        for command in self._ledger.pending_commands(FINAL_TEST):
            self._final_test(command)

    def _resume(self) -> None:
        found = reconcile(self._ledger, self._memory, deaths=DEATHS_PER_TRIAL)
        self._wake()
        self._due = found.due
        self._next = found.n_trials
        self._designed = found.sources[self._definition.spec.sampler.type]
        self._tally = self._ledger.trials.tally()

    def _trials(self) -> None:
        while True:
            orders = self._orders()
            self._resize(orders)
            reason = self._reached(self._exhausted(orders))
            if orders.desired == "stop" or reason in AT_ONCE or self._kills(orders):
                self._abandon()
            elif reason is None and orders.desired == "run":
                self._fill(orders, new=True)
            elif orders.desired == "run" and reason in COMPLETE:
                self._fill(orders, new=False)
            else:
                self._slots.rest()
            if self._running:
                self._clock.go()
                self._handle_events()
            elif self._slots.waiting:
                self._clock.stop()  # a study does not pay for the trials of others
                self._executor.wait(SLOT_POLL_S)
            elif self._conclude(orders, reason):
                return

    def _exhausted(self, orders: Orders) -> StopReason | None:
        deadline = self._definition.spec.limits.deadline
        if deadline is not None and time.time() >= deadline.timestamp():
            return "deadline"
        return exhausted(self._limits(orders), self._use())

    def _resize(self, orders: Orders) -> None:
        """Let as many trials run at a time as it was last ordered; those above it come to their end."""
        if orders.parallel is not None and orders.parallel != self._executor.slots:
            self._executor.resize(orders.parallel)

    def _reached(self, reason: StopReason | None) -> StopReason | None:
        """`reason`, put on record when it is a new one."""
        if reason is not None and reason != self._reason:
            self._ledger.limit_reached(reason)
        self._reason = reason
        return reason

    def _orders(self) -> Orders:
        """The orders as of a moment ago: many short trials must not each wait for a look at them."""
        if time.monotonic() >= self._look_again:
            self._known_orders = self._ledger.orders()
            self._look_again = time.monotonic() + ORDERS_EVERY_S
            for attempt in self._directives.look(self._known_orders, self._running, self._due):
                self._due.remove(attempt)
                self._close(attempt, Ended("", "cancelled", 0.0, error=STOPPED))
        return self._known_orders

    def _conclude(self, orders: Orders, reason: str | None) -> bool:
        """Whether the study came to rest, now that nothing runs."""
        if orders.desired in {"stop", "drain"}:
            self._abandon()
            return self._end("stopped", "user", orders)
        if orders.desired == "pause" and reason not in AT_ONCE and (reason != "trials" or self._due):
            return self._end("paused", None, orders)
        if reason is None:
            return False
        self._abandon()
        if reason == "all_failed" or (reason in COMPLETE and self._tally.fruitless):
            return self._end("failed", "all_failed", orders, error=self._ledger.trials.last_error())
        if reason == "approval":
            return self._end(WAITS_FOR_APPROVAL, reason, orders)
        return self._end("finished" if reason in COMPLETE else "stopped", reason, orders)

    def _end(self, state: StudyState, reason: str | None, orders: Orders, error: str | None = None) -> bool:
        # No runner starts for a study that has ended: what Optuna's file lacks by then it would lack for ever.
        self._memory.settle()
        if not self._ledger.end(state, reason, self.elapsed_s, error, ordered=orders):
            self._look_again = 0.0
            return False
        self._wake()
        log.info("study ended", state=state, reason=reason)
        return True

    def _limits(self, orders: Orders) -> Limits:
        spec = self._definition.spec
        return Limits(
            orders.n_trials,
            self._size,
            orders.timeout_s,
            spec.cost_budget_usd,
            orders.approved_usd,
            self._pricing.team.left(self._tally.cost_usd),
            spec.limits,
        )

    def _use(self) -> Use:
        # Nobody knows the processor seconds of a trial that runs: it may use its share of the cores all the time.
        cpu_s = sum(time.monotonic() - since for since in self._started.values()) * self._threads
        return self._tally.use(
            started=self._next,
            elapsed_s=self.elapsed_s,
            in_flight_usd=self._in_flight_usd(),
            in_flight_cpu_s=cpu_s,
        )

    def _in_flight_usd(self) -> list[float]:
        now = time.monotonic()
        return [self._running[job_id].cost_usd(now - since) for job_id, since in self._started.items()]

    def _crossed(self, orders: Orders) -> StopReason | None:
        """The limit for which trials that run should end, too."""
        return self._tally.crossed(self._limits(orders), self._use(), self._in_flight_usd())

    def _kills(self, orders: Orders) -> bool:
        return self._definition.spec.limits.at_limit == "kill" and self._crossed(orders) is not None

    @property
    def _offset(self) -> int:
        """Trials that come before the sampler's first one."""
        return 1 if self._definition.baseline is not None else 0

    def _fill(self, orders: Orders, *, new: bool) -> None:
        """Start trials, lost ones before new ones, as far as there are places for them."""
        while len(self._running) < self._executor.slots and (self._due or (new and self._exhausted(orders) is None)):
            slot = self._slots.take(contended=self._orders().contended, parallel=self._executor.slots)
            if slot is None:
                return
            if self._due:
                self._start_again(self._due.pop(0), slot)
            else:
                self._start_new(slot)
        self._slots.rest()

    def _start_again(self, lost: Attempt, slot: Slot) -> None:
        self._memory.begin(lost.number, lost.params)
        again = replace(
            lost, attempt=lost.attempt + 1, started_at=time.time(), reports=[], explanation=None, charged_usd=0.0
        )
        self._start(again, slot)

    def _start_new(self, slot: Slot) -> None:
        number = self._next
        planned, source, command = self._plan(number)
        params = self._memory.begin(number, planned)
        self._next += 1
        version = self._memory.spaces.version
        self._start(Attempt(number, 0, params, source, time.time(), space_version=version, command=command), slot)

    def _plan(self, number: int) -> tuple[Params | None, str, int | None]:
        """Parameters that are settled, where the trial comes from, and the order that asked for it."""
        if number == 0 and self._definition.baseline is not None:
            return self._definition.baseline, "baseline", None
        if candidate := self._directives.next_candidate():
            return candidate[0], "enqueued", candidate[1]
        sampler, spec = self._definition.spec.sampler, self._definition.spec
        design = Design(self._memory.spaces.current, spec.seed, self._definition.design_size)
        planned = sampler.planned(design, self._designed)
        if planned is None:
            return None, "sampler", None
        self._designed += 1
        return planned, sampler.type, None

    def _start(self, attempt: Attempt, slot: Slot) -> None:
        job_id = f"{self._ledger.study_id}/{attempt.number}/{attempt.attempt}"
        log_path = f"{self._logs}/{attempt.number:05d}-{attempt.attempt}.log"
        attempt.usd_per_second = self._pricing.usd_per_second(slot.gpus)
        self._ledger.trials.open(attempt, log_path)
        self._memory.opened(attempt.number, attempt.params, attempt.space_version)
        self._running[job_id] = attempt
        self._started[job_id] = time.monotonic()
        self._held[job_id] = slot
        params: JsonObject = {**attempt.params}
        self._executor.submit(
            TrialTask(
                job_id=job_id,
                objective=self._definition.objective,
                number=attempt.number,
                params=params,
                payload=self._payload(),
                log_path=log_path,
                timeout_s=self._definition.spec.trial_timeout_s,
                memory_mb=self._definition.spec.limits.trial_memory_mb,
                disk_mb=self._definition.spec.limits.trial_disk_mb,
                folder=self._files and f"{self._files}/{attempt.number:05d}-{attempt.attempt}",
                environment={"TUNING_STUDY": self._ledger.name, **devices(slot)},
                python_path=self._definition.python_path,
                token_prices=self._pricing.token_prices,
            )
        )

    def _payload(self) -> JsonObject:
        return {**self._definition.payload, "threads": self._threads}

    def _handle_events(self) -> None:
        for event in self._executor.wait(SLOT_POLL_S if self._slots.waiting else TICK_S):
            match event:
                case Reported():
                    self._on_report(event)
                case Charged():
                    self._running[event.job_id].charged_usd += event.usd
                case Ended():
                    self._on_end(event)
        if self.elapsed_s - self._saved > SAVE_ELAPSED_S:
            self._saved = self.elapsed_s
            now = time.monotonic()
            self._ledger.tick(self._saved, [(self._running[j], now - since) for j, since in self._started.items()])
            self._wake()  # a process that delivers may have been killed

    def _on_report(self, event: Reported) -> None:
        attempt = self._running[event.job_id]
        attempt.reports.append(ReportedValue(event.step, event.value, time.time()))
        compared = self._definition.spec.pruner.seen(event.value, event.running)
        attempt.explanation = self._memory.report(attempt.number, event.step, compared) or self._cut_at_limit(event)
        self._executor.answer(event.job_id, prune=attempt.explanation is not None)

    def _cut_at_limit(self, event: Reported) -> str | None:
        """Why a trial that could still win is cut at this report: the study may not use more, or needs no more."""
        if self._definition.spec.limits.at_limit != "prune" or (limit := self._crossed(self._known_orders)) is None:
            return None
        return f"cut at step {event.step}: the study reached its limit ({limit})"

    def _on_end(self, event: Ended) -> None:
        attempt = self._running.pop(event.job_id)
        del self._started[event.job_id]
        self._slots.put_back(self._held.pop(event.job_id))
        self._tally.add_cost(attempt.cost_usd(event.seconds), event.cpu_seconds)
        if event.state == "lost":
            attempt.deaths += not event.with_others
            attempt.losses += 1
            if attempt.deaths < DEATHS_PER_TRIAL and attempt.losses < LOSSES_PER_TRIAL:
                self._ledger.trials.lose(attempt, event)
                self._due.append(attempt)
                return
            what = "killed" if attempt.deaths >= DEATHS_PER_TRIAL else "lost"
            event = replace(event, error=f"it {what} its worker {attempt.losses} times: {event.error}")
        self._close(attempt, event)

    def _close(self, attempt: Attempt, event: Ended) -> None:
        state, value = self._ledger.trials.close(attempt, event, self.elapsed_s)
        self._tally.count(CANCELLED if event.state == CANCELLED else state, value)
        self._memory.tell(attempt.number, state, value)

    def _abandon(self) -> None:
        """Cancel what runs or is due again, and record it."""
        for job_id in list(self._running):
            self._executor.cancel(job_id)
        while self._running:
            self._handle_events()
        self._slots.rest()
        while self._due:
            self._close(self._due.pop(0), Ended("", "cancelled", 0.0, error=NOT_AGAIN))

    def _final_test(self, command: Command) -> None:
        """Score the best trial on the sealed rows; the read is counted before it happens."""
        best = self._ledger.trials.best()
        if best is None:
            self._ledger.close_command(command, error="no trial has completed yet")
            return
        number, params = best
        slot = self._slot()
        read_id = self._ledger.count_sealed_read(number)
        self._executor.submit(
            TrialTask(
                job_id=f"{self._ledger.study_id}/final/{command.id}",
                objective=FINAL_TEST_OBJECTIVE,
                number=number,
                params={**params},
                payload=self._payload(),
                log_path=f"{self._logs}/final-{command.id}.log",
                timeout_s=self._definition.spec.trial_timeout_s,
                memory_mb=self._definition.spec.limits.trial_memory_mb,
                disk_mb=self._definition.spec.limits.trial_disk_mb,
                folder=self._files and f"{self._files}/final-{command.id}",
                environment=devices(slot),
            )
        )
        ended = self._awaited()
        self._slots.put_back(slot)
        self._slots.rest()
        self._ledger.finish_command(command, read_id, ended)

    def _slot(self) -> Slot:
        while (slot := self._slots.take(contended=self._orders().contended, parallel=1)) is None:
            self._executor.wait(SLOT_POLL_S)
        return slot

    def _awaited(self) -> Ended:
        while True:
            for event in self._executor.wait(TICK_S):
                if isinstance(event, Ended):
                    return event
                if isinstance(event, Reported):
                    self._executor.answer(event.job_id, prune=False)
