import shutil
from pathlib import Path

import pytest

from mcp_server.settings import Settings
from mcp_server.store import Store
from mcp_server.tracking import environment
from mcp_server.tracking.database import prepare_database
from mcp_server.tracking.drain import Drain
from mcp_server.tracking.mlflow import MlflowTracker
from mcp_server.tracking.target import TrackingTarget, tracking_target


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that mlflow has made once: copying it takes 1 ms, making it a second."""
    environment.prepare()
    folder = tmp_path_factory.mktemp("mlflow")
    prepare_database(folder / "mlflow.db", folder / "artifacts")
    return folder / "mlflow.db"


@pytest.fixture
def settings(tmp_path: Path, migrated: Path) -> Settings:
    """A workspace whose MLflow database exists and is empty."""
    made = Settings(workspace=tmp_path / "workspace #1")
    made.workspace.mkdir()
    shutil.copyfile(migrated, made.workspace / "mlflow.db")
    return made


@pytest.fixture
def store(settings: Settings) -> Store:
    return Store(settings.workspace)


@pytest.fixture
def target(settings: Settings) -> TrackingTarget:
    return tracking_target(settings)


@pytest.fixture
def tracker(target: TrackingTarget) -> MlflowTracker:
    return MlflowTracker(target)


@pytest.fixture
def drain(store: Store, tracker: MlflowTracker) -> Drain:
    return Drain(store, tracker)


@pytest.fixture
def client(tracker: MlflowTracker, settings: Settings):
    """MLflow's own client on the same database, to look with other eyes."""
    from mlflow import MlflowClient

    uri = f"sqlite:///{settings.workspace / 'mlflow.db'}"
    return MlflowClient(tracking_uri=uri, registry_uri=uri)
