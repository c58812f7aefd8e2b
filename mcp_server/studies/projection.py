"""What tracking is told about a study: our rows in the words of experiment tracking."""

from dataclasses import dataclass, field
from typing import NamedTuple

from mcp_server.data.spec import PreparedData
from mcp_server.execution import Ended
from mcp_server.settings import Settings
from mcp_server.studies.spec import StudyDefinition
from mcp_server.tracking.records import DatasetRef, StudyEndRecord, StudyRecord, TrialRecord
from mcp_server.types import JsonObject, Params, StudyState, TrialState


class ReportedValue(NamedTuple):
    """An intermediate value: of which step, and when (Unix seconds)."""

    step: int
    value: float
    at: float


@dataclass
class Attempt:
    """An attempt in flight."""

    number: int
    attempt: int
    params: Params
    source: str
    started_at: float
    deaths: int = 0  # workers that died under it alone while the runner lived
    losses: int = 0  # workers it lost while the runner lived
    reports: list[ReportedValue] = field(default_factory=list)
    explanation: str | None = None  # why it was told to stop
    space_version: int = 1
    command: int | None = None  # the order that asked for this trial
    usd_per_second: float = 0.0
    charged_usd: float = 0.0  # what it said it cost beside its time

    def cost_usd(self, seconds: float) -> float:
        """What it costs when it has taken so many seconds."""
        return seconds * self.usd_per_second + self.charged_usd


class Projection:
    """Turns the rows of one study into the records that tracking is owed; `labels` become tags of every run."""

    def __init__(
        self, settings: Settings, study_id: str, name: str, definition: StudyDefinition, labels: dict[str, str]
    ) -> None:
        self._settings = settings
        self._study_id = study_id
        self._name = name
        self._definition = definition
        self._labels = labels

    def study(self, started_at: float, dataset: JsonObject | None) -> StudyRecord:
        """The parent run."""
        spec = self._definition.spec
        return StudyRecord(
            study_id=self._study_id,
            study_name=self._name,
            experiment=self._settings.experiment.format(study=self._name, agent=self._settings.agent),
            started_at=started_at,
            params={
                "estimator": spec.estimator,
                "metric": self._definition.metric,
                "direction": self._definition.direction,
                "sampler": spec.sampler.type,
                "pruner": spec.pruner.type,
                "seed": spec.seed,
                "n_trials": spec.n_trials,
            },
            tags=self._tags(),
            dataset=_reference(PreparedData.model_validate(dataset)) if dataset else None,
        )

    def trial(
        self, attempt: Attempt, state: TrialState, ended: Ended, *, best: float | None, now: float, cost_usd: float
    ) -> TrialRecord:
        """The child run of a trial that is over."""
        result = ended.result if state == "complete" else None
        return TrialRecord(
            study_id=self._study_id,
            study_name=self._name,
            number=attempt.number,
            state="failed" if state == "running" else state,
            params={**self._definition.spec.fixed, **attempt.params},
            metric=self._definition.metric,
            value=result.value if result else None,
            std=result.std if result else None,
            best_so_far=best,
            metrics=result.metrics if result else {},
            reports=[tuple(report) for report in attempt.reports],
            step_unit="fold" if self._definition.table else "step",
            started_at=attempt.started_at,
            ended_at=now,
            cost_usd=cost_usd,
            config={"objective": self._definition.objective, "params": {**attempt.params}, "seed": self._seed},
            error=ended.error if state == "failed" else None,
            explanation=attempt.explanation if state == "pruned" else None,
            source=attempt.source,
            tags=self._tags(),
        )

    def end(
        self, state: StudyState, reason: str | None, now: float, best: float | None, *, sequence: int, cost_usd: float
    ) -> StudyEndRecord:
        """The end of the parent run, with what all attempts have cost."""
        found = {} if best is None else {f"best_{self._definition.metric}": best}
        return StudyEndRecord(
            study_id=self._study_id,
            study_name=self._name,
            state="stopped" if state not in {"finished", "failed"} else state,
            stop_reason=reason,
            ended_at=now,
            metrics={**found, "cost_usd": cost_usd},
            sequence=sequence,
        )

    @property
    def _seed(self) -> int:
        return self._definition.spec.seed

    def _tags(self) -> dict[str, str]:
        return {**self._definition.spec.tags, **self._labels, "agent": self._settings.agent}


def _reference(data: PreparedData) -> DatasetRef:
    return DatasetRef(
        name=data.source,
        digest=data.digest,
        source=data.source,
        n_rows=data.n_rows + data.n_sealed,
        n_columns=len(data.columns),
        target=data.target,
    )
