"""`tierq demo`: the main job on the project's examples, with a provider that goes down half-way."""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from pathlib import Path

import click

from tierq import Batch, Client
from tierq_console import flower_access
from tierq_console.demo.live import LiveView, Snapshot
from tierq_console.demo.report import print_report
from tierq_console.demo.setting import OUTAGE_PROVIDER, prepare
from tierq_console.demo.work import example_tasks, find_examples
from tierq_console.embedded import parts
from tierq_console.entry import OK, SOME_FAILED
from tierq_console.report_known import known_of
from tierq_console.stack import running_record, running_stack, stack_files, wait_until_stopped
from tierq_insight.report import Scope, make_report
from tierq_shared.settings import Settings
from tierq_shared.store import reading
from tierq_shared.store.connection import Store

_LOOK_EVERY_S = 0.25
_OUTAGE_S = 5.0
_GIVE_UP_S = 120.0


@click.command()
@click.option("--flower/--no-flower", default=None, help="Serve Flower meanwhile.  [default: where it is installed]")
def command(*, flower: bool | None) -> None:
    """Run the main job on the project's examples: three tiers, all four task types, and a provider that goes down.

    Nothing is configured and nothing is spent: a simulator answers in the providers' place. Everything of the demo lies
    in .tierq/demo: its tierq.toml, its database, its logs. `tierq status` works in there afterwards, with `tierq up`.

    \b
      tierq demo
    """
    tasks = example_tasks(find_examples())
    wanted = flower_access.is_installed() if flower is None else flower
    settings, simulator = prepare(Path.cwd() / ".tierq" / "demo", parts.free_port(5555))
    with running_stack(settings, notify=click.echo, flower=wanted, simulator=simulator) as running:
        _say_where(running, with_flower=wanted)
        with Client(settings=running) as client, LiveView() as view:
            batch = client.submit_many(tasks, label="demo")
            view.event(f"{len(tasks)} tasks submitted as batch {batch.id}")
            _watch(running, batch, view)
        succeeded = _report(running, batch, view)
    if not wait_until_stopped(settings):
        click.echo("the stack is still stopping; see the logs in .tierq/demo/.tierq")
    sys.exit(OK if succeeded else SOME_FAILED)


def _say_where(settings: Settings, *, with_flower: bool) -> None:
    files = stack_files(settings)
    record = running_record(files)
    click.echo("A simulator answers in the providers' place: what follows is real work on simulated answers.")
    if with_flower and record is not None and record.flower_port:
        password = flower_access.read_password(files)
        click.echo(f"Flower: http://127.0.0.1:{record.flower_port}  user {flower_access.USER}, password {password}")


def _watch(settings: Settings, batch: Batch[object], view: LiveView) -> None:
    """Shows the batch until it is over, and takes a provider down when half of it is done."""
    store = _store(settings)
    until = time.monotonic() + _GIVE_UP_S
    is_down = False
    back_at = float("inf")
    while time.monotonic() < until:
        snapshot = _snapshot(settings, store, batch)
        view.show(snapshot)
        progress = snapshot.progress
        if progress.is_over:
            break
        if not is_down and progress.total and progress.done * 2 >= progress.total:
            _take_down(settings)
            is_down, back_at = True, time.monotonic() + _OUTAGE_S
            view.event(f"{OUTAGE_PROVIDER} goes down for {_OUTAGE_S:g} s: its calls fail over to the next deployment")
        if time.monotonic() > back_at:
            view.event(f"{OUTAGE_PROVIDER} is back")
            back_at = float("inf")
        time.sleep(_LOOK_EVERY_S)
    store.close()


def _snapshot(settings: Settings, store: Store, batch: Batch[object]) -> Snapshot:
    with store.reading() as connection:
        counts = reading.states_by_tier(connection, batch.id)
        progress = reading.progress(connection, batch.id)
    return Snapshot(
        progress,
        waiting={tier: counts.get((tier, "queued"), 0) for tier in settings.tier_names},
        running={tier: counts.get((tier, "running"), 0) for tier in settings.tier_names},
    )


def _take_down(settings: Settings) -> None:
    record = running_record(stack_files(settings))
    port = record.simulator_port if record else None
    body = json.dumps({"provider": OUTAGE_PROVIDER, "kind": "overloaded", "seconds": _OUTAGE_S}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/_sim/outage", data=body, method="POST")
    with urllib.request.urlopen(request, timeout=5):  # noqa: S310  # our own simulator on loopback
        pass


def _report(settings: Settings, batch: Batch[object], view: LiveView) -> bool:
    store = _store(settings)
    report = make_report(store, Scope(batch.id), known_of(settings))
    store.close()
    print_report(view.console, report, settings.tier_names)
    return report.states["succeeded"] == sum(report.states.values())


def _store(settings: Settings) -> Store:
    return Store(settings.database_url.get_secret_value() if settings.database_url else "")
