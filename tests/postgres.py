"""A PostgreSQL server of one test process, and databases on it that live for one test."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

ACCOUNTS = ("postgres", "nobody")
_numbers = count(1)


def programs() -> Path | None:
    """The folder of the newest server's programs, None when there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    place = shutil.which("postgres")
    return Path(place).parent if place else None


class Server:
    """A server on a loopback port with a superuser `tuning` and the password `s3cret-word`."""

    PASSWORD = "s3cret-word"

    def __init__(self, folder: Path, bin_folder: Path) -> None:
        self.folder = folder
        self._bin = bin_folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._account = _account()
        if self._account is not None:
            shutil.chown(folder, self._account)
        password = folder / "password"
        password.write_text(self.PASSWORD, encoding="utf-8")
        password.chmod(0o644)
        self._run("initdb", "-D", str(folder / "data"), "-U", "tuning", "-A", "scram-sha-256",
                  f"--pwfile={password}", "-E", "UTF8", "--no-sync")  # fmt: skip
        self.start()

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=200"
        self._run(
            "pg_ctl", "-D", str(self.folder / "data"), "-l", str(self.folder / "log"), "-w", "-o", options, "start"
        )

    def stop(self, mode: str = "immediate") -> None:
        """Stop it; `immediate` is what a crash looks like."""
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", mode, "-w", "stop")

    def fresh_url(self) -> str:
        """The address of an empty schema."""
        name = f"test_{os.getpid()}_{next(_numbers)}"
        self.execute(f"CREATE SCHEMA {name}")
        return f"{self.url}?options=-csearch_path%3D{name}"

    @property
    def url(self) -> str:
        return f"postgresql://tuning:{self.PASSWORD}@127.0.0.1:{self.port}/postgres"

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """The rows that a statement gives, on a connection of its own."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def _run(self, program: str, *arguments: str) -> None:
        # A server inherits the pipes of who starts it, so that waiting for their end would wait for the server.
        with (self.folder / "commands.log").open("ab") as log:
            done = subprocess.run(
                [str(self._bin / program), *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False,
                user=self._account, group=None if self._account is None else pwd.getpwnam(self._account).pw_gid,
                extra_groups=None if self._account is None else [], cwd=self.folder,
            )  # fmt: skip
        assert done.returncode == 0, (self.folder / "commands.log").read_text(encoding="utf-8", errors="replace")


@contextmanager
def serving() -> Iterator[Server | None]:
    """A running server, None where none is installed."""
    bin_folder = programs()
    if bin_folder is None:
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="tuning-pg-"))
    folder.chmod(0o755)
    server = Server(folder, bin_folder)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _account() -> str | None:
    """Whom the server runs as: it refuses to run as root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ACCOUNTS if name in known)
