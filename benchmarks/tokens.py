"""What a study costs an assistant: calls, and bytes of arguments and answers, for 30 and for 200 trials.

Goal: at most 6 calls and 6 kB each, and nearly the same for both. Run `make bench`.
"""

import json
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from mcp import Client

import mcp_server
from mcp_server import logs
from mcp_server.server import build_server
from mcp_server.settings import Settings
from mcp_server.workspace import Workspace

SAMPLES = Path(mcp_server.__file__).parent / "samples"
CALL_LIMIT, BYTE_LIMIT = 6, 6_000
DATA = {"data": "titanic.csv", "target": "survived"}
OPTIONS = {"cv_folds": 2}  # estimator auto, as somebody who just asks gets it; two folds only because it is quicker


@dataclass
class Meter:
    """A client that counts."""

    client: Client
    rows: list[tuple[str, int, int]] = field(default_factory=list)

    async def call(self, tool: str, **arguments: object) -> dict:
        """The answer of a tool, counted as a model reads and writes it."""
        result = await self.client.call_tool(tool, arguments)
        text = result.content[0].text
        if result.is_error:
            raise RuntimeError(f"{tool}: {text}")
        self.rows.append((tool, len(json.dumps(arguments).encode()), len(text.encode())))
        return result.structured_content


async def study(client: Client, n_trials: int) -> Meter:
    """A whole study as an assistant does it; the waiting that no model sees is done between two calls."""
    meter, name = Meter(client), f"titanic-{n_trials}"
    profile = await meter.call("inspect_dataset", **DATA)
    plan = await meter.call(
        "plan_automl_study", **DATA, **OPTIONS, drop=profile["suggested_drop"], n_trials=n_trials, seed=7
    )
    await meter.call("start_automl_study", study_name=name, plan_id=plan["plan_id"])
    state = "queued"
    while state not in {"finished", "stopped", "failed"}:  # as a user who comes back when it is done
        waited = await client.call_tool("get_automl_study_status", {"study_name": name, "wait_s": 45})
        state = waited.structured_content["state"]
    await meter.call("get_automl_study_status", study_name=name)
    await meter.call("get_automl_best_params", study_name=name)
    await meter.call("compare_automl_trials", study_name=name)
    return meter


def report(n_trials: int, meter: Meter) -> bool:
    """Print the calls; whether they are within the goal."""
    total = sum(sent + got for _, sent, got in meter.rows)
    print(f"\n{n_trials} trials: {len(meter.rows)} calls, {total:,} bytes")
    for tool, sent, got in meter.rows:
        print(f"  {tool:<26}{sent:>6} sent {got:>6} read")
    return len(meter.rows) <= CALL_LIMIT and total <= BYTE_LIMIT


async def main() -> bool:
    """Both studies on one server."""
    logs.configure()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        workspace = Workspace(Settings(workspace=Path(folder), data_roots=(SAMPLES,)))
        async with Client(build_server(workspace)) as client:
            listed = [
                tool.model_dump(mode="json", by_alias=True, exclude_none=True)
                for tool in (await client.list_tools()).tools
            ]
            print(f"tools/list: {len(listed)} tools, {len(json.dumps(listed, separators=(',', ':')).encode()):,} bytes")
            verdicts = [report(n_trials, await study(client, n_trials)) for n_trials in (30, 200)]
        workspace.close()
    return all(verdicts)


if __name__ == "__main__":
    sys.exit(0 if anyio.run(main) else 1)
