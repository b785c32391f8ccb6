"""The statements that erase private texts: by retention, by hand, and for whoever asks to be forgotten."""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import partial

from sqlalchemy import Connection, select, update

from tierq_shared.ids import new_id
from tierq_shared.store import forgetting, purging, rekeying, retention
from tierq_shared.store.erasing import LAST_ID, window_end
from tierq_shared.store.forgetting import Subject
from tierq_shared.store.sealed import Cipher, Sealed
from tierq_shared.store.submission import database_now
from tierq_shared.store.tables import batches, evidence, metadata, payloads, tasks


def _keep(connection: Connection, kind: str) -> None:
    """A slice of a pass in full swing: how far it may go by the age of ids is left out."""
    kept, at = retention._KINDS[kind], database_now(connection)
    assert not retention.erase_slice(connection, kind, 3_600.0), "what is filled in is younger than that"
    last = window_end(connection, kept.ids, "", LAST_ID)
    assert last is not None
    rows = connection.execute(retention._rows(kept, "", last)).all()
    held = retention._hold_ended(connection, sorted({row.task_id for row in rows}), at)
    assert held
    kept.erase(connection, held)


def _purge(connection: Connection) -> None:
    last = window_end(connection, payloads.c.task_id, "", LAST_ID)
    assert last is not None
    assert purging._erase_slice(connection, database_now(connection), "", last).tasks


def _forget(connection: Connection) -> None:
    """By key and by tag, in a window of each table; and a slice of what would be found."""
    tag = ("customer", "42")
    for ids, find in (
        (batches.c.id, partial(forgetting._by_key, key="key 5")),
        (batches.c.id, partial(forgetting._batches_by_tag, tag=tag)),
        (tasks.c.id, partial(forgetting._by_tag, tag=tag)),
    ):
        find(connection, after="", last=window_end(connection, ids, "", LAST_ID) or LAST_ID)
    forgetting._by_sample(connection, "key 5", "", new_id())
    window_end(connection, evidence.c.id, "", LAST_ID)
    some = list(connection.execute(select(tasks.c.id).order_by(tasks.c.id).limit(500)).scalars())
    connection.execute(update(tasks).where(tasks.c.id.in_(some[:1])).values(state="queued"))
    assert forgetting._forget(connection, some, Subject.of(key="key 5")).tasks == len(some)


def _rekey(connection: Connection) -> None:
    keys = Cipher([base64.urlsafe_b64encode(bytes(32)).decode()])
    for table in metadata.sorted_tables:
        private = [column for column in table.columns if isinstance(column.type, Sealed)]
        if private:
            rekeying._rekey_slice(connection, keys, table, private, "")


ERASURES: dict[str, Callable[[Connection], object]] = {
    "retention: inputs": partial(_keep, kind="input"),
    "retention: outputs": partial(_keep, kind="output"),
    "retention: attempts": partial(_keep, kind="attempts"),
    "purge": _purge,
    "forget": _forget,
    "rekey": _rekey,
}
