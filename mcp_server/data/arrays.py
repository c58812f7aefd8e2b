"""Prepared data as a trial sees it: development rows, memory-mapped, and how they are split."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcp_server.data.cache import MANIFEST
from mcp_server.data.spec import PreparedData
from mcp_server.errors import DatasetNotFoundError

Split = tuple[NDArray[np.intp], NDArray[np.intp]]


@dataclass(frozen=True)
class Arrays:
    """The development rows of prepared data; `y` holds class codes or numbers."""

    X: NDArray[np.float64]
    y: NDArray[Any]
    fold: NDArray[np.int16]
    data: PreparedData

    def splits(self) -> list[Split]:
        """Positions to train on and to validate on, one pair for each of `data.n_folds`."""
        fold = np.asarray(self.fold)
        if self.data.fold_kind == "kfold":
            pairs = ((fold != number, fold == number) for number in range(self.data.n_folds))
        else:
            pairs = ((fold < number, fold == number) for number in range(1, self.data.n_folds + 1))
        return [(np.flatnonzero(train), np.flatnonzero(validation)) for train, validation in pairs]


def load_development(folder: Path) -> Arrays:
    """The rows that a search may see, without reading them into memory yet.

    Raises:
        DatasetNotFoundError: If there is no prepared data in `folder`.
    """
    return Arrays(array(folder, "X"), array(folder, "y"), array(folder, "fold"), load_manifest(folder))


def load_manifest(folder: Path) -> PreparedData:
    """What is known about the prepared data in `folder`.

    Raises:
        DatasetNotFoundError: If there is none.
    """
    try:
        prepared = PreparedData.model_validate_json((folder / MANIFEST).read_bytes())
    except FileNotFoundError as exc:
        raise _gone(folder) from exc
    return prepared.model_copy(update={"folder": str(folder)})


def array(folder: Path, name: str) -> NDArray[Any]:
    """One memory-mapped array.

    Raises:
        DatasetNotFoundError: If it is not there.
    """
    try:
        mapped: NDArray[Any] = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as exc:
        raise _gone(folder) from exc
    return mapped


def _gone(folder: Path) -> DatasetNotFoundError:
    return DatasetNotFoundError(f"The prepared data {folder.name[:12]} is gone.", hint="Start the study again.")
