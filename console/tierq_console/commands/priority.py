"""`tierq priority`: lets a batch go before others, or behind them."""

from __future__ import annotations

from functools import partial
from typing import get_args

import click

from tierq_console.batches import find_batch
from tierq_console.steering import change, steered_store
from tierq_shared.errors import InvalidInput
from tierq_shared.options import PRIORITY_BY_URGENCY, Urgency
from tierq_shared.queues import MAX_PRIORITY
from tierq_shared.store import controls


@click.command("priority")
@click.argument("batch")
@click.argument("priority", metavar="0-9|URGENCY")
def command(batch: str, priority: str) -> None:
    """Give BATCH another priority, from 0 (last) to 9 (first), or that of an urgency, on every host within two seconds.

    What is under way is not broken off, and what its tasks may cost or wait for does not change.

    \b
      tierq priority 0198f3a2 relaxed        behind the others
      tierq priority 0198f3a2 8
    """
    wanted = _priority(priority)
    with steered_store() as (_, store):
        batch_id = find_batch(store, batch)
        set_priority = partial(controls.prioritise, batch_id=batch_id, priority=wanted)
        change(store, "priority", controls.batch_scope(batch_id), set_priority, {"priority": wanted})
        while store.write(partial(controls.prioritise_tasks, batch_id=batch_id, priority=wanted)):
            pass
    click.echo(f"batch {batch_id} has priority {wanted} from now on")


def _priority(value: str) -> int:
    if value in get_args(Urgency):
        return PRIORITY_BY_URGENCY[value]  # type: ignore[index] # mypy does not narrow by get_args
    if value.isdigit() and int(value) <= MAX_PRIORITY:
        return int(value)
    raise InvalidInput(f"{value!r} is no priority: write 0 (last) to {MAX_PRIORITY} (first), or {_urgencies()}")


def _urgencies() -> str:
    return ", ".join(f"{name} ({priority})" for name, priority in PRIORITY_BY_URGENCY.items())
