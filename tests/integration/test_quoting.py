"""Quotes of both clients over a real store, a worker and the simulator: kept, compared, and better the second time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from click.testing import CliRunner
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from support.servers import Site
from tierq import AsyncClient, Classify, Client, InvalidTask, Quote, Task
from tierq_console.commands import results, status

intent = Classify.spec("intent", labels=["billing", "bug", "praise"], instructions="What is the customer's matter?")
COUNT = 120


def tickets(first: int = 0, count: int = COUNT) -> Iterator[Task[str]]:
    return (
        intent(f"ticket {number}: " + "my invoice is wrong " * (number % 9 + 1))
        for number in range(first, first + count)
    )


async def arriving() -> AsyncIterator[Task[str]]:
    for task in tickets():
        yield task


def run_quoted(client: Client, first: int) -> tuple[Quote, float]:
    """Quotes, submits and waits; the quote and its error."""
    quote = client.quote(tickets(first))
    progress = client.submit_many(tickets(first), quote=quote).wait(timeout=60)
    assert progress.succeeded == COUNT
    assert progress.quote == quote
    assert progress.quote_error is not None
    return quote, progress.quote_error


def test_the_second_quote_of_a_kind_is_within_ten_percent(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tierq_shared.quoting.quoter.LEARNED_FOR_S", 0.0)
    site.start_worker("small")
    with Client(config=site.config) as client:
        before, _ = run_quoted(client, 0)
        after, error = run_quoted(client, 1_000)
        assert client.quote(tickets()).tiers["small"].workers == 1
        latest = client.batches(1)[0].batch_id
    for command, options in ((status.command, []), (results.command, ["--out", str(site.folder / "out.jsonl")])):
        told = CliRunner(env={"TIERQ_CONFIG": str(site.config)}).invoke(command, [latest, *options])
        assert "quoted: $0.00" in told.output
        assert "actual $0.00" in told.output
    assert before.tiers["small"].learned_calls == 0
    assert any("rules of thumb" in note for note in before.notes)
    assert after.tiers["small"].learned_calls == COUNT
    assert abs(error) < 0.1
    assert after.cost_nusd is not None
    assert before.cost_nusd is not None
    assert after.cost_nusd.high / after.cost_nusd.low < before.cost_nusd.high / before.cost_nusd.low


def test_a_quote_spends_and_submits_nothing_and_refuses_what_submission_would(site: Site) -> None:
    with Client(config=site.config) as client:
        quote = client.quote(tickets())
        assert (quote.tasks, client.batches()) == (COUNT, [])
        with pytest.raises(InvalidTask, match="task 1"):
            client.quote([intent("fine"), intent("a text", tier="huge")])
    assert site.simulator.stats()["replies"] == 0


def test_a_quote_goes_into_the_callers_own_transaction(site: Site) -> None:
    engine = create_engine(site.database_url)
    with Client(config=site.config) as client:
        quote = client.quote(tickets(count=3))
        with Session(engine) as session, session.begin():
            batch = client.submit_many(tickets(count=3), quote=quote, session=session)
        assert client.batch(batch.id).progress().quote == quote
    engine.dispose()


def test_the_asyncio_client_quotes_alike(site: Site) -> None:
    async def main() -> tuple[Quote, Quote, Quote | None]:
        async with AsyncClient(config=site.config) as client:
            drawn, listed = await client.quote(arriving()), await client.quote(list(tickets()))
            batch = await client.submit_many(tickets(count=2), quote=drawn)
            return drawn, listed, (await batch.progress()).quote

    drawn, listed, kept = asyncio.run(main())
    assert drawn == listed == kept
    assert drawn.cost_usd is not None
    assert drawn.cost_usd.low <= drawn.cost_usd.expected <= drawn.cost_usd.high
