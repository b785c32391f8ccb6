"""What `tierq failures` and `tierq retry` say: causes of failure with an example each, and what is queued again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from tierq_console.summary import shortened
from tierq_shared.ids import prefix
from tierq_shared.store.dead_letters import Attempt, FailureGroup, Failures, Retried
from tierq_shared.store.reading import Progress


def causes(found: Failures, progress: Progress) -> list[RenderableType]:
    """For people: each cause with its example and all of that one's attempts, then what can be done."""
    if not found.total:
        return [f"no task of batch {found.batch_id} has failed"]
    of = f"{found.total:,} of {progress.total or 0:,} tasks failed"
    lines: list[RenderableType] = [Text(f"batch {found.batch_id} · {progress.label or 'no label'} · {of}"), ""]
    for group in found.groups:
        lines += _cause(group)
    if found.further_tasks:
        lines += [f"and {found.further_tasks:,} more, of {found.further_groups:,} other causes: see --limit", ""]
    return [*lines, *_next_steps(found)]


def sent_again(done: Retried) -> Iterator[str]:
    """For people: what is queued again, and what is not and why."""
    if done.total:
        queued = "1 task is" if done.total == 1 else f"{done.total:,} tasks are"
        yield f"{queued} queued again: {_listed(done.queued)} · batch {done.batch_id}"
    else:
        yield f"no task of batch {done.batch_id} is queued again"
    if done.past_deadline:
        yield f"  past the deadline, and left as failed: {_listed(done.past_deadline)}"
    if done.erased:
        yield f"  erased since, in their inputs or their calls, and left as failed: {_listed(done.erased)}"
    for code, count in done.left_out.items():
        yield f"  left out: {count:,} × {code}; {_send(done.batch_id, code)}"


def _cause(group: FailureGroup) -> Iterator[RenderableType]:
    example = group.example
    verdict = "may succeed another time" if group.retryable else "would most likely fail again"
    yield Text.assemble((f"{group.tasks:,} × {group.code}", "bold"), f" · {verdict}")
    name = f"{example.key} (task {example.task_id})" if example.key is not None else f"task {example.task_id}"
    yield Padding(Text(f"such as {name}, on {example.tier}: {shortened(example.message)}"), (0, 0, 0, 2), expand=False)
    calls = _ledger(example.attempts) if example.attempts else Text("the ledger has no call of it")
    yield Padding(calls, (0, 0, 1, 4), expand=False)


def _ledger(attempts: Iterable[Attempt]) -> Table:
    names = [Column(name, no_wrap=True) for name in ("tier", "deployment", "outcome")]
    number, status = (Column(name, justify="right", no_wrap=True) for name in ("#", "HTTP"))
    table = Table(number, *names, status, "message", box=None, pad_edge=False)
    for one in attempts:
        words = (one.tier, one.deployment, one.outcome, str(one.http_status or "–"), shortened(one.error or ""))
        # As Text: a provider's brackets are not rich's markup.
        table.add_row(str(one.ordinal), *[Text(word) for word in words])
    return table


def _next_steps(found: Failures) -> Iterator[str]:
    if any(group.retryable for group in found.groups):
        yield f"`tierq retry {prefix(found.batch_id)}` sends those again that may succeed another time"
    for code in dict.fromkeys(group.code for group in found.groups if not group.retryable):
        yield _send(found.batch_id, code)


def _send(batch_id: str, code: str) -> str:
    return f"`tierq retry {prefix(batch_id)} --code {code}` sends those with {code} again"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} × {code}" for code, count in counts.items())
