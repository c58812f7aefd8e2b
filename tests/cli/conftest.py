import pytest

from mcp_server.workspace import Workspace
from tests.studies.running import callable_spec, run_inline


@pytest.fixture
def finished(workspace: Workspace) -> Workspace:
    workspace.studies.start(callable_spec(n_trials=4), "tester")
    run_inline(workspace)
    return workspace
