"""Forgetting with real parts: what a worker wrote about somebody is looked for in every place that keeps anything."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import String, create_engine, inspect, select
from sqlalchemy import cast as cast_in_sql
from sqlalchemy.engine import make_url
from sqlalchemy.schema import MetaData

from conftest import SiteMaker
from support.command import tierq
from support.hostile import answer, request_of, response, serving_in_thread
from support.servers import Site
from support.waiting import eventually
from tierq import Classify, Client, Forgotten, Outcome
from tierq_shared.store import sealed

pytestmark = pytest.mark.timeout(120)

ASKED, ANSWERED, QUOTED = "asked-by-4711", "told-to-4711", "quoted-of-4711"
"""Short of the 20 characters of a prompt that are taken out of a provider's message."""
KEPT = "asked-by-4712"
"""Somebody else's, by which the search shows that it finds anything."""

CONFIG = """
database_url = "{database_url}"
broker_url = "{broker_url}"
state_url = "{state_url}"
[tiers.small]
chain = ["mini"]
[deployments.mini]
provider = "openai"
model = "gpt-4o-mini"
base_url = "{base_url}/v1"
[worker]
max_attempts = 2
sweep_every = "250ms"
"""

intent = Classify.spec("intent", labels=[ANSWERED, "other"], cache=True)


async def provider(reader: Any, writer: Any) -> None:
    """Fails once for every prompt that says so, quoting; answers the others."""
    while True:
        _, _, body = (await request_of(reader)).partition(b"\r\n\r\n")
        asked = next(one["content"] for one in json.loads(body)["messages"] if one["role"] == "user")
        if "fail" in asked:
            error = json.dumps({"error": {"message": f"cannot do {QUOTED}", "type": "bad"}})
            writer.write(response(error.encode(), "content-type: application/json", status="400 Bad Request"))
        else:
            content = json.dumps({"label": "other" if KEPT in asked else ANSWERED})
            writer.write(answer({"choices": [{"message": {"content": content}, "finish_reason": "stop"}], "id": "1"}))
        await writer.drain()


def configure(site: Site, base_url: str) -> None:
    state = f"unix://{site.redis.socket}?db=1"
    urls = {"database_url": site.database_url, "broker_url": site.broker_url, "state_url": state}
    site.config.write_text(CONFIG.format(**urls, base_url=base_url))


def work(client: Client) -> list[Outcome[str]]:
    """Tasks of one person by key and by tag, in several batches, of which some fail; and of somebody else."""
    mine = [intent(f"{ASKED} {word}", key="4711") for word in ("please", "fail please")]
    batches = [client.submit_many([task, intent(f"{KEPT} please", key="4712")]) for task in mine]
    batches.append(client.submit_many([intent(f"{ASKED} again", key="a")], tags={"customer": "4711"}))
    batches.append(client.submit_many([intent(f"{ASKED} fail again", key="b", tags={"customer": "4711"})]))
    return [outcome for batch in batches for outcome in batch.results(timeout=60)]


def everything(site: Site) -> dict[str, str]:
    """All that is kept anywhere, by place."""
    return {**dict(_tables(site)), **dict(_redis(site)), "logs": site.logs(), **_files(site)}


def _tables(site: Site) -> Iterable[tuple[str, str]]:
    engine = create_engine(make_url(site.database_url).set(drivername=_driver(site)))
    with engine.connect() as connection:
        known = MetaData()
        known.reflect(connection)
        assert len(known.tables) == len(inspect(connection).get_table_names()) > 20
        for table in known.sorted_tables:
            rows = connection.execute(select(*(cast_in_sql(column, String) for column in table.columns)))
            # What all tasks of a kind share is no one's: the label stands in the spec.
            yield table.name, "" if table.name == "tierq_spec" else repr(rows.all())
    engine.dispose()


def _driver(site: Site) -> str:
    return "sqlite" if site.database_url.startswith("sqlite") else "postgresql+psycopg"


def _redis(site: Site) -> Iterable[tuple[str, str]]:
    for number in range(2):
        with redis.Redis(unix_socket_path=str(site.redis.socket), db=number) as client:
            yield f"redis {number}", repr([(key, client.dump(key)) for key in client.scan_iter()])


def _files(site: Site) -> dict[str, str]:
    paths = site.folder.glob("tierq.db*")
    return {path.name: path.read_bytes().decode(errors="replace") for path in paths if not path.name.endswith("-shm")}


def places_of(site: Site, *words: str) -> set[str]:
    return {place for place, content in everything(site).items() if any(word in content for word in words)}


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_what_was_forgotten_is_nowhere_any_more(site_on: SiteMaker, database: str) -> None:
    site = site_on(database, "redis")
    with ExitStack() as stack:
        configure(site, stack.enter_context(serving_in_thread(provider)))
        worker = site.start_worker("small", "--loglevel", "DEBUG")
        client = stack.enter_context(Client(config=site.config))
        outcomes = work(client)
        assert sum(outcome.ok for outcome in outcomes) == 4
        assert places_of(site, ASKED) >= {"tierq_payload"}
        assert places_of(site, QUOTED) >= {"tierq_payload", "tierq_attempt"}
        spent = sum(outcome.cost_nusd or 0 for outcome in outcomes)
        assert client.forget(key="4711") == Forgotten(tasks=2, cancelled=0, cache_entries=2)
        done = tierq(site.folder, "forget", "--tag", "customer=4711", "--yes", TIERQ_CONFIG=str(site.config))
        assert "2 tasks are forgotten, 0 of them cancelled for it; 2 cached answers are gone" in done.stdout, (
            done.stderr
        )
        assert places_of(site, ASKED, QUOTED) == set()
        private = {place: content for place, content in everything(site).items() if place not in _files(site)}
        assert [place for place, content in private.items() if ANSWERED in content] == []
        assert places_of(site, KEPT) >= {"tierq_payload"}
        again = [one for outcome in outcomes for one in client.batch(outcome.batch_id).results(timeout=10)]
        assert sum({one.task_id: one.cost_nusd or 0 for one in again}.values()) == spent
        assert worker.poll() is None


KEYS = [base64.urlsafe_b64encode(bytes([number]) * 32).decode() for number in (1, 2)]


def test_a_worker_needs_the_key_and_rekey_changes_it(
    site_on: SiteMaker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    site = site_on("sqlite", "redis")
    monkeypatch.setenv(sealed.KEYS_VARIABLE, KEYS[0])
    sealed.cipher.cache_clear()
    try:
        with Client(config=site.config) as client:
            batch = client.submit_many([intent(f"{ASKED} please", key="4711")])
            site.start_worker("small", **{sealed.KEYS_VARIABLE: KEYS[1]})
            eventually(lambda: "1 tasks stay queued: they are encrypted" in site.logs(), 30)
            assert batch.progress().done == 0
            site.stop_workers()
            site.start_worker("small")
            assert batch.wait(timeout=60).succeeded == 1
            environment = {"TIERQ_CONFIG": str(site.config), sealed.KEYS_VARIABLE: f"{KEYS[1]},{KEYS[0]}"}
            assert "2 texts were encrypted anew" in tierq(tmp_path, "rekey", **environment).stdout
            assert places_of(site, ASKED) == set()
            told = tierq(tmp_path, "results", batch.id, **environment)
            assert tierq(tmp_path, "results", batch.id, TIERQ_CONFIG=str(site.config)).returncode == 2
        assert json.loads(told.stdout)["output"] in (ANSWERED, "other")
    finally:
        sealed.cipher.cache_clear()
