"""What a worker lets in from its queue: the two messages that `Publisher` makes. All else is refused and recorded.

Celery passes on whatever names a known task, writes the bodies of what it cannot read into the log, and ends with an
exception on shapes that it did not think of. So each message is looked at here before Celery does anything with it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container
from datetime import datetime
from typing import Any

import orjson
from celery.worker.consumer import Consumer
from kombu import compression

from tierq_shared.ids import new_id
from tierq_shared.queues import CHUNK_TASK, MARKER_TASK, MAX_PRIORITY, MESSAGE_VERSION, queue_name

log = logging.getLogger("tierq.worker")

REFUSED = "tierq.refused"
"""The name under which Flower lists and counts refused messages."""

MAX_BYTES = 64_000
"""A chunk of 100 ids is 3.5 KB."""

MAX_IDS = 1_000
"""More than any release has put into one chunk."""

_LONGEST_WORD = 200
_UNUSED_HEADERS = ("eta", "expires", "compression")
_UNUSED = "it asks for something that TierQ never asks Celery for"
_MISSHAPEN = "its shape is not that of our messages"


class Reception(Consumer):  # type: ignore[misc]  # Celery has no types
    """Celery's consumer behind a door: a refused message is neither run nor redelivered, and its body never shown."""

    refused = 0
    """Messages that this process refused."""

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        pass_on = super().create_task_handler(*args, **kwargs)

        def on_message(message: Any) -> None:
            why = fault_of(message, self.queues)
            if why is None:
                pass_on(message)
            else:
                self._refuse(message, why)

        return on_message

    # Celery's own ways to refuse, for what it finds by itself; each would log the body.

    def on_decode_error(self, message: Any, _error: Exception) -> None:
        self._refuse(message, "it cannot be decoded")

    def on_unknown_message(self, _body: Any, message: Any) -> None:
        self._refuse(message, "Celery does not know its form")

    def on_unknown_task(self, _body: Any, message: Any, _error: Exception) -> None:
        self._refuse(message, "it names no task of ours")

    def on_invalid_task(self, _body: Any, message: Any, _error: Exception) -> None:
        self._refuse(message, "Celery finds it invalid")

    @property
    def queues(self) -> list[str]:
        """The queues that this worker serves: its tier's."""
        return list(self.app.amqp.queues.consume_from)

    def _refuse(self, message: Any, why: str) -> None:
        self.refused += 1
        queue, kind = ", ".join(self.queues), _short(message.content_type)
        message.reject_log_error(log, self.connection_errors)
        log.error("refused a message on queue %s (%s, %d bytes): %s", queue, kind, _size(message.body), why)
        self._tell_flower(f"{queue} · {kind}", why)

    def _tell_flower(self, title: str, why: str) -> None:
        if self.event_dispatcher:
            uuid = new_id()
            self.event_dispatcher.send("task-received", uuid=uuid, name=REFUSED, args=title, kwargs="-")
            self.event_dispatcher.send("task-failed", uuid=uuid, exception=f"refused: {why}", traceback="")


def refuse_compressed() -> None:
    """No message of ours is compressed. kombu would decompress a foreign one to any size before we could look at it."""
    for name in compression.encoders():
        compression.register(_never, _never, name)


def _never(_body: bytes) -> bytes:
    raise ValueError("compressed messages are neither sent nor taken")


def fault_of(message: Any, queues: Container[str]) -> str | None:
    """Why a message is refused; None for one that `Publisher` made for one of these queues."""
    if message.content_type != "application/json":
        return "only JSON is taken"
    if _size(message.body) > MAX_BYTES:
        return f"it is larger than {MAX_BYTES:,} bytes"
    headers = message.headers if isinstance(message.headers, dict) else {}
    name = headers.get("task")
    if name not in (CHUNK_TASK, MARKER_TASK):
        return "it names no task of ours"
    if not _is_word(headers.get("id")):
        return "it has no id"
    if any(headers.get(header) for header in _UNUSED_HEADERS) or any(headers.get("timelimit") or ()):
        return _UNUSED
    return _fault_of_body(message.body, name, queues)


def _fault_of_body(body: Any, name: str, queues: Container[str]) -> str | None:
    try:
        parts = orjson.loads(body)
    except orjson.JSONDecodeError:
        return "it is no JSON"
    match parts:
        case [[{"v": version}], {}, {}] if version != MESSAGE_VERSION:
            return "it is of a version this release does not know; the sweeper finds its tasks again"
        case [[dict() as content], dict() as named, dict() as embedded] if not named:
            if any(embedded.values()):
                return _UNUSED
            known = _is_chunk(content) if name == CHUNK_TASK else _is_marker(content)
            return None if known and queue_name(content["tier"]) in queues else _MISSHAPEN
    return _MISSHAPEN


def _is_chunk(content: dict[str, Any]) -> bool:
    ids = content.get("ids")
    return (
        _is_message(content, "chunk", "batch")
        and isinstance(ids, list)
        and len(ids) <= MAX_IDS
        and all(map(_is_word, ids))
    )


def _is_marker(content: dict[str, Any]) -> bool:
    try:
        return _is_message(content, "at") and bool(datetime.fromisoformat(content["at"]))
    except ValueError:
        return False


def _is_message(content: dict[str, Any], *words: str) -> bool:
    priority = content.get("priority")
    return (
        all(_is_word(content.get(name)) for name in ("tier", *words))
        and type(priority) is int
        and 0 <= priority <= MAX_PRIORITY
    )


def _is_word(value: object) -> bool:
    """An id, a name or a time. A NUL in one would be refused by the store, with everything that is committed beside."""
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_WORD and value.isascii() and value.isprintable()


def _size(body: Any) -> int:
    return len(body) if isinstance(body, bytes | bytearray | memoryview | str) else 0


def _short(text: object) -> str:
    """A stranger's word as it may stand in a log."""
    shown = text if isinstance(text, str) and text.isascii() and text.isprintable() else "unknown"
    return shown[:80]
