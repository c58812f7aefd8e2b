"""How long an assistant waits for tools while all slots train, through a real server over stdio.

Run: `make bench`, or `python benchmarks/latency.py`. Goals: start in < 2 s on a warm workspace, the others in < 1 s.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import anyio
from mcp import Client, StdioServerParameters

SAMPLES = Path(__file__).parent.parent / "mcp_server" / "samples"
STUDY = {"data": "titanic.csv", "target": "survived", "drop": ["boat", "body"], "n_trials": 200}
ROUNDS = 30


async def timed(client: Client, tool: str, **arguments: object) -> float:
    """Seconds until the tool has answered."""
    began = time.perf_counter()
    result = await client.call_tool(tool, arguments)
    if result.is_error:
        raise SystemExit(f"{tool}: {result.content}")
    return time.perf_counter() - began


async def measure(folder: str) -> None:
    """Start a study and ask about it while it runs."""
    command = ["-m", "mcp_server", "serve", "--workspace", folder, "--data-root", str(SAMPLES)]
    async with Client(StdioServerParameters(command=sys.executable, args=command)) as client:
        await timed(client, "inspect_dataset", data="titanic.csv", target="survived")
        await timed(client, "start_automl_study", study_name="warm up", **{**STUDY, "n_trials": 2})
        started = [await timed(client, "start_automl_study", study_name="measured", **STUDY)]
        with anyio.fail_after(60):
            while not (await client.call_tool("get_automl_best_params", {"study_name": "measured"})).structured_content:
                await anyio.sleep(0.5)
        await anyio.sleep(5)  # what the start set off in the background is ready
        questions: dict[str, dict[str, object]] = {
            "get_automl_study_status": {"study_name": "measured"},
            "list_automl_studies": {},
            "compare_automl_trials": {"study_name": "measured"},
            "get_automl_best_params": {"study_name": "measured"},
            "search_runs": {"study_name": "measured", "limit": 5},
            "inspect_dataset": {"data": "titanic.csv", "target": "survived"},
        }
        answers: dict[str, list[float]] = {tool: [] for tool in questions}
        for _ in range(ROUNDS):
            for tool, arguments in questions.items():
                answers[tool].append(await timed(client, tool, **arguments))
        print(f"while 2 slots train, {ROUNDS} calls each, ms: median / 95th percentile / longest")
        print(f"  start_automl_study (warm workspace): {max(started) * 1e3:.0f} (goal < 2000)")
        for tool, seconds in answers.items():
            high = statistics.quantiles(seconds, n=20)[-1]
            print(f"  {tool}: {statistics.median(seconds) * 1e3:.0f} / {high * 1e3:.0f} / {max(seconds) * 1e3:.0f}")
        await timed(client, "control_automl_study", study_name="measured", action="stop", wait_s=20)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        anyio.run(measure, scratch)
