"""The database's clock, moved by hand: an hour of sweeps takes as long as the sweeps do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, event

from tierq_shared.store.connection import Store

_SCHEMA = "simulated_clock"

# The statements of the product call clock_timestamp(), which is looked up along the search path: ours comes first.
# Its text is inlined, so that it costs no more than the real one.
_POSTGRES = (
    f"CREATE SCHEMA IF NOT EXISTS {_SCHEMA}",
    f"""
    CREATE OR REPLACE FUNCTION {_SCHEMA}.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
    AS $$ SELECT current_setting('simulated_clock.now')::timestamptz $$
    """,
)


class SimulatedClock:
    """What every statement of one store reads as the time, from its next transaction on."""

    def __init__(self, store: Store) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        if store.is_sqlite:
            event.listen(store.engine, "connect", self._shadow_strftime)
        else:
            with store.engine.begin() as connection:
                for statement in _POSTGRES:
                    connection.exec_driver_sql(statement)
            event.listen(store.engine, "connect", _look_here_first)
            event.listen(store.engine, "begin", self._tell)
        store.engine.dispose()  # connections that are open already know nothing of it

    def advance(self, seconds: float) -> None:
        self.now = self.after(seconds)

    def after(self, seconds: float) -> datetime:
        return self.now + timedelta(seconds=seconds)

    def _shadow_strftime(self, connection: Any, _record: Any) -> None:
        connection.create_function("strftime", -1, self._strftime)

    def _strftime(self, format_: str, base: str, offset: str) -> str:
        assert (format_, base) == ("%Y-%m-%d %H:%M:%f000", "now"), "the store asks for the time in another way"
        at = self.after(float(offset.removesuffix(" seconds")))
        return at.strftime("%Y-%m-%d %H:%M:%S.") + f"{at.microsecond // 1000:03}000"

    def _tell(self, connection: Connection) -> None:
        connection.exec_driver_sql(f"SET simulated_clock.now = '{self.now.isoformat()}'")


def _look_here_first(connection: Any, _record: Any) -> None:
    connection.execute(f"SET search_path = {_SCHEMA}, pg_catalog, public")
    connection.commit()
