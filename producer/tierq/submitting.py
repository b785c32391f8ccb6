"""Submits a batch: slices collected outside, written inside transactions; sealed; then published."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import orjson
from sqlalchemy import Connection, inspect
from sqlalchemy.exc import DBAPIError, IntegrityError

from tierq import tracing
from tierq.intake import Intake
from tierq.outputs import Decoder
from tierq_shared import checks
from tierq_shared.active_policy import ActivePolicy
from tierq_shared.errors import InvalidTask, SchemaMissing, StoreError
from tierq_shared.ids import new_id
from tierq_shared.options import WHEN_REACHED, Usd, WhenReached, check_max_cost
from tierq_shared.queues import BrokerDown, Chunk, Publisher
from tierq_shared.quoting.figures import Quote
from tierq_shared.settings import Settings
from tierq_shared.store import submission
from tierq_shared.store.connection import Store, hide_rows
from tierq_shared.store.submission import NewBatch, NewTask, Slice
from tierq_shared.tasks import Task

log = logging.getLogger("tierq")

SLICE = 500
_PAGE = 50
"""Chunks published at once."""

_COLLISION_TRIES = 5


@dataclass(slots=True)
class _Opened:
    """A batch that is being submitted slice by slice."""

    id: str
    is_own: bool
    """Whether this submitter opened it, and has met nobody else's tasks in it."""
    added: int = 0


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """What `submit_many` may be told about a batch."""

    key: str | None = None
    label: str | None = None
    tags: dict[str, str] | None = None
    deadline: datetime | timedelta | None = None
    streaming: bool = False
    quote: Quote | None = None
    max_cost: Usd | None = None
    on_cap: WhenReached | None = None


class Submitter:
    """Writes tasks into the store and rings the broker."""

    def __init__(self, settings: Settings, store: Store, publisher: Publisher) -> None:
        self._settings = settings
        self._policies = ActivePolicy(settings, store)
        self._store = store
        self._publisher = publisher

    def submit(self, tasks: Iterable[Task[Any]], options: BatchOptions, decoder: Decoder) -> str:
        """Submits a batch in transactions of its own; its id.

        Raises:
            InvalidTask: a task was refused; the whole batch is given up, nothing of it runs.
            KeyConflict: a key is in use with another payload.
        """
        batch = self._new_batch(options)
        with tracing.submission() as traced:
            batch_id = self._write(batch, self._slices(tasks, batch, decoder, traced))
            traced.done(batch_id)
        return batch_id

    def _write(self, batch: NewBatch, slices: Iterator[list[NewTask]]) -> str:
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
        with tracing.submission() as traced:
            batch_id = self._write_in(connection, batch, self._slices(tasks, batch, decoder, traced))
            traced.done(batch_id)
        return batch_id

    @staticmethod
    def _write_in(connection: Connection, batch: NewBatch, slices: Iterator[list[NewTask]]) -> str:
        with _refused_in_our_words():
            existing = submission.open_batch(connection, batch)
        batch_id = batch.id if existing is None else str(existing.id)
        first = 0
        for part in slices:
            with _refused_in_our_words():
                submission.insert_slice(connection, batch_id, first, part, fresh=existing is None)
            first += len(part)
        submission.seal(connection, batch_id)
        return batch_id

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
            quote=options.quote.json() if options.quote else None,
            max_cost_nusd=None if options.max_cost is None else check_max_cost(options.max_cost),
            on_cap=_check_on_cap(options),
        )

    def prepared(
        self,
        tasks: Iterable[Task[Any]],
        deadline: datetime | None = None,
        *,
        taken: Callable[[Task[Any]], None] = lambda _task: None,
        parent: Mapping[str, str] | None = None,
    ) -> Iterator[NewTask]:
        """The tasks as they go into the store: checked, and decided on. ``taken`` is told of each that passed;
        ``parent`` is the trace context that they keep.

        Raises:
            InvalidTask: one was refused; with position and field.
        """
        intake = Intake(self._settings, self._policies.current(), self._now, deadline, parent)
        for position, task in enumerate(_placed(tasks)):
            if position % SLICE == 0:
                # A generator may take hours: a version that is activated meanwhile holds for what comes.
                intake.policy = self._policies.current()
            yield intake.prepare(task, position)
            taken(task)

    def _slices(
        self, tasks: Iterable[Task[Any]], batch: NewBatch, decoder: Decoder, traced: tracing.Submission
    ) -> Iterator[list[NewTask]]:
        """Prepared tasks in slices, each collected before its transaction opens."""
        iterator = self.prepared(tasks, batch.deadline, taken=decoder.learn, parent=traced.parent)
        while part := list(islice(iterator, SLICE)):
            traced.saw(part)
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

        with _refused_in_our_words():
            chunks = self._store.write(work)
        if chunks is None:
            return False
        if chunks:
            self.publish(chunks)
        return True

    def _write_sliced(self, batch: NewBatch, slices: Iterator[list[NewTask]]) -> str:
        """A batch of many slices: open until it is sealed; an error on the way gives it up."""
        existing = self._store.write(lambda connection: submission.open_batch(connection, batch))
        batch_id = batch.id if existing is None else str(existing.id)
        opened = _Opened(batch_id, is_own=batch_id == batch.id)
        try:
            self._write_slices(opened, slices, streaming=batch.streaming)
        except BaseException:
            if opened.is_own:
                self._store.write(lambda connection: submission.abort(connection, opened.id, own=opened.added))
            raise
        self.publish_batch(opened.id)
        return opened.id

    def _write_slices(self, opened: _Opened, slices: Iterator[list[NewTask]], *, streaming: bool) -> None:
        first = 0
        for part in slices:
            chunks = self._write_slice(opened, first, part)
            if streaming and chunks:
                self.publish(chunks)
            first += len(part)
        self._store.write(lambda connection: submission.seal(connection, opened.id))

    def _write_slice(self, opened: _Opened, first: int, part: list[NewTask]) -> list[Chunk]:
        def work(connection: Connection) -> Slice:
            fresh = opened.is_own and first > 0
            return submission.insert_slice(connection, opened.id, first, part, fresh=fresh)

        with _refused_in_our_words():
            for _ in range(_COLLISION_TRIES - 1):
                try:
                    written = self._store.write(work)
                    break
                except IntegrityError:
                    # Another submitter of the same batch was faster: it is no longer ours alone, and we look first.
                    opened.is_own = False
            else:
                written = self._store.write(work)
        opened.added += written.added
        return written.chunks

    def _read_page(self, batch_id: str) -> list[Chunk]:
        def work(connection: Connection) -> list[Chunk]:
            page = submission.unpublished(connection, batch_id, _PAGE)
            if page:
                submission.see_producer(connection, batch_id)
            return page

        return self._store.write(work)


def _check_on_cap(options: BatchOptions) -> str | None:
    if options.on_cap is None:
        return None
    if options.max_cost is None:
        raise InvalidTask("says what happens at a cap, and there is none: give max_cost too", field="on_cap")
    return checks.choice(options.on_cap, "on_cap", WHEN_REACHED)


def _placed(tasks: Iterable[Task[Any]]) -> Iterator[Task[Any]]:
    """The tasks, where one that is refused while a generator makes it says which one it was."""
    position = 0
    try:
        for task in tasks:
            yield task
            position += 1
    except InvalidTask as error:
        raise (error.at(position) if error.position is None else error) from None


@contextmanager
def _refused_in_our_words() -> Iterator[None]:
    """The driver's words quote the row that the store refuses, and so does a traceback that shows their exception."""
    try:
        yield
    except IntegrityError as error:
        hide_rows(error)
        raise StoreError(
            f"the store refused rows of this batch ({type(error.orig).__name__}): submit it again with the same key"
        ) from None
    except DBAPIError as error:
        hide_rows(error)  # a caller's own engine does not
        raise


def _chained(
    first: list[NewTask], second: list[NewTask] | None, rest: Iterator[list[NewTask]]
) -> Iterator[list[NewTask]]:
    if first:
        yield first
    if second is not None:
        yield second
    yield from rest
