"""Serves `/metrics`, `/healthz` and `/readyz` from threads of its own, so that a stalled event loop is told of, too."""

from __future__ import annotations

import errno
import json
import logging
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from tierq_shared.settings import MetricsSettings
from tierq_workers.vitals import Vitals

log = logging.getLogger("tierq.worker")

PORTS = 100
"""How many ports from the configured one on are tried: that many workers may share a host."""

_PATIENCE_S = 5.0
"""How long a client may take to say what it wants."""

_POLL_S = 0.1

Look = Callable[[], Vitals]


class Answer(NamedTuple):
    """What goes back to whoever asked."""

    status: HTTPStatus
    content_type: str
    body: bytes


class Serving:
    """The small HTTP server of one worker process. ``look`` tells how the worker fares."""

    def __init__(self, where: MetricsSettings, registry: CollectorRegistry, look: Look) -> None:
        self._where = where
        self._registry = registry
        self._look = look
        self._server: _Server | None = None
        self.port: int | None = None
        """Where it listens; None where it does not."""

    def start(self) -> None:
        """Listens on the first port that is free. A worker that cannot be watched works all the same."""
        try:
            self._server = self._listen()
        except OSError as error:
            at = f"{self._where.host} port {self._where.port} and the {PORTS - 1} after it"
            log.error("/metrics and /healthz are not served: cannot listen on %s (%s)", at, error.strerror)  # noqa: TRY400 - where is of no use
            return
        self.port = self._server.server_address[1]
        log.info("/metrics and /healthz are served on %s port %d", self._where.host, self.port)
        serve = self._server.serve_forever
        threading.Thread(target=serve, args=(_POLL_S,), name="tierq-serving", daemon=True).start()

    def close(self) -> None:
        """Stops listening; answers that are under way do not hold it up."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def answer(self, path: str, accept: str) -> Answer:
        """What is said to a GET of a path."""
        match path.partition("?")[0]:
            case "/metrics":
                encode, content_type = choose_encoder(accept)
                return Answer(HTTPStatus.OK, content_type, encode(self._registry))
            case "/healthz":
                vitals = self._look()
                return _told(vitals, is_well=vitals.is_healthy)
            case "/readyz":
                vitals = self._look()
                return _told(vitals, is_well=vitals.is_ready)
            case _:
                return Answer(HTTPStatus.NOT_FOUND, "text/plain", b"there are /metrics, /healthz and /readyz\n")

    def _listen(self) -> _Server:
        last = min(self._where.port + PORTS - 1, 65_535)
        for port in range(self._where.port, last):
            try:
                return _Server(self._where.host, port, self.answer)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
        return _Server(self._where.host, last, self.answer)


def _told(vitals: Vitals, *, is_well: bool) -> Answer:
    status = HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE
    return Answer(status, "application/json", json.dumps(vitals.json(is_well=is_well)).encode() + b"\n")


class _Server(ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, host: str, port: int, answer: Callable[[str, str], Answer]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.answer = answer
        super().__init__((host, port), _Handler)

    def handle_error(self, *_: Any) -> None:
        """A client that hung up is no news, and what it sent is nothing for a log."""
        log.debug("a request for metrics was broken off")


class _Handler(BaseHTTPRequestHandler):
    """Takes GET and HEAD; what else is asked, its base class refuses."""

    timeout = _PATIENCE_S
    error_content_type = "text/plain"
    error_message_format = "%(message)s\n"
    server: _Server

    def do_GET(self) -> None:
        self._send(self.server.answer(self.path, self.headers.get("Accept", "")))

    do_HEAD = do_GET  # noqa: N815 - the base class looks for that name

    def version_string(self) -> str:
        return "tierq"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        """Probes every few seconds are nothing for a log."""

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
