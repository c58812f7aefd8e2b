"""A runner process: `python -m mcp_server.studies --workspace DIR --study ID`. One per running study, detached."""

import argparse
import os
import signal
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import structlog
from pydantic import ValidationError

from mcp_server import logs
from mcp_server.errors import BackendUnavailableError, DatabaseAwayError, InvalidRequestError
from mcp_server.execution.local import LocalExecutor
from mcp_server.notifications.notifier import ensure_notifier
from mcp_server.processes import thread_caps
from mcp_server.settings import PREFIX, SECRETS, Settings
from mcp_server.store import Patience, Store, open_store
from mcp_server.studies.ledger import Ledger, mark_failed
from mcp_server.studies.machine import Machine, gpu_model
from mcp_server.studies.memory import SamplerMemory
from mcp_server.studies.mirror import OptunaMirror
from mcp_server.studies.placement import runner_lock, spawn_runner, study_folder
from mcp_server.studies.prices import Prices
from mcp_server.studies.pricing import Pricing
from mcp_server.studies.removal import forget
from mcp_server.studies.runner import Runner
from mcp_server.studies.slots import SlotKeeper
from mcp_server.studies.team_budget import TeamBudget
from mcp_server.studies.waiting import RunnerWaits
from mcp_server.tracking.tracker import ensure_tracker

WRITER_TIMEOUT_S = 1.0

log = structlog.get_logger()


def main() -> None:
    """Run the study unless another runner holds it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--study", required=True)
    arguments = parser.parse_args()
    settings = Settings.load(workspace=arguments.workspace)
    for name in SECRETS:  # what trials start inherits this environment
        os.environ.pop(PREFIX + name.upper(), None)
    logs.configure(settings.log_level)
    lock = runner_lock(settings.workspace, arguments.study)
    if not lock.acquire(0.5):  # somebody may be looking whether it is free
        log.info("another runner holds the study", study=arguments.study)
        return
    with structlog.contextvars.bound_contextvars(study=arguments.study, pid=os.getpid()):
        try:
            patience = Patience()
            ledger = _ledger(settings, arguments.study, patience)
            ran = ledger is not None and _run(settings, ledger, patience)
        finally:
            lock.release()
        _wake(open_store(settings), settings)
        if (
            ran and ledger is not None and ledger.waits()
        ):  # ordered while this runner went, and the next one found the lock taken
            spawn_runner(settings.workspace, arguments.study, settings.environment())


def _ledger(settings: Settings, study_id: str, patience: Patience) -> Ledger | None:
    """The study's ledger; a study that this version cannot read is failed, or it would be started for ever."""
    # Nothing of a study is lost to a database that is away: its runner and its trials wait for it.
    # It waits in short steps, so that it can look after its trials between them.
    store = open_store(settings, patience=patience, busy_timeout_s=WRITER_TIMEOUT_S)
    waits = RunnerWaits(store, study_id)
    waits.begin()
    patience.witness = waits
    if store.insist(partial(forget, store, settings, study_id)):
        _wake(store, settings)
        return None
    try:
        return Ledger(store, settings, study_id)
    except ValidationError as exc:
        log.exception("the study cannot be read")
        why = f"the study cannot be read by this version: {exc.error_count()} fields do not fit"
        store.insist(partial(mark_failed, store, settings, study_id, why))
        return None


def _run(settings: Settings, ledger: Ledger, patience: Patience) -> bool:
    """Whether the study was run as ordered."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _run_trials(settings, ledger, patience)
    except BackendUnavailableError as exc:  # whoever looks after the workspace starts another runner
        log.warning("the runner gives up for now", error=str(exc))
        return False
    except InvalidRequestError as exc:  # a file of prices that cannot be read: nobody knows what a trial may cost
        ledger.fail(f"{exc.message} {exc.hint}")
        return False
    except Exception as exc:
        # The last one who can say why. Without this the study would be started again and again.
        log.exception("the runner failed")
        folder = study_folder(settings.workspace, ledger.study_id)
        ledger.fail(f"internal error in the runner: {type(exc).__name__}; its log is in {folder}")
        return False
    return True


def _run_trials(settings: Settings, ledger: Ledger, patience: Patience) -> None:
    spec, machine = ledger.definition.spec, Machine.of(settings)
    slots = ledger.orders().parallel or max(1, machine.parallel(spec.gpus))
    threads = machine.threads(slots)
    os.environ.update(thread_caps(threads))
    # The workers' imports go on in the background while this process imports Optuna.
    executor = LocalExecutor(
        slots,
        threads=threads,
        preload=ledger.definition.preload,
        inherit=settings.trial_environment,
        keep_files=settings.keep_trial_files,
    )
    patience.pause = executor.tend
    folder = study_folder(settings.workspace, ledger.study_id)
    try:
        mirror = OptunaMirror(settings.workspace / "optuna.db", ledger.name, ledger.study_id, ledger.definition)
        memory = SamplerMemory(ledger.definition, mirror)
        Runner(
            ledger,
            memory,
            executor,
            _slots(settings, ledger, machine),
            logs=str(folder / "trials"),
            files=str(folder / "files"),
            threads=threads,
            pricing=_pricing(settings, ledger, threads),
            wake=partial(_wake, open_store(settings), settings),
        ).run()
        memory.close()
    finally:
        patience.pause = time.sleep
        executor.close()


def _pricing(settings: Settings, ledger: Ledger, threads: int) -> Pricing:
    prices = Prices.load(settings)

    def usd_per_second(gpus: Sequence[str]) -> float:
        return prices.usd_per_second(threads, map(gpu_model, gpus))

    return Pricing(
        usd_per_second, prices.token_prices(), TeamBudget(prices.monthly_usd(ledger.team), ledger.team_spent)
    )


def _slots(settings: Settings, ledger: Ledger, machine: Machine) -> SlotKeeper:
    def lives(study_id: str) -> bool:
        return not runner_lock(settings.workspace, study_id).is_free()

    return SlotKeeper(
        machine.pool(settings.workspace),
        ledger.study_id,
        ledger.definition.spec.gpus,
        look=ledger.contenders,
        announce=ledger.wait_for,
        lives=lives,
    )


def _wake(store: Store, settings: Settings) -> None:
    """Start who delivers what this study leaves in the workspace, wherever nobody does."""
    try:
        ensure_tracker(store, settings)
        ensure_notifier(store, settings)
    except DatabaseAwayError as exc:  # asked again soon, and by every server of the workspace
        log.warning("could not look whether something is to be delivered", error=str(exc))


if __name__ == "__main__":
    main()
