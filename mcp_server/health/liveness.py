"""What is marked as running, and what runs: invariants 5 and 6."""

from collections.abc import Iterator

import psutil

from mcp_server.health.evidence import Evidence, StudyEvidence, nobody_runs
from mcp_server.health.trials import violation
from mcp_server.health.violation import Violation
from mcp_server.processes import owned_processes
from mcp_server.studies.placement import study_folder
from mcp_server.types import ENDED_STATES
from mcp_server.workspace import Workspace

DYING_S = 2.0


def marked_as_running(study: StudyEvidence) -> Iterator[Violation]:
    """I5: a study without a runner is not marked as running, and neither is anything in it."""
    if not study.at_rest:
        return
    if study.row.state == "running":
        yield violation(study, "I5", "it is marked as running, and nobody runs it", remedy="revive")
        return
    for trial in study.trials:
        attempts = study.attempts.get(trial.number, [])
        if any(attempt.state == "running" for attempt in attempts):
            yield violation(study, "I5", "its attempt is marked as running", trial.number, remedy="close")
        elif trial.state == "running" and study.row.state in ENDED_STATES:
            yield violation(study, "I5", f"it is marked as running in a study that is {study.row.state}",
                            trial.number, remedy="close")  # fmt: skip


def left_over(workspace: Workspace, evidence: Evidence) -> Iterator[Violation]:
    """I6: no process of a runner outlives it."""
    names = {study.row.id: study.row.name for study in evidence.studies}
    folder = study_folder(workspace.settings.workspace, "")
    found = [p for p in owned_processes(folder) if nobody_runs(workspace, p.owner.name) and not p.is_runner]
    _, alive = psutil.wait_procs([p.process for p in found], timeout=DYING_S if found else 0)
    for owned in found:
        if owned.process in alive and nobody_runs(workspace, owned.owner.name):
            study_id = owned.owner.name
            text = f"process {owned.process.pid} ({owned.command}) outlived its runner"
            yield Violation("I6", text, study_id, names.get(study_id), None, "kill", str(owned.process.pid))
