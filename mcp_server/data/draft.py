"""A table as arrays in memory: what each column is for, which rows stay, and who may see them."""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mcp_server.data.columns import facts_of
from mcp_server.data.encoding import chosen_columns, encoded, infinite_note
from mcp_server.data.leaks import leaks_of
from mcp_server.data.spec import Column, DataSpec
from mcp_server.data.splits import FoldKind, Rows, fold_numbers, split_sealed
from mcp_server.data.table import Table, matched
from mcp_server.data.target import check_class_sizes, checked_task, encoded_target, likely_targets
from mcp_server.data.text import counted, label, listed
from mcp_server.errors import DataError
from mcp_server.types import Scalar

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

_IMBALANCED = 10


@dataclass(frozen=True)
class Roles:
    """The columns of one table by what they are for."""

    target: str
    features: list[str]
    group: str | None
    time: str | None


@dataclass
class Draft:
    """Arrays on their way to disk, with what has to be said about them."""

    roles: Roles
    rows: Rows
    classes: list[Scalar]
    columns: list[Column]
    development: dict[str, "np.ndarray"]
    sealed: dict[str, "np.ndarray"]
    n_folds: int
    fold_kind: FoldKind = "holdout"
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def drafted(spec: DataSpec, table: Table, validation: Table | None) -> Draft:
    """The arrays of `table`; how columns are read is decided by the development rows alone.

    Raises:
        DataError: If the table cannot be learned from as asked.
    """
    roles = _roles(table, spec)
    frame, notes = _with_target(table.frame, roles.target, refuse=spec.missing_target == "refuse")
    task = checked_task(frame[roles.target], roles.target, spec.task)
    y, classes = encoded_target(frame[roles.target], task)
    rows = Rows(y, task, _groups(frame, roles.group), _times(frame, roles.time))
    n_folds = 1 if validation else spec.cv_folds
    _check_enough(rows, classes, spec.test_size, n_folds)
    positions, sealed = split_sealed(rows, spec.test_size, spec.seed)
    seen = frame.iloc[positions]
    facts = [facts_of(seen[name], name, n_rows=table.n_rows) for name in roles.features]
    columns, column_notes = chosen_columns(seen, facts)
    compared = [roles.target, *(fact.name for fact in facts if fact.kind != "id")]
    draft = Draft(
        roles=roles,
        rows=rows.at(positions),
        classes=classes,
        columns=columns,
        development=_arrays(seen, columns, y[positions]),
        sealed=_arrays(frame.iloc[sealed], columns, y[sealed]),
        n_folds=n_folds,
        notes=[*table.notes, *notes, *column_notes, *infinite_note(frame, roles.features), *_role_notes(roles)],
        warnings=[leak.sentence for leak in leaks_of(seen[[*roles.features, roles.target]], roles.target, task)],
    )
    _check_development_classes(draft)
    if validation:
        _append_validation(draft, validation)
    else:
        _assign_folds(draft, spec.seed)
    draft.warnings += _warnings(draft, frame, copies=_copies(frame[compared], positions, sealed))
    return draft


def _arrays(frame: "pd.DataFrame", columns: list[Column], y: "np.ndarray") -> dict[str, "np.ndarray"]:
    return {"X": encoded(frame, columns), "y": y, "rows": frame.index.to_numpy(dtype="int64")}


def _roles(table: Table, spec: DataSpec) -> Roles:
    wanted = spec.target or table.target
    if wanted is None:
        likely = likely_targets([facts_of(table.frame[name], name) for name in table.columns])
        raise DataError("No target column was named.", hint=f"Pass target; likely ones: {listed(likely) or 'none'}.")
    target = table.column(wanted, "Target")
    dropped = {table.column(name, "Dropped") for name in spec.drop}
    group = table.column(spec.group, "Group") if spec.group else None
    time = table.column(spec.time, "Time") if spec.time else None
    if target in {*dropped, group, time}:
        raise DataError(
            f"Target {label(target)!r} is also named as drop, group or time.", hint="A target can only be predicted."
        )
    features = [name for name in table.columns if name not in {target, group, time, *dropped}]
    if not features:
        raise DataError(
            f"No column is left to learn from beside {label(target)!r}. {' '.join(table.notes)}".strip(),
            hint="Pass a table with more columns, or drop fewer.",
        )
    return Roles(target, features, group, time)


def _with_target(frame: "pd.DataFrame", target: str, *, refuse: bool) -> tuple["pd.DataFrame", list[str]]:
    """The rows that have a target, under their old index."""
    missing = frame[target].isna() | frame[target].isin([math.inf, -math.inf])
    count = int(missing.sum())
    if count == len(frame):
        raise DataError(f"Target {label(target)!r} is empty in every row.", hint="Pass another target.")
    if count and refuse:
        raise DataError(
            f"Target {label(target)!r} is missing in {counted(count, 'row')}.",
            hint='Pass missing_target="drop" to leave them out.',
        )
    notes = [f"{counted(count, 'row')} without a target left out."] if count else []
    return frame[~missing], notes


def _groups(frame: "pd.DataFrame", name: str | None) -> "np.ndarray | None":
    if name is None:
        return None
    _check_filled(frame[name], name, "Group")
    return frame[name].factorize()[0]


def _times(frame: "pd.DataFrame", name: str | None) -> "np.ndarray | None":
    from pandas.api import types

    if name is None:
        return None
    series = frame[name]
    if not (types.is_datetime64_any_dtype(series) or types.is_numeric_dtype(series)):
        raise DataError(
            f"Time column {label(name)!r} holds neither dates nor numbers, e.g. {label(series.iloc[0], 24)!r}.",
            hint="Write dates as YYYY-MM-DD.",
        )
    _check_filled(series, name, "Time")
    return series.to_numpy()


def _check_filled(series: "pd.Series", name: str, role: str) -> None:
    if missing := int(series.isna().sum()):
        raise DataError(
            f"{role} column {label(name)!r} is missing in {counted(missing, 'row')}.",
            hint="Fill it, or leave those rows out.",
        )


def _check_enough(rows: Rows, classes: list[Scalar], test_size: float, n_folds: int) -> None:
    """Refuse what scikit-learn would refuse in its own words, and what would leave a fold without rows."""
    import numpy as np

    needed = math.ceil(n_folds / (1 - test_size)) + (1 if test_size else 0)
    if len(rows) < needed:
        raise DataError(
            f"{n_folds} folds and a test share of {test_size:g} need at least {needed} rows,"
            f" the table has {len(rows)}.",
            hint="Pass more rows, or a smaller cv_folds or test_size.",
        )
    if not classes or rows.is_arranged:
        return
    why = f"for {counted(n_folds, 'fold')}{' and the sealed test rows' if test_size else ''}"
    check_class_sizes(np.bincount(rows.y).tolist(), classes, n_folds + (1 if test_size else 0), why)
    if test_size and math.ceil(test_size * len(rows)) < len(classes):
        raise DataError(
            f"A test share of {test_size:g} has fewer rows than the target has classes ({len(classes)}).",
            hint="Pass a larger test_size, or 0.",
        )


def _check_development_classes(draft: Draft) -> None:
    import numpy as np

    if draft.classes:
        needed = 1 if draft.rows.is_arranged else draft.n_folds
        counts = np.bincount(draft.development["y"], minlength=len(draft.classes)).tolist()
        check_class_sizes(counts, draft.classes, needed, "outside the sealed test rows")


def _assign_folds(draft: Draft, seed: int) -> None:
    fold, draft.fold_kind = fold_numbers(draft.rows, draft.n_folds, seed)
    draft.development["fold"] = fold
    if draft.fold_kind == "time" and draft.classes and len(set(draft.rows.y[fold == 0].tolist())) == 1:
        raise DataError(
            "The earliest rows all have one class, so there is nothing to train the first fold on.",
            hint="Pass a smaller cv_folds, or leave out the earliest rows.",
        )


def _append_validation(draft: Draft, table: Table) -> None:
    """Add the rows of a validation table as fold 1."""
    import numpy as np

    target = matched(draft.roles.target, table.columns, "Validation table: target")
    frame, notes = _with_target(table.frame, target, refuse=False)
    checked_task(frame[target], target, draft.rows.task)
    y = frame[target]
    if draft.classes:
        codes = y.map({value: code for code, value in enumerate(draft.classes)})
        if unknown := y[codes.isna()].unique().tolist():
            raise DataError(
                f"The validation table has classes that the table does not have: {listed(unknown)}.",
                hint="Leave those rows out, or add such rows to the table.",
            )
        y = codes
    more = _arrays(frame, draft.columns, y.to_numpy(dtype=draft.development["y"].dtype))
    more["rows"] = np.full(len(frame), -1, dtype=np.int64)
    n_train = len(draft.development["y"])
    draft.development = {name: np.concatenate([array, more[name]]) for name, array in draft.development.items()}
    draft.development["fold"] = (np.arange(n_train + len(frame)) >= n_train).astype(np.int16)
    draft.notes += [f"Validation table: {note}" for note in notes]


def _role_notes(roles: Roles) -> list[str]:
    notes = []
    if roles.time:
        notes.append(f"{label(roles.time)!r} puts the rows in order and is not a feature; later rows validate.")
    if roles.group:
        notes.append(f"{label(roles.group)!r} keeps rows together and is not a feature.")
    return notes


def _warnings(draft: Draft, frame: "pd.DataFrame", *, copies: int) -> list[str]:
    import numpy as np

    warnings = []
    if copies:
        warnings.append(
            f"{copies:,} of {counted(len(draft.sealed['y']), 'sealed test row')} also occur among the other rows: the"
            " final test is easier than new data will be."
        )
    if draft.roles.time and (future := _in_future(frame[draft.roles.time])):
        warnings.append(f"{counted(future, 'row')} with {label(draft.roles.time)!r} in the future.")
    if draft.classes:
        counts = np.bincount(draft.development["y"])
        if counts.max() > _IMBALANCED * counts.min():
            rare = f"{label(draft.classes[int(counts.argmin())], 24)} ({counted(int(counts.min()), 'row')})"
            warnings.append(f"Classes are uneven: {rare} is rare, so accuracy alone misleads.")
        if single := _folds_of_one_class(draft):
            warnings.append(
                f"Rows of one class only are in validation fold {listed(single)}: metrics of"
                " curves, such as roc_auc, are undefined there. Pass a smaller cv_folds, or another metric."
            )
    return warnings


def _folds_of_one_class(draft: Draft) -> list[str]:
    """The numbers, from 1, of the folds that validate on one class."""
    import numpy as np

    fold = draft.development["fold"]
    first = 0 if draft.fold_kind == "kfold" else 1
    numbers = range(first, first + draft.n_folds)
    classes = {number: np.unique(draft.development["y"][fold == number]) for number in numbers}
    return [str(number - first + 1) for number, found in classes.items() if len(found) == 1]


def _copies(frame: "pd.DataFrame", development: "np.ndarray", sealed: "np.ndarray") -> int:
    """Sealed rows that are equal to a development row, text included."""
    import numpy as np
    import pandas as pd

    hashes = pd.util.hash_pandas_object(frame, index=False).to_numpy()
    return int(np.isin(hashes[sealed], hashes[development]).sum())


def _in_future(times: "pd.Series") -> int:
    import pandas as pd
    from pandas.api import types

    if not types.is_datetime64_any_dtype(times):
        return 0
    return int((times > pd.Timestamp.now(tz="UTC").tz_localize(None)).sum())
