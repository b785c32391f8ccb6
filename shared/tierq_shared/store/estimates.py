"""What the latest calls took, added up for estimates: one aggregate over a bounded part of the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, Float, Integer, Select, case, cast, func, literal, null, select, text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from tierq_shared.cascade import SECOND_OPINIONS
from tierq_shared.policy import BYTES_PER_TOKEN
from tierq_shared.specs import SpecBody
from tierq_shared.store.tables import attempts, decisions, specs, tasks

RECENT_CALLS = 20_000
"""The latest calls that estimates are learned from: some 0.2 s to read, and enough for an error of 1 % of a mean that
scatters by 100 %, twice over. By number and not by time: what is quoted is mostly what ran last."""

RECENT_SPECS = 500
"""Specs whose content is read for it, those with the most calls: each has to be rendered once."""


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over calls that are alike. The squares and products are for variances."""

    calls: float = 0.0
    """All that have ended and were sent."""
    first_calls: float = 0.0
    """A task's first call of all."""
    succeeded: float = 0.0
    answered: float = 0.0
    """Those whose tokens are known; all that follows from ``prompt`` to ``written`` is of these."""
    reasks: float = 0.0
    prompt: float = 0.0
    """Bytes of inputs, as decisions measure them; `framed` adds those of the constant part."""
    prompt_squared: float = 0.0
    tokens: float = 0.0
    tokens_squared: float = 0.0
    prompt_by_tokens: float = 0.0
    output: float = 0.0
    output_squared: float = 0.0
    cached: float = 0.0
    written: float = 0.0
    answered_cost: float = 0.0
    """Nano-USD."""
    unknown_cost: float = 0.0
    """Nano-USD that calls of unknown outcome stay charged at."""
    latency: float = 0.0
    """Milliseconds of those that succeeded."""
    latency_squared: float = 0.0

    def __add__(self, other: Sums) -> Sums:
        return Sums(*(getattr(self, name) + getattr(other, name) for name in _NAMES))

    def framed(self, constant: float) -> Sums:
        """The same with a constant part of so many bytes before every input."""
        values = {name: getattr(self, name) for name in _NAMES}
        values["prompt"] += constant * self.answered
        values["prompt_squared"] += 2 * constant * self.prompt + constant**2 * self.answered
        values["prompt_by_tokens"] += constant * self.tokens
        return Sums(**values)


_NAMES = tuple(field.name for field in fields(Sums))


@dataclass(frozen=True, slots=True)
class CallGroup:
    """Calls of one spec to one deployment on one tier."""

    spec_id: str
    tier: str
    deployment: str
    came_from: str | None
    """The tier of the task's call before, where that was another: it escalated."""
    sums: Sums


def recent_calls(connection: Connection, limit: int = RECENT_CALLS) -> list[CallGroup]:
    """The latest calls, by what they were for. Inputs and outputs are not read: their lengths stand elsewhere."""
    if connection.dialect.name == "postgresql":
        # Compiling 40 expressions took 1 to 2.5 s; running them over these few rows takes 0.3.
        connection.execute(text("SET LOCAL jit = off"))
    rows = connection.execute(_grouped(limit)).all()
    return [
        CallGroup(
            row.spec_id, row.tier, row.deployment, row.came_from, Sums(*(float(row[4 + at] or 0) for at in _PLACES))
        )
        for row in rows
    ]


_PLACES = range(len(_NAMES))


def spec_bodies(connection: Connection, spec_ids: Sequence[str]) -> list[SpecBody]:
    """The contents of specs."""
    rows = connection.execute(select(specs.c.content).where(specs.c.id.in_(spec_ids))).scalars()
    return [SpecBody.from_json(content) for content in rows]


class _InputTokens(FunctionElement[int]):
    """The size of an input out of a decision's signals."""

    name = "tierq_input_tokens"
    type = Integer()
    inherit_cache = True


@compiles(_InputTokens, "sqlite")
def _sqlite_input_tokens(element: _InputTokens, compiler: Any, **options: Any) -> str:
    return f"json_extract({compiler.process(element.clauses, **options)}, '$.input_tokens')"


@compiles(_InputTokens, "postgresql")
def _postgresql_input_tokens(element: _InputTokens, compiler: Any, **options: Any) -> str:
    return f"CAST(CAST({compiler.process(element.clauses, **options)} AS json) ->> 'input_tokens' AS integer)"


def _grouped(limit: int) -> Select[Any]:
    call = _described(limit)
    answered = (call.c.input_tokens > 0) & call.c.size.is_not(None)
    unknown, succeeded = call.c.outcome == "unknown", call.c.outcome == "succeeded"
    size, tokens, output = call.c.size, cast(call.c.input_tokens, Float), cast(call.c.output_tokens, Float)
    latency = cast(call.c.latency_ms, Float)
    sums = {
        "calls": _sum(literal(1.0)),
        "first_calls": _sum(literal(1.0), call.c.ordinal == 1),
        "succeeded": _sum(literal(1.0), succeeded),
        "answered": _sum(literal(1.0), answered),
        "reasks": _sum(literal(1.0), answered & (call.c.lane == "reask")),
        "prompt": _sum(size, answered),
        "prompt_squared": _sum(size * size, answered),
        "tokens": _sum(tokens, answered),
        "tokens_squared": _sum(tokens * tokens, answered),
        "prompt_by_tokens": _sum(size * tokens, answered),
        "output": _sum(output, answered),
        "output_squared": _sum(output * output, answered),
        "cached": _sum(call.c.cached_tokens, answered),
        "written": _sum(call.c.cache_write_tokens, answered),
        "answered_cost": _sum(call.c.cost_nusd, answered),
        "unknown_cost": _sum(call.c.cost_nusd, unknown),
        "latency": _sum(latency, succeeded),
        "latency_squared": _sum(latency * latency, succeeded),
    }
    by = (call.c.spec_id, call.c.tier, call.c.deployment, call.c.came_from)
    return select(*by, *(sums[name].label(name) for name in _NAMES)).group_by(*by)


_READ = (
    *("id", "task_id", "ordinal", "tier", "deployment", "lane", "outcome", "latency_ms", "cost_nusd"),
    *("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens"),
)


def _sum(value: ColumnElement[Any], where: ColumnElement[bool] | None = None) -> ColumnElement[Any]:
    return func.sum(cast(value if where is None else case((where, value)), Float))


def _described(limit: int) -> Any:
    """The latest calls that served tasks, each with its spec, the size of its input, and the tier it escalated from.

    By scalar sub-selects, not joins: they are index look-ups on both stores whatever a planner thinks of the sizes.
    Materialized: folded into the sums, each look-up would be made anew for every sum that names it.
    """
    ended = attempts.c.outcome.not_in(("started", "cancelled"))
    # What measures how sure an answer is serves no task, and a verdict is as long as no answer is.
    serves = attempts.c.lane.not_in(SECOND_OPINIONS)
    recent = (
        select(*(attempts.c[name] for name in _READ))
        .where(ended, serves)
        .order_by(attempts.c.id.desc())
        .limit(limit)
        .subquery("recent")
    )
    spec_id = select(tasks.c.spec_id).where(tasks.c.id == recent.c.task_id).scalar_subquery()
    # An escalation adds a decision, whose signals need not say the size again.
    tokens = select(func.max(_InputTokens(decisions.c.signals))).where(decisions.c.task_id == recent.c.task_id)
    before = attempts.alias("before")
    previous = (
        select(before.c.tier)
        .where(
            before.c.task_id == recent.c.task_id,
            before.c.ordinal == recent.c.ordinal - 1,
            before.c.tier != recent.c.tier,
        )
        .limit(1)
        .scalar_subquery()
    )
    return (
        select(
            recent,
            spec_id.label("spec_id"),
            (cast(tokens.scalar_subquery(), Float) * BYTES_PER_TOKEN).label("size"),
            case((recent.c.ordinal > 1, previous), else_=null()).label("came_from"),
        )
        .cte("call")
        .prefix_with("MATERIALIZED")
    )
