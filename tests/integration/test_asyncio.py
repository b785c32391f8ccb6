"""The asyncio client: the same promises, and no thread held while it waits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from support.servers import Site
from tierq import AsyncClient, Classify, Task, WaitTimeout

intent = Classify.spec("intent", labels=["billing", "bug", "praise"])


async def arriving(count: int) -> AsyncIterator[Task[str]]:
    for number in range(count):
        await asyncio.sleep(0)
        yield intent(text=f"ticket {number}", key=number)


def test_a_batch_from_an_asynchronous_source(site: Site) -> None:
    site.start_worker("small")

    async def main() -> None:
        async with AsyncClient(config=site.config) as client:
            batch = await client.submit_many(arriving(120))
            seen = [outcome.key async for outcome in batch.as_completed(timeout=30)]
            assert len(set(seen)) == 120
            assert (await batch.wait(timeout=10)).succeeded == 120
            assert [outcome.position async for outcome in batch.results()] == list(range(120))

    asyncio.run(main())


def test_two_hundred_waits_hold_no_threads(site: Site) -> None:
    site.simulator.configure({"models": {"*": {"latency_ms": 500}}})
    site.start_worker("small")

    async def main() -> None:
        async with AsyncClient(config=site.config) as client:
            handles = [await client.submit(intent(text=f"ticket {number}")) for number in range(200)]
            waits = [asyncio.create_task(handle.wait(timeout=60)) for handle in handles]
            await asyncio.sleep(0)
            assert threading.active_count() < 20
            assert all(outcome.ok for outcome in await asyncio.gather(*waits))

    asyncio.run(main())


def test_a_wait_times_out_and_can_be_taken_up_again(site: Site) -> None:
    async def main() -> None:
        async with AsyncClient(config=site.config) as client:
            handle = await client.submit(intent(text="ticket"))
            with pytest.raises(WaitTimeout):
                await handle.wait(timeout=0.2)
            site.start_worker("small")
            assert (await handle.wait(timeout=30)).ok

    asyncio.run(main())


def test_an_async_session_is_joined(site: Site) -> None:
    site.start_worker("small")

    async def main() -> None:
        engine = create_async_engine(site.database_url.replace("sqlite://", "sqlite+aiosqlite://"))
        async with AsyncClient(config=site.config) as client:
            async with AsyncSession(engine) as session:
                handle = await client.submit(intent(text="ticket"), session=session)
                await session.commit()
            assert (await handle.wait(timeout=30)).ok
        await engine.dispose()

    asyncio.run(main())
