"""The one way from a path that somebody wrote to bytes on the disk."""

import getpass
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from types import TracebackType
from typing import Self

from mcp_server.data.text import suggestion
from mcp_server.errors import DataError, DatasetNotFoundError
from mcp_server.types import shown

_SCHEME = re.compile(r"[a-z][a-z0-9+.\-]+:", re.IGNORECASE)  # two letters or more: C:\x is a path elsewhere
_KERNEL_FOLDERS = (Path("/proc"), Path("/sys"), Path("/dev"))
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_FOLDER_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
_LISTING_LIMIT = 1_000


@dataclass(frozen=True)
class OpenedFile:
    """A regular file in a data folder, open for reading; a context manager that closes it.

    `path` is the real path. `stamp` changes whenever the content may have: inode, size, modification and change time.
    """

    path: Path
    handle: BufferedReader
    size: int
    mtime_ns: int
    stamp: str

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.handle.close()

    def check_unchanged(self) -> None:
        """Nothing, when the file is still as it was opened.

        Raises:
            DataError: If somebody wrote to it meanwhile.
        """
        if _stamp(os.fstat(self.handle.fileno())) != self.stamp:
            raise DataError(
                f"{shown(self.path.name)} changed while it was read.", hint="Try again when nothing writes to it."
            )


class DataGate:
    """Opens files in the data folders, and nothing else.

    Paths are compared after all links are resolved, and the file is then opened folder by folder without following
    links, so a link that is swapped in between the check and the opening is not followed either.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = tuple(roots)

    @property
    def roots(self) -> tuple[Path, ...]:
        """The data folders, as they were configured."""
        return self._roots

    def open(self, path: str) -> OpenedFile:
        """The regular file that `path` names; `~` and paths relative to a data folder are understood.

        Raises:
            DataError: If the path is a URL or outside the data folders (the text does not depend on what is there),
                or names a folder, device, pipe or unreadable file.
            DatasetNotFoundError: If nothing has this name in the data folders.
        """
        self._check_text(path)
        places = [place for candidate in self._candidates(path) if (place := self._placed(candidate))]
        if not places:
            raise self._outside(path)
        return _opened(*next((place for place in places if place[0].exists()), places[0]))

    def _check_text(self, path: str) -> None:
        if _SCHEME.match(path):
            raise DataError(
                f"{shown(path)} is not a local path: remote data is off.",
                hint="Download the file into a data folder and pass its path.",
            )
        if not path.strip() or "\0" in path:
            raise DataError("The data path is empty or holds a NUL character.", hint="Pass the path of a file.")
        if not self._roots:
            raise DataError(
                "No data folder is configured, so no file can be read.",
                hint="Start the server with --data-root DIR (or set TUNING_DATA_ROOTS), or use sklearn:iris.",
            )

    def _candidates(self, path: str) -> Iterator[str]:
        path = os.path.expanduser(path)  # noqa: PTH111 - Path.expanduser raises for unknown users
        if os.path.isabs(path):  # noqa: PTH117 - strings until the links are resolved
            yield path
        else:
            yield from (os.path.join(root, path) for root in self._roots)  # noqa: PTH118 - as above

    def _placed(self, candidate: str) -> tuple[Path, Path] | None:
        """The real path and the real data folder it lies in."""
        real = Path(os.path.realpath(candidate))  # Path.resolve raises for link loops
        if any(real.is_relative_to(folder) for folder in _KERNEL_FOLDERS):
            return None
        roots = (Path(os.path.realpath(root)) for root in self._roots)
        return next(((real, root) for root in roots if real.is_relative_to(root)), None)

    def _outside(self, path: str) -> DataError:
        folders = ", ".join(str(root) for root in self._roots)
        return DataError(
            f"{shown(path)} is outside the data folders: {folders}.",
            hint="Move the file there, or start the server with --data-root for its folder.",
        )


def _stamp(status: os.stat_result) -> str:
    return f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"


def _opened(real: Path, root: Path) -> OpenedFile:
    *folders, name = real.relative_to(root).parts or (".",)
    with _access_errors(real, root), _folder(root, folders) as folder:
        # Looked at before it is opened: opening a device or a pipe can already have an effect.
        _check_regular(os.stat(name, dir_fd=folder, follow_symlinks=False), real)
        handle = os.fdopen(os.open(name, _FILE_FLAGS, dir_fd=folder), "rb")
    status = os.fstat(handle.fileno())
    try:
        _check_regular(status, real)
    except DataError:
        handle.close()
        raise
    return OpenedFile(real, handle, status.st_size, status.st_mtime_ns, _stamp(status))


@contextmanager
def _folder(root: Path, parts: Sequence[str]) -> Iterator[int]:
    """A descriptor of the folder below `root`, reached without following a link."""
    folder = os.open(root, _FOLDER_FLAGS)
    try:
        for part in parts:
            inner = os.open(part, _FOLDER_FLAGS, dir_fd=folder)
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)


@contextmanager
def _access_errors(real: Path, root: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as exc:
        raise DatasetNotFoundError(
            f"There is no {shown(str(real.relative_to(root)))} in {root}.", hint=_neighbours(real)
        ) from exc
    except PermissionError as exc:
        raise DataError(
            f"{shown(str(real))} may not be read by user {_user()}.", hint="Give that user read permission."
        ) from exc
    except OSError as exc:
        raise DataError(
            f"{shown(str(real))} cannot be opened: {os.strerror(exc.errno or 0)}.",
            hint="Pass the path of a regular file that nobody replaces meanwhile.",
        ) from exc


def _check_regular(status: os.stat_result, real: Path) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
    hint = "Pass the path of one file." + (f" {_neighbours(real / 'x')}" if kind == "a folder" else "")
    raise DataError(f"{shown(str(real))} is {kind}.", hint=hint)


def _neighbours(missing: Path) -> str:
    try:
        with os.scandir(missing.parent) as entries:
            names = [entry.name for entry, _ in zip(entries, range(_LISTING_LIMIT), strict=False)]
    except OSError:
        return "Check the path."
    return suggestion(missing.name, sorted(name for name in names if not name.startswith(".")), "file")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no entry in the user database, as in many containers
        return str(os.geteuid())
