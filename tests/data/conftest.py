"""A data folder, the gate in front of it, and a cache."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mcp_server.data import DataGate, DataSpec, PreparedData
from mcp_server.data.prepare import prepare

Prepare = Callable[..., PreparedData]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def gate(root: Path) -> DataGate:
    return DataGate([root])


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def prepared(gate: DataGate, cache: Path) -> Prepare:
    """`prepare` with the fields of a `DataSpec`."""

    def call(data: str = "t.csv", **fields: object) -> PreparedData:
        return prepare(DataSpec(data=data, **fields), gate, cache)

    return call
