"""The sampler's memory: an Optuna study in this process, rebuilt from our rows when a runner starts.

It holds nothing that is not in our rows, so it can be lost at any time. `mirror.OptunaMirror` shows the same trials to
Optuna's own tools. Trial numbers are the same everywhere.
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mcp_server.studies.mirror import KnownTrial, OptunaMirror, frozen_trial, optuna_state
from mcp_server.studies.samplers import Search
from mcp_server.studies.spaces import Spaces
from mcp_server.studies.spec import StudyDefinition
from mcp_server.types import Params, TrialState

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

MIRROR_PATIENCE_S = 2.0


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
        self._spaces = Spaces((definition.space,))
        self._study: Study = self._empty(definition.spec.seed, [])
        self._trials: dict[int, Trial] = {}
        self._planned: dict[int, Params] = {}
        self._asked: dict[int, Params] = {}

    @property
    def spaces(self) -> Spaces:
        """The spaces that the study has had; trials are asked from the last one."""
        return self._spaces

    def rebuild(self, rows: Sequence[KnownTrial], spaces: Spaces | None = None) -> None:
        """Learn what our rows say, ordered by number, of which trials of `spaces` are to be asked from now on.

        The mirror catches up with them. May be cut off and repeated. Trials that run are known as running again, with
        what they reported so far. A trial that lies outside a changed space counts as failed for the sampler, which
        then neither models it nor counts it.
        """
        self._spaces = spaces or self._spaces
        ended = {row.number: self._frozen(row) for row in rows if row.state != "running"}
        # A sampler that was seeded as before would repeat the draws it made before the restart.
        seed = (self._definition.spec.seed + 7919 * len(rows)) % 2**32
        self._study = self._empty(seed, list(ended.values()))
        self._trials, self._planned, self._asked = {}, {}, {}
        for row in rows:
            if row.number in ended:
                self._study.add_trial(ended[row.number])
            else:
                self._enqueue(row.number, row.params)
        for row in rows:
            if row.state == "running":
                self.begin(row.number, row.params)
                for step, value in row.reports.items():
                    self._trials[row.number].report(value, step)
        if self._mirror is not None:
            self._mirror.catch_up(rows, self._spaces)

    def _empty(self, seed: int, earlier: "list[FrozenTrial]") -> "Study":
        import optuna

        return optuna.create_study(
            direction=self._definition.direction,
            sampler=self._definition.spec.sampler.build(Search(self._spaces.current, seed, earlier)),
            study_name="study",  # Hyperband divides trials by it, also in the next process
            pruner=self._definition.spec.pruner.build(self._definition.n_steps),
        )

    def _frozen(self, row: KnownTrial) -> "FrozenTrial":
        if self._outside(row.params):
            row = replace(row, state="failed", params={}, value=None, reports={})
        pruner = self._definition.spec.pruner
        notes = pruner.notes(self._study.pruner, self._study, row.number, row.reports)
        return frozen_trial(self._spaces.current.distributions(row.params), row, notes=notes)

    def _outside(self, params: Params) -> bool:
        """Whether the space was changed so that the sampler cannot learn from a trial with these parameters.

        In a space that never changed that is only the baseline, of which it learns what lies inside.
        """
        return self._spaces.version > 1 and not self._spaces.current.fits(params)

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
        planned = self._planned.get(number)
        params = self._spaces.current.suggest(trial) if planned is None else self._follow(trial, planned)
        self._asked[number] = params
        return params

    def opened(self, number: int, params: Params, space_version: int = 1) -> None:
        """The trial is on record: show it to Optuna's tools."""
        if self._mirror is not None:
            self._mirror.opened(KnownTrial(number, "running", params, None, space_version=space_version))

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
        learned: TrialState = "failed" if self._outside(self._asked.pop(number)) else state
        self._study.tell(number, value if learned == "complete" else None, optuna_state(learned))
        self._trials.pop(number, None)
        self._planned.pop(number, None)
        if self._mirror is not None:
            self._mirror.closed(number, state, value)

    def settle(self) -> None:
        """Return when the mirror has everything so far, unless its file does not let it write."""
        if self._mirror is not None:
            self._mirror.settle(MIRROR_PATIENCE_S)

    def close(self) -> None:
        """Return when the mirror has everything."""
        if self._mirror is not None:
            self._mirror.close()

    def _enqueue(self, number: int, params: Params) -> None:
        self._planned[number] = params
        self._study.enqueue_trial({name: params[name] for name in self._learned(params)})

    def _follow(self, trial: "Trial", planned: Params) -> Params:
        """`planned`, of which the sampler learns what lies in the space."""
        for name, distribution in self._learned(planned).items():
            trial._suggest(name, distribution)  # noqa: SLF001 - the public methods want the distribution taken apart
        return planned

    def _learned(self, params: Params) -> "dict[str, BaseDistribution]":
        return {} if self._outside(params) else self._spaces.current.distributions(params)
