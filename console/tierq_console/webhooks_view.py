"""What `tierq webhooks` says: deliveries as a table, or as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from rich.table import Column, Table
from rich.text import Text

from tierq_console.summary import shortened
from tierq_shared.store.webhooks import Delivery


def deliveries_table(found: Sequence[Delivery]) -> Table:
    """For people, the newest first."""
    names = [Column(name, overflow="fold") for name in ("id", "event", "endpoint", "state")]
    table = Table(*names, Column("tries", justify="right"), "HTTP", "next try", "what came back", box=None)
    table.pad_edge = False
    for one in found:
        status = str(one.http_status or "–")
        words = (one.id, one.event, one.endpoint, one.state, str(one.tries), status, _time(one.next_at))
        table.add_row(*[Text(word) for word in (*words, shortened(one.error or ""))])
    return table


def delivery_json(one: Delivery) -> dict[str, Any]:
    times = {name: getattr(one, name) for name in ("created_at", "next_at", "ended_at")}
    return {**asdict(one), **{name: at.isoformat() if at else None for name, at in times.items()}}


def _time(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}" if at else "–"
