"""What somebody should know about a table before anything is trained on it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from mcp_server.data.columns import ColumnFacts, facts_of, summarised
from mcp_server.data.leaks import Leak, leaks_of
from mcp_server.data.table import Table
from mcp_server.data.target import inferred_task, likely_targets
from mcp_server.data.text import counted, label, listed
from mcp_server.types import Scalar, Task

if TYPE_CHECKING:
    import pandas as pd

_SHOWN_COLUMNS = 40
_SHOWN_CLASSES = 10
_MANY_MISSING = 0.5
_IMBALANCED = 10
_FEW_ROWS = 50


class Grid(BaseModel):
    """A table as an answer carries it."""

    model_config = ConfigDict(frozen=True)

    columns: list[str]
    rows: list[list[Scalar]]


class DatasetProfile(BaseModel):
    """A table in a few hundred words: its columns, likely targets, and the traps in it.

    Every name and value from the table is cleaned and capped; `warnings` are sentences for people.
    """

    model_config = ConfigDict(frozen=True)

    summary: str
    warnings: list[str] = Field(default_factory=list)
    n_rows: int
    n_columns: int
    columns: Grid
    columns_not_shown: int = 0
    target: str | None = None
    task: Task | None = None
    classes: Grid | None = None
    target_candidates: list[str] = Field(default_factory=list)
    suggested_drop: list[str] = Field(default_factory=list)
    missing: int = 0
    duplicates: int = 0
    constant: list[str] = Field(default_factory=list)
    id_like: list[str] = Field(default_factory=list)
    leaks: list[str] = Field(default_factory=list)
    infinite: dict[str, int] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)

    @model_serializer(mode="wrap")
    def _without_what_is_empty(self, dump: SerializerFunctionWrapHandler) -> dict[str, object]:
        fields: dict[str, object] = dump(self)
        return {name: value for name, value in fields.items() if value not in ([], {}, 0, None)}


def profile(table: Table, target: str | None = None) -> DatasetProfile:
    """The profile of `table`, seen with `target` as the column to predict when it is known.

    Raises:
        DataError: If the table has no such column.
    """
    frame = table.frame
    target = table.column(target, "Target") if target else table.target
    facts = [facts_of(frame[name], name) for name in table.columns]
    candidates = likely_targets(facts)
    # Without a target the best guess still shows what would give it away; the sentence names the target it means.
    guess = target or (candidates[0] if candidates else None)
    leaks = leaks_of(frame, guess, inferred_task(frame[guess])) if guess and frame[guess].nunique() > 1 else []
    duplicates = int(frame.duplicated().sum())
    others = [fact for fact in facts if fact.name != target]
    constant, id_like = _named(others, "constant", "empty"), _named(others, "id")
    return DatasetProfile(
        summary=_summary(table, facts, target, candidates),
        warnings=[leak.sentence for leak in leaks] + _warnings(frame, facts, target, duplicates),
        n_rows=table.n_rows,
        n_columns=len(facts),
        columns=_columns(frame, facts[:_SHOWN_COLUMNS]),
        columns_not_shown=max(0, len(facts) - _SHOWN_COLUMNS),
        target=label(target) if target else None,
        task=inferred_task(frame[target]) if target else None,
        classes=_classes(frame[target]) if target and inferred_task(frame[target]) == "classification" else None,
        target_candidates=[label(name) for name in candidates],
        suggested_drop=_suggested_drop(leaks, id_like),
        missing=sum(fact.missing for fact in facts),
        duplicates=duplicates,
        constant=constant,
        id_like=id_like,
        leaks=[label(leak.column) for leak in leaks][:_SHOWN_COLUMNS],
        infinite={label(fact.name): fact.infinite for fact in facts if fact.infinite},
        notes=table.notes,
    )


def _named(facts: Sequence[ColumnFacts], *kinds: str) -> list[str]:
    return [label(fact.name) for fact in facts if fact.kind in kinds][:_SHOWN_COLUMNS]


def _suggested_drop(leaks: Sequence[Leak], id_like: Sequence[str]) -> list[str]:
    return list(dict.fromkeys([*(label(leak.column) for leak in leaks), *id_like]))[:_SHOWN_COLUMNS]


def _columns(frame: "pd.DataFrame", facts: Sequence[ColumnFacts]) -> Grid:
    rows: list[list[Scalar]] = [
        [label(fact.name), fact.kind, fact.missing, fact.distinct, summarised(frame[fact.name], fact)] for fact in facts
    ]
    return Grid(columns=["name", "type", "missing", "distinct", "values"], rows=rows)


def _classes(series: "pd.Series") -> Grid:
    counts = series.value_counts()
    shares = counts / max(int(counts.sum()), 1)
    rows: list[list[Scalar]] = [
        [label(value), int(count), round(float(share), 4)]
        for value, count, share in zip(counts.index, counts, shares, strict=True)
    ]
    return Grid(columns=["class", "rows", "share"], rows=rows[:_SHOWN_CLASSES])


def _summary(table: Table, facts: Sequence[ColumnFacts], target: str | None, candidates: Sequence[str]) -> str:
    missing = sum(fact.missing for fact in facts)
    size = f"{counted(table.n_rows, 'row')} x {counted(len(facts), 'column')}, {counted(missing, 'missing value')}."
    if target:
        return f"{size} Predicting {_described(table.frame[target], target)}."
    if not candidates:
        return f"{size} No column looks like a target: ask which one to predict."
    likely = "; ".join(_described(table.frame[name], name) for name in candidates)
    return f"{size} Likely targets: {likely}. Ask which column to predict."


def _described(series: "pd.Series", name: str) -> str:
    """A target with its task, as in `churn (Yes/No, 27% Yes)`."""
    if inferred_task(series) == "regression":
        return f"{label(name)} (a number)"
    shares = series.value_counts(normalize=True)
    if len(shares) == 2:  # noqa: PLR2004 - yes or no
        common, rare = (label(value, 16) for value in shares.index)
        return f"{label(name)} ({common}/{rare}, {shares.iloc[1]:.0%} {rare})"
    return f"{label(name)} ({counted(len(shares), 'value')})"


def _warnings(frame: "pd.DataFrame", facts: Sequence[ColumnFacts], target: str | None, duplicates: int) -> list[str]:
    ids = [fact.name for fact in facts if fact.kind == "id" and fact.name != target]
    single = [fact.name for fact in facts if fact.kind in {"constant", "empty"} and fact.name != target]
    sparse = [fact.name for fact in facts if _MANY_MISSING < fact.missing / max(len(frame), 1) < 1]
    infinite = [f"{label(fact.name)} ({fact.infinite:,})" for fact in facts if fact.infinite]
    pairs = (
        (ids, "Only numbering or naming the rows, so nothing to learn from: {}."),
        (single, "With one value or none, left out: {}."),
        (sparse, "More than half empty: {}."),
        (infinite, "Infinite values, which count as missing: {}."),
    )
    sentences = [sentence.format(listed(names)) for names, sentence in pairs if names]
    if duplicates:
        sentences.append(f"{counted(duplicates, 'row')} repeat an earlier one, and copies make scores look better.")
    if len(frame) < _FEW_ROWS:
        sentences.append(f"Only {counted(len(frame), 'row')}: scores will be very uncertain.")
    return sentences + (_target_warnings(frame[target], target) if target else [])


def _target_warnings(series: "pd.Series", target: str) -> list[str]:
    sentences = []
    counts = series.value_counts()
    if missing := int(series.isna().sum()):
        sentences.append(f"{counted(missing, 'row')} without {label(target)} will be left out.")
    if len(counts) <= 1:
        sentences.append(f"{label(target)} has {counted(len(counts), 'value')}: nothing to learn.")
    elif inferred_task(series) == "classification" and (ratio := counts.iloc[0] / counts.iloc[-1]) > _IMBALANCED:
        rare = f"{label(counts.index[-1], 24)} ({counts.iloc[-1]:,} of {counts.sum():,})"
        sentences.append(f"Classes are uneven (1:{ratio:.0f}): {rare} is rare, so accuracy alone misleads.")
    return sentences
