"""The folder that a trial runs in: its own, empty at its start, and gone with it unless what is there is wanted."""

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

TEMP = "tmp"
LINKS = "tuning-"
"""How the names of links begin that stand for folders of temporary files whose path is too long."""
SOCKET_ROOM = 64
"""A socket's path may have 104 characters, and `multiprocessing` needs 32 of them within the temporary folder."""


class RunFolder:
    """The folder of a trial and, within, the one for its temporary files.

    Attributes:
        path: The folder.
        link: What stands for the folder of temporary files when its path is long.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._temp = path / TEMP
        name = f"{LINKS}{sha256(os.fsencode(path)).hexdigest()[:12]}"
        short = Path(tempfile.gettempdir(), name)
        self.link = short if sys.platform != "win32" and len(os.fsencode(self._temp)) > SOCKET_ROOM else None

    def environment(self) -> dict[str, str]:
        """The variables that send temporary files there."""
        return _temporary_in(self.link or self._temp)

    def leave(self, *, keep: bool) -> None:
        """Remove it, or only what is temporary or empty; to be called when the trial is gone."""
        if self.link is not None:
            with suppress(OSError):
                self.link.unlink()
        if keep:
            remove_tree(self._temp)
            with suppress(OSError):
                self.path.rmdir()
        else:
            remove_tree(self.path)


def enter(path: Path, temp: Path) -> None:
    """Make this process run in `path`, empty, with its temporary files in `temp`.

    Raises:
        OSError: If it cannot be made.
    """
    remove_tree(path)
    (path / TEMP).mkdir(parents=True)
    if temp != path / TEMP:
        try:
            temp.unlink(missing_ok=True)
            temp.symlink_to(path / TEMP)
        except OSError:  # somebody else's is in the way; the long path does for all but sockets
            os.environ.update(_temporary_in(path / TEMP))
    os.chdir(path)
    tempfile.tempdir = None  # it may be from before


def _temporary_in(folder: Path) -> dict[str, str]:
    return dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))


def remove_tree(path: Path) -> None:
    """Remove a folder with all in it, also what it forbids to be removed; what cannot be removed stays."""
    # Most folders of trials are empty, but for another one.
    with suppress(OSError):
        path.rmdir()
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, onerror=_allow_and_try_again)


def _allow_and_try_again(function: Callable[..., object], path: str, _: object) -> None:
    with suppress(OSError):
        for each in (Path(path).parent, Path(path)):
            if not each.is_symlink():
                each.chmod(stat.S_IRWXU)
        if function in {os.unlink, os.rmdir}:
            function(path)
        else:  # it could not be opened, or listed
            shutil.rmtree(path, ignore_errors=True)
