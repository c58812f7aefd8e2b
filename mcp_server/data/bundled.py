"""The real data sets that come with scikit-learn: no file, no network."""

import hashlib
from typing import TYPE_CHECKING

from mcp_server.data.table import Table
from mcp_server.data.text import suggestion
from mcp_server.errors import DatasetNotFoundError
from mcp_server.types import shown

if TYPE_CHECKING:
    import pandas as pd

PREFIX = "sklearn:"
NAMES = ("breast_cancer", "diabetes", "digits", "iris", "wine")
_TARGET = "target"


def read_bundled(source: str) -> Table:
    """The data set that `sklearn:<name>` names; classes have their names, the column to predict is `target`.

    Raises:
        DatasetNotFoundError: If scikit-learn does not bring it.
    """
    from sklearn import datasets

    name = source.removeprefix(PREFIX)
    if name not in NAMES:
        raise DatasetNotFoundError(
            f"scikit-learn brings no data set {shown(name)!r}.", hint=suggestion(name, NAMES, "name")
        )
    bunch = getattr(datasets, f"load_{name}")(as_frame=True)
    frame: pd.DataFrame = bunch.frame
    if name not in {"diabetes", "digits"}:
        frame[_TARGET] = frame[_TARGET].map(dict(enumerate(map(str, bunch.target_names)))).astype("str")
    digest = hashlib.sha256(frame.to_csv(index=False).encode()).hexdigest()
    return Table(frame=frame, source=source, digest=digest, target=_TARGET)
