"""Which disks a workspace may lie on."""

from pathlib import Path

import pytest

from mcp_server import workspace as module
from mcp_server.disks import network_disk
from mcp_server.errors import InvalidRequestError
from mcp_server.settings import Settings
from mcp_server.workspace import Workspace


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    """A table of mounts with a share that has a blank in its name, and a local disk inside it."""
    place = str(tmp_path / "a share").replace(" ", "\\040")
    lines = [
        "/dev/sda1 / ext4 rw 0 0",
        f"server:/x {place} nfs4 rw 0 0",
        f"/dev/sdb1 {place}/local xfs rw 0 0",
        f"me@host:/y {tmp_path}/ssh fuse.sshfs rw 0 0",
    ]
    file = tmp_path / "mounts"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("folder", "kind"),
    [("a share/deep/er", "nfs4"), ("a share/local/w", None), ("ssh", "fuse.sshfs"), ("a shared", None), ("", None)],
)
def test_the_disk_of_a_folder_is_the_innermost_that_is_mounted(
    tmp_path: Path, mounts: Path, folder: str, kind: str | None
) -> None:
    assert network_disk(tmp_path / folder, mounts) == kind


def test_a_link_to_a_network_disk_is_one(tmp_path: Path, mounts: Path) -> None:
    (tmp_path / "ssh").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "ssh")

    assert network_disk(tmp_path / "link" / "workspace", mounts) == "fuse.sshfs"


def test_a_workspace_on_a_network_disk_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "network_disk", lambda _: "nfs4")

    with pytest.raises(InvalidRequestError, match=r"lies on a network disk \(nfs4\)"):
        Workspace(Settings(workspace=tmp_path / "workspace"))
    assert not (tmp_path / "workspace").exists()
