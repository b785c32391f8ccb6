"""`tierq forget`: erases what is private about tasks, by key or by tag."""

from __future__ import annotations

import click

from tierq.client import Client, find_settings
from tierq_console.ending import stoppable
from tierq_shared.store.forgetting import Forgotten, Subject


@click.command("forget")
@click.option("--key", metavar="KEY", help="Every task with this key.")
@click.option("--tag", metavar="NAME=VALUE", help="Every task with this tag, its own or its batch's.")
@click.option("--yes", is_flag=True, help="Does not ask.")
def command(key: str | None, tag: str | None, *, yes: bool) -> None:
    """Erase input, output, cached answers and quoted errors of all tasks with a key or a tag, in every batch.

    What has not ended is cancelled. What the tasks cost, and the figures of their calls, stay; a key by which they were
    forgotten goes. It cannot be taken back. Stopped half-way, it goes on when it is typed again.

    \b
      tierq forget --key customer-4711
      tierq forget --tag customer=4711 --yes
    """
    # First: a mistake is told before anybody is asked.
    subject = Subject.of(key, tag)
    if not yes:
        click.confirm(f"Erase what is private about every task with {_named(subject)}, for good?", abort=True, err=True)
    settings = find_settings(None)
    with stoppable("stopped; what was erased is gone, type it again for the rest"), Client(settings=settings) as client:
        done = client.forget(key=key, tag=tag)
    click.echo(_said(done))


def _named(subject: Subject) -> str:
    return f"the key {subject.key!r}" if subject.tag is None else f"the tag {'='.join(subject.tag)}"


def _said(done: Forgotten) -> str:
    if not done.tasks:
        return "nothing was found that is not forgotten already"
    tasks = f"{done.tasks:,} task{'s are' if done.tasks > 1 else ' is'} forgotten"
    return f"{tasks}, {done.cancelled:,} of them cancelled for it; {done.cache_entries:,} cached answers are gone"
