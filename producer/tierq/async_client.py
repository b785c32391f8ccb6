"""The asyncio client: the same as `Client`. Its SQL runs in a few threads; its waits hold none."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import copy_context
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Self, TypeVar, overload

from pydantic import BaseModel

from tierq.client import Client
from tierq.collecting import Collector
from tierq.handles import Batch, Patience, refuse_aborted
from tierq.news import Subscription
from tierq_shared.options import Usd, WhenReached
from tierq_shared.outcomes import Outcome
from tierq_shared.quoting.figures import Quote
from tierq_shared.settings import Settings
from tierq_shared.store.dead_letters import GROUPS, Failures, Retried
from tierq_shared.store.forgetting import Forgotten
from tierq_shared.store.reading import Progress
from tierq_shared.tasks import Task

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")
M = TypeVar("M", bound=BaseModel)

_THREADS = 8


class AsyncClient:
    """Submits tasks and reads outcomes from asyncio. Make one a process; see `Client` for how it is configured."""

    def __init__(
        self,
        *,
        config: str | os.PathLike[str] | None = None,
        settings: Settings | None = None,
        database_url: str | None = None,
        broker_url: str | None = None,
        state_url: str | None = None,
    ) -> None:
        self._client = Client(
            config=config, settings=settings, database_url=database_url, broker_url=broker_url, state_url=state_url
        )
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="tierq")

    async def quote(self, tasks: Iterable[Task[Any]] | AsyncIterable[Task[Any]]) -> Quote:
        """What tasks will cost and how long they will take; see `Client.quote`."""
        drawn = _drawn(tasks, asyncio.get_running_loop()) if isinstance(tasks, AsyncIterable) else tasks
        return await self._run(self._client.quote, drawn)

    async def submit(
        self, task: Task[T], *, tags: Mapping[str, str] | None = None, session: AsyncSession | None = None
    ) -> AsyncHandle[T]:
        """Submits one task; see `Client.submit`."""
        return AsyncHandle(await self.submit_many([task], tags=tags, session=session))

    async def submit_many(
        self,
        tasks: Iterable[Task[T]] | AsyncIterable[Task[T]],
        *,
        key: str | None = None,
        label: str | None = None,
        tags: Mapping[str, str] | None = None,
        deadline: datetime | timedelta | None = None,
        streaming: bool = False,
        quote: Quote | None = None,
        max_cost: Usd | None = None,
        on_cap: WhenReached | None = None,
        session: AsyncSession | None = None,
    ) -> AsyncBatch[T]:
        """Submits tasks as one batch, from an iterable or an asynchronous one; see `Client.submit_many`."""
        drawn = _drawn(tasks, asyncio.get_running_loop()) if isinstance(tasks, AsyncIterable) else tasks
        submit = partial(
            self._client.submit_many,
            drawn,
            key=key,
            label=label,
            tags=tags,
            deadline=deadline,
            streaming=streaming,
            quote=quote,
            max_cost=max_cost,
            on_cap=on_cap,
        )
        if session is not None:
            if isinstance(tasks, AsyncIterable):
                drawn_now: list[Task[T]] = [task async for task in tasks]
                submit = partial(submit.func, drawn_now, **submit.keywords)
            batch = await session.run_sync(lambda inner: submit(session=inner))
        else:
            batch = await self._run(submit)
        return AsyncBatch(self, batch)

    @overload
    async def batch(self, batch_id: str) -> AsyncBatch[Any]: ...
    @overload
    async def batch(self, batch_id: str, schema: type[M]) -> AsyncBatch[M]: ...
    async def batch(self, batch_id: str, schema: type[BaseModel] | None = None) -> AsyncBatch[Any]:
        """Picks a batch up again by its id; see `Client.batch`."""
        find: Callable[..., Batch[Any]] = self._client.batch
        return AsyncBatch(self, await self._run(find, batch_id, schema))

    async def forget(self, *, key: str | int | None = None, tag: str | None = None) -> Forgotten:
        """Erases what is private about tasks; see `Client.forget`."""
        return await self._run(self._client.forget, key=key, tag=tag)

    async def aclose(self) -> None:
        """Closes its connections. What was submitted goes on."""
        await self._run(self._client.close)
        self._threads.shutdown(wait=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.aclose()

    async def _run(self, work: Callable[P, R], *args: P.args, **options: P.kwargs) -> R:
        # In the caller's context: the span of the request belongs to it.
        call = partial(copy_context().run, partial(work, *args, **options))
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


class AsyncBatch(Generic[T]):
    """Tasks submitted together; see `Batch`."""

    def __init__(self, client: AsyncClient, batch: Batch[T]) -> None:
        self.id = batch.id
        self._batch = batch
        self._run = client._run

    def __repr__(self) -> str:
        return f"<AsyncBatch {self.id}>"

    async def progress(self) -> Progress:
        """How far it is."""
        return await self._run(self._batch.progress)

    async def wait(self, timeout: float | None = None) -> Progress:
        """Waits until every task has ended; raises WaitTimeout where ``timeout`` seconds were not enough."""
        async with self._waiting(timeout) as waiting:
            while not (progress := await self.progress()).is_over:
                await waiting.wait(found_some=bool(waiting.subscription.take()))
        refuse_aborted(progress)
        return progress

    async def as_completed(self, timeout: float | None = None) -> AsyncIterator[Outcome[T]]:
        """Each outcome once, as it is committed; raises WaitTimeout where ``timeout`` seconds were not enough."""
        collector = Collector(self._batch.desk.store, self.id, self._batch.decoder)
        async with self._waiting(timeout) as waiting:
            scan = True
            while True:
                found = await self._run(collector.ready, waiting.subscription.take(), scan=scan)
                for outcome in found:
                    yield outcome
                if collector.is_done:
                    return
                scan = False
                if not collector.has_more:
                    scan = await waiting.wait(found_some=bool(found))

    async def results(self, timeout: float | None = None) -> AsyncIterator[Outcome[T]]:
        """All outcomes in the order of submission, when every task has ended."""
        await self.wait(timeout)
        position = -1
        while page := await self._run(self._batch.page_after, position):
            for outcome in page:
                yield outcome
            position = page[-1].position

    async def cancel(self) -> None:
        """Stops it: waiting tasks become `cancelled`, what is finished is kept."""
        await self._run(self._batch.cancel)

    async def set_cap(self, max_cost: Usd) -> None:
        """Raises or lowers its cap; see `Batch.set_cap`."""
        await self._run(self._batch.set_cap, max_cost)

    async def failures(self, limit: int = GROUPS) -> Failures:
        """Why tasks failed; see `Batch.failures`."""
        return await self._run(self._batch.failures, limit)

    async def retry(self, codes: Iterable[str] | None = None) -> Retried:
        """Sends failed tasks again; see `Batch.retry`."""
        return await self._run(self._batch.retry, codes)

    @asynccontextmanager
    async def _waiting(self, timeout: float | None) -> AsyncIterator[_AsyncWaiting]:
        woken = asyncio.Event()
        loop = asyncio.get_running_loop()

        def notify() -> None:
            loop.call_soon_threadsafe(woken.set)

        # Subscribing asks Redis and waits for its answer: not on the event loop.
        listening = self._batch.desk.listener.listen(self.id, notify)
        subscription = await self._run(listening.__enter__)
        try:
            yield _AsyncWaiting(self, subscription, woken, Patience(self._batch.desk.store, timeout))
        finally:
            await self._run(listening.__exit__, None, None, None)


class _AsyncWaiting:
    """One wait of an asyncio reader."""

    def __init__(
        self, batch: AsyncBatch[Any], subscription: Subscription, woken: asyncio.Event, patience: Patience
    ) -> None:
        self.subscription = subscription
        self._batch = batch
        self._woken = woken
        self._patience = patience

    async def wait(self, *, found_some: bool) -> bool:
        """Waits for news; True where the time to look without news has come."""
        span = await self._batch._run(
            self._patience.span, self._batch.id, self.subscription.patience(found_some=found_some)
        )
        try:
            async with asyncio.timeout(span):
                await self._woken.wait()
        except TimeoutError:
            return True
        self._woken.clear()
        return False


class AsyncHandle(Generic[T]):
    """One submitted task; see `Handle`."""

    def __init__(self, batch: AsyncBatch[T]) -> None:
        self.batch = batch

    @property
    def id(self) -> str:
        return self.batch.id

    async def wait(self, timeout: float | None = None) -> Outcome[T]:
        """Waits for its outcome; raises WaitTimeout where ``timeout`` seconds were not enough."""
        outcomes = self.batch.as_completed(timeout)
        try:
            return await anext(outcomes)
        finally:
            await outcomes.aclose()  # type: ignore[attr-defined]  # an async generator, typed as an iterator

    async def progress(self) -> Progress:
        return await self.batch.progress()

    async def cancel(self) -> None:
        await self.batch.cancel()


def _drawn(tasks: AsyncIterable[Task[T]], loop: asyncio.AbstractEventLoop) -> Iterator[Task[T]]:
    """An asynchronous iterable for a thread: each item is asked for on the event loop."""
    iterator = aiter(tasks)
    while True:
        try:
            yield asyncio.run_coroutine_threadsafe(_next(iterator), loop).result()
        except StopAsyncIteration:
            return


async def _next(iterator: AsyncIterator[Task[T]]) -> Task[T]:
    return await anext(iterator)
