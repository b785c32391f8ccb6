"""Sends each endpoint a test, and says what came back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tierq_console.summary import shortened
from tierq_shared.ids import new_id
from tierq_shared.store.webhook_events import event_body
from tierq_shared.store.webhooks import Message
from tierq_shared.webhooks import TEST_EVENT, Endpoint
from tierq_workers.transport import Posted
from tierq_workers.webhooks import in_words, send


@dataclass(frozen=True)
class Tried:
    """What came of a test."""

    endpoint: str
    posted: Posted = field(repr=False)

    @property
    def is_well(self) -> bool:
        return 200 <= (self.posted.status or 0) < 300

    def __str__(self) -> str:
        text = self.posted.body.decode("utf-8", "replace").strip()
        return f"{self.endpoint} {in_words(self.posted)}" + (f": {shortened(text)}" if text else "")

    def json(self) -> dict[str, Any]:
        return {"endpoint": self.endpoint, "http_status": self.posted.status, "error": self.posted.error}


async def try_all(endpoints: Sequence[Endpoint]) -> list[Tried]:
    """Sends to all of them at once, by this machine's clock, since no store is needed."""
    return await asyncio.gather(*(_try(one) for one in endpoints))


async def _try(endpoint: Endpoint) -> Tried:
    at = datetime.now(UTC)
    body = event_body(TEST_EVENT, at, {"endpoint": endpoint.name})
    return Tried(endpoint.name, await send(endpoint, Message(new_id(), body, 1, at)))
