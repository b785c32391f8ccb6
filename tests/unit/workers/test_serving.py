"""/healthz fails when the loop stalls or the lease is not renewed, and is answered all the same."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from support.metrics import healthy
from support.servers import free_port
from tierq_shared.settings import MetricsSettings, Settings
from tierq_workers import vitals as living
from tierq_workers.serving import Serving
from tierq_workers.vitals import Phase, Pulse, Vitals

SETTINGS = Settings.model_validate(
    {"tiers": {"small": {"chain": ["mini"]}}, "deployments": {"mini": {"provider": "openai", "model": "m"}}}
)
WELL = healthy(SETTINGS)
LOCAL = "127.0.0.1"


class Worker:
    """One that is well, until it is told otherwise."""

    def __init__(self) -> None:
        self.vitals = WELL
        self.serving = Serving(MetricsSettings(port=free_port()), CollectorRegistry(), lambda: self.vitals)
        self.serving.start()

    def ask(self, path: str, method: str = "GET", **options: Any) -> httpx.Response:
        return httpx.request(method, f"http://{LOCAL}:{self.serving.port}{path}", **options)


@pytest.fixture
def worker() -> Iterator[Worker]:
    one = Worker()
    yield one
    one.serving.close()


def told(*, loop: bool, lease: bool, **fields: Any) -> dict[str, Any]:
    """What a probe is told, without the spans."""
    return {"tier": "small", "phase": "working", "checks": {"loop": loop, "lease": lease}, **fields}


def asked(worker: Worker, path: str) -> tuple[int, dict[str, Any]]:
    answer = worker.ask(path)
    found = answer.json()
    found["checks"] = {name: check["ok"] for name, check in found["checks"].items()}
    assert (found.pop("status") == "ok") is (answer.status_code == 200)
    return answer.status_code, found


CASES: dict[str, tuple[Vitals, int, int, dict[str, Any]]] = {
    "well": (WELL, 200, 200, told(loop=True, lease=True)),
    "stalled": (replace(WELL, silent_s=2.1), 503, 503, told(loop=False, lease=True)),
    "two renewals missed": (replace(WELL, lease_left_s=11.9), 503, 503, told(loop=True, lease=False)),
    "one renewal missed": (replace(WELL, lease_left_s=15.1), 200, 200, told(loop=True, lease=True)),
    "no lease yet": (
        replace(WELL, phase=Phase.STARTING, lease_left_s=0.0),
        503,
        503,
        told(loop=True, lease=False, phase="starting"),
    ),
    # It lives, and is not to be killed: it has calls to finish. But it takes nothing on.
    "told to stop": (replace(WELL, phase=Phase.DRAINING), 200, 503, told(loop=True, lease=True, phase="draining")),
}


@pytest.mark.parametrize("case", CASES)
def test_probes_are_told_how_the_worker_fares(worker: Worker, case: str) -> None:
    worker.vitals, health, readiness, said = CASES[case]
    assert asked(worker, "/healthz") == (health, said)
    assert asked(worker, "/readyz") == (readiness, said)


def test_the_lease_is_called_unrenewed_well_before_calls_are_cancelled() -> None:
    from tierq_workers.lease import RENEWALS_PER_LEASE, SAFETY_SHARE

    assert 2 / RENEWALS_PER_LEASE < living.UNRENEWED_SHARE < SAFETY_SHARE


def test_a_short_lease_bears_a_shorter_silence() -> None:
    short = healthy(SETTINGS.model_copy(update={"worker": SETTINGS.worker.model_copy(update={"lease": 2.0})}))
    assert replace(short, silent_s=0.9).loop_ticks
    assert not replace(short, silent_s=1.1).loop_ticks


def test_metrics_come_in_the_format_that_is_asked_for(worker: Worker) -> None:
    assert worker.ask("/metrics").headers["content-type"].startswith("text/plain; version=0.0.4")
    accept = "application/openmetrics-text; version=1.0.0, text/plain; q=0.5"
    answer = worker.ask("/metrics?x=1", headers={"Accept": accept})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_only_what_there_is_can_be_read_and_nothing_be_written(worker: Worker) -> None:
    assert worker.ask("/").status_code == 404
    assert worker.ask("/healthz/../etc").status_code == 404
    head = worker.ask("/healthz", "HEAD")
    assert (head.status_code, head.content) == (200, b"")
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        answer = worker.ask("/metrics", method)
        assert answer.status_code == 501
        assert answer.headers["server"] == "tierq", "no versions"


def test_a_port_that_is_taken_is_left_to_its_worker(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with ExitStack() as stack:
        first = socket.create_server((LOCAL, 0))
        stack.enter_context(closing(first))
        taken = first.getsockname()[1]
        others = [Serving(MetricsSettings(port=taken), CollectorRegistry(), lambda: WELL) for _ in range(2)]
        for one in others:
            one.start()
            stack.callback(one.close)
        ports = [one.port for one in others]
        assert taken < (ports[0] or 0) < (ports[1] or 0) < taken + 100
        assert f"served on {LOCAL} port {ports[1]}" in caplog.text


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.7"])
def test_a_worker_that_cannot_listen_says_so_and_works(host: str, caplog: pytest.LogCaptureFixture) -> None:
    serving = Serving(MetricsSettings(host=host), CollectorRegistry(), lambda: WELL)
    serving.start()
    assert serving.port is None
    assert f"not served: cannot listen on {host} port 9464" in caplog.text
    serving.close()


def test_a_client_that_says_nothing_holds_nobody_up(worker: Worker) -> None:
    with closing(socket.create_connection((LOCAL, worker.serving.port or 0))):
        assert worker.ask("/healthz").status_code == 200
        began = time.monotonic()
        worker.serving.close()
        assert time.monotonic() - began < 1


def test_the_pulse_shows_from_outside_that_the_loop_stalls() -> None:
    pulse, may_end = Pulse(), threading.Event()

    async def stall() -> None:
        keeping = asyncio.create_task(pulse.keep())
        await asyncio.sleep(2 * living.BEAT_S)
        beating.set()
        may_end.wait(10)
        await asyncio.sleep(2 * living.BEAT_S)
        keeping.cancel()

    beating = threading.Event()
    loop = threading.Thread(target=lambda: asyncio.run(stall()))
    loop.start()
    assert beating.wait(10)
    while pulse.silent_s() < 4 * living.BEAT_S:
        time.sleep(0.05)
    assert pulse.lag_s() > 2 * living.BEAT_S
    may_end.set()
    loop.join(10)
    # It ticks again, and how late it was is told for a while.
    assert pulse.silent_s() < pulse.lag_s()
    assert pulse.lag_s() > 2 * living.BEAT_S
