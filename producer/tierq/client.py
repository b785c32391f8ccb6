"""The synchronous client of backend apps."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from pydantic import BaseModel
from sqlalchemy import event
from sqlalchemy.orm import Session

from tierq.handles import Batch, Desk, Handle
from tierq.news import Listener
from tierq.outputs import Decoder
from tierq.reachable import ProducerStore
from tierq.submitting import BatchOptions, Submitter
from tierq_shared import configuration
from tierq_shared.errors import NotConfigured
from tierq_shared.options import Usd, WhenReached
from tierq_shared.queues import Publisher, make_app
from tierq_shared.quoting.cells import Tally
from tierq_shared.quoting.figures import Quote
from tierq_shared.quoting.quoter import Quoter
from tierq_shared.settings import Settings
from tierq_shared.store import forgetting, reading, schema
from tierq_shared.store.forgetting import Forgotten
from tierq_shared.tasks import Task

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

log = logging.getLogger("tierq")

_UNPUBLISHED = "tierq_unpublished"
"""Where a caller's session keeps the batches that wait for its commit."""


class Client:
    """Submits tasks and reads outcomes. Safe to share between threads; make one a process.

    It finds its configuration in its arguments, then in `TIERQ_*` variables, then in the nearest `tierq.toml` upwards,
    and never starts anything by itself.

    Raises:
        NotConfigured: no configuration was found.
        ConfigurationError: one was found that cannot be used.
    """

    def __init__(
        self,
        *,
        config: str | os.PathLike[str] | None = None,
        settings: Settings | None = None,
        database_url: str | None = None,
        broker_url: str | None = None,
        state_url: str | None = None,
    ) -> None:
        urls = {"database_url": database_url, "broker_url": broker_url, "state_url": state_url}
        self.settings = settings or find_settings(Path(config) if config else None, **urls)
        secret = self.settings.database_url
        self._store = ProducerStore(secret.get_secret_value() if secret else "")
        self._publisher = Publisher(make_app(self.settings))
        self._submitter = Submitter(self.settings, self._store, self._publisher)
        state = self.settings.state_url
        self._desk = Desk(self._store, Listener(state.get_secret_value() if state else None))
        self._quoter = Quoter(self.settings, self._store)
        self._checked = False

    def quote(self, tasks: Iterable[Task[Any]]) -> Quote:
        """What tasks will cost and how long they will take, before anything is submitted or spent.

        Any iterable is read to its end, in flat memory. ``submit_many(…, quote=quote)`` keeps the quote with the batch,
        which then says how far it was off.

        Raises:
            InvalidTask: a task would be refused at submission; the message names it.
            MissingExtra: a price has to be looked up, and the price list is not installed.
        """
        self.check_schema()
        tally = Tally()
        for new in self._submitter.prepared(tasks):
            tally.add(new)
        return self._quoter.quote(tally)

    def submit(
        self, task: Task[T], *, tags: Mapping[str, str] | None = None, session: Session | None = None
    ) -> Handle[T]:
        """Submits one task.

        Raises:
            InvalidTask: the task was refused; the message names the field and the mend.
        """
        return Handle(self.submit_many([task], tags=tags, session=session))

    def submit_many(
        self,
        tasks: Iterable[Task[T]],
        *,
        key: str | None = None,
        label: str | None = None,
        tags: Mapping[str, str] | None = None,
        deadline: datetime | timedelta | None = None,
        streaming: bool = False,
        quote: Quote | None = None,
        max_cost: Usd | None = None,
        on_cap: WhenReached | None = None,
        session: Session | None = None,
    ) -> Batch[T]:
        """Submits tasks as one batch, streamed from any iterable in flat memory.

        ``key`` makes it idempotent: the same key is the same batch, however often it is submitted, and a submission
        that broke off is resumed. ``streaming`` lets tasks run before the last one is submitted. ``quote`` is kept with
        the batch, to be compared with what it comes to. ``max_cost`` is the most USD that all its calls together may
        cost; ``on_cap`` says what tasks do that it has no room for: they `fail` (the default), `wait` or `downgrade`.
        ``session`` joins the caller's own transaction (its database must hold TierQ's tables) and publishes after its
        commit.

        Raises:
            InvalidTask: a task was refused; the whole batch is given up, nothing of it runs.
            KeyConflict: a key came again with another payload.
        """
        self.check_schema()
        options = BatchOptions(key, label, dict(tags) if tags else None, deadline, streaming, quote, max_cost, on_cap)
        decoder = Decoder()
        if session is not None:
            batch_id = self._submitter.submit_in(session.connection(), tasks, options, decoder)
            self._publish_after_commit(session, batch_id)
        else:
            batch_id = self._submitter.submit(tasks, options, decoder)
        return Batch(self._desk, batch_id, decoder)

    @overload
    def batch(self, batch_id: str) -> Batch[Any]: ...
    @overload
    def batch(self, batch_id: str, schema: type[M]) -> Batch[M]: ...
    def batch(self, batch_id: str, schema: type[BaseModel] | None = None) -> Batch[Any]:
        """Picks a batch up again by its id; ``schema`` types the outputs of an extraction.

        Raises:
            BatchNotFound: no batch has this id.
        """
        self.check_schema()
        with self._store.reading() as connection:
            reading.batch_tags(connection, batch_id)
        return Batch(self._desk, batch_id, Decoder(schema))

    def forget(self, *, key: str | int | None = None, tag: str | None = None) -> Forgotten:
        """Erases input, output, cached answers and quoted errors of every task with this key, or with this tag, its own
        or its batch's, written as `name=value`. What has not ended is cancelled. Costs and figures stay.

        It looks through all batches, and by a tag through all tasks; stopped half-way, it goes on when called again.

        Raises:
            InvalidTask: key or tag cannot be used, or there are both or neither.
            SchemaMismatch: the tables are of an older release.
        """
        subject = forgetting.Subject.of(key, tag)
        self.check_schema()
        return forgetting.forget(self._store, subject)

    def batches(self, limit: int = 20) -> list[reading.Progress]:
        """The latest batches, newest first."""
        self.check_schema()
        with self._store.reading() as connection:
            return reading.recent_batches(connection, limit)

    def _publish_after_commit(self, session: Session, batch_id: str) -> None:
        """Publishes a batch when the caller's outermost transaction has committed, and not before."""
        waiting: list[str] | None = session.info.get(_UNPUBLISHED)
        if waiting is not None:
            waiting.append(batch_id)
            return
        session.info[_UNPUBLISHED] = waiting = [batch_id]

        def publish(committed: Session) -> None:
            # Releasing a savepoint is announced as a commit, too.
            if not committed.in_nested_transaction():
                while waiting:
                    self._submitter.publish_batch(waiting.pop(0))

        event.listen(session, "after_commit", publish)

    def check_schema(self) -> None:
        """Looks once whether the store's tables are ones this release works with.

        Raises:
            SchemaMissing: TierQ's tables are not there.
            SchemaMismatch: they are of another release.
        """
        if not self._checked:
            schema.check(self._store)
            self._checked = True

    def close(self) -> None:
        """Closes its connections. What was submitted goes on."""
        self._desk.listener.close()
        self._publisher.close()
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


def find_settings(config: Path | None, **urls: str | None) -> Settings:
    """The configuration of a producer, with the embedded stack's URLs where the file names no database."""
    path = config or configuration.find_file()
    settings = configuration.load(path, urls)
    if settings.database_url is not None:
        return settings
    embedded = configuration.embedded_paths(path)
    if not embedded.database.exists():
        raise NotConfigured(
            "TierQ is not configured here: set TIERQ_DATABASE_URL and TIERQ_BROKER_URL, or write a tierq.toml "
            "(`tierq init`) and start the embedded stack beside it with `tierq up`"
        )
    return configuration.with_embedded_urls(settings)
