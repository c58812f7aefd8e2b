"""Which rows are sealed, and which fold each of the others is validated in.

Method: G. C. Cawley and N. L. C. Talbot, "On Over-fitting in Model Selection and Subsequent Selection Bias in
Performance Evaluation", JMLR 11 (2010): what selects a model must not be what it is finally judged by.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mcp_server.errors import DataError
from mcp_server.types import Task

if TYPE_CHECKING:
    import numpy as np

FoldKind = Literal["kfold", "time", "holdout"]


@dataclass(frozen=True)
class Rows:
    """What a split looks at: the target, and the group and time of each row when there are such columns."""

    y: "np.ndarray"
    task: Task
    groups: "np.ndarray | None" = None
    times: "np.ndarray | None" = None

    def __len__(self) -> int:
        return len(self.y)

    @property
    def is_arranged(self) -> bool:
        """Whether a group or a time decides where a row lies, so that classes cannot be spread evenly."""
        return self.groups is not None or self.times is not None

    def at(self, positions: "np.ndarray") -> "Rows":
        """The same for some rows."""
        return Rows(
            self.y[positions],
            self.task,
            None if self.groups is None else self.groups[positions],
            None if self.times is None else self.times[positions],
        )


def split_sealed(rows: Rows, test_size: float, seed: int) -> tuple["np.ndarray", "np.ndarray"]:
    """Positions of the development rows and of the sealed rows; the first are in time order when there is a time.

    Raises:
        DataError: If there are too few groups or points in time.
    """
    import numpy as np

    everything = np.arange(len(rows))
    if rows.times is not None:
        everything = np.argsort(rows.times, kind="stable")
    if not test_size:
        return everything, everything[:0]
    if rows.times is not None:
        border = _borders(rows.times[everything], [1 - test_size])[0]
        return everything[:border], everything[border:]
    if rows.groups is not None:
        return _group_splits(rows, rows.groups, max(2, round(1 / test_size)), seed)[0]
    return _shuffled(rows, test_size, seed)


def _shuffled(rows: Rows, test_size: float, seed: int) -> tuple["np.ndarray", "np.ndarray"]:
    import numpy as np
    from sklearn.model_selection import train_test_split

    stratify = rows.y if rows.task == "classification" else None
    development, sealed = train_test_split(
        np.arange(len(rows)), test_size=test_size, random_state=seed, stratify=stratify
    )
    return np.sort(development), np.sort(sealed)


def fold_numbers(rows: Rows, n_folds: int, seed: int) -> tuple["np.ndarray", FoldKind]:
    """The fold of each row, and how folds become splits; rows with a time are expected in its order.

    Raises:
        DataError: If there are too few groups or points in time.
    """
    import numpy as np

    fold = np.zeros(len(rows), dtype=np.int16)
    if rows.times is not None:
        borders = _borders(rows.times, [number / (n_folds + 1) for number in range(1, n_folds + 1)])
        fold[borders] = 1
        return np.cumsum(fold, dtype=np.int16), "time"
    for number, (_, validation) in enumerate(_splits(rows, n_folds, seed)):
        fold[validation] = number
    return fold, "kfold"


def _splits(rows: Rows, n_folds: int, seed: int) -> list[tuple["np.ndarray", "np.ndarray"]]:
    from sklearn.model_selection import KFold, StratifiedKFold

    if rows.groups is not None:
        return _group_splits(rows, rows.groups, n_folds, seed)
    kind = StratifiedKFold if rows.task == "classification" else KFold
    return list(kind(n_folds, shuffle=True, random_state=seed).split(rows.y, rows.y))


def _group_splits(
    rows: Rows, groups: "np.ndarray", n_splits: int, seed: int
) -> list[tuple["np.ndarray", "np.ndarray"]]:
    import numpy as np
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    if (n_groups := len(np.unique(groups))) < n_splits:
        raise DataError(
            f"The group column has {n_groups:,} groups where {n_splits:,} are needed to keep groups apart.",
            hint="Pass a smaller cv_folds, a test_size of 0, or another group column.",
        )
    kind = StratifiedGroupKFold if rows.task == "classification" else GroupKFold
    return list(kind(n_splits, shuffle=True, random_state=seed).split(rows.y, rows.y, groups))


def _borders(times: "np.ndarray", shares: list[float]) -> list[int]:
    """Where to cut rows in time order so that rows of one moment stay together."""
    import numpy as np

    borders = [int(np.searchsorted(times, times[int(share * len(times))], side="left")) for share in shares]
    if len({0, *borders}) <= len(borders):
        raise DataError(
            f"The time column has {len(np.unique(times)):,} different values, too few to cut {len(borders)} times.",
            hint="Pass a smaller cv_folds, or a finer time column.",
        )
    return borders
