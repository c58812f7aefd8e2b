"""Prepared tables, and trials whose reports are kept."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from pydantic import JsonValue

from mcp_server.data.gate import DataGate
from mcp_server.data.prepare import prepare
from mcp_server.data.spec import Column, DataSpec, PreparedData
from mcp_server.execution.trial import Trial
from mcp_server.training.fitting import limited
from mcp_server.types import JsonObject, Task


@dataclass
class Recorder:
    """Real trials of one table, whose reports are kept; they stop once `prune_after` steps were reported."""

    prune_after: int | None = None
    reports: list[tuple[int, float, float]] = field(default_factory=list)

    def trial(
        self, data: PreparedData, estimator: str, metric: str, params: JsonObject | None = None, **payload: JsonValue
    ) -> Trial:
        task: JsonObject = {"folder": data.folder, "estimator": estimator, "metric": metric, **payload}
        return Trial(0, params or {}, task, ask=self._ask)

    def _ask(self, step: int, value: float, running: float) -> bool:
        self.reports.append((step, value, running))
        return self.prune_after is not None and len(self.reports) >= self.prune_after


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tests run side by side, and OpenMP would let each take all cores."""
    with limited(1):
        yield


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., PreparedData]:
    """Prepares one of scikit-learn's data sets."""
    cache = tmp_path_factory.mktemp("prepared")

    def prepared(name: str, **options: object) -> PreparedData:
        return prepare(DataSpec(data=f"sklearn:{name}", target="target", **options), DataGate([]), cache)

    return prepared


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., PreparedData]:
    """Writes arrays as the folder that trials read."""

    def write(
        features: np.ndarray,
        target: np.ndarray,
        *,
        task: Task = "classification",
        fold: np.ndarray | None = None,
        columns: list[Column] | None = None,
        sealed: tuple[np.ndarray, np.ndarray] | None = None,
        n_folds: int = 3,
    ) -> PreparedData:
        folder = tmp_path / f"table{len(list(tmp_path.iterdir()))}"
        (folder / "sealed").mkdir(parents=True)
        fold = np.arange(len(target)) % n_folds if fold is None else fold
        sealed = (features[:0], target[:0]) if sealed is None else sealed
        for name, array in (("X", features), ("y", target), ("fold", fold.astype(np.int16))):
            np.save(folder / f"{name}.npy", array)
        for name, array in zip(("X", "y"), sealed, strict=True):
            np.save(folder / "sealed" / f"{name}.npy", array)
        data = PreparedData(
            folder=str(folder),
            source="written",
            digest="0",
            task=task,
            target="target",
            classes=sorted({int(code) for code in target}) if task == "classification" else [],
            columns=columns or [Column(name=f"c{i}", kind="numeric") for i in range(features.shape[1])],
            n_rows=len(target),
            n_sealed=len(sealed[1]),
            n_folds=n_folds,
            fold_kind="kfold",
        )
        (folder / "prepared.json").write_text(data.model_dump_json(), encoding="utf-8")
        return data

    return write


@pytest.fixture
def recorder() -> Recorder:
    """Makes trials that are never stopped, and keeps what they report."""
    return Recorder()


@pytest.fixture
def trial(recorder: Recorder) -> Callable[..., Trial]:
    """Makes a trial that is never stopped."""
    return recorder.trial
