"""Runs a study inside the test: the real ledger, the real sampler memory, trials in this process."""

from sqlalchemy import select

from mcp_server.execution.inline import InlineExecutor
from mcp_server.store import Store
from mcp_server.store.schema import studies
from mcp_server.studies.ledger import Ledger
from mcp_server.studies.machine import Machine
from mcp_server.studies.memory import SamplerMemory
from mcp_server.studies.mirror import OptunaMirror
from mcp_server.studies.pricing import Pricing
from mcp_server.studies.runner import Runner
from mcp_server.studies.slots import SlotKeeper
from mcp_server.studies.spec import CallableStudySpec
from mcp_server.workspace import Workspace

SPACE = {"x": {"low": -5.0, "high": 5.0}, "k": ["a", "b"]}


def callable_spec(name: str = "study", objective: str = "quadratic", **changed: object) -> CallableStudySpec:
    """A small study of one of the shipped objectives."""
    fields = {
        "study_name": name,
        "objective": objective if ":" in objective else f"mcp_server.testing.objectives:{objective}",
        "search_space": SPACE,
        "direction": "minimize",
        "n_trials": 8,
        "parallel": 1,
    }
    return CallableStudySpec.model_validate({**fields, **changed})


def open_memory(workspace: Workspace, ledger: Ledger) -> SamplerMemory:
    """The sampler's memory with its mirror in the workspace."""
    mirror = OptunaMirror(workspace.settings.workspace / "optuna.db", ledger.name, ledger.study_id, ledger.definition)
    return SamplerMemory(ledger.definition, mirror)


def keeper(workspace: Workspace, ledger: Ledger) -> SlotKeeper:
    """The places for the study's trials."""
    pool = Machine.of(workspace.settings).pool(workspace.settings.workspace)
    spec = ledger.definition.spec
    return SlotKeeper(
        pool, ledger.study_id, spec.gpus, look=ledger.contenders, announce=ledger.wait_for, lives=lambda _: True
    )


def run_inline(
    workspace: Workspace,
    name: str = "study",
    *,
    slots: int = 1,
    store: Store | None = None,
    pricing: Pricing | None = None,
) -> None:
    """Run the study until it ends or pauses; on a `store` of its own, or the workspace's."""
    with workspace.store.read() as connection:
        study_id = connection.execute(select(studies.c.id).where(studies.c.name == name)).scalar_one()
    ledger = Ledger(store or workspace.store, workspace.settings, study_id)
    memory = open_memory(workspace, ledger)
    executor = InlineExecutor(slots)
    try:
        Runner(
            ledger,
            memory,
            executor,
            keeper(workspace, ledger),
            pricing=pricing or Pricing(),
            logs=str(workspace.settings.workspace / "logs"),
            threads=1,
            wake=lambda: None,
        ).run()
    finally:
        executor.close()
        memory.close()
