"""`.tierq/`: whose it is, where it may lie, and its locks."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tierq_console.embedded.files import StackFiles, is_locked, network_type, try_lock, write_private
from tierq_shared.configuration import EmbeddedPaths
from tierq_shared.errors import ConfigurationError

MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
tmpfs /home/me/fast tmpfs rw 0 0
//server/share /mnt/my\\040share cifs rw 0 0
C:\\134 /mnt/c 9p rw,aname=drvfs;path=C: 0 0
none /sandbox 9p rw,trans=fd 0 0
me@host: /mnt/far fuse.sshfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/srv/app", None),
        ("/home/me/app", "nfs4"),
        ("/home/me/fast/app", None),
        ("/homeless", None),
        ("/mnt/my share/app", "cifs"),
        ("/mnt/c/Users", "drvfs"),
        ("/sandbox/app", None),
        ("/mnt/far", "fuse.sshfs"),
    ],
)
def test_network_file_systems_are_told_apart(tmp_path: Path, path: str, expected: str | None) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS)

    assert network_type(Path(path), mounts) == expected


def test_where_nobody_can_tell_the_file_system_counts_as_local(tmp_path: Path) -> None:
    assert network_type(tmp_path, tmp_path / "no-such-file") is None


def test_a_folder_on_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tierq_console.embedded.files.network_type", lambda _path: "nfs4")

    with pytest.raises(ConfigurationError, match="nfs4"):
        StackFiles(EmbeddedPaths(tmp_path / ".tierq")).prepare()


def test_the_folder_is_its_owners_alone_even_where_it_was_not(tmp_path: Path) -> None:
    root = tmp_path / ".tierq"
    root.mkdir(mode=0o755)

    StackFiles(EmbeddedPaths(root)).prepare()

    assert stat.S_IMODE(root.stat().st_mode) == 0o700


def test_a_runtime_folder_that_others_may_write_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    files = StackFiles(EmbeddedPaths(tmp_path / ".tierq"))
    files.paths.runtime.mkdir()
    files.paths.runtime.chmod(0o777)

    with pytest.raises(ConfigurationError, match="0700"):
        files.prepare_runtime()


def test_a_shared_lock_keeps_an_exclusive_one_out_until_it_ends(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    first, second = try_lock(lock, exclusive=False), try_lock(lock, exclusive=False)
    assert first is not None
    assert second is not None
    assert try_lock(lock, exclusive=True) is None
    assert not is_locked(lock)

    os.close(first)
    os.close(second)
    alone = try_lock(lock, exclusive=True)
    assert alone is not None
    assert is_locked(lock)
    os.close(alone)


def test_private_files_are_private_from_the_first_moment(tmp_path: Path) -> None:
    write_private(tmp_path / "secret", "x")

    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
