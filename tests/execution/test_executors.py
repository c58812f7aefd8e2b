"""The shipped executors keep the shipped contract."""

import pytest

from mcp_server.execution import Executor
from mcp_server.execution.inline import InlineExecutor
from mcp_server.execution.local import LocalExecutor
from mcp_server.testing.executors import ExecutorContract
from mcp_server.testing.limits import LimitedExecutorContract


class TestInlineExecutor(ExecutorContract):
    def build(self, slots: int) -> Executor:
        return InlineExecutor(slots)


@pytest.mark.process
class TestLocalExecutor(LimitedExecutorContract):
    def build(self, slots: int) -> Executor:
        return LocalExecutor(slots, threads=1, preload=["numpy.random"], inherit=["COVERAGE_*"])
