"""What a caller says about data, and what the rest of the system knows about data that was prepared."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from mcp_server.types import Scalar, Seed, Task

Encoding = Literal[
    "utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1250", "cp1251", "cp1252", "cp1253", "cp1254",
    "iso8859-15", "koi8-r", "mac-roman", "gb18030", "big5", "shift_jis", "euc-jp", "euc-kr",
]  # fmt: skip
Separator = Literal["comma", "semicolon", "tab", "pipe"]
ColumnName = Annotated[str, Field(min_length=1, max_length=500)]


class DataSpec(BaseModel):
    """Which table, what to predict, and how rows are kept apart."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Annotated[str, Field(max_length=4096)] | None = Field(
        default=None, description="Path of a CSV, TSV or Parquet file in a data folder, or sklearn:<name>."
    )
    target: ColumnName | None = Field(default=None, description="Column to predict.")
    task: Task | None = Field(default=None, description="Inferred from the target when omitted.")
    drop: list[ColumnName] = Field(default_factory=list, max_length=10_000, description="Columns to leave out.")
    group: ColumnName | None = Field(default=None, description="Rows of one group never lie on both sides of a split.")
    time: ColumnName | None = Field(default=None, description="Order by this column; validate on later rows only.")
    validation_data: Annotated[str, Field(max_length=4096)] | None = Field(
        default=None, description="Separate table to validate on; replaces the folds."
    )
    cv_folds: int = Field(default=5, ge=2, le=50, description="Cross-validation folds.")
    test_size: float = Field(
        default=0.2, ge=0, le=0.5, description="Share of rows sealed for one final test; 0 for none."
    )
    encoding: Encoding | None = Field(default=None, description="Of the text in `data`, when it is not UTF-8.")
    separator: Separator | None = Field(default=None, description="Between values in `data`; found out when omitted.")
    missing_target: Literal["drop", "refuse"] = Field(default="drop", description="Rows without a target.")
    seed: Seed = Field(default=0, description="Fixes splits, samplers and estimators.")


class Column(BaseModel):
    """A feature as the arrays hold it."""

    model_config = ConfigDict(frozen=True)

    name: str
    kind: Literal["numeric", "categorical", "datetime"]
    categories: list[str] = Field(default_factory=list)


class PreparedData(BaseModel):
    """A table turned into arrays with its splits fixed; the folder is named by the digests, so it is shared.

    `folder` holds `X.npy` (rows x columns, float64: numbers, category codes, epoch days; NaN = missing), `y.npy`
    (int64 class codes or float64), `fold.npy` (int16) and `rows.npy` (int64: position in the source, -1 for rows of
    the validation table) of the development rows; `sealed/` has `X.npy`, `y.npy` and `rows.npy` of the test rows.
    `fold_kind` says how fold numbers become the `n_folds` splits: `kfold` (validate on fold k, train on the others),
    `time` (validate on fold k >= 1, train on the folds before it: fold numbers go up to `n_folds`), `holdout` (train
    on fold 0, validate on fold 1). `n_rows` counts development rows; `imbalance` is how many times more rows the
    largest class has than the smallest. Names of columns and classes stand as in the file: clean them to show them.
    """

    model_config = ConfigDict(frozen=True)

    folder: str
    source: str
    digest: str
    task: Task
    target: str
    classes: list[Scalar] = Field(default_factory=list)
    columns: list[Column]
    n_rows: int
    n_sealed: int
    n_folds: int
    fold_kind: Literal["kfold", "time", "holdout"]
    imbalance: float | None = None
    notes: list[str] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
