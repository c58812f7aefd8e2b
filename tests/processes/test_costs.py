"""What trials cost when eight run at a time, in every place that says so."""

from collections.abc import Iterator
from contextlib import suppress
from math import fsum

import psutil
import pytest

from mcp_server.health import check_invariants
from mcp_server.settings import Settings
from mcp_server.workspace import Workspace
from tests.conftest import eventually
from tests.processes.test_kill import related
from tests.studies.running import callable_spec

pytestmark = pytest.mark.process


@pytest.fixture
def priced(settings: Settings) -> Iterator[Workspace]:
    """A workspace of a team, with a price, whose studies run in detached processes; all of them are gone afterwards."""
    update = {"usd_per_cpu_hour": 3600.0, "parallel": 8, "team": "risk"}
    with Workspace(settings.model_copy(update=update)) as opened:
        yield opened
    for process in related(settings.workspace):
        with suppress(psutil.NoSuchProcess):
            process.kill()


def test_with_eight_workers_all_places_tell_the_same_cost(priced: Workspace) -> None:
    from mlflow.tracking import MlflowClient

    spec = callable_spec(objective="noop", n_trials=24, parallel=8, sampler="random", tags={"project": "churn"})
    priced.studies.start(spec, "ann", force=True)
    eventually(lambda: priced.studies.read.status("study").state == "finished")
    eventually(lambda: priced.studies.read.status("study").tracking.synced)

    jobs = priced.studies.read.jobs("study")
    assert len(jobs) == 24
    assert all(job.cost_usd > 0 for job in jobs)
    total = pytest.approx(fsum(job.cost_usd for job in jobs), abs=1e-6)
    assert priced.studies.read.status("study").cost_usd == total
    assert priced.costs.report("tag", tag="project").total_usd == total
    assert check_invariants(priced) == []

    client = MlflowClient(f"sqlite:///{priced.settings.workspace / 'mlflow.db'}")
    found = client.search_runs([e.experiment_id for e in client.search_experiments()])
    (parent,) = [run for run in found if run.data.tags["mcp.kind"] == "study"]
    children = [run for run in found if run is not parent]
    assert fsum(run.data.metrics["cost_usd"] for run in children) == total
    assert parent.data.metrics["cost_usd"] == total
    for run in found:
        assert {"user": "ann", "team": "risk", "project": "churn"}.items() <= run.data.tags.items()
