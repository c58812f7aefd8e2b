"""The table of families, and how a name that a caller typed finds its row."""

import re
from difflib import get_close_matches

from mcp_server.errors import InvalidRequestError
from mcp_server.training.estimators._family import Family, Variant
from mcp_server.training.estimators.boosting import GRADIENT_BOOSTING, HIST_GRADIENT_BOOSTING
from mcp_server.training.estimators.forest import EXTRA_TREES, RANDOM_FOREST
from mcp_server.training.estimators.linear import LASSO, LOGISTIC_REGRESSION, RIDGE
from mcp_server.training.estimators.neighbors import KNN
from mcp_server.training.estimators.neural import MLP
from mcp_server.training.estimators.svm import SVM
from mcp_server.types import Task, shown

AUTO = "auto"

FAMILIES: tuple[Family, ...] = (
    LOGISTIC_REGRESSION,
    RIDGE,
    LASSO,
    RANDOM_FOREST,
    EXTRA_TREES,
    GRADIENT_BOOSTING,
    HIST_GRADIENT_BOOSTING,
    KNN,
    SVM,
    MLP,
)

_LATER = {
    "xgboost": ("xgb", "xgbclassifier", "xgbregressor"),
    "lightgbm": ("lgbm", "lgb", "lgbmclassifier", "lgbmregressor"),
}
# What comes closest to estimators that are not here.
_NEAREST = {
    "catboost": HIST_GRADIENT_BOOSTING,
    "adaboost": GRADIENT_BOOSTING,
    "decisiontree": RANDOM_FOREST,
    "elasticnet": LASSO,
    "sgd": LOGISTIC_REGRESSION,
}


def families(task: Task) -> tuple[str, ...]:
    """The names of the families that serve a task."""
    return tuple(family.name for family in FAMILIES if task in family.variants)


def family(name: str) -> Family:
    """The family that a name, in any usual spelling, means.

    Raises:
        InvalidRequestError: If no family has this name; near ones are named.

    >>> family("RandomForestClassifier").name
    'random_forest'
    """
    key = _key(name)
    for candidate in FAMILIES:
        if key in _spellings(candidate):
            return candidate
    raise _unknown(name, key)


def resolve_estimator(name: str, task: Task) -> str:
    """The canonical name of the family that serves the task, or `auto`.

    Raises:
        InvalidRequestError: If there is no such family, or it serves the other task only.

    >>> resolve_estimator("rf", "regression")
    'random_forest'
    """
    if _key(name) == AUTO:
        return AUTO
    found = family(name)
    variant(found, task)
    return found.name


def variant(of: Family, task: Task) -> Variant:
    """The family's estimator for a task.

    Raises:
        InvalidRequestError: If it serves the other task only.
    """
    if task not in of.variants:
        served = " and ".join(of.variants)
        raise InvalidRequestError(
            f"{of.name} is for {served}, and the task is {task}.", hint=f"For {task} use {_listed(task)}."
        )
    return of.variants[task]


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower().rpartition(".")[2])


def _spellings(of: Family) -> set[str]:
    classes = {_key(found.path) for found in of.variants.values()}
    return {_key(of.name), *of.aliases, *classes}


def _unknown(name: str, key: str) -> InvalidRequestError:
    for later, spellings in _LATER.items():
        if key in {later, *spellings}:
            return InvalidRequestError(
                f"{later} is not available in this version; it will come with the extra tuning-mcp[boost].",
                hint=f"Use {HIST_GRADIENT_BOOSTING.name}, the same method in scikit-learn.",
            )
    known = {spelling: of.name for of in FAMILIES for spelling in _spellings(of)} | {AUTO: AUTO}
    known |= {other: of.name for other, of in _NEAREST.items()}
    near = list(dict.fromkeys(known[spelling] for spelling in get_close_matches(key, known, 5, cutoff=0.6)))
    hint = f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(of.name for of in FAMILIES)}, {AUTO}."
    return InvalidRequestError(f"There is no estimator {shown(name)!r}.", hint=hint)


def _listed(task: Task) -> str:
    return f"{', '.join(families(task))} or {AUTO}"
