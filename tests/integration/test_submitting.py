"""Submitting: keys, resumption, aborts, and the caller's own transaction."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, func, select
from sqlmodel import Field, Session, SQLModel

from conftest import SiteMaker
from support.servers import Site
from support.waiting import eventually
from tierq import (
    BatchNotFound,
    Classify,
    Client,
    InvalidTask,
    KeyConflict,
    NotConfigured,
    SchemaMissing,
    StoreError,
    Task,
)
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import batches, chunks, tasks

intent = Classify.spec("intent", labels=["billing", "bug", "praise"])


class HostTask(SQLModel, table=True):
    """A host application's own model, whose table is called `task` too."""

    __tablename__ = "task"

    id: int | None = Field(default=None, primary_key=True)
    title: str


def count(site: Site, table: object) -> int:
    store = Store(site.database_url)
    with store.reading() as connection:
        found = connection.execute(select(func.count()).select_from(table)).scalar_one()  # type: ignore[arg-type]
    store.close()
    return int(found)


def some(count: int, start: int = 0) -> Iterator[Task[str]]:
    for number in range(start, start + count):
        yield intent(text=f"ticket {number}", key=number)


def test_the_same_batch_key_is_the_same_batch(site: Site) -> None:
    with Client(config=site.config) as client:
        first = client.submit_many(some(700), key="nightly")
        again = client.submit_many(some(700), key="nightly")
        assert first.id == again.id
        assert first.progress().total == 700
        with pytest.raises(KeyConflict, match="another payload"):
            client.submit_many([intent(text="changed", key=3)], key="nightly")
        with pytest.raises(KeyConflict, match="sealed with 700"):
            client.submit_many(some(701), key="nightly")
    assert count(site, tasks) == 700


def test_the_same_batch_key_submitted_at_once_by_many_is_one_batch(site: Site) -> None:
    ids: list[str] = []
    with Client(config=site.config) as client:
        client.check_schema()

        def submit() -> None:
            ids.append(client.submit_many(some(1200), key="nightly").id)

        threads = [threading.Thread(target=submit) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(ids)) == 1
        assert client.batch(ids[0]).progress().total == 1200
    assert count(site, tasks) == 1200


def test_a_task_key_given_twice_is_one_task(site: Site) -> None:
    with Client(config=site.config) as client:
        batch = client.submit_many([*some(3), *some(3)])
        assert batch.progress().total == 3
        with pytest.raises(KeyConflict):
            client.submit_many([intent(text="a", key="k"), intent(text="b", key="k")])


@pytest.mark.parametrize("good", [3, 1500])
def test_an_invalid_item_aborts_the_batch_and_names_its_position(site: Site, good: int) -> None:
    def items() -> Iterator[Task[str]]:
        yield from some(good)
        yield intent(text="x", tier="smal")

    with Client(config=site.config) as client, pytest.raises(InvalidTask, match=f"task {good}, field 'tier'"):
        client.submit_many(items(), key="broken")
    store = Store(site.database_url)
    with store.reading() as connection:
        states = connection.execute(select(batches.c.state)).scalars().all()
    store.close()
    assert set(states) <= {"aborted"}


def test_a_generator_that_fails_leaves_nothing_to_run_and_the_key_free(site: Site) -> None:
    def items() -> Iterator[Task[str]]:
        yield from some(1200)
        raise OSError("the source went away")

    with Client(config=site.config) as client:
        with pytest.raises(OSError, match="went away"):
            client.submit_many(items(), key="nightly")
        assert client.submit_many(some(1200), key="nightly").progress().total == 1200


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_session_joins_the_callers_transaction(site_on: SiteMaker, database: str) -> None:
    site = site_on(database)
    site.start_worker("small")
    url = site.database_url.replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(url)
    SQLModel.metadata.create_all(engine, tables=[HostTask.__table__])  # type: ignore[attr-defined]
    with Client(config=site.config) as client:
        with Session(engine) as session:
            session.add(HostTask(title="never"))
            client.submit(intent(text="never"), session=session)
            session.rollback()
        assert count(site, tasks) == 0
        with Session(engine) as session:
            session.add(HostTask(title="kept"))
            handle = client.submit(intent(text="my invoice is wrong"), session=session)
            session.commit()
        assert handle.wait(timeout=30).ok
        with Session(engine) as session:
            assert [row.title for row in session.exec(select(HostTask)).scalars()] == ["kept"]  # type: ignore[call-overload]
    engine.dispose()


def test_session_on_a_database_without_our_tables_is_refused(site: Site, tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/other.db")
    with (
        Client(config=site.config) as client,
        Session(engine) as session,
        pytest.raises(SchemaMissing, match="migrate"),
    ):
        client.submit(intent(text="x"), session=session)
    engine.dispose()


def test_what_no_deployment_can_serve_is_refused_at_submission(site: Site) -> None:
    with Client(config=site.config) as client:
        with pytest.raises(InvalidTask, match="no deployment that this task may use has region='mars'"):
            client.submit(intent(text="x", require={"region": "mars"}))
        with pytest.raises(InvalidTask, match="max_cost"):
            client.submit(intent(text="x", max_cost=0))
    assert count(site, tasks) == 0


def test_a_deadline_that_passes_expires_the_task(site: Site) -> None:
    site.simulator.configure({"models": {"*": {"latency_ms": 3000}}})
    site.start_worker("small")
    with Client(config=site.config) as client:
        outcome = client.submit(intent(text="x", deadline=timedelta(seconds=0.5))).wait(timeout=30)
    assert outcome.state == "expired"
    assert outcome.error is not None
    assert outcome.error.code == "deadline"


def test_a_batch_is_picked_up_again_by_its_id(site: Site) -> None:
    with Client(config=site.config) as client:
        batch_id = client.submit_many(some(5)).id
    site.start_worker("small")
    with Client(config=site.config) as client:
        assert client.batch(batch_id).wait(timeout=30).succeeded == 5
        with pytest.raises(BatchNotFound):
            client.batch("nope")


def test_without_any_configuration_the_client_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotConfigured, match="tierq init"):
        Client()


def test_a_database_without_tables_is_named(site: Site, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/empty.db"
    with Client(config=site.config, database_url=url) as client, pytest.raises(SchemaMissing, match="tierq migrate"):
        client.submit(intent(text="x"))


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_savepoint_publishes_nothing_and_the_outer_commit_all(site_on: SiteMaker, database: str) -> None:
    site = site_on(database)
    engine = create_engine(site.database_url.replace("postgresql://", "postgresql+psycopg://"))
    with Client(config=site.config) as client, Session(engine) as session:
        with session.begin_nested():
            inner = client.submit(intent(text="my invoice is wrong"), session=session)
        outer = client.submit(intent(text="the app crashes"), session=session)
        session.commit()
        # No worker runs, so no sweeper that would publish for it.
        unpublished = select(func.count()).select_from(chunks).where(chunks.c.published_at.is_(None))
        eventually(lambda: session.connection().execute(unpublished).scalar_one() == 0)
        session.rollback()
        site.start_worker("small")
        assert inner.wait(timeout=30).ok
        assert outer.wait(timeout=30).ok
    engine.dispose()


def test_a_batch_is_cancelled_where_no_worker_lives(site: Site) -> None:
    with Client(config=site.config) as client:
        batch = client.submit_many(some(1200))
        batch.cancel()
        assert batch.wait(timeout=5).cancelled == 1200


def test_a_task_that_a_generator_cannot_make_is_named_by_its_position(site: Site) -> None:
    texts = ["fine", "fine", ""]
    with Client(config=site.config) as client, pytest.raises(InvalidTask, match="task 2, field 'text'"):
        client.submit_many(intent(text=text) for text in texts)


def test_a_store_that_is_down_is_said_in_our_words(site: Site) -> None:
    url = "postgresql://nobody@127.0.0.1:9/none"
    with Client(config=site.config, database_url=url) as client, pytest.raises(StoreError, match="check database_url"):
        client.submit(intent(text="x"))
