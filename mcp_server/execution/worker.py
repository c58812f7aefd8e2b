"""The process of one trial, from the task on its pipe to the outcome on its pipe."""

import atexit
import errno
import faulthandler
import importlib
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn, cast

from mcp_server.execution import _messages as messages
from mcp_server.execution._base import TrialTask
from mcp_server.execution._messages import (
    Assignment,
    Outcome,
    Report,
    decoded_answer,
    decoded_assignment,
    encoded,
)
from mcp_server.execution.results import InvalidResultError, checked_result
from mcp_server.execution.run_folder import enter
from mcp_server.execution.trial import Ask, Charge, Trial, TrialPruned
from mcp_server.execution.usage import data_bytes, disk_bytes
from mcp_server.processes import adopt_orphans, kill_descendants
from mcp_server.types import shown

ERROR_LIMIT = 2000
DATA_SLACK = 2
DATA_SLACK_BYTES = 4 * 2**30  # five hundred threads with their stacks, say
UNDELIVERED_EXIT_CODE = 74
ORPHANED_EXIT_CODE = 75

Objective = Callable[[Trial], object]


def main(pipe: Connection, output: Connection | None, environment: dict[str, str] | None = None) -> NoReturn:
    """Run the one task that arrives on `pipe`, in a session of its own, and end this process.

    What it prints goes to `output`, or straight to its log where there is none. `environment` replaces its own.
    """
    if environment is not None:
        os.environ.clear()
        os.environ.update(environment)
    _own_session()
    if output is not None:
        _send_output_to(output.fileno())
        output.close()
    try:
        assignment = decoded_assignment(pipe.recv_bytes())
    except EOFError:
        os._exit(ORPHANED_EXIT_CODE)
    outcome = _outcome(pipe, assignment, direct=output is None)
    code = UNDELIVERED_EXIT_CODE
    with suppress(OSError):  # the objective closed the pipe
        pipe.send_bytes(encoded(outcome))
        code = 0
    # The objective may have left threads that would keep the interpreter waiting; its clean-up functions do run.
    atexit._run_exitfuncs()  # noqa: SLF001 - as multiprocessing does in a forked child
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run_objective(task: TrialTask, ask: Ask, charge: Charge = lambda _: None) -> Outcome:
    """How the objective of `task` ended, whatever it did; tracebacks go to stderr.

    >>> run_objective(TrialTask("j", "math:nonsense", 0, {}, {}, ""), lambda *_: False).error
    "AttributeError: module 'math' has no attribute 'nonsense'"
    """
    try:
        objective = _loaded(task)
        trial = Trial(task.number, task.params, task.payload, ask=ask, charge=charge, token_prices=task.token_prices)
        result = checked_result(objective(trial))
    except TrialPruned:
        return Outcome("pruned")
    except InvalidResultError as exc:
        return Outcome("failed", error=str(exc))
    except SystemExit as exc:
        return Outcome("failed", error=f"the trial called sys.exit({exc.code}) without returning a metric")
    except Exception as exc:  # noqa: BLE001 - a trial may raise anything, and every end must be told
        traceback.print_exc()
        if _out_of_memory(exc):
            return Outcome("oom", error=f"out of memory: {_described(exc)}")
        if _out_of_disk(exc, task):
            text = f"the trial's files grew past limits.trial_disk_mb, {task.disk_mb:g} MB: {_described(exc)}"
            return Outcome("failed", error=text)
        return Outcome("failed", error=_described(exc))
    return Outcome("completed", result)


def _outcome(pipe: Connection, assignment: Assignment, *, direct: bool) -> Outcome:
    task = assignment.task
    if direct:
        try:
            _write_output_to(Path(task.log_path))
        except OSError as exc:
            return Outcome("failed", error=f"the trial's log cannot be written: {exc}")
    os.environ.update(assignment.environment | task.environment)
    python_path = [str(Path(path).absolute()) for path in task.python_path]  # before the working directory changes
    if task.folder is not None:
        try:
            enter(Path(task.folder), Path(os.environ["TMPDIR"]))
        except OSError as exc:
            return Outcome("failed", error=f"the folder of the trial cannot be made: {exc}")
    task = replace(task, python_path=python_path)
    os.environ["OPTUNA_TRIAL_NUMBER"] = str(task.number)
    _renew_random_state()
    _limit_resources(task)
    outcome = run_objective(task, _asking(pipe), _charging(pipe))
    return Outcome(outcome.state, outcome.result, outcome.error, cpu_seconds=sum(os.times()[:4]))


def _own_session() -> None:
    if hasattr(os, "setsid"):
        with suppress(PermissionError):  # already a leader
            os.setsid()
    adopt_orphans()
    faulthandler.enable(file=2)


def _write_output_to(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        _send_output_to(file.fileno())


def _send_output_to(descriptor: int) -> None:
    for stream in (sys.stdout, sys.stderr):  # before they are pipes, on which they cannot tell where they are
        # Somebody follows the log live, and a killed process flushes nothing.
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)


def _renew_random_state() -> None:
    # A fork inherits NumPy's global state: without this every trial of a study would draw the same "random" numbers.
    if random := sys.modules.get("numpy.random"):
        random.seed()


def _limit_resources(task: TrialTask) -> None:
    # Whoever watches looks a few times a second, and what takes far too much at once fails here, before the machine
    # suffers. Libraries reserve more memory than they use, so that limit is generous and no substitute.
    if sys.platform == "win32":
        return
    import resource

    if task.memory_mb is not None:
        soft = data_bytes() + int(DATA_SLACK * task.memory_mb * 1e6) + DATA_SLACK_BYTES
        _lower(resource.RLIMIT_DATA, soft)
    if task.disk_mb is not None:
        _lower(resource.RLIMIT_FSIZE, int(task.disk_mb * 1e6))


def _lower(what: int, soft: int) -> None:
    import resource

    _, hard = resource.getrlimit(what)
    if hard == resource.RLIM_INFINITY or soft < hard:
        resource.setrlimit(what, (soft, hard))


def _asking(pipe: Connection) -> Ask:
    answers: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def listen() -> None:
        with suppress(EOFError, OSError):
            while True:
                answers.put(decoded_answer(pipe.recv_bytes()).prune)
        # The runner is gone, so nobody wants the result: what this trial started must go too.
        kill_descendants(os.getpid())
        os._exit(ORPHANED_EXIT_CODE)

    def ask(step: int, value: float, running: float) -> bool:
        pipe.send_bytes(encoded(Report(step, value, running)))
        return answers.get()

    threading.Thread(target=listen, name="runner", daemon=True).start()
    return ask


def _charging(pipe: Connection) -> Charge:
    def charge(usd: float) -> None:
        pipe.send_bytes(encoded(messages.Charge(usd)))

    return charge


def _loaded(task: TrialTask) -> Objective:
    sys.path[:0] = [path for path in task.python_path if path not in sys.path]
    module, _, name = task.objective.partition(":")
    return cast("Objective", getattr(importlib.import_module(module), name))


def _out_of_memory(exc: Exception) -> bool:
    # torch.cuda.OutOfMemoryError is a RuntimeError.
    return isinstance(exc, MemoryError) or type(exc).__name__ == "OutOfMemoryError"


def _out_of_disk(exc: Exception, task: TrialTask) -> bool:
    if task.disk_mb is None:
        return False
    if isinstance(exc, OSError) and exc.errno == errno.EFBIG:
        return True
    return task.folder is not None and disk_bytes(task.folder) >= task.disk_mb * 1e6  # NumPy does not tell


def _described(exc: Exception) -> str:
    return shown(" ".join(f"{type(exc).__name__}: {exc}".removesuffix(": ").split()), ERROR_LIMIT)
