"""`tuning-mcp demo`: the whole job by a real client over stdio, on a real table, with every call shown."""

import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import anyio
import typer
from rich.console import Console
from rich.status import Status

import mcp_server

SAMPLES = Path(mcp_server.__file__).parent / "samples"
TABLE, TARGET = "titanic.csv", "survived"
SEED = 7
ENDED = ("finished", "stopped", "failed")
SYNC_LIMIT_S = 60.0
SHOWN_ARGUMENTS = 300
PAGE = 50

Answer = dict[str, Any]


class ToolFailedError(Exception):
    """A tool answered with an error; the text is the server's."""


@dataclass
class Conversation:
    """A client's session with the server, printed while it goes on."""

    client: Any  # mcp.Client; importing it here would cost every other command half a second
    console: Console
    calls: int = 0
    size: int = 0
    said: str = ""

    async def call(self, tool: str, *, quiet: bool = False, live: Status | None = None, **arguments: object) -> Answer:
        """The answer of `tool`, shown with what it took.

        Raises:
            ToolFailedError: If the tool answers with an error.
        """
        sent = json.dumps(arguments, separators=(",", ":"))
        if not quiet:
            self.console.print(f"\n[bold cyan]→ {tool}[/] ", end="")
            self.console.print(_short(sent), style="cyan", highlight=False, markup=False)
        before = time.monotonic()
        result = await self.client.call_tool(tool, arguments, progress_callback=self._progress(live))
        text = result.content[0].text if result.content else ""
        if result.is_error:
            raise ToolFailedError(text)
        if not quiet:
            self.calls += 1
            self.size += len(sent.encode()) + len(text.encode())
            took = time.monotonic() - before
            self.console.print(f"← {len(text.encode()):,} bytes in {took:.1f} s", style="dim", highlight=False)
        answer: Answer = result.structured_content
        return answer

    def say(self, text: str) -> None:
        """Print a sentence of an answer."""
        self.console.print(f"  {text}", highlight=False, markup=False, soft_wrap=True)

    def _progress(self, live: Status | None) -> Any:  # noqa: ANN401 - the SDK's callback protocol is not public
        if live is None:
            return None

        async def show(done: float, total: float | None, message: str | None) -> None:
            text = message or f"{done:g} of {total or 0:g}"
            if self.console.is_terminal:
                live.update(text)
            elif text != self.said:
                self.say(f"... {text}")
            self.said = text

        return show


def demo(
    workspace: Annotated[Path | None, typer.Option(help="Folder for the study; a temporary one when unset.")] = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials of the study.")] = 40,
) -> None:
    """Tune a model for a bundled table through a real MCP client, and show every call."""
    folder = (workspace or Path(tempfile.mkdtemp(prefix="tuning-demo-"))).absolute()
    console = Console(soft_wrap=True)
    refused: list[str] = []
    try:
        anyio.run(_demo, folder, trials, console)
    except* ToolFailedError as group:  # the client's task group wraps what is raised inside it
        refused = [str(exc) for exc in _leaves(group)]
    if refused:
        console.print(f"The server refused: {refused[0]}", style="red", markup=False)
        raise typer.Exit(1)


def _leaves(group: BaseExceptionGroup[ToolFailedError]) -> Iterator[ToolFailedError]:
    for exc in group.exceptions:
        if isinstance(exc, BaseExceptionGroup):
            yield from _leaves(exc)
        else:
            yield exc


async def _demo(folder: Path, trials: int, console: Console) -> None:
    began = time.monotonic()
    async with _connected(folder, console) as talk:
        drop = await _inspect(talk)
        name = time.strftime("titanic-%Y%m%d-%H%M%S")
        await _start(talk, name, trials, drop)
        await _watch(talk, name)
        best = await _read(talk, name)
        final = await _test(talk, name)
        await _runs(talk, name, trials)
    _conclude(talk, best, final, folder, time.monotonic() - began)


@asynccontextmanager
async def _connected(folder: Path, console: Console) -> AsyncIterator[Conversation]:
    """A client of a server process of its own, as a host would start it; the server's log goes to a file."""
    from mcp import Client
    from mcp.client.stdio import StdioServerParameters, stdio_client

    arguments = ["-m", "mcp_server", "serve", "--workspace", str(folder), "--data-root", str(SAMPLES)]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "demo-server.log").open("a", encoding="utf-8") as log:
        server = stdio_client(StdioServerParameters(command=sys.executable, args=arguments), errlog=log)
        async with Client(server) as client:
            tools = (await client.list_tools()).tools
            console.print(f"connected over stdio, protocol {client.protocol_version}, {len(tools)} tools offered")
            yield Conversation(client, console)


async def _inspect(talk: Conversation) -> list[str]:
    """Look at the table; the columns that it advises to leave out."""
    profile = await talk.call("inspect_dataset", data=TABLE, target=TARGET)
    talk.say(profile["summary"])
    for warning in profile["warnings"]:
        talk.say(f"- {warning}")
    drop: list[str] = profile["suggested_drop"]
    return drop


async def _start(talk: Conversation, name: str, trials: int, drop: list[str]) -> None:
    plan = await talk.call(
        "plan_automl_study", data=TABLE, target=TARGET, drop=drop, estimator="auto", n_trials=trials, seed=SEED
    )
    talk.say(plan["message"])
    for note in plan.get("notes") or []:
        talk.say(f"- {note}")
    status = await talk.call("start_automl_study", study_name=name, plan_id=plan["plan_id"], n_trials=trials)
    talk.say(status["message"])


async def _watch(talk: Conversation, name: str) -> None:
    with talk.console.status("trials are running") as live:
        while True:
            status = await talk.call("get_automl_study_status", live=live, study_name=name, wait_s=45)
            talk.say(status["message"])
            if status.get("trend"):
                talk.say(f"best so far: {status['trend']}")
            if status["state"] in ENDED:
                return


async def _read(talk: Conversation, name: str) -> Answer:
    best = await talk.call("get_automl_best_params", study_name=name)
    talk.say(json.dumps(best["training"]))
    table = (await talk.call("compare_automl_trials", study_name=name, top_k=5))["trials"]
    columns = [
        i for i, column in enumerate(table["columns"]) if column in {"trial", best["metric"], "std", "estimator"}
    ]
    for row in [table["columns"], *table["rows"]]:
        talk.say("  ".join(f"{row[i]!s:<9}" for i in columns))
    return best


async def _test(talk: Conversation, name: str) -> Answer:
    """The winner's score on the rows that were sealed before the search; this is asked once, at the end."""
    status = await talk.call("control_automl_study", study_name=name, action="final_test", wait_s=45)
    final: Answer = status["final_test"]
    talk.say(
        f"{final['value']:.4f}, 95 % interval {final['low']:.4f} to {final['high']:.4f}; read {final['reads']} time."
    )
    return final


async def _runs(talk: Conversation, name: str, trials: int) -> None:
    """How many of the trials MLflow has, once it was told of all of them."""
    with anyio.move_on_after(SYNC_LIMIT_S):
        while not (await talk.call("get_automl_study_status", quiet=True, study_name=name))["tracking"]["synced"]:
            await anyio.sleep(0.5)
    rows: list[list[object]] = []
    search: Answer = {"study_name": name, "columns": ["run_name", "status"], "limit": PAGE}
    while True:
        page = await talk.call("search_runs", quiet=bool(rows), **search)
        rows += page["rows"]
        if not page.get("next_cursor"):
            break
        search["cursor"] = page["next_cursor"]
    talk.say(f"MLflow has {len(rows)} of {trials} trials as runs of the study.")


def _conclude(talk: Conversation, best: Answer, final: Answer, folder: Path, seconds: float) -> None:
    baseline = best["baseline"]
    talk.console.rule()
    talk.say(f"Best {best['metric']}: {best['value']:.4f} ± {best['std']:.4f} over {len(best['folds'])} folds.")
    if baseline is not None:
        talk.say(f"The default random forest (trial 0), on the same folds: {baseline['value']:.4f}.")
        talk.say(baseline["verdict"])
    talk.say(f"On the sealed test rows, which the search never saw: {final['value']:.4f}.")
    talk.say(f"{talk.calls} calls, {talk.size:,} bytes of arguments and answers, {seconds:.0f} s in all.")
    talk.say("Look at the trials in MLflow with:")
    mlflow, database = _near(Path(sys.executable).with_name("mlflow")), _near(folder / "mlflow.db")
    talk.say(f"{mlflow} ui --backend-store-uri sqlite:///{database}")


def _near(path: Path) -> Path:
    """`path` as one writes it here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_ARGUMENTS else f"{text[:SHOWN_ARGUMENTS]}…"
