"""Process start until `initialize` is answered over stdio: this server and an empty one of the SDK, in turns.

Goal: at most 1.5 times the empty server, and no heavy library loaded. Run `make bench`, or with the number of rounds.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time

LIMIT = 1.5
ROUNDS = 15
HEAVY = [
    "mlflow",
    "optuna",
    "sklearn",
    "skopt",
    "torch",
    "pandas",
    "matplotlib",
    "pyarrow",
    "scipy",
    "numpy",
    "sqlalchemy",
]
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "benchmark", "version": "1"},
    },
}
EMPTY = ["-c", "from mcp.server import MCPServer; MCPServer('empty', version='1').run('stdio')"]
# What `serve` has loaded when it is ready; printed instead of serving.
LOADED = (
    "import sys\n"
    "from mcp_server import transports\n"
    "transports.anyio.run = lambda *_: (sys.stderr.write(' '.join(sys.modules)), sys.stderr.flush())\n"
    "from mcp_server.cli import main\n"
    "main()"
)


def seconds(arguments: list[str]) -> float:
    """How long a server takes to answer the first message."""
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as server:
        server.stdin.write(json.dumps(INITIALIZE).encode() + b"\n")
        server.stdin.flush()
        answer = json.loads(server.stdout.readline())
        took = time.perf_counter() - started
        server.kill()
    if "result" not in answer:
        sys.exit(f"no answer to initialize: {answer}")
    return took


def heavy(serve: list[str]) -> list[str]:
    """The heavy libraries that are loaded when the server begins to listen."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *serve],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    loaded = {module.split(".")[0] for module in done.stderr.split()}
    if "mcp" not in loaded:
        sys.exit(f"the server did not start: {done.stderr}")
    return [name for name in HEAVY if name in loaded]


def main(rounds: int) -> int:
    """Print the numbers; 1 when a goal is missed."""
    with tempfile.TemporaryDirectory() as folder:
        serve = ["serve", "--workspace", folder]
        contestants = {"this server": ["-m", "mcp_server", *serve], "empty server": EMPTY}
        for arguments in contestants.values():  # compiles and warms the disk cache
            seconds(arguments)
        times: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(rounds):
            for name, arguments in contestants.items():
                times[name].append(seconds(arguments))
        found = heavy(serve)
    for name, values in times.items():
        print(f"{name:13} median {statistics.median(values):.3f} s, min {min(values):.3f} s, {rounds} starts")
    own, empty = times.values()
    ratio, least = statistics.median(own) / statistics.median(empty), min(own) / min(empty)
    print(f"ratio of medians {ratio:.2f}, of minima {least:.2f} (goal <= {LIMIT})")
    print(f"heavy libraries loaded: {', '.join(found) or 'none'}")
    return int(ratio > LIMIT or bool(found))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS))
