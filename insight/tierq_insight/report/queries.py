"""What a report asks the store: a few passes over calls and tasks, each adding up in the database."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    Select,
    Text,
    and_,
    case,
    exists,
    func,
    or_,
    select,
    type_coerce,
    union_all,
)

from tierq_insight.report.figures import (
    CacheUse,
    Cell,
    Concentration,
    DearPart,
    Judged,
    Latency,
    Move,
    Sums,
    TaskGroup,
    dearest_first,
)
from tierq_insight.report.grouping import Keys, grouped
from tierq_insight.report.scope import Scope
from tierq_shared.cascade import SECOND_OPINIONS
from tierq_shared.outcomes import AttemptOutcome
from tierq_shared.store.tables import attempts, batches, evidence, specs, tasks

UNITS = {"minute": 16, "hour": 13, "day": 10, "month": 7}
"""What time is counted in, with the digits of `2026-11-24 13:05` that name one."""

BAGS = 4_096
"""As many as the last three digits of an id can say."""

DEAREST_PERCENT = 5

_MOST_JUDGED = 20_000

_COARSE_FROM_MS = 10_000
_COARSE_MS = 100

_SUCCEEDED = attempts.c.outcome == AttemptOutcome.SUCCEEDED.value

_OWN = attempts.c.lane.not_in(sorted(SECOND_OPINIONS))
"""Calls for the task itself, and not for how sure its answer is."""

_ANSWERED = and_(_SUCCEEDED, _OWN)


def span(connection: Connection, scope: Scope) -> tuple[datetime | None, datetime | None]:
    """When the first and the last call began."""
    began = attempts.c.started_at
    row = connection.execute(select(func.min(began), func.max(began)).where(*scope.calls())).one()
    return row[0], row[1]


def cells(connection: Connection, scope: Scope, unit: str) -> list[Cell]:
    """All calls, added up by all that they are split by."""
    keys: Keys = {
        "time": _time(connection, unit),
        **{name: attempts.c[name] for name in ("tier", "deployment", "model", "outcome")},
        "type": tasks.c.type,
        "purpose": _purpose(),
    }
    source = attempts.join(tasks, tasks.c.id == attempts.c.task_id)
    found = grouped(connection, keys, _sums(), source, scope.joined_calls())
    return [
        Cell(
            time=_named(row.time, unit),
            tier=row.tier,
            deployment=row.deployment,
            model=row.model,
            outcome=row.outcome,
            type=row.type,
            purpose=row.purpose,
            sums=_summed(row),
        )
        for row in sorted(found, key=tuple)
    ]


def by_tag(connection: Connection, scope: Scope, name: str) -> list[tuple[str, Sums]]:
    """All calls, added up by the value of a tag: the task's own, else its batch's; `–` where neither has it."""
    keys: Keys = {"own": func.coalesce(tasks.c.tags, ""), "shared": func.coalesce(batches.c.tags, "")}
    source = attempts.join(tasks, tasks.c.id == attempts.c.task_id).join(batches, batches.c.id == tasks.c.batch_id)
    found: dict[str, Sums] = {}
    for row in grouped(connection, keys, _sums(), source, scope.joined_calls()):
        value = _tags(row.own).get(name, _tags(row.shared).get(name, NO_TAG))
        found[value] = found.get(value, Sums()) + _summed(row)
    return [(line.name, line.sums) for line in dearest_first(found.items())]


NO_TAG = "–"


def latencies(connection: Connection, scope: Scope) -> list[Latency]:
    """Percentiles of the answers' latencies by model, the slowest at the median first."""
    latency = attempts.c.latency_ms
    # As many groups as there are different latencies: a few thousand.
    counted = case((latency < _COARSE_FROM_MS, latency), else_=latency - latency % _COARSE_MS)
    conditions = [*scope.calls(), _SUCCEEDED, latency.is_not(None)]
    counts: dict[str, Counter[int]] = {}
    for row in grouped(connection, {"model": attempts.c.model, "ms": counted}, {}, attempts, conditions):
        counts.setdefault(row.model, Counter())[row.ms] += row.rows
    found = [Latency(model, counts[model].total(), *_percentiles(counts[model])) for model in sorted(counts)]
    return sorted(found, key=lambda one: -one.p50_ms)


def moves(connection: Connection, scope: Scope) -> list[Move]:
    """Every call that was not a task's first, by where it came from and why; the most frequent first."""
    before = attempts.alias("earlier")
    kind = case(
        (attempts.c.tier != before.c.tier, "escalation"),
        (attempts.c.deployment != before.c.deployment, "failover"),
        (attempts.c.lane == "reask", "reask"),
        else_="retry",
    )
    columns = (kind, before.c.tier, before.c.deployment, attempts.c.tier, attempts.c.deployment, before.c.outcome)
    source = attempts.join(
        before, and_(before.c.task_id == attempts.c.task_id, before.c.ordinal == attempts.c.ordinal - 1)
    )
    keys: Keys = {f"key_{number}": one for number, one in enumerate(columns)}
    found = grouped(connection, keys, {}, source, [*scope.calls(), attempts.c.ordinal > 1, _OWN])
    return sorted((Move(*row) for row in found), key=lambda move: (-move.calls, move.kind, move.from_deployment))


def task_groups(connection: Connection, scope: Scope) -> list[TaskGroup]:
    """Tasks by type, tier, state, and whether they were answered by the cache or were there to measure quality."""
    measures = or_(tasks.c.shadow_of.is_not(None), tasks.c.id.in_(_evaluated()))
    keys: Keys = {
        "type": tasks.c.type,
        "tier": tasks.c.tier,
        "state": tasks.c.state,
        "is_cached": case((tasks.c.cached_from.is_not(None), 1), else_=0),
        "is_measuring": case((measures, 1), else_=0),
    }
    sums = {"charged": case((and_(*_CHARGED), 1), else_=0), "cost_nusd": case((and_(*_CHARGED), tasks.c.cost_nusd))}
    groups = (
        TaskGroup(
            r.type, r.tier, r.state, bool(r.is_cached), bool(r.is_measuring), r.rows, int(r.charged), int(r.cost_nusd)
        )
        for r in grouped(connection, keys, sums, tasks, scope.tasks())
    )
    return sorted(groups, key=lambda one: (one.type, one.tier, one.state, one.is_cached, one.is_measuring))


_CHARGED = (tasks.c.cost_nusd.is_not(None), tasks.c.attempts > 0)
"""Tasks that had a call, and whose cost is known."""


def concentration(connection: Connection, scope: Scope, groups: Sequence[TaskGroup]) -> Concentration:
    """The dearest of the tasks that had a call, and their part of the cost of all of these."""
    count, total = sum(group.charged for group in groups), sum(group.cost_nusd for group in groups)
    dearest = -(-count * DEAREST_PERCENT // 100)
    parts = _dearest(connection, [*scope.tasks(), *_CHARGED], dearest) if dearest else []
    return Concentration(count, total, dearest, sum(part.cost_nusd for part in parts), parts)


def _dearest(connection: Connection, conditions: Sequence[ColumnElement[bool]], count: int) -> list[DearPart]:
    wanted = (tasks.c.type, tasks.c.spec_id, tasks.c.tier, tasks.c.cost_nusd)
    # By id where costs are the same, so that the same ledger makes the same report.
    top = select(*wanted).where(*conditions).order_by(tasks.c.cost_nusd.desc(), tasks.c.id).limit(count).subquery()
    groups = (
        select(top.c.type, top.c.spec_id, top.c.tier, func.count().label("tasks"), func.sum(top.c.cost_nusd).label("c"))
        .group_by(top.c.type, top.c.spec_id, top.c.tier)
        .subquery()
    )
    named = select(groups, specs.c.name).outerjoin(specs, specs.c.id == groups.c.spec_id)
    found: dict[tuple[str, str, str], list[int]] = {}
    for row in connection.execute(named):
        both = found.setdefault((row.type, row.name or row.type, row.tier), [0, 0])
        both[0] += row.tasks
        both[1] += int(row.c)
    parts = [DearPart(*key, *both) for key, both in found.items()]
    return sorted(parts, key=lambda part: (-part.cost_nusd, part.name, part.tier))


def cache_use(connection: Connection, scope: Scope, groups: Sequence[TaskGroup]) -> CacheUse:
    """Tasks that were given a stored answer, and what those answers had cost."""
    if not any(group.is_cached for group in groups):
        return CacheUse(0, 0, 0)
    source = tasks.alias("source")
    joined = tasks.outerjoin(source, source.c.id == tasks.c.cached_from)
    columns = (func.count(), func.coalesce(func.sum(source.c.cost_nusd), 0), func.count(source.c.cost_nusd))
    statement = select(*columns).select_from(joined).where(*scope.tasks(), tasks.c.cached_from.is_not(None))
    hits, spared, priced = connection.execute(statement).one()
    return CacheUse(hits, int(spared), hits - priced)


def judged(connection: Connection) -> list[Judged]:
    """How good deployments were found to be, by the latest of what is known: evidence grows as tasks do."""
    latest = select(evidence.c.deployment, evidence.c.score).order_by(evidence.c.id.desc()).limit(_MOST_JUDGED)
    found = latest.subquery()
    statement = select(found.c.deployment, func.count(), func.avg(found.c.score)).group_by(found.c.deployment)
    return [
        Judged(name, count, float(score)) for name, count, score in sorted(map(tuple, connection.execute(statement)))
    ]


def bags(connection: Connection, scope: Scope) -> dict[str, Sums]:
    """Tasks in bags by the last digits of their ids, which are random: what their calls cost, and what was answered.

    ``answers``, ``input_tokens`` and ``output_tokens`` are those of the one call a task that gave its answer: the last
    that succeeded. Of shadows and evaluations only the cost counts.
    """
    found = {
        row.bag: _summed(row)
        for row in grouped(connection, {"bag": _bag()}, _sums(of_answers=True), attempts, scope.calls())
    }
    measuring = attempts.c.task_id.in_(_measuring(scope))
    # Few, and found by themselves: to ask each call of the first pass about them took twice as long.
    for spare in (measuring, and_(~measuring, *_answered_again(scope))):
        conditions = [*scope.calls(), _ANSWERED, spare]
        sums = {name: attempts.c[name] for name in ("input_tokens", "output_tokens")}
        for row in grouped(connection, {"bag": _bag()}, sums, attempts, conditions):
            less = Sums(answers=-row.rows, input_tokens=-int(row.input_tokens), output_tokens=-int(row.output_tokens))
            found[row.bag] = found.get(row.bag, Sums()) + less
    return found


def _answered_again(scope: Scope) -> list[ColumnElement[bool]]:
    """Answers after which another call of the same task succeeded too: they were not kept, or came too late."""
    later, further = attempts.alias("later"), attempts.alias("further")
    succeeded = AttemptOutcome.SUCCEEDED.value
    # There are few of these, and the index by task leads from them to the others.
    of_batch = Scope(scope.batch_id).calls(further)
    some = select(further.c.task_id).where(*of_batch, further.c.ordinal > 1, further.c.outcome == succeeded)
    after = exists().where(
        later.c.task_id == attempts.c.task_id,
        later.c.ordinal > attempts.c.ordinal,
        later.c.outcome == succeeded,
        later.c.lane.not_in(sorted(SECOND_OPINIONS)),
    )
    return [attempts.c.task_id.in_(some), after]


def _measuring(scope: Scope) -> CompoundSelect[Any]:
    """Tasks that repeat others or run samples, to see how good answers are."""
    of_batch = [] if scope.batch_id is None else [tasks.c.batch_id == scope.batch_id]
    shadows = select(tasks.c.id).where(*of_batch, tasks.c.shadow_of.is_not(None))
    return union_all(shadows, _evaluated())


def _evaluated() -> Select[Any]:
    return select(evidence.c.task_id).where(evidence.c.evaluation_id.is_not(None))


def _bag() -> ColumnElement[str]:
    return func.substr(attempts.c.task_id, 30, 3, type_=Text)


def _purpose() -> ColumnElement[str]:
    is_evaluated = tasks.c.id.in_(_evaluated())
    return case((tasks.c.shadow_of.is_not(None), "shadow"), (is_evaluated, "evaluation"), else_="work")


def _sums(*, of_answers: bool = False) -> Mapping[str, ColumnElement[Any]]:
    """What is added up over calls; the tokens are those of all of them, or of the answers alone."""
    tokens: dict[str, ColumnElement[Any]] = {name: attempts.c[name] for name in ("input_tokens", "output_tokens")}
    if of_answers:
        tokens = {name: case((_ANSWERED, column)) for name, column in tokens.items()}
    return {
        "answers": case((_ANSWERED, 1), else_=0),
        "cost_nusd": attempts.c.cost_nusd,
        "unpriced": _unpriced(),
        **tokens,
    }


def _unpriced() -> ColumnElement[int]:
    is_over = attempts.c.outcome != AttemptOutcome.STARTED.value
    return case((and_(attempts.c.cost_nusd.is_(None), is_over), 1), else_=0)


def _summed(row: Any) -> Sums:
    # PostgreSQL's sums of big integers are decimals.
    sums = (row.answers, row.cost_nusd, row.unpriced, row.input_tokens, row.output_tokens)
    return Sums(row.rows, *map(int, sums))


def _time(connection: Connection, unit: str) -> ColumnElement[Any]:
    began = attempts.c.started_at
    if connection.dialect.name == "sqlite":
        return func.substr(type_coerce(began, Text), 1, UNITS[unit], type_=Text)
    return func.date_trunc(unit, began, "UTC", type_=began.type)


def _named(time: str | datetime, unit: str) -> str:
    return time if isinstance(time, str) else f"{time.astimezone(UTC):%Y-%m-%d %H:%M}"[: UNITS[unit]]


def _tags(document: str) -> dict[str, str]:
    return dict(json.loads(document)) if document else {}


def _percentiles(counts: Counter[int]) -> tuple[int, int, int]:
    """p50, p95 and p99 by nearest rank: the smallest value that at least this share of the values does not exceed."""
    total = counts.total()
    ranks = [-(-percent * total // 100) for percent in (50, 95, 99)]
    found: list[int] = []
    passed = 0
    for value in sorted(counts):
        passed += counts[value]
        while len(found) < len(ranks) and passed >= ranks[len(found)]:
            found.append(value)
    return found[0], found[1], found[2]
