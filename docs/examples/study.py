"""Tune a model for a table through the Python SDK's client: `python study.py titanic.csv survived`."""

import sys

import anyio
from mcp import Client
from mcp.client.stdio import StdioServerParameters

SERVER = StdioServerParameters(command="tuning-mcp", args=["serve", "--data-root", "."])


async def tune(client: Client, data: str, target: str, n_trials: int) -> dict:
    """Start a study, wait for its end, and get the winner."""
    study = {"study_name": f"{target}-by-hand"}
    options = {"data": data, "target": target, "n_trials": n_trials, "estimator": "auto", "sampler": "tpe"}
    started = await client.call_tool("start_automl_study", study | options)
    if started.is_error:
        sys.exit(started.content[0].text)

    state = "queued"
    while state not in {"finished", "stopped", "failed"}:
        status = await client.call_tool("get_automl_study_status", study | {"wait_s": 45})
        state = status.structured_content["state"]

    best = await client.call_tool("get_automl_best_params", study)
    return best.structured_content


async def main() -> None:
    """Tune as the command line asks."""
    async with Client(SERVER) as client:
        best = await tune(client, *sys.argv[1:3], n_trials=20)
        sys.stdout.write(f"{best['message']}\n{best['training']}\n")


if __name__ == "__main__":
    anyio.run(main)
