"""The sampler's memory: an Optuna study in this process, rebuilt from our rows when a runner starts.

It holds nothing that is not in our rows, so it can be lost at any time. `mirror.OptunaMirror` shows the same trials to
Optuna's own tools. Trial numbers are the same everywhere.
"""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mcp_server.studies.mirror import KnownTrial, OptunaMirror, frozen_trial, optuna_state
from mcp_server.studies.samplers import Search
from mcp_server.studies.spec import StudyDefinition
from mcp_server.types import Params, TrialState

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.trial import FrozenTrial


class SamplerMemory:
    """What the sampler and the pruner of one study know."""

    def __init__(self, definition: StudyDefinition, mirror: OptunaMirror | None = None) -> None:
        import optuna

        # Grouped TPE is marked experimental, and a repeated step after a lost attempt is expected.
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        warnings.filterwarnings("ignore", message=".*`step` .* is already reported")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._definition = definition
        self._mirror = mirror
        self._study = optuna.create_study(
            direction=definition.direction,
            sampler=definition.spec.sampler.build(Search(definition.space, definition.spec.seed)),
            study_name="study",  # Hyperband divides trials by it, also in the next process
            pruner=definition.spec.pruner.build(definition.n_steps),
        )
        self._trials: dict[int, Trial] = {}
        self._planned: dict[int, Params] = {}

    def rebuild(self, rows: Sequence[KnownTrial]) -> None:
        """Learn what our rows say, ordered by number; the mirror catches up with them. May be cut off and repeated."""
        ended = {row.number: self._frozen(row) for row in rows if row.state != "running"}
        if rows:
            # A sampler that was seeded as before would repeat the draws it made before the restart.
            seed = (self._definition.spec.seed + 7919 * len(rows)) % 2**32
            search = Search(self._definition.space, seed, list(ended.values()))
            self._study.sampler = self._definition.spec.sampler.build(search)
        for row in rows:
            if row.number in ended:
                self._study.add_trial(ended[row.number])
            else:
                self._enqueue(row.number, row.params)
        if self._mirror is not None:
            self._mirror.catch_up(rows)

    def begin(self, number: int, planned: Params | None) -> Params:
        """The parameters of trial `number`: the planned ones, or what the sampler chooses."""
        if number not in self._trials:
            if planned is not None and number not in self._planned:
                self._enqueue(number, planned)
            trial = self._study.ask()
            if trial.number != number:
                raise RuntimeError(f"Optuna is at trial {trial.number}, the workspace at {number}")
            self._trials[number] = trial
        trial = self._trials[number]
        if number in self._planned:
            return self._follow(trial, self._planned[number])
        return self._definition.space.suggest(trial)

    def opened(self, number: int, params: Params) -> None:
        """The trial is on record: show it to Optuna's tools."""
        if self._mirror is not None:
            self._mirror.opened(KnownTrial(number, "running", params, None))

    def report(self, number: int, step: int, value: float) -> str | None:
        """Why the trial should stop, now that it reported `value` at `step`; None while it may go on."""
        trial = self._trials[number]
        trial.report(value, step)
        if self._mirror is not None:
            self._mirror.reported(number, step, value)
        if not trial.should_prune():
            return None
        judged = self._study.get_trials(deepcopy=False)[number]
        where = f"fold {step + 1}" if self._definition.table else f"step {step}"
        return f"pruned at {where}: {self._definition.spec.pruner.reason(self._study, judged)}"

    def tell(self, number: int, state: TrialState, value: float | None) -> None:
        """Tell the sampler how a trial ended."""
        self._study.tell(number, value if state == "complete" else None, optuna_state(state))
        self._trials.pop(number, None)
        self._planned.pop(number, None)
        if self._mirror is not None:
            self._mirror.closed(number, state, value)

    def close(self) -> None:
        """Return when the mirror has everything."""
        if self._mirror is not None:
            self._mirror.close()

    def _frozen(self, row: KnownTrial) -> "FrozenTrial":
        pruner = self._definition.spec.pruner
        notes = pruner.notes(self._study.pruner, self._study, row.number, row.reports)
        return frozen_trial(self._definition.space, row, notes=notes)

    def _enqueue(self, number: int, params: Params) -> None:
        self._planned[number] = params
        inside = self._definition.space.distributions(params)
        self._study.enqueue_trial({name: params[name] for name in inside})

    def _follow(self, trial: "Trial", planned: Params) -> Params:
        """`planned`, of which the sampler learns what lies in the space."""
        for name, distribution in self._definition.space.distributions(planned).items():
            trial._suggest(name, distribution)  # noqa: SLF001 - the public methods want the distribution taken apart
        return planned
