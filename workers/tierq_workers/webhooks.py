"""Delivers webhooks: signed POSTs as Standard Webhooks has them, tried again for days, each recorded."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from tierq_shared.store import schema, webhooks
from tierq_shared.store.connection import Store
from tierq_shared.store.webhooks import Message, Verdict
from tierq_shared.webhooks import Endpoint, headers
from tierq_workers.providers.classes import retry_after_s
from tierq_workers.transport import POST_TIMEOUT_S, Posted, Poster

log = logging.getLogger("tierq.webhooks")

LOOK_EVERY_S = 1.0

SCHEDULE_S = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""The longest wait after the first failed try, the second, … as Standard Webhooks suggests. Then it is given up."""

_LONGEST_TOLD_S = 86_400.0
"""A `Retry-After` is honoured up to here."""

_AT_ONCE = 10
"""Messages to one endpoint under way at once, from one worker."""

_HOLD_S = POST_TIMEOUT_S + 45
"""How long a message is another worker's no business: then whoever took it has died."""

_GONE = 410

Send = Callable[[Endpoint, Message], Awaitable[Posted]]


async def send(endpoint: Endpoint, message: Message) -> Posted:
    """POSTs a message once, signed for this moment."""
    body = message.body.encode()
    signed = headers(message.id, int(message.taken_at.timestamp()), body, endpoint.secret)
    return await Poster().post(endpoint.url, body, signed, allow_private=endpoint.allow_private)


class Deliveries:
    """Tells endpoints what is due, each apart from the others: one that is slow holds none back."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        store: Store,
        in_thread: Callable[..., Awaitable[Any]],
        send: Send = send,
    ) -> None:
        self._endpoints = endpoints
        self._store = store
        self._in_thread = in_thread
        self._send = send

    async def keep(self) -> None:
        """Delivers until it is cancelled; where no webhook is configured, there is nothing to do."""
        async with asyncio.TaskGroup() as group:
            for endpoint in self._endpoints:
                group.create_task(self._keep(endpoint))

    async def deliver(self, endpoint: Endpoint) -> None:
        """Sends what is due to an endpoint now, and records what came of it."""
        taken: list[Message] = await self._in_thread(self._take, endpoint)
        await asyncio.gather(*(self._deliver_one(endpoint, message) for message in taken))

    async def _keep(self, endpoint: Endpoint) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self.deliver(endpoint)
            except Exception as error:  # whatever it is, an event that is not told must not end the worker
                name = type(getattr(error, "orig", None) or error).__name__
                log.warning("webhook %s: deliveries were broken off (%s); they go on", endpoint.name, name)

    def _take(self, endpoint: Endpoint) -> list[Message]:
        if not schema.has(self._store, webhooks.SINCE):
            return []
        # Looked at before it is written: most of the time nothing is due, and SQLite has one writer.
        with self._store.reading() as connection:
            if not webhooks.any_due(connection, endpoint.name):
                return []
        return self._store.write(partial(webhooks.take_due, endpoint=endpoint.name, hold_s=_HOLD_S, limit=_AT_ONCE))

    async def _deliver_one(self, endpoint: Endpoint, message: Message) -> None:
        verdict = judge(await self._send(endpoint, message), message.tries)
        await self._in_thread(self._store.write, partial(webhooks.settle, message=message, verdict=verdict))
        if verdict.state == "failed":
            log.error(
                "webhook %s: given up after %d tries, the last of which %s; `tierq webhooks retry %s` sends it again",
                endpoint.name,
                message.tries,
                verdict.error,
                message.id,
            )


def judge(posted: Posted, tries: int, draw: Callable[[], float] = random.random) -> Verdict:
    """What becomes of a message whose try number ``tries`` came to this; ``draw`` gives from 0 to 1."""
    if posted.status is not None and 200 <= posted.status < 300:
        return Verdict("delivered", posted.status, None)
    error = in_words(posted)
    if posted.status == _GONE or tries > len(SCHEDULE_S):
        return Verdict("failed", posted.status, error)
    # Full jitter: those that failed together are not all tried again together.
    told_s = min(retry_after_s(posted.headers) or 0.0, _LONGEST_TOLD_S)
    return Verdict("pending", posted.status, error, max(told_s, draw() * SCHEDULE_S[tries - 1]))


def in_words(posted: Posted) -> str:
    """What a try came to: `answered 500`, or why nothing did."""
    if posted.status is None:
        return f"got {posted.error}"
    if 300 <= posted.status < 400:
        return f"was answered {posted.status}: redirects are not followed"
    if posted.status == _GONE:
        return f"was answered {posted.status}: the endpoint wants no more, so take it out of the configuration"
    return f"was answered {posted.status}"
