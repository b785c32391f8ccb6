"""Submits a batch: slices collected outside, written inside transactions; sealed; then published."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import orjson
from sqlalchemy import Connection, inspect
from sqlalchemy.exc import IntegrityError

from tierq.intake import Intake
from tierq.outputs import Decoder
from tierq_shared import checks
from tierq_shared.errors import InvalidTask, KeyConflict, SchemaMissing
from tierq_shared.ids import new_id
from tierq_shared.policy import Policy
from tierq_shared.queues import BrokerDown, Chunk, Publisher
from tierq_shared.settings import Settings
from tierq_shared.store import submission
from tierq_shared.store.connection import Store
from tierq_shared.store.submission import NewBatch, NewTask
from tierq_shared.tasks import Task

log = logging.getLogger("tierq")

SLICE = 500
_PAGE = 50
"""Chunks published at once."""

_COLLISION_TRIES = 5


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """What `submit_many` may be told about a batch."""

    key: str | None = None
    label: str | None = None
    tags: dict[str, str] | None = None
    deadline: datetime | timedelta | None = None
    streaming: bool = False


class Submitter:
    """Writes tasks into the store and rings the broker."""

    def __init__(self, settings: Settings, store: Store, publisher: Publisher) -> None:
        self._settings = settings
        self._policy: Policy = settings.make_policy()
        self._store = store
        self._publisher = publisher

    def submit(self, tasks: Iterable[Task[Any]], options: BatchOptions, decoder: Decoder) -> str:
        """Submits a batch in transactions of its own; its id.

        Raises:
            InvalidTask: a task was refused; the whole batch is given up, nothing of it runs.
            KeyConflict: a key is in use with another payload.
        """
        batch = self._new_batch(options)
        slices = self._slices(tasks, batch, decoder)
        first = next(slices, [])
        second = next(slices, None) if len(first) == SLICE else None
        if second is None and self._write_whole(batch, first):
            return batch.id
        return self._write_sliced(batch, _chained(first, second, slices))

    def submit_in(
        self, connection: Connection, tasks: Iterable[Task[Any]], options: BatchOptions, decoder: Decoder
    ) -> str:
        """Submits a batch inside the caller's transaction; the caller publishes it after its commit.

        Raises:
            SchemaMissing: TierQ's tables are not in the caller's database.
        """
        if not inspect(connection).has_table("tierq_task"):
            raise SchemaMissing(
                "session= joins a transaction on TierQ's own database, and this session's has no TierQ tables: "
                "point database_url at it and run `tierq migrate`, or submit without session="
            )
        batch = self._new_batch(options)
        if not submission.insert_batch(connection, batch, total=None):
            existing = submission.find_by_key(connection, str(batch.key))
            self._resume(connection, existing, self._slices(tasks, batch, decoder))
            return str(existing.id)
        position = 0
        for part in self._slices(tasks, batch, decoder):
            submission.insert_slice(connection, batch.id, position, part, fresh=True)
            position += len(part)
        submission.seal(connection, batch.id)
        return batch.id

    def publish_batch(self, batch_id: str) -> None:
        """Publishes all chunks of a sealed batch. Where the broker is down, the sweeper rings later."""
        while page := self._read_page(batch_id):
            if not self.publish(page):
                return

    def publish(self, chunks: list[Chunk]) -> bool:
        """Publishes chunks and notes it; False where the broker did not take them."""
        try:
            self._publisher.publish(chunk for chunk in chunks if chunk.task_ids)
        except BrokerDown as error:
            log.warning("the broker did not take %d chunks (%s); the sweeper publishes them", len(chunks), error)
            return False
        ids = [chunk.id for chunk in chunks]
        self._store.write(lambda connection: submission.mark_published(connection, ids))
        return True

    def _new_batch(self, options: BatchOptions) -> NewBatch:
        tags = checks.string_map(options.tags, "tags") if options.tags else None
        deadline = options.deadline
        if isinstance(deadline, timedelta):
            deadline = self._now() + deadline
        if deadline is not None and deadline.tzinfo is None:
            raise InvalidTask("has no time zone: give datetime.now(UTC) + …, or a timedelta", field="deadline")
        return NewBatch(
            id=new_id(),
            key=checks.optional_text(options.key, "key"),
            label=checks.optional_text(options.label, "label"),
            tags=orjson.dumps(tags).decode() if tags else None,
            deadline=deadline,
            streaming=options.streaming,
        )

    def _slices(self, tasks: Iterable[Task[Any]], batch: NewBatch, decoder: Decoder) -> Iterator[list[NewTask]]:
        """Prepared tasks in slices, each collected before its transaction opens."""
        intake = Intake(self._settings, self._policy, self._now, batch.deadline)

        def prepared() -> Iterator[NewTask]:
            for position, task in enumerate(_placed(tasks)):
                yield intake.prepare(task, position)
                decoder.learn(task)

        iterator = prepared()
        while part := list(islice(iterator, SLICE)):
            yield part

    def _now(self) -> datetime:
        with self._store.reading() as connection:
            return submission.database_now(connection)

    def _write_whole(self, batch: NewBatch, part: list[NewTask]) -> bool:
        """A batch of one slice in one transaction; False where its key is taken, and it has to be resumed."""
        repeated = len({task.key for task in part if task.key is not None}) < sum(task.key is not None for task in part)
        if repeated:
            return False

        def work(connection: Connection) -> list[Chunk] | None:
            if not submission.insert_batch(connection, batch, total=len(part)):
                return None
            return submission.insert_slice(connection, batch.id, 0, part, fresh=True).chunks if part else []

        chunks = self._store.write(work)
        if chunks is None:
            return False
        if chunks:
            self.publish(chunks)
        return True

    def _write_sliced(self, batch: NewBatch, slices: Iterator[list[NewTask]]) -> str:
        """A batch of many slices: open until it is sealed; an error on the way gives it up."""

        def opened(connection: Connection) -> Any:
            if submission.insert_batch(connection, batch, total=None):
                return None
            return submission.find_by_key(connection, str(batch.key))

        existing = self._store.write(opened)
        batch_id = existing.id if existing is not None else batch.id
        try:
            self._write_slices(batch_id, slices, existing, streaming=batch.streaming)
        except BaseException:
            if existing is None:
                self._store.write(lambda connection: submission.abort(connection, batch_id))
            raise
        self.publish_batch(batch_id)
        return batch_id

    def _write_slices(self, batch_id: str, slices: Iterator[list[NewTask]], existing: Any, *, streaming: bool) -> None:
        first = 0
        for part in slices:
            chunks = self._write_slice(batch_id, first, part, existing)
            if streaming and chunks:
                self.publish(chunks)
            first += len(part)
        self._store.write(lambda connection: submission.seal(connection, batch_id))

    def _write_slice(self, batch_id: str, first: int, part: list[NewTask], existing: Any) -> list[Chunk]:
        def work(connection: Connection) -> list[Chunk]:
            written = submission.insert_slice(connection, batch_id, first, part, fresh=existing is None)
            _refuse_additions(existing, written.added, first)
            return written.chunks

        for attempt in range(1, _COLLISION_TRIES + 1):
            try:
                return self._store.write(work)
            except IntegrityError:
                # Another submitter of the same keys was faster; its rows are seen on the next look.
                if attempt == _COLLISION_TRIES:
                    raise
        raise AssertionError("unreachable")

    def _resume(self, connection: Connection, existing: Any, slices: Iterator[list[NewTask]]) -> None:
        first = 0
        for part in slices:
            written = submission.insert_slice(connection, existing.id, first, part, fresh=False)
            _refuse_additions(existing, written.added, first)
            first += len(part)
        submission.seal(connection, existing.id)

    def _read_page(self, batch_id: str) -> list[Chunk]:
        def work(connection: Connection) -> list[Chunk]:
            page = submission.unpublished(connection, batch_id, _PAGE)
            if page:
                submission.see_producer(connection, batch_id)
            return page

        return self._store.write(work)


def _placed(tasks: Iterable[Task[Any]]) -> Iterator[Task[Any]]:
    """The tasks, where one that is refused while a generator makes it says which one it was."""
    position = 0
    try:
        for task in tasks:
            yield task
            position += 1
    except InvalidTask as error:
        raise (error.at(position) if error.position is None else error) from None


def _refuse_additions(existing: Any, added: int, first: int) -> None:
    if existing is not None and existing.state != "open" and added:
        raise KeyConflict(
            f"the batch with key {existing.key!r} was sealed with {existing.total} tasks, and some from {first} on "
            "are not among them: give the new tasks a batch key of their own"
        )


def _chained(
    first: list[NewTask], second: list[NewTask] | None, rest: Iterator[list[NewTask]]
) -> Iterator[list[NewTask]]:
    if first:
        yield first
    if second is not None:
        yield second
    yield from rest
