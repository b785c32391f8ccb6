"""`tierq rekey`: encrypts all private texts with the first key of the environment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Column, Connection, Table, bindparam, or_, select, update

from tierq_shared.errors import ConfigurationError
from tierq_shared.store import actions, sealed
from tierq_shared.store.connection import Store
from tierq_shared.store.erasing import LAST_ID, SLICE, check_tables, scrub_files, window_end
from tierq_shared.store.sealed import Cipher, Sealed
from tierq_shared.store.tables import metadata


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows of a table that are looked at in one transaction."""

    last: str | None
    """The id of the last of them; None where there are no more."""
    changed: int = 0


def rekey(store: Store, tell: Callable[[int], None] = lambda _texts: None) -> int:
    """Encrypts with the first key what is not; how many texts that were. What is encrypted with it stays as it is.

    Stopped half-way, it goes on with what is left when it is run again. ``tell`` hears how many texts are done.

    Raises:
        ConfigurationError: there is no key, or one that cannot be used.
        PayloadLocked: a text is encrypted with a key that is not there. What came before it is done.
        SchemaMismatch: the tables are of an older release.
    """
    keys = sealed.cipher()
    if keys is None:
        raise ConfigurationError(f"{sealed.KEYS_VARIABLE} is not set: `tierq rekey --new` prints a key for it")
    check_tables(store)
    done = 0
    try:
        for changed in _rekeyed(store, keys):
            done += changed
            tell(done)
    finally:
        store.write(lambda connection: actions.record(connection, "rekey", "payloads", {"texts": done}))
    scrub_files(store)
    return done


def _rekeyed(store: Store, keys: Cipher) -> Iterator[int]:
    """Every slice of every table with private texts: how many of its texts were changed."""
    for table in metadata.sorted_tables:
        private = [column for column in table.columns if isinstance(column.type, Sealed)]
        last: str | None = "" if private else None
        while last is not None:
            part = store.write(partial(_rekey_slice, keys=keys, table=table, private=private, after=last))
            yield part.changed
            last = part.last


def _rekey_slice(
    connection: Connection, keys: Cipher, table: Table, private: Sequence[Column[Any]], after: str
) -> _Part:
    (id_,) = table.primary_key.columns
    last = window_end(connection, id_, after, LAST_ID)
    if last is None:
        return _Part(None)
    stored = [sealed.as_stored(column) for column in private]
    some = select(id_.label("row"), *stored).where(id_ > after, id_ <= last)
    some = some.where(or_(*(column.is_not(None) for column in private)))
    rows = connection.execute(some.order_by(id_).limit(SLICE).with_for_update()).mappings().all()
    changed = 0
    for column in private:
        anew = [
            {"row": row["row"], "anew": sealed.unseal(row[column.name])}
            for row in rows
            if row[column.name] is not None and not keys.is_current(row[column.name])
        ]
        if anew:
            connection.execute(update(table).where(id_ == bindparam("row")).values({column: bindparam("anew")}), anew)
        changed += len(anew)
    return _Part(rows[-1]["row"] if len(rows) == SLICE else last, changed)
