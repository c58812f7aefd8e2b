"""Predictions of a fitted pipeline, and the metrics of them."""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mcp_server.training.metrics import BINARY, Metric, Response

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a model predicts for some rows, as far as it was asked.

    Attributes:
        labels: Class codes, or numbers.
        ranking: Decision values: one column for two classes, else one per class.
        probabilities: One column per class of the whole table, also for classes that the training rows lack.
    """

    labels: Array | None = None
    ranking: Array | None = None
    probabilities: Array | None = None

    def take(self, rows: NDArray[np.intp]) -> "Predictions":
        """The predictions for some of the rows."""
        return Predictions(*(None if p is None else p[rows] for p in (self.labels, self.ranking, self.probabilities)))

    def of(self, response: Response) -> Array:
        """One kind of prediction.

        Raises:
            ValueError: If the model was not asked for it.
        """
        found: Array | None = getattr(self, response)
        if found is None:
            raise ValueError(f"the model was not asked for {response}")
        return found


def predict(pipeline: "Pipeline", features: Array, metrics: Iterable[Metric], n_classes: int) -> Predictions:
    """What the metrics need of a fitted pipeline, with no prediction made twice."""
    needed = {metric.needed(n_classes) for metric in metrics}
    model = pipeline[-1]
    features = pipeline[:-1].transform(features)
    decides = hasattr(model, "decision_function")
    probabilities = None
    if "probabilities" in needed or (needed != {"labels"} and not decides):
        probabilities = _by_class(model, model.predict_proba(features), n_classes, absent=0.0)
    return Predictions(
        labels=_labels(model, features, None if decides else probabilities) if "labels" in needed else None,
        ranking=_ranking(model, features, None if decides else probabilities, n_classes)
        if "ranking" in needed
        else None,
        probabilities=probabilities,
    )


def evaluate(metric: Metric, y: Array, predictions: Predictions, n_classes: int) -> float:
    """The metric of predictions, exactly as scikit-learn computes it; NaN where it is undefined.

    The positive one of two classes is the second; with more classes, precision, recall and f1 are their plain means and
    ROC AUC is one class against the rest.
    """
    response = metric.needed(n_classes)
    predicted = predictions.of(response)
    if response == "ranking" and n_classes <= BINARY and len(np.unique(y)) < BINARY:
        return float("nan")  # scikit-learn would warn and then say the same, or 0 or 1
    with warnings.catch_warnings():
        # Predicted classes that a fold lacks are what these metrics are made to count.
        warnings.simplefilter("ignore")
        try:
            return float(_functions(n_classes)[metric.name](y, predicted))
        except ValueError:
            if response == "labels" or len(np.unique(y)) == n_classes:
                raise
            return float("nan")  # a class is absent, so its curve does not exist


def score(metric: Metric, pipeline: "Pipeline", features: Array, y: Array, n_classes: int) -> float:
    """The metric of a fitted pipeline on some rows."""
    return evaluate(metric, y, predict(pipeline, features, [metric], n_classes), n_classes)


def _labels(model: Any, features: Array, probabilities: Array | None) -> Array:  # noqa: ANN401 - scikit-learn has no types
    if probabilities is None:
        return np.asarray(model.predict(features))
    return np.asarray(probabilities.argmax(axis=1))  # what predict does where there are no decision values


def _ranking(model: Any, features: Array, probabilities: Array | None, n_classes: int) -> Array:  # noqa: ANN401 - as above
    if probabilities is not None:
        return probabilities[:, 1] if n_classes == BINARY else probabilities
    decisions = np.asarray(model.decision_function(features))
    if n_classes <= BINARY:
        return decisions
    if decisions.ndim == 1:  # the training rows had two of the classes
        decisions = np.column_stack([-decisions, decisions])
    return _by_class(model, decisions, n_classes, absent=decisions.min() - 1.0)  # the least likely everywhere


def _by_class(model: Any, values: Array, n_classes: int, *, absent: float) -> Array:  # noqa: ANN401 - as above
    if values.shape[1] == n_classes:
        return values
    full = np.full((len(values), n_classes), absent)
    full[:, model.classes_] = values
    return full


def _functions(n_classes: int) -> dict[str, Callable[[Array, Array], float]]:
    """The function behind each metric; built where scikit-learn is loaded anyway."""
    from sklearn import metrics as m

    average = "binary" if n_classes == BINARY else "macro"
    classes = np.arange(n_classes)
    return {
        "roc_auc": lambda y, p: m.roc_auc_score(y, p, multi_class="ovr", labels=None if p.ndim == 1 else classes),
        "accuracy": m.accuracy_score,
        "balanced_accuracy": m.balanced_accuracy_score,
        "f1": lambda y, p: m.f1_score(y, p, average=average, zero_division=0),
        "f1_macro": lambda y, p: m.f1_score(y, p, average="macro", zero_division=0),
        "f1_weighted": lambda y, p: m.f1_score(y, p, average="weighted", zero_division=0),
        "precision": lambda y, p: m.precision_score(y, p, average=average, zero_division=0),
        "recall": lambda y, p: m.recall_score(y, p, average=average, zero_division=0),
        "mcc": m.matthews_corrcoef,
        "cohen_kappa": m.cohen_kappa_score,
        "log_loss": lambda y, p: m.log_loss(y, p, labels=classes),
        "average_precision": m.average_precision_score,
        "brier": lambda y, p: m.brier_score_loss(y, p[:, 1], pos_label=1),
        "rmse": m.root_mean_squared_error,
        "mse": m.mean_squared_error,
        "mae": m.mean_absolute_error,
        "median_ae": m.median_absolute_error,
        "mape": m.mean_absolute_percentage_error,
        "max_error": m.max_error,
        "r2": m.r2_score,
        "explained_variance": m.explained_variance_score,
    }
