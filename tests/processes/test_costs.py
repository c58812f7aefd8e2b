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


def test_tokens_are_paid_at_the_workspaces_price_also_by_a_trial_that_dies(priced: Workspace) -> None:
    priced.settings.workspace.mkdir()
    tokens = "usd_per_cpu_hour: 0\nusd_per_million_tokens: {small: {input: 1000}}\n"
    (priced.settings.workspace / "costs.yaml").write_text(tokens, encoding="utf-8")
    for name, then in (("lives", ""), ("dies", "exit")):
        spec = callable_spec(name, objective="charge", n_trials=2, parallel=2, payload={"then": then}, preload=[])
        priced.studies.start(spec, "ann")
        eventually(lambda name=name: priced.studies.read.status(name).state in {"finished", "failed"})

    assert [job.cost_usd for job in priced.studies.read.jobs("lives")] == [1.25, 1.25]
    assert [(job.state, job.cost_usd) for job in priced.studies.read.jobs("dies")] == [("failed", 1.25)] * 2
    assert check_invariants(priced) == []


def test_a_file_of_prices_that_breaks_while_a_study_waits_ends_it_with_the_reason(priced: Workspace) -> None:
    priced.studies.start(callable_spec(n_trials=1), "ann")
    eventually(lambda: priced.studies.read.status("study").state == "finished")
    (priced.settings.workspace / "costs.yaml").write_text("usd_per_cpu_hour: many", encoding="utf-8")
    priced.studies.control("study", "extend", "ann", n_trials=2)

    eventually(lambda: priced.studies.read.status("study").state == "failed")
    assert "usd_per_cpu_hour" in (priced.studies.read.status("study").error or "")


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
