"""Columns that give the target away: known only after the fact, or the target under another name.

Idea: S. Kaufman, S. Rosset, C. Perlich, O. Stitelman, "Leakage in Data Mining: Formulation, Detection, and
Avoidance", ACM TKDD 6(4), 2012: a single feature that predicts too well is the first sign.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcp_server.data.columns import facts_of
from mcp_server.data.target import encoded_target
from mcp_server.data.text import label
from mcp_server.types import Scalar, Task

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

_SAMPLE = 20_000
_FEWEST_ROWS = 20
_FEW_VALUES = 64
_TOO_GOOD = 0.99
_FILLED_PURITY = 0.97
_COINCIDENCE = 14.0  # nats: fewer than one in a million columns would look like this by chance
_SEED = 0


@dataclass(frozen=True, slots=True)
class Leak:
    """A column that gives the target away, and the sentence that says how."""

    column: str
    sentence: str


@dataclass(frozen=True)
class _Answer:
    """The target as codes or numbers, and how it is called."""

    name: str
    task: Task
    y: "np.ndarray"
    classes: list[Scalar]


def leaks_of(frame: "pd.DataFrame", target: str, task: Task) -> list[Leak]:
    """Columns of `frame` that predict `target` too well to be true, or are filled for one class only."""
    import numpy as np

    frame = frame[frame[target].notna()]
    if len(frame) > _SAMPLE:
        frame = frame.sample(_SAMPLE, random_state=_SEED)
    if len(frame) < _FEWEST_ROWS:
        return []
    y, classes = encoded_target(frame[target], task)
    if task == "regression":
        frame, y = frame[np.isfinite(y)], y[np.isfinite(y)]
    answer = _Answer(target, task, y, classes)
    found = (_leak(frame[name], str(name), answer) for name in frame.columns if name != target)
    return [leak for leak in found if leak]


def _leak(series: "pd.Series", name: str, answer: _Answer) -> Leak | None:
    if facts_of(series, name).kind in {"empty", "constant", "id"}:
        return None
    if answer.task == "classification" and (sentence := _filled_for_one_class(series, name, answer)):
        return Leak(name, sentence)
    if _is_copy(series, answer):
        return Leak(name, f"Column {label(name)!r} says the same as {label(answer.name)}: drop it.")
    if (score := _score(series, answer)) > _TOO_GOOD:
        return Leak(
            name,
            f"Column {label(name)!r} alone predicts {label(answer.name)} almost perfectly ({score:.1%}):"
            " it probably gives the answer away; drop it unless you know it beforehand.",
        )
    return None


def _filled_for_one_class(series: "pd.Series", name: str, answer: _Answer) -> str | None:
    import numpy as np

    base = np.bincount(answer.y, minlength=len(answer.classes)) / len(answer.y)
    for word, mask in (("filled", series.notna().to_numpy()), ("empty", series.isna().to_numpy())):
        counts = np.bincount(answer.y[mask], minlength=len(answer.classes))
        most = int(counts.argmax())
        if not mask.any() or mask.all() or counts[most] < _FILLED_PURITY * counts.sum():
            continue
        if -counts.sum() * np.log(base[most]) > _COINCIDENCE:
            only = "only" if counts[most] == counts.sum() else "almost only"
            when = f"{label(answer.name)} = {label(answer.classes[most], 24)}"
            return f"Column {label(name)!r} is {word} {only} when {when}: it gives the answer away; drop it."
    return None


def _is_copy(series: "pd.Series", answer: _Answer) -> bool:
    """Whether values and target correspond one to one."""
    import numpy as np
    import pandas as pd
    from pandas.api import types

    if answer.task == "regression":
        return types.is_numeric_dtype(series) and np.array_equal(
            series.to_numpy(dtype=float, na_value=np.nan), answer.y
        )
    codes = pd.factorize(series)[0]
    pairs = len(np.unique(codes * len(answer.classes) + answer.y))
    return bool((codes >= 0).all()) and pairs == len(answer.classes) == codes.max() + 1


def _score(series: "pd.Series", answer: _Answer) -> float:
    """Balanced accuracy or R2 of the column alone, on rows that were not used to look."""
    import numpy as np

    guess = _nearest if _is_continuous(series) else _usual
    values = _floats(series) if _is_continuous(series) else series.factorize()[0] + 1
    seen = np.random.default_rng(_SEED).random(len(values)) < 0.5  # noqa: PLR2004 - half and half
    judge = _r2 if answer.task == "regression" else _balanced_accuracy
    halves = (judge(answer.y[~half], guess(values, answer, half)) for half in (seen, ~seen))
    score = sum(halves) / 2
    return max(score, _rank_r2(series, answer.y)) if answer.task == "regression" else score


def _is_continuous(series: "pd.Series") -> bool:
    from pandas.api import types

    is_ordered = types.is_numeric_dtype(series) or types.is_datetime64_any_dtype(series)
    return is_ordered and series.nunique() > _FEW_VALUES


def _floats(series: "pd.Series") -> "np.ndarray":
    """Numbers in the order of the values; missing ones lie together below all others."""
    return series.rank().fillna(-len(series)).to_numpy(dtype=float)


def _nearest(values: "np.ndarray", answer: _Answer, seen: "np.ndarray") -> "np.ndarray":
    """The target of the seen row whose value is nearest."""
    import numpy as np

    order = np.argsort(values[seen], kind="stable")
    known, wanted = values[seen][order], values[~seen]
    right = np.clip(np.searchsorted(known, wanted), 1, len(known) - 1)
    is_left = wanted - known[right - 1] <= known[right] - wanted
    return answer.y[seen][order][right - is_left]


def _usual(codes: "np.ndarray", answer: _Answer, seen: "np.ndarray") -> "np.ndarray":
    """The most frequent class, or the mean, of the seen rows with the same value."""
    import numpy as np

    size, y = int(codes.max()) + 1, answer.y[seen]
    counts = np.bincount(codes[seen], minlength=size)
    if answer.task == "regression":
        sums = np.bincount(codes[seen], weights=y, minlength=size)
        return np.where(counts > 0, sums / np.maximum(counts, 1), y.mean())[codes[~seen]]
    n_classes = len(answer.classes)
    table = np.bincount(codes[seen] * n_classes + y, minlength=size * n_classes).reshape(size, n_classes)
    return np.where(counts > 0, table.argmax(axis=1), np.bincount(y).argmax())[codes[~seen]]


def _balanced_accuracy(truth: "np.ndarray", guess: "np.ndarray") -> float:
    import numpy as np

    return float(np.mean([np.mean(guess[truth == value] == value) for value in np.unique(truth)]))


def _r2(truth: "np.ndarray", guess: "np.ndarray") -> float:
    spread = float(((truth - truth.mean()) ** 2).sum())
    return 1 - float(((truth - guess) ** 2).sum()) / spread if spread else 0.0


def _rank_r2(series: "pd.Series", y: "np.ndarray") -> float:
    """Squared Spearman correlation: a monotone function of the target is a leak too."""
    import pandas as pd
    from pandas.api import types

    if not types.is_numeric_dtype(series) or types.is_bool_dtype(series):
        return 0.0
    pair = pd.DataFrame({"x": series.rank().to_numpy(), "y": pd.Series(y).rank().to_numpy()}).dropna()
    if len(pair) < len(y) / 2 or pair["x"].nunique() < _FEW_VALUES:
        return 0.0
    return float(pair["x"].corr(pair["y"])) ** 2
