"""Which parameters an estimator has, where to search them, and what a trial uses for those that nobody chose."""

from collections.abc import Iterable

from mcp_server.distributions import Categorical, Distribution, Int
from mcp_server.errors import InvalidRequestError
from mcp_server.training.estimators._family import Family
from mcp_server.training.estimators.catalog import AUTO, FAMILIES, family, variant
from mcp_server.training.estimators.forest import RANDOM_FOREST
from mcp_server.training.estimators.linear import LASSO
from mcp_server.types import Params, Task

ESTIMATOR = "estimator"
_WIDE = 0.1  # columns per row from which on a sparse model is worth a try


def auto_families(task: Task, n_rows: int, n_columns: int) -> tuple[str, ...]:
    """The families that `auto` searches for a table of this size.

    All that serve the task, without those whose time grows too fast for the rows (support vector machines above 10,000,
    exact boosting above 5,000, nearest neighbours above 20,000, perceptrons above 50,000), those that do badly with
    many columns (nearest neighbours above 50, and exact boosting for its time), and lasso, which ridge covers, unless
    there is a column for every ten rows.
    """
    return tuple(
        candidate.name
        for candidate in FAMILIES
        if task in candidate.variants
        and (candidate.auto_rows is None or n_rows <= candidate.auto_rows)
        and (candidate.auto_columns is None or n_columns <= candidate.auto_columns)
        and (candidate is not LASSO or n_columns >= _WIDE * n_rows)
    )


def search_space(estimator: str, task: Task, n_rows: int, n_columns: int) -> dict[str, Distribution]:
    """The default search space of a family, or of `auto`: a choice of families, each with its own parameters.

    Raises:
        InvalidRequestError: If there is no such family, or it serves the other task only.

    >>> list(search_space("ridge", "regression", 100, 5))
    ['alpha', 'fit_intercept']
    """
    if estimator != AUTO:
        return _own_space(family(estimator), task, n_rows)
    names = auto_families(task, n_rows, n_columns)
    space: dict[str, Distribution] = {ESTIMATOR: Categorical(choices=names)}
    for name in names:
        for parameter, entry in _own_space(family(name), task, n_rows).items():
            space[f"{name}.{parameter}"] = entry.model_copy(update={"when": {ESTIMATOR: [name]}})
    return space


def parameter_names(estimator: str, task: Task) -> frozenset[str]:
    """The parameters that may be searched or fixed; with `auto` they are `estimator` and `<family>.<parameter>`.

    Raises:
        InvalidRequestError: If there is no such family, or it serves the other task only.
    """
    if estimator != AUTO:
        return frozenset(variant(family(estimator), task).library)
    served = [candidate for candidate in FAMILIES if task in candidate.variants]
    return frozenset({ESTIMATOR} | {f"{of.name}.{name}" for of in served for name in of.variants[task].library})


def default_params(estimator: str, task: Task) -> Params:
    """What a trial uses for the parameters that nobody chose: the library's defaults, but for a documented few.

    Raises:
        InvalidRequestError: If there is no such family, or it serves the other task only.
    """
    return variant(family(estimator), task).defaults


def fixed_params(estimator: str, task: Task, *, seed: int, threads: int) -> Params:
    """What the study sets and no caller chooses: the random state and the number of threads, where there are any.

    Raises:
        InvalidRequestError: If there is no such family, or it serves the other task only.

    >>> fixed_params("random_forest", "regression", seed=7, threads=2)
    {'random_state': 7, 'n_jobs': 2}
    """
    values: Params = {"random_state": seed, "n_jobs": threads}
    return {name: values[name] for name in variant(family(estimator), task).system}


def baseline_params(estimator: str, task: Task, names: Iterable[str]) -> Params:
    """The defaults for the named parameters: the trial that every other one is compared with.

    With `auto` it is a random forest, the usual first model for a table, or else the first family that is searched.

    Raises:
        InvalidRequestError: If there is no such family, or it serves the other task only.

    >>> baseline_params("auto", "regression", ["estimator", "random_forest.max_depth", "ridge.alpha"])
    {'estimator': 'random_forest', 'random_forest.max_depth': None}
    """
    names = list(names)
    if estimator != AUTO:
        defaults = default_params(estimator, task)
        return {name: defaults[name] for name in names if name in defaults}
    searched = list(dict.fromkeys(name.partition(".")[0] for name in names if "." in name))
    chosen = RANDOM_FOREST.name if RANDOM_FOREST.name in searched or not searched else searched[0]
    defaults = {f"{chosen}.{name}": value for name, value in default_params(chosen, task).items()}
    return {ESTIMATOR: chosen, **{name: defaults[name] for name in names if name in defaults}}


def split_params(estimator: str, params: Params) -> tuple[str, Params]:
    """The family that a trial uses, and its parameters by their own names.

    Raises:
        InvalidRequestError: If there is no such family, or `auto` comes without a choice of one.

    >>> split_params("auto", {"estimator": "svm", "svm.C": 2.0, "knn.p": 1})
    ('svm', {'C': 2.0})
    """
    if estimator != AUTO:
        return family(estimator).name, dict(params)
    chosen = params.get(ESTIMATOR)
    if not isinstance(chosen, str):
        raise InvalidRequestError("These parameters choose no estimator.", hint=f"Give one as {ESTIMATOR!r}.")
    name = family(chosen).name
    return name, _own(name, params)


def training_params(estimator: str, best: Params, fixed: Params) -> Params:
    """What a trial found and what the study fixed, by the family's own parameter names; what was fixed goes first.

    Raises:
        InvalidRequestError: If there is no such family.

    >>> training_params("knn", {"p": 1, "weights": "distance"}, {"knn.p": 2, "svm.C": 1.0})
    {'p': 2, 'weights': 'distance'}
    """
    name = family(estimator).name
    plain = {key: value for key, value in fixed.items() if "." not in key and key != ESTIMATOR}
    return merged_params({}, best, {**plain, **_own(name, fixed)})


def merged_params(defaults: Params, best: Params, fixed: Params) -> Params:
    """All parameters of a model: the defaults, over them what a search found, over both what was fixed."""
    return {**defaults, **best, **fixed}


def _own(name: str, params: Params) -> Params:
    prefix = f"{name}."
    return {key.removeprefix(prefix): value for key, value in params.items() if key.startswith(prefix)}


def _own_space(of: Family, task: Task, n_rows: int) -> dict[str, Distribution]:
    space = dict(variant(of, task).space)
    for name, share in of.row_shares.items():
        entry, default = space[name], variant(of, task).library[name]
        if isinstance(entry, Int) and isinstance(default, int):
            space[name] = entry.model_copy(update={"high": max(default, min(entry.high, int(share * n_rows)))})
    return space
