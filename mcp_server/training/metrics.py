"""Which metrics there are, what they need, and which way is better; `mcp_server.training.scoring` computes them."""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from mcp_server.errors import InvalidRequestError
from mcp_server.types import Direction, Task, shown

Response = Literal["labels", "ranking", "probabilities"]
"""What a metric compares with the truth: predicted values, decision values, or class probabilities."""

BINARY = 2


@dataclass(frozen=True, slots=True)
class Metric:
    """A score of predictions.

    Attributes:
        name: What studies and results call it.
        task: The task it is for.
        direction: Which way is better.
        response: What it compares with the truth when there are two classes, or numbers.
        multiclass: The same when there are more than two classes; None when it is for two only.
        aliases: Other spellings, in lower case without separators.
    """

    name: str
    task: Task
    direction: Direction = "maximize"
    response: Response = "labels"
    multiclass: Response | None = "labels"
    aliases: tuple[str, ...] = ()

    def needed(self, n_classes: int) -> Response:
        """What it compares with the truth."""
        return (self.multiclass or self.response) if n_classes > BINARY else self.response


_C: Task = "classification"
_R: Task = "regression"

METRICS: tuple[Metric, ...] = (
    Metric("roc_auc", _C, "maximize", "ranking", "probabilities", ("auc", "auroc", "rocaucovr", "rocaucscore")),
    Metric("accuracy", _C, aliases=("acc", "accuracyscore")),
    Metric("balanced_accuracy", _C, aliases=("balancedacc", "bacc")),
    Metric("f1", _C, aliases=("f1score", "fscore", "fmeasure")),
    Metric("f1_macro", _C),
    Metric("f1_weighted", _C),
    Metric("precision", _C, aliases=("precisionscore",)),
    Metric("recall", _C, aliases=("recallscore", "sensitivity")),
    Metric("mcc", _C, aliases=("matthews", "matthewscorrcoef")),
    Metric("cohen_kappa", _C, aliases=("kappa",)),
    Metric("log_loss", _C, "minimize", "probabilities", "probabilities", ("neglogloss", "crossentropy", "logloss")),
    Metric("average_precision", _C, "maximize", "ranking", "ranking", ("ap", "auprc", "prauc")),
    Metric("brier", _C, "minimize", "probabilities", None, ("brierscore", "negbrierscore")),
    Metric("rmse", _R, "minimize", aliases=("rootmeansquarederror", "negrootmeansquarederror")),
    Metric("mse", _R, "minimize", aliases=("meansquarederror", "negmeansquarederror", "l2")),
    Metric("mae", _R, "minimize", aliases=("meanabsoluteerror", "negmeanabsoluteerror", "l1")),
    Metric("median_ae", _R, "minimize", aliases=("medianabsoluteerror", "negmedianabsoluteerror")),
    Metric("mape", _R, "minimize", aliases=("meanabsolutepercentageerror", "negmeanabsolutepercentageerror")),
    Metric("max_error", _R, "minimize", aliases=("negmaxerror",)),
    Metric("r2", _R, aliases=("r2score", "rsquared", "coefficientofdetermination")),
    Metric("explained_variance", _R),
)


def resolve(name: str, task: Task, n_classes: int = 0) -> Metric:
    """The metric that a name, in any usual spelling, means.

    Raises:
        InvalidRequestError: If no metric has this name (near ones are given), it is for the other task, or for two
            classes while there are more.

    >>> resolve("neg_log_loss", "classification").name
    'log_loss'
    """
    key = _key(name)
    found = next((metric for metric in METRICS if key in _spellings(metric)), None)
    if found is None:
        raise _unknown(name, key, task)
    if found.task != task:
        raise InvalidRequestError(
            f"The metric {found.name} needs {found.task}, and the task is {task}.", hint=f"Use {_listed(task)}."
        )
    if found.multiclass is None and n_classes > BINARY:
        raise InvalidRequestError(
            f"The metric {found.name} needs two classes, and the target has {n_classes}.", hint=f"Use {_listed(task)}."
        )
    return found


def default_metric(task: Task, n_classes: int = 0) -> Metric:
    """The metric for who names none: ROC AUC for two classes, accuracy for more, and RMSE for numbers.

    >>> default_metric("classification", 2).name
    'roc_auc'
    """
    if task == "regression":
        return resolve("rmse", task)
    return resolve("roc_auc" if n_classes == BINARY else "accuracy", task)


def reported_metrics(metric: Metric, n_classes: int) -> tuple[Metric, ...]:
    """The metric, and after it the usual others that cost little to report beside it."""
    names = ("rmse", "mae", "r2")
    if metric.task == "classification":
        names = ("accuracy", "f1", "roc_auc") if n_classes == BINARY else ("accuracy", "f1", "balanced_accuracy")
    return (metric, *(resolve(name, metric.task) for name in names if name != metric.name))


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _spellings(metric: Metric) -> set[str]:
    return {_key(metric.name), *metric.aliases}


def _listed(task: Task) -> str:
    return ", ".join(metric.name for metric in METRICS if metric.task == task)


def _unknown(name: str, key: str, task: Task) -> InvalidRequestError:
    known = {spelling: metric.name for metric in METRICS for spelling in _spellings(metric)}
    near = list(dict.fromkeys(known[spelling] for spelling in get_close_matches(key, known, 3, cutoff=0.6)))
    hint = f"Did you mean {' or '.join(near)}?" if near else f"For {task} use {_listed(task)}."
    return InvalidRequestError(f"There is no metric {shown(name)!r}.", hint=hint)
