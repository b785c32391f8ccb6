"""Times as options give them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tierq_console.rows import read_deadline
from tierq_shared.errors import InvalidInput, InvalidTask


def read_time(value: str, option: str) -> datetime:
    """A point in time with its zone, or a span back from now such as `7d`.

    Raises:
        InvalidInput: it is neither.
    """
    try:
        read = read_deadline(value)
    except InvalidTask as error:
        raise InvalidInput(f"{option}: {error.reason}") from None
    return datetime.now(UTC) - read if isinstance(read, timedelta) else read
