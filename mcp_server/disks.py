"""What kind of disk a folder lies on."""

from pathlib import Path

_MOUNTS = Path("/proc/self/mounts")
_NETWORK = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "sshfs",
        "fuse.sshfs",
        "9p",
        "afpfs",
        "webdav",
        "davfs",
        "ceph",
        "glusterfs",
    }
    | {"fuse.rclone", "fuse.s3fs", "fuse.glusterfs", "lustre", "gpfs"}
)
_ESCAPES = {"\\040": " ", "\\011": "\t", "\\012": "\n", "\\134": "\\"}


def network_disk(folder: Path, mounts: Path = _MOUNTS) -> str | None:
    """The type of the network disk that `folder` lies on, None when it is a local one or nobody says.

    File locks and SQLite's shared memory do not work between machines (https://www.sqlite.org/wal.html).
    """
    resolved = folder.resolve()
    disks = sorted(_mounted(mounts), key=lambda disk: len(disk[0].parts))
    kind = next((kind for place, kind in reversed(disks) if resolved.is_relative_to(place)), "")
    return kind if kind in _NETWORK else None


def _mounted(mounts: Path) -> list[tuple[Path, str]]:
    if mounts.exists():
        fields = [line.split(" ") for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines()]
        return [(Path(_unescaped(field[1])), field[2]) for field in fields if len(field) > 2]  # noqa: PLR2004 - place, type
    import psutil

    return [(Path(disk.mountpoint), disk.fstype) for disk in psutil.disk_partitions(all=True)]


def _unescaped(place: str) -> str:
    for escape, character in _ESCAPES.items():
        place = place.replace(escape, character)
    return place
