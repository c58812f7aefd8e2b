"""scikit-optimize behind Optuna's sampler interface. Imported only where a sampler is built, because it is heavy.

The sampler holds no state: every question builds the model again from the study's trials, so that it survives a restart
of the runner, and trials that still run count as if they had the worst value so far (a constant lie), which keeps
parallel trials apart (Ginsbourger, Le Riche and Carraro, Kriging is well-suited to parallelize optimization, 2010).
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution  # noqa: TID253
from optuna.samplers import BaseSampler, RandomSampler  # noqa: TID253
from optuna.study import Study, StudyDirection  # noqa: TID253
from optuna.trial import FrozenTrial, TrialState  # noqa: TID253

from mcp_server.studies.space import SearchSpace, optuna_distribution
from mcp_server.types import Scalar

Point = list[float | int]


class SkoptSampler(BaseSampler):
    """Suggests the point that a surrogate model of the trials so far finds most promising."""

    def __init__(
        self, space: SearchSpace, *, seed: int, n_startup_trials: int, surrogate: str, acquisition: str
    ) -> None:
        distributions = {name: optuna_distribution(entry) for name, entry in space.root.items()}
        self._space = {name: entry for name, entry in distributions.items() if not entry.single()}
        self._seed = seed
        self._n_startup_trials = n_startup_trials
        self._surrogate = surrogate.upper()
        self._acquisition = acquisition
        self._random = RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The whole space, also what may not exist in this trial."""
        del study, trial
        return self._space

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Scalar]:
        """The most promising point, or nothing while there are too few trials for a model."""
        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
        others = [t for t in study.get_trials(deepcopy=False, states=states) if t.number != trial.number]
        sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
        losses = [_loss(t, sign) for t in others]
        known = [(self._point(t), loss) for t, loss in zip(others, losses, strict=True) if loss is not None]
        if len(known) < self._n_startup_trials or not search_space:
            return {}
        worst = max(loss for _, loss in known)
        known += [(self._point(t), worst) for t in others if t.state == TrialState.RUNNING and t.params]
        return self._asked(known, (self._seed + 1_000_003 * (trial.number + 1)) % 2**31)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:  # noqa: ANN401 - as Optuna declares it
        """A uniform draw, for the first trials."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def _asked(self, known: Sequence[tuple[Point, float]], seed: int) -> dict[str, Scalar]:
        from skopt import Optimizer

        with warnings.catch_warnings():  # of a point that was asked before, and of kernels that did not converge
            warnings.simplefilter("ignore")
            optimizer = Optimizer(
                [_dimension(entry) for entry in self._space.values()],
                base_estimator=self._surrogate,
                acq_func=self._acquisition,
                n_initial_points=0,
                random_state=seed,
            )
            optimizer.tell([point for point, _ in known], [loss for _, loss in known])
            asked = optimizer.ask()
        return {name: _value(entry, x) for (name, entry), x in zip(self._space.items(), asked, strict=True)}

    def _point(self, trial: FrozenTrial) -> Point:
        return [
            _coordinate(entry, trial.params[name]) if name in trial.params else _middle(entry)
            for name, entry in self._space.items()
        ]


def _loss(trial: FrozenTrial, sign: float) -> float | None:
    """What the model is told of a trial: to be minimised. A pruned one counts with its last report."""
    if trial.state == TrialState.RUNNING:
        return None
    value = trial.value if trial.state == TrialState.COMPLETE else trial.intermediate_values.get(trial.last_step or 0)
    return None if value is None or not math.isfinite(value) else sign * value


def _dimension(entry: BaseDistribution) -> Any:  # noqa: ANN401 - scikit-optimize has no types
    from skopt.space import Categorical, Integer, Real

    match entry:
        case CategoricalDistribution(choices=choices):
            return Categorical(list(range(len(choices))), transform="onehot")
        case FloatDistribution(step=None):
            return Real(entry.low, entry.high, prior="log-uniform" if entry.log else "uniform")
        case IntDistribution(log=True):
            return Integer(entry.low, entry.high, prior="log-uniform")
        case FloatDistribution() | IntDistribution():
            return Integer(0, _steps(entry))
    raise TypeError(f"{entry} has no dimension")


def _steps(entry: FloatDistribution | IntDistribution) -> int:
    return round((entry.high - entry.low) / (entry.step or 1))


def _coordinate(entry: BaseDistribution, value: Any) -> float | int:  # noqa: ANN401 - a parameter's value
    match entry:
        case CategoricalDistribution():
            return int(entry.to_internal_repr(value))
        case FloatDistribution(step=None):
            return min(max(float(value), entry.low), entry.high)
        case IntDistribution(log=True):
            return int(value)
        case FloatDistribution() | IntDistribution():
            return round((value - entry.low) / (entry.step or 1))
    raise TypeError(f"{entry} has no coordinate")


def _value(entry: BaseDistribution, x: Any) -> Scalar:  # noqa: ANN401 - a number of NumPy or Python
    match entry:
        case CategoricalDistribution(choices=choices):
            return choices[int(x)]
        case FloatDistribution(step=None):
            return min(max(float(x), entry.low), entry.high)
        case FloatDistribution(step=float(step)):
            return min(entry.low + int(x) * step, entry.high)
        case IntDistribution(log=True):
            return int(x)
        case IntDistribution():
            return entry.low + int(x) * entry.step
    raise TypeError(f"{entry} has no value")


def _middle(entry: BaseDistribution) -> float | int:
    match entry:
        case CategoricalDistribution():
            return 0
        case FloatDistribution(step=None):
            return math.sqrt(entry.low * entry.high) if entry.log else (entry.low + entry.high) / 2
        case IntDistribution(log=True):
            return round(math.sqrt(entry.low * entry.high))
        case FloatDistribution() | IntDistribution():
            return _steps(entry) // 2
    raise TypeError(f"{entry} has no middle")
