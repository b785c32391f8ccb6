"""A made-up ledger: calls whose tokens follow known figures, as their sums and one by one."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from support.jobs import SETTINGS
from tierq import Classify, Quote, Task
from tierq.intake import Intake
from tierq_shared.money import Usage
from tierq_shared.policy import BYTES_PER_TOKEN, Policy
from tierq_shared.prices import PriceList
from tierq_shared.quoting.cells import Tally, frame_of
from tierq_shared.quoting.history import History
from tierq_shared.quoting.quoter import Quoter
from tierq_shared.settings import Settings
from tierq_shared.specs import SpecBody
from tierq_shared.store.connection import Store
from tierq_shared.store.estimates import CallGroup, Sums

intent = Classify.spec("intent", labels=["billing", "bug", "praise"])


@dataclass(frozen=True)
class Truth:
    """What calls really take."""

    tokens_a_byte: float = 0.31
    answer_tokens: float = 9.0
    reasked: float = 0.0
    escalated: float = 0.0


def usage(truth: Truth, spec: SpecBody, input_tokens: int, chance: random.Random) -> Usage:
    """One call: its tokens scatter around the truth."""
    size = frame_of(spec).constant_bytes + input_tokens * BYTES_PER_TOKEN
    tokens = round(truth.tokens_a_byte * size * chance.gauss(1, 0.08))
    return Usage(input_tokens=tokens, output_tokens=max(1, round(truth.answer_tokens * chance.lognormvariate(0, 0.4))))


def calls(
    truth: Truth, spec: SpecBody, sizes: list[int], chance: random.Random, *, tier: str = "small", name: str = "mini"
) -> list[CallGroup]:
    """What the ledger says when tasks of these sizes (in tokens by the rule of thumb) have run."""
    again = [size for size in sizes if chance.random() < truth.reasked]
    sums = Sums(first_calls=len(sizes), reasks=len(again), succeeded=len(sizes))
    for size in [*sizes, *again]:
        sums += _of_one(usage(truth, spec, size, chance), size * BYTES_PER_TOKEN)
    risen = sum(chance.random() < truth.escalated for _ in sizes)
    above = [CallGroup(spec.id, "large", "pro", tier, Sums(calls=risen, succeeded=risen))] if risen else []
    return [CallGroup(spec.id, tier, name, None, sums), *above]


def _of_one(used: Usage, size: float) -> Sums:
    tokens, output = used.input_tokens, used.output_tokens
    return Sums(
        calls=1,
        answered=1,
        prompt=size,
        prompt_squared=size**2,
        tokens=tokens,
        tokens_squared=tokens**2,
        prompt_by_tokens=size * tokens,
        output=output,
        output_squared=output**2,
        answered_cost=1,
        latency=400,
        latency_squared=400**2,
    )


def tally_of(tasks: Iterable[Task[Any]], settings: Settings = SETTINGS, policy: Policy | None = None) -> Tally:
    intake = Intake(settings, policy or settings.make_policy(), lambda: datetime.now(UTC), None)
    tally = Tally()
    for position, task in enumerate(tasks):
        tally.add(intake.prepare(task, position))
    return tally


class LearnedQuoter(Quoter):
    """Quotes from a history that is given."""

    def __init__(self, history: History, settings: Settings = SETTINGS, store: Store | None = None) -> None:
        super().__init__(settings, store)
        self._given = history

    def _learned(self) -> History:
        return self._given


def quoted(history: History, tasks: Iterable[Task[Any]], settings: Settings = SETTINGS) -> Quote:
    return LearnedQuoter(history, settings).quote(tally_of(tasks, settings))


def really_costs(truth: Truth, sizes: list[int], chance: random.Random, deployment: str = "mini") -> int:
    """What tasks of these sizes come to, call by call."""
    rates = PriceList().rates(SETTINGS.deployments[deployment])
    assert rates is not None
    again = [size for size in sizes if chance.random() < truth.reasked]
    return sum(rates.cost_nusd(usage(truth, intent.content, size, chance)) for size in [*sizes, *again])
