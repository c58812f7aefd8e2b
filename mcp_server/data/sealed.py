"""The only reader of the sealed test rows. Who calls it records the read first."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcp_server.data.arrays import array, load_manifest
from mcp_server.data.cache import SEALED
from mcp_server.errors import DataError


def load_sealed(folder: Path) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Features and target of the rows that no search has seen.

    Raises:
        DataError: If no rows were sealed.
        DatasetNotFoundError: If there is no prepared data in `folder`.
    """
    if not load_manifest(folder).n_sealed:
        raise DataError("No rows were sealed for a final test.", hint="Start a study with test_size above 0.")
    return array(folder / SEALED, "X"), array(folder / SEALED, "y")
