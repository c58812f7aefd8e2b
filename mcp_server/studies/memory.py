"""The sampler's memory: Optuna's study, which follows our rows and is repaired from them.

Only the runner opens it. Optuna's trial numbers and ours are the same; a crash can leave Optuna one step behind, never
ahead with a value: our row is committed before `tell`.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_server.studies.spec import StudyDefinition
from mcp_server.types import Params, TrialState

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.storages import RDBStorage
    from optuna.trial import TrialState as OptunaState


@dataclass(frozen=True)
class KnownTrial:
    """A row of ours that Optuna has to know."""

    number: int
    state: TrialState
    params: Params
    value: float | None
    reports: dict[int, float] = field(default_factory=dict)


class SamplerMemory:
    """Optuna's study of this name in `path`, created when there is none.

    Raises:
        optuna.exceptions.StorageInternalError: If the file cannot be used.
    """

    def __init__(self, path: Path, name: str, definition: StudyDefinition) -> None:
        import optuna

        # Grouped TPE is marked experimental, and a repeated step after a lost attempt is expected.
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        warnings.filterwarnings("ignore", message=".*`step` .* is already reported")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        spec = definition.spec
        self._definition = definition
        self._seed = spec.seed
        self._study: Study = optuna.create_study(
            study_name=name,
            storage=_storage(path),
            direction=definition.direction,
            sampler=spec.sampler.build(spec.seed),
            pruner=spec.pruner.build(),
            load_if_exists=True,
        )
        self._trials: dict[int, Trial] = {}
        self._known = 0

    def reconcile(self, rows: Sequence[KnownTrial]) -> None:
        """Bring Optuna up to our rows; may be cut off and repeated.

        `rows` are ordered by number. A trial that Optuna has and we do not was about to start: it is used again.
        """
        import optuna

        found = self._study.get_trials(deepcopy=False)
        # A sampler that was seeded anew would repeat the draws it made before the restart.
        self._study.sampler = self._definition.spec.sampler.build((self._seed + 7919 * len(found)) % 2**32)
        for row in rows:
            if row.number >= len(found):
                self._study.add_trial(self._frozen(row))
            elif row.state != "running" and not found[row.number].state.is_finished():
                if found[row.number].state == optuna.trial.TrialState.WAITING:
                    self._study.ask()
                self.tell(row.number, row.state, row.value)
        self._known = len(self._study.get_trials(deepcopy=False))

    def begin(self, number: int, planned: Params | None) -> Params:
        """The parameters of trial `number`: the planned ones, or what the sampler chooses."""
        import optuna

        if number < self._known:
            frozen = self._study.get_trials(deepcopy=False)[number]
            if frozen.state == optuna.trial.TrialState.WAITING:
                trial = self._study.ask()
            else:
                trial = optuna.trial.Trial(self._study, frozen._trial_id)  # noqa: SLF001 - ask() makes new trials only
        else:
            if planned is not None:
                self._study.enqueue_trial(self._inside(planned), user_attrs={"planned": True})
            trial = self._study.ask()
            self._known += 1
        if trial.number != number:
            raise RuntimeError(f"Optuna is at trial {trial.number}, the workspace at {number}")
        self._trials[number] = trial
        if planned is not None or "planned" in trial.user_attrs:
            return self._follow(trial, planned)
        return self._definition.space.suggest(trial)

    def report(self, number: int, step: int, value: float) -> bool:
        """Whether the trial should stop, now that it reported `value` at `step`."""
        trial = self._trials[number]
        trial.report(value, step)
        return trial.should_prune()

    def tell(self, number: int, state: TrialState, value: float | None) -> None:
        """Tell the sampler how a trial ended; telling it twice is harmless."""
        self._study.tell(number, value if state == "complete" else None, _state(state), skip_if_finished=True)
        self._trials.pop(number, None)

    def _follow(self, trial: "Trial", planned: Params | None) -> Params:
        inside = dict(planned or {})
        chosen: Params = {}
        for name, distribution in self._definition.space.ordered():
            if name not in inside:
                continue
            if distribution.type != "fixed" and distribution.contains(inside[name]):
                trial._suggest(name, self._definition.space.distributions(inside)[name])  # noqa: SLF001 - any distribution
            chosen[name] = inside[name]
        return {**chosen, **{name: value for name, value in inside.items() if name not in chosen}}

    def _inside(self, planned: Params) -> Params:
        return {name: planned[name] for name in self._definition.space.distributions(planned)}

    def _frozen(self, row: KnownTrial) -> "optuna.trial.FrozenTrial":  # type: ignore[name-defined] # noqa: F821
        import optuna

        distributions = self._definition.space.distributions(row.params)
        finished = row.state != "running"
        return optuna.trial.create_trial(
            state=_state(row.state) if finished else optuna.trial.TrialState.WAITING,
            value=row.value if row.state == "complete" else None,
            params={name: row.params[name] for name in distributions} if finished else {},
            distributions=distributions if finished else {},
            intermediate_values=row.reports if finished else {},
            system_attrs=None if finished else {"fixed_params": {name: row.params[name] for name in distributions}},
            user_attrs={} if finished else {"planned": True},
        )


def _state(state: TrialState) -> "OptunaState":
    from optuna.trial import TrialState as OptunaState

    return {"complete": OptunaState.COMPLETE, "pruned": OptunaState.PRUNED}.get(state, OptunaState.FAIL)


def _storage(path: Path) -> "RDBStorage":
    """Optuna's SQLite storage with a write-ahead log: 16 times faster per trial than its default journal."""
    from optuna.storages import RDBStorage
    from sqlalchemy import event
    from sqlalchemy.pool import Pool

    def prepare(connection: object, _record: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")  # type: ignore[attr-defined]
        connection.execute("PRAGMA synchronous=NORMAL")  # type: ignore[attr-defined]

    # The storage creates its tables in its constructor, so the hook has to be there before the engine is.
    event.listen(Pool, "connect", prepare)
    try:
        return RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}})
    finally:
        event.remove(Pool, "connect", prepare)
