"""The companion that reads tables for a server, started as `python -m mcp_server.studies.analyst`.

A server must not import pandas or scikit-learn, and must not wait for their import twice: it keeps one of these.
"""

import os
from pathlib import Path
from typing import TypeVar, cast

from pydantic import BaseModel, ConfigDict

from mcp_server import logs
from mcp_server.data.gate import DataGate
from mcp_server.data.prepare import prepare
from mcp_server.data.profile import DatasetProfile, profile
from mcp_server.data.readers import read_table
from mcp_server.data.spec import DataSpec, Encoding, PreparedData, Separator
from mcp_server.processes import Companion, answer_requests, thread_caps
from mcp_server.training.smoke import TimeEstimate, estimate_seconds
from mcp_server.types import JsonObject

MODULE = "mcp_server.studies.analyst"

T = TypeVar("T", bound=BaseModel)


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Inspect(_Request):
    data: str
    target: str | None
    encoding: Encoding | None
    separator: Separator | None
    roots: list[Path]


class _Prepare(_Request):
    spec: DataSpec
    roots: list[Path]
    cache: Path


class _Estimate(_Request):
    folder: Path
    estimators: list[str]
    metric: str
    budget_s: float


class Analyst:
    """Questions about tables, answered by a companion process that starts with the first one."""

    def __init__(self, workspace: Path, roots: tuple[Path, ...]) -> None:
        self._cache = workspace / "data"
        self._roots = [str(root) for root in roots]
        self._companion = Companion(
            MODULE, [], log=workspace / "logs" / "analyst.log", environment=thread_caps(max(1, (os.cpu_count() or 1)))
        )

    def inspect(
        self, data: str, target: str | None, encoding: Encoding | None, separator: Separator | None
    ) -> DatasetProfile:
        """What is in a table."""
        request: JsonObject = {
            "data": data,
            "target": target,
            "encoding": encoding,
            "separator": separator,
            "roots": [*self._roots],
        }
        return self._ask("inspect", request, DatasetProfile)

    def prepare(self, spec: DataSpec) -> PreparedData:
        """The table as arrays, with its splits fixed; the second time it is found in the cache."""
        fields = spec.model_dump(mode="json", include=set(DataSpec.model_fields))
        return self._ask("prepare", {"spec": fields, "roots": [*self._roots], "cache": str(self._cache)}, PreparedData)

    def estimate(self, folder: str, estimators: list[str], metric: str, *, budget_s: float = 5.0) -> TimeEstimate:
        """How long a trial takes, measured on a sample."""
        request: JsonObject = {
            "folder": folder,
            "estimators": [*estimators],
            "metric": metric,
            "budget_s": budget_s,
        }
        return self._ask("estimate", request, TimeEstimate)

    def close(self) -> None:
        """End the companion."""
        self._companion.close()

    def _ask(self, call: str, arguments: JsonObject, answer: type[T]) -> T:
        return answer.model_validate(self._companion.ask(call, arguments))


def _inspect(arguments: JsonObject) -> JsonObject:
    request = _Inspect.model_validate(arguments)
    gate = DataGate(request.roots)
    table = read_table(request.data, gate, encoding=request.encoding, separator=request.separator)
    return _dumped(profile(table, request.target))


def _prepare(arguments: JsonObject) -> JsonObject:
    request = _Prepare.model_validate(arguments)
    return _dumped(prepare(request.spec, DataGate(request.roots), request.cache))


def _estimate(arguments: JsonObject) -> JsonObject:
    request = _Estimate.model_validate(arguments)
    return _dumped(estimate_seconds(request.folder, request.estimators, request.metric, budget_s=request.budget_s))


def _dumped(model: BaseModel) -> JsonObject:
    return cast("JsonObject", model.model_dump(mode="json"))


if __name__ == "__main__":
    logs.configure()
    answer_requests({"inspect": _inspect, "prepare": _prepare, "estimate": _estimate})
