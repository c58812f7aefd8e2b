"""The invariants of a workspace, in one function for tests and for `tuning-mcp doctor`."""

from collections.abc import Iterator

from mcp_server.health import files, liveness, stores, trials
from mcp_server.health.databases import damaged
from mcp_server.health.evidence import Evidence, StudyEvidence, gather
from mcp_server.health.violation import Violation
from mcp_server.studies.machine import capacity
from mcp_server.workspace import Workspace


def check_invariants(workspace: Workspace, *, settled: bool = False) -> list[Violation]:
    """What does not hold; studies may run meanwhile, and of those nothing is held against them that is on its way.

    `settled` means that nothing may be on its way: a record that has not arrived in MLflow is a violation too.
    The list of the invariants is `mcp_server.health.violation.PROMISES`.

    Raises:
        BackendUnavailableError: If the workspace database cannot be read at the moment.
    """
    broken = list(damaged(workspace))
    root = workspace.settings.workspace
    broken += files.audit_is_whole(root / "audit.jsonl")
    broken += files.long_logs(workspace)
    if not workspace.store.present or any(found.subject == "workspace.db" for found in broken):
        return broken
    folders = files.study_folders(workspace)
    evidence = gather(workspace)
    for study in evidence.studies:
        broken += _of_study(study, evidence, slots=capacity(workspace.settings), settled=settled)
    broken += trials.vanished(evidence)
    broken += liveness.left_over(workspace, evidence)
    known = {study.row.id for study in evidence.studies} | evidence.deleted
    broken += files.leftovers(workspace, folders, known)
    return broken


def _of_study(study: StudyEvidence, evidence: Evidence, *, slots: int, settled: bool) -> Iterator[Violation]:
    yield from trials.acknowledged(study)
    yield from trials.ended_once(study)
    yield from trials.as_many_as_asked(study)
    yield from trials.best_is_best(study)
    yield from trials.within_budget(study, slots)
    yield from stores.twice(study)
    yield from stores.mirror_agrees(study, evidence)
    yield from stores.records_agree(study)
    yield from stores.runs_agree(study, evidence, settled=settled)
    yield from liveness.marked_as_running(study)
