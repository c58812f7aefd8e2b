"""Whether a workspace lies where it can work."""

import os
import shutil
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Literal

from mcp_server.disks import network_disk
from mcp_server.health.finding import Finding
from mcp_server.settings import Settings

LOW_DISK_BYTES = 500 * 2**20


def folder(settings: Settings) -> Iterator[Finding]:
    """What was found about the folder, its disk, the data folders and the port."""
    settings.workspace.mkdir(parents=True, exist_ok=True, mode=0o700)
    yield from _permissions(settings)
    yield from _disk(settings)
    yield from _roots(settings)
    yield from _port(settings)


def _permissions(settings: Settings) -> Iterator[Finding]:
    if not os.access(settings.workspace, os.R_OK | os.W_OK | os.X_OK):
        yield Finding("problem", f"{settings.workspace} cannot be written.", "Correct its owner or permissions.")
    elif sys.platform != "win32" and stat.S_IMODE(settings.workspace.stat().st_mode) & 0o077:
        hint = f"It holds data and parameters; chmod 700 {settings.workspace} keeps them private."
        yield Finding("warning", "Other users of this machine can look into the workspace.", hint)
    else:
        yield Finding("ok", "The workspace can be written, and only by its owner.")


def _disk(settings: Settings) -> Iterator[Finding]:
    if kind := network_disk(settings.workspace):
        yield Finding("problem", f"The workspace lies on a network disk ({kind}): locks and SQLite are not safe there.",
                      "Choose a local folder with --workspace.")  # fmt: skip
    free = shutil.disk_usage(settings.workspace).free
    level: Literal["ok", "warning"] = "warning" if free < LOW_DISK_BYTES else "ok"
    yield Finding(level, f"The workspace's disk has {free / 2**30:.1f} GiB free.")


def _roots(settings: Settings) -> Iterator[Finding]:
    for root in settings.data_roots:
        if not root.is_dir():
            yield Finding("problem", f"The data folder {root} does not exist.", "Correct --data-root.")
        elif not os.access(root, os.R_OK | os.X_OK):
            yield Finding("problem", f"The data folder {root} cannot be read.", "Correct its permissions.")
    if not settings.data_roots:
        yield Finding("warning", "No data folder is allowed, so only sklearn:<name> can be read.",
                      "Add one with --data-root DIR or TUNING_DATA_ROOTS.")  # fmt: skip


def _port(settings: Settings) -> Iterator[Finding]:
    if settings.transport == "stdio" or settings.port == 0:
        return
    with closing(socket.socket()) as probe:
        if probe.connect_ex((settings.host, settings.port)) == 0:
            yield Finding("warning", f"Somebody listens on {settings.host}:{settings.port}: a server of ours, or not.",
                          "If serve cannot start, choose another --port.")  # fmt: skip
        else:
            yield Finding("ok", f"Port {settings.port} is free.")
