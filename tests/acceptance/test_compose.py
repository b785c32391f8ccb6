"""The very commands of docker-compose.yml, as processes over a real PostgreSQL and Redis."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from support import compose
from support.servers import Simulator, fresh_postgres, redis_binary, running
from support.waiting import eventually
from tierq import Classify, Client

pytestmark = pytest.mark.timeout(240)

PASSWORD = "a-password-of-this-test"
PATIENCE_S = 60.0


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Composed:
    """The services of docker-compose.yml, without containers: only hosts and ports differ."""

    folder: Path
    replaced: dict[str, str]
    flower_port: int
    env: dict[str, str]
    stack: ExitStack
    services: dict[str, Any] = field(default_factory=lambda: compose.read()["services"])

    def environment(self, service: str) -> dict[str, str]:
        given = compose.interpolate(self.services[service]["environment"], self.env)
        config = {"TIERQ_CONFIG": str(compose.FILE.parent / "deploy" / "tierq.compose.toml")}
        return {**os.environ, **config, **{name: self._local(value) for name, value in given.items()}}

    def command(self, service: str, *more: str) -> list[str]:
        arguments = [*self.services[service]["command"], *more]
        return [sys.executable, "-m", "tierq_console", *map(self._local, arguments)]

    def start(self, service: str) -> subprocess.Popen[bytes]:
        log = self.folder / f"{service}.log"
        return self.stack.enter_context(running(self.command(service), log, self.environment(service)))

    def run(self, service: str, *more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(service, *more), env=self.environment(service), capture_output=True, text=True, check=False
        )

    def is_healthy(self, service: str) -> bool:
        """The service's own health check."""
        return self.run(service, "--check").returncode == 0

    def _local(self, text: str) -> str:
        for name, value in self.replaced.items():
            text = text.replace(name, value)
        return text


@pytest.fixture
def composed(tmp_path: Path, simulator: Simulator) -> Iterator[Composed]:
    with ExitStack() as stack:
        database = stack.enter_context(fresh_postgres())
        redis_port, flower_port = free_port(), free_port()
        redis = [redis_binary(), "--port", str(redis_port), "--save", "", "--dir", str(tmp_path)]
        stack.enter_context(running(redis, tmp_path / "redis.log"))
        replaced = {
            "postgresql://tierq:pg-secret@postgres:5432/tierq": database,
            "redis://redis:6379/": f"redis://127.0.0.1:{redis_port}/",
            "0.0.0.0": "127.0.0.1",
            "5555": str(flower_port),
        }
        env = {
            "TIERQ_POSTGRES_PASSWORD": "pg-secret",
            "TIERQ_FLOWER_PASSWORD": PASSWORD,
            "OPENAI_API_KEY": "sk-test",
            "ANTHROPIC_API_KEY": "sk-test",
            "GEMINI_API_KEY": "sk-test",
            "OPENAI_BASE_URL": f"{simulator.url}/v1",
            "ANTHROPIC_BASE_URL": simulator.url,
            "GOOGLE_GEMINI_BASE_URL": simulator.url,
        }
        yield Composed(tmp_path, replaced, flower_port, env, stack)


def test_the_commands_of_the_compose_file_do_the_work(composed: Composed, monkeypatch: pytest.MonkeyPatch) -> None:
    before = composed.run("worker-small")
    assert before.returncode == 2, before.stderr
    assert "tierq migrate" in before.stderr

    assert composed.run("migrate", "--check").returncode == 1
    assert "migrated from no tables" in composed.run("migrate").stdout
    assert "already at" in composed.run("migrate").stdout
    assert composed.run("migrate", "--check").returncode == 0

    for name, value in composed.environment("worker-small").items():
        monkeypatch.setenv(name, value)
    tasks = [Classify(text=f"ticket {number}", labels=["billing", "bug"]) for number in range(120)]
    tasks += [Classify(text="contract", labels=["sign", "leave"], stakes="high", urgency="interactive")]
    with Client() as client:
        batch = client.submit_many(tasks)
        flower_shows_the_queues(composed)

        small = [composed.start("worker-small") for _ in range(2)]
        large = composed.start("worker-large")
        assert batch.wait(timeout=PATIENCE_S).succeeded == len(tasks)

    assert composed.is_healthy("worker-small")
    assert composed.is_healthy("worker-large")
    assert not composed.is_healthy("worker-medium")
    for worker in (*small, large):
        worker.send_signal(signal.SIGTERM)
    assert [worker.wait(PATIENCE_S) for worker in (*small, large)] == [0, 0, 0]
    assert not composed.is_healthy("worker-small")


def flower_shows_the_queues(composed: Composed) -> None:
    """While no worker runs: lengths over all priorities, behind the password, which no process list shows."""
    flower = composed.start("flower")
    url = f"http://127.0.0.1:{composed.flower_port}"
    eventually(lambda: answers(f"{url}/healthcheck"), PATIENCE_S)

    assert httpx.get(f"{url}/broker").status_code == 401
    assert httpx.get(f"{url}/api/queues/length", auth=("tierq", "wrong")).status_code == 401
    lengths = httpx.get(f"{url}/api/queues/length", auth=("tierq", PASSWORD)).raise_for_status().json()
    shown = {queue["name"]: queue["messages"] for queue in lengths["active_queues"]}
    assert shown == {"tierq.small": 2, "tierq.medium": 0, "tierq.large": 1}

    assert PASSWORD.encode() not in Path(f"/proc/{flower.pid}/cmdline").read_bytes()
    shutdown = httpx.post(f"{url}/api/worker/shutdown/any", auth=("tierq", PASSWORD))
    assert shutdown.status_code == 403, "Flower is read-only"


def answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False
