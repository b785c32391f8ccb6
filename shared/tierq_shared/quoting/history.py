"""What the ledger teaches of calls: of this very spec, of its type, of the deployment; else rules of thumb."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt

from tierq_shared.policy import BYTES_PER_TOKEN
from tierq_shared.quoting.beliefs import Belief, Chance, Sample
from tierq_shared.quoting.cells import Cell, frame_of
from tierq_shared.specs import SpecBody
from tierq_shared.store.connection import Store
from tierq_shared.store.estimates import RECENT_SPECS, CallGroup, Sums, recent_calls, spec_bodies

_TOKENS_A_BYTE = Belief(1 / BYTES_PER_TOKEN, doubt=0.35, scatter=0.15)
"""The rule of thumb for English; other languages, code and the providers' framing take up to twice as many tokens."""

_LATENCY_S = Belief(1.5, doubt=0.8, scatter=0.5)
"""Hosted models answer short tasks in some hundred milliseconds to some seconds."""

_ANSWER_DOUBT, _ANSWER_SCATTER = 0.8, 0.5

_REASKED = Chance(0.01, 10)
_LEFT_FIRST = Chance(0.002, 10)
_ESCALATED = Chance(0.002, 10)
"""Where nothing is known: seldom, with little certainty. Ten calls without any weigh as much."""

_OF_TYPE_WEIGHT = 50.0
"""How many calls of the spec itself outweigh what is known of its type."""


@dataclass(frozen=True, slots=True)
class _Differs:
    """By how much a figure differs between what was seen and what is asked about, relatively.

    Between other types on the deployment, between specs of a type, and between two runs of the same spec. Chosen, so
    that the bands hold in simulations in which batches drift by this much (tests/unit/shared/test_quoting.py).
    """

    deployment: float
    type: float
    spec: float


_IN_RATIO = _Differs(0.25, 0.15, 0.02)
_IN_ANSWERS = _Differs(0.8, 0.5, 0.03)
_IN_LATENCY = _Differs(0.5, 0.4, 0.15)

_Levels = tuple[tuple[Sums | None, float], ...]


@dataclass(frozen=True, slots=True)
class Learned:
    """What is held of calls of one kind to one deployment."""

    tokens_a_byte: Belief
    answer_tokens: Belief
    latency_s: Belief
    reasked: Chance
    cached: float
    """The share of the input that is read from the provider's cache."""
    written: float
    """The share that is written to it."""
    knows_cache: bool
    """Whether the ledger says so of this very kind."""
    unknown: float
    """What calls of unknown outcome are charged, as a share of what the others cost."""
    calls: int
    """Calls of this very kind that it rests on."""


class History:
    """The latest calls, by spec, type, deployment and tier."""

    def __init__(self, groups: Sequence[CallGroup] = (), bodies: Sequence[SpecBody] = ()) -> None:
        self._types = {body.id: body.type for body in bodies}
        frames = {body.id: frame_of(body).constant_bytes for body in bodies}
        self._by_spec: dict[tuple[str, str], Sums] = defaultdict(Sums)
        self._by_type: dict[tuple[str, str], Sums] = defaultdict(Sums)
        self._by_deployment: dict[str, Sums] = defaultdict(Sums)
        self._by_place: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        """Calls that succeeded, by kind and tier, and there by deployment."""
        self._begun: Counter[tuple[str, str]] = Counter()
        self._escalated: Counter[tuple[str, str]] = Counter()
        self.calls = 0
        for group in groups:
            self.calls += int(group.sums.calls)
            if group.spec_id in frames:
                self._count(group, group.sums.framed(frames[group.spec_id]))

    @classmethod
    def read(cls, store: Store) -> History:
        """The history of a store."""
        with store.reading() as connection:
            groups = recent_calls(connection)
            most: Counter[str] = Counter()
            for group in groups:
                most[group.spec_id] += int(group.sums.calls)
            return cls(groups, spec_bodies(connection, [spec_id for spec_id, _ in most.most_common(RECENT_SPECS)]))

    def of(self, cell: Cell, deployment: str) -> Learned:
        """What is held of a cell's calls to a deployment."""
        own = self._by_spec.get((cell.spec_id, deployment)) if cell.spec_id else None
        of_type = self._by_type.get((cell.type, deployment))
        anything = self._by_deployment.get(deployment)
        answers = Belief(max(1.0, cell.answer_tokens / cell.tasks), _ANSWER_DOUBT, _ANSWER_SCATTER)
        latency = _after(_LATENCY_S, _latency, self._levels(anything, of_type, own, _IN_LATENCY))
        nearest = own or of_type or anything or Sums()
        known = own or Sums()
        return Learned(
            tokens_a_byte=_after(_TOKENS_A_BYTE, _ratio, self._levels(anything, of_type, own, _IN_RATIO)),
            answer_tokens=_after(answers, _answer, self._levels(None, of_type, own, _IN_ANSWERS)),
            latency_s=latency,
            reasked=_reasked(of_type, own),
            cached=nearest.cached / nearest.tokens if nearest.tokens else 0.0,
            written=nearest.written / nearest.tokens if nearest.tokens else 0.0,
            knows_cache=known.answered >= 1,
            unknown=anything.unknown_cost / anything.answered_cost if anything and anything.answered_cost else 0.0,
            calls=int(known.answered),
        )

    def left_first(self, cell: Cell, tier: str, first: str) -> Chance:
        """How often such calls of a tier were served by another deployment than the first of their chain.

        Where the policy has an order of its own for them, the ledger does not say: they ran in another one before.
        """
        if cell.order and tier == cell.tier:
            return _LEFT_FIRST
        of_type, own = self._by_place[cell.type, tier], self._by_place[cell.spec_id or "", tier]
        chance = _LEFT_FIRST.after(of_type.total() - of_type[first], of_type.total())
        return chance.after(own.total() - own[first], own.total(), weight=_OF_TYPE_WEIGHT) if own else chance

    def served(self, cell: Cell, tier: str, deployment: str) -> int:
        """How many calls of the type a deployment served on a tier."""
        return self._by_place[cell.type, tier][deployment]

    def escalated(self, cell: Cell) -> Chance:
        """How often such tasks go on to the next tier."""
        of_type = _ESCALATED.after(self._escalated[cell.type, cell.tier], self._begun[cell.type, cell.tier])
        if cell.spec_id is None:
            return of_type
        own = (cell.spec_id, cell.tier)
        return of_type.after(self._escalated[own], self._begun[own], weight=_OF_TYPE_WEIGHT)

    def _count(self, group: CallGroup, sums: Sums) -> None:
        type_ = self._types[group.spec_id]
        self._by_spec[group.spec_id, group.deployment] += sums
        self._by_type[type_, group.deployment] += sums
        self._by_deployment[group.deployment] += sums
        for kind in (group.spec_id, type_):
            self._by_place[kind, group.tier][group.deployment] += int(sums.succeeded)
            self._begun[kind, group.tier] += int(sums.first_calls)
            if group.came_from is not None:
                self._escalated[kind, group.came_from] += int(sums.calls)

    @staticmethod
    def _levels(anything: Sums | None, of_type: Sums | None, own: Sums | None, differs: _Differs) -> _Levels:
        return ((anything, differs.deployment), (of_type, differs.type), (own, differs.spec))


def _after(belief: Belief, sample: Callable[[Sums], Sample | None], levels: _Levels) -> Belief:
    """A rule of thumb with what is known weighed in, from the farthest to the nearest."""
    for sums, differs in levels:
        if sums is not None:
            belief = belief.after(sample(sums), differs)
    return belief


def _ratio(sums: Sums) -> Sample | None:
    """Tokens a byte, and how calls scatter around it: the ratio estimator (Cochran, «Sampling Techniques», 6.4)."""
    if not sums.answered or not sums.prompt or not sums.tokens:
        return None
    ratio = sums.tokens / sums.prompt
    residual = sums.tokens_squared - 2 * ratio * sums.prompt_by_tokens + ratio**2 * sums.prompt_squared
    mean = sums.tokens / sums.answered
    return Sample(sums.answered, ratio, sqrt(max(0.0, residual) / sums.answered) / mean)


def _answer(sums: Sums) -> Sample | None:
    return _sample(sums.answered, sums.output, sums.output_squared)


def _latency(sums: Sums) -> Sample | None:
    """Seconds of calls that succeeded; a call under a millisecond is taken as half of one."""
    found = _sample(sums.succeeded, sums.latency, sums.latency_squared)
    return found and Sample(found.calls, max(found.mean, 0.5) / 1000, found.scatter)


def _sample(count: float, total: float, squared: float) -> Sample | None:
    if not count:
        return None
    mean = total / count
    variance = max(0.0, squared / count - mean**2)
    return Sample(count, mean, sqrt(variance) / mean if mean else 0.0)


def _reasked(of_type: Sums | None, own: Sums | None) -> Chance:
    """Re-asks for each call that was none."""
    chance = _REASKED.after(of_type.reasks, of_type.answered - of_type.reasks) if of_type else _REASKED
    return chance.after(own.reasks, own.answered - own.reasks, weight=_OF_TYPE_WEIGHT) if own else chance
