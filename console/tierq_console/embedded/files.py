"""What lies in `.tierq/`: who may read it, where each part is, and the locks by which commands share the stack."""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tierq_shared.configuration import EmbeddedPaths
from tierq_shared.errors import ConfigurationError

_NETWORK_TYPES = re.compile(
    r"nfs\d?|cifs|smb\w*|ncpfs|afs|ceph|lustre|gpfs|beegfs|ocfs2|gfs2|"
    r"fuse\.(sshfs|glusterfs|ceph\S*|s3fs|gcsfuse|rclone|davfs|juicefs)|glusterfs|davfs"
)


@dataclass(frozen=True, slots=True)
class StackFiles:
    """The files of one embedded stack."""

    paths: EmbeddedPaths

    @property
    def root(self) -> Path:
        """`.tierq/`"""
        return self.paths.root

    @property
    def users_lock(self) -> Path:
        """Held, shared, by every command that uses the stack; the supervisor leaves when it gets it for itself."""
        return self.root / "stack.lock"

    @property
    def supervisor_lock(self) -> Path:
        """Held by the one supervisor for its life."""
        return self.root / "supervisor.lock"

    @property
    def record(self) -> Path:
        return self.root / "stack.json"

    @property
    def settings(self) -> Path:
        """The settings of the running stack, for its workers."""
        return self.root / "settings.json"

    @property
    def simulator(self) -> Path:
        """Where the simulator of this stack listens."""
        return self.root / "simulator.json"

    @property
    def flower_password(self) -> Path:
        return self.root / "flower-password"

    @property
    def flower_wanted(self) -> Path:
        """While it is there, the supervisor keeps Flower running."""
        return self.root / "flower-wanted"

    def log(self, name: str) -> Path:
        return self.root / f"{name}.log"

    def prepare(self) -> None:
        """Makes the folder, for its owner alone.

        Raises:
            ConfigurationError: it cannot be made, or lies on a network file system.
        """
        try:
            self.root.mkdir(mode=0o700, exist_ok=True)
            self.root.chmod(0o700)
        except OSError as error:
            raise ConfigurationError(f"{self.root}: cannot be made ({error.strerror}); {_ELSEWHERE}") from None
        kind = network_type(self.root)
        if kind:
            raise ConfigurationError(
                f"{self.root}: lies on a network file system ({kind}), where locks and SQLite are not safe; "
                f"{_ELSEWHERE}"
            )

    def prepare_runtime(self) -> None:
        """Makes the short folder of the socket; it must be ours alone, for others may write beside it.

        Raises:
            ConfigurationError: somebody else made it.
        """
        folder = self.paths.runtime
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise ConfigurationError(f"{folder}: is not a folder of yours alone (mode 0700): remove it and try again")


_ELSEWHERE = "work in a local folder, or set TIERQ_DATABASE_URL and TIERQ_BROKER_URL"


def network_type(path: Path, mounts: Path = Path("/proc/mounts")) -> str | None:
    """The type of the network file system that a path lies on; None where it is local, or nobody can tell."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    best, kind = -1, ""
    for line in lines:
        _device, point, file_system, options, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        if path.is_relative_to(point) and len(point) >= best:
            # Windows' drives under WSL are 9p too, but so are the roots of some sandboxes, which are sound.
            best, kind = len(point), "drvfs" if "aname=drvfs" in options else file_system
    return kind if kind == "drvfs" or _NETWORK_TYPES.fullmatch(kind) else None


def try_lock(path: Path, *, exclusive: bool) -> int | None:
    """Takes a lock, which ends with the descriptor or the process; None while another's is in the way."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def is_locked(path: Path) -> bool:
    """Whether somebody holds a lock for himself alone."""
    if not path.exists():
        return False
    descriptor = try_lock(path, exclusive=False)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


@contextmanager
def held(descriptor: int) -> Iterator[None]:
    """Keeps a lock for a while."""
    try:
        yield
    finally:
        os.close(descriptor)


def write_private(path: Path, text: str) -> None:
    """Writes a file in one step, readable by its owner alone."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    beside.replace(path)
