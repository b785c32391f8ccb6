"""An embedded stack for tests: a folder with a tierq.toml, the commands that hold it, and who is alive in it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from support.servers import Simulator, stop
from support.waiting import eventually
from tierq import Classify, Client
from tierq_shared import configuration

CONFIG = """
version = 1
[tiers.small]
chain = ["mini"]
[deployments.mini]
provider = "openai"
model = "gpt-4o-mini"
base_url = "{base_url}/v1"
[[policy]]
tier = "small"
[worker]
grace = "3s"
"""

PATIENCE_S = 60.0
"""Machines that run tests are often busy with others' work."""


@dataclass
class EmbeddedSite:
    """A folder in which commands share an embedded stack."""

    folder: Path
    simulator: Simulator
    holders: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "OPENAI_API_KEY": "sk-test"}

    @property
    def paths(self) -> configuration.EmbeddedPaths:
        return configuration.embedded_paths(self.folder / "tierq.toml")

    def tierq(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "tierq_console", *arguments],
            cwd=self.folder,
            env={**self.env, **env},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def hold(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Starts `tierq up`, or another command that stays."""
        output = self.folder / f"holder-{len(self.holders)}.out"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "tierq_console", *(arguments or ("up", "--no-flower"))],
                cwd=self.folder,
                env=self.env,
                stdout=file,
                stderr=file,
            )
        self.holders.append(process)
        return process

    def output(self, process: subprocess.Popen[bytes]) -> str:
        return (self.folder / f"holder-{self.holders.index(process)}.out").read_text()

    def is_ready(self, process: subprocess.Popen[bytes]) -> bool:
        assert process.poll() is None, self.output(process)
        return "ready." in self.output(process)

    def up(self, *arguments: str) -> subprocess.Popen[bytes]:
        """`tierq up`, once it says that all is ready."""
        process = self.hold("up", *(arguments or ("--no-flower",)))
        eventually(lambda: self.is_ready(process), PATIENCE_S)
        return process

    def record(self) -> dict[str, Any]:
        with suppress(OSError, ValueError):
            return dict(json.loads((self.paths.root / "stack.json").read_text()))
        return {}

    def pid(self, part: str) -> int:
        """The process of a part of the stack; 0 where it is down just now."""
        if part == "supervisor":
            return int(self.record().get("pid") or 0)
        return int(self.record().get("children", {}).get(part, {}).get("pid") or 0)

    def kill(self, part: str) -> int:
        """Kill -9 of a part, and its process id."""
        pid = self.pid(part)
        os.kill(pid, signal.SIGKILL)
        return pid

    def runs_task(self) -> bool:
        """Whether a task that is submitted now comes to its end."""
        settings = configuration.with_embedded_urls(configuration.load(self.folder / "tierq.toml"))
        with Client(settings=settings) as client:
            return client.submit(Classify(text="the invoice is wrong", labels=["billing", "bug"])).wait(PATIENCE_S).ok

    def everything(self) -> list[int]:
        parts = ["supervisor", *self.record().get("children", {})]
        return [pid for pid in map(self.pid, parts) if pid]

    def redis_answers(self) -> bool:
        with suppress(redis.RedisError), redis.Redis(unix_socket_path=str(self.paths.socket)) as client:
            return bool(client.ping())
        return False

    def close(self) -> None:
        for process in self.holders:
            stop(process)
        for pid in self.everything():
            eventually(lambda pid=pid: not is_alive(pid), PATIENCE_S)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that is only waited for no longer does."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@contextmanager
def embedded_site(folder: Path, simulator: Simulator) -> Iterator[EmbeddedSite]:
    """A folder whose embedded stack is gone when the block ends."""
    folder.mkdir()
    (folder / "tierq.toml").write_text(CONFIG.format(base_url=simulator.url))
    site = EmbeddedSite(folder, simulator)
    try:
        yield site
    finally:
        site.close()
