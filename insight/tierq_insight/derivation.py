"""Derives a policy from evidence: for each kind and size of task the cheapest tier whose lower bound clears."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Literal

import orjson

from tierq_insight import spending_plan
from tierq_insight.choosing import Choice, Chooser, Order, Place, evidence_of, stay
from tierq_insight.decision_table import PROFILES, Profile, rules_of
from tierq_insight.evidence import BUCKETS, Evidence, bucket
from tierq_insight.spending_plan import Cell, Plan
from tierq_insight.standings import Requirement, Standing, judge, standings
from tierq_shared.options import Stakes
from tierq_shared.policy import PolicyRule, Signals
from tierq_shared.policy_document import DocumentRule, PolicyDocument, RuleEvidence
from tierq_shared.specs import TaskType

HighStakes = Literal["stricter", "tier-up", "same"]
Kind = tuple[TaskType, str]
_BEYOND = 10**9
"""An input size in the open bucket, above any bound of a rule."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of the policy."""

    qualities: Mapping[str, float] = field(default_factory=dict)
    """By type (`classify`) or type and name (`classify/intent`); what is not named is held against the baseline."""
    margin: float = 0.02
    """By how much the lower bound of the difference to the baseline may fall short."""
    min_samples: int = 30
    order: Order = "cost"
    """Of the deployments inside a tier."""
    high_stakes: HighStakes = "stricter"
    """`stricter`: half the errors or half the margin; `tier-up`: the next tier; `same`: no difference."""
    interactive_p95_ms: int | None = None
    """Deployments slower than this come not first for interactive tasks."""
    spend: float | None = None
    """The best quality over all rows together for this share of what the baseline would cost, in place of a bound
    that each row clears by itself."""

    def requirement(self, kind: Kind) -> Requirement:
        quality = self.qualities.get("/".join(kind), self.qualities.get(kind[0]))
        return Requirement(quality, self.margin, self.min_samples)


@dataclass(frozen=True)
class Ground:
    """What is there now: the tiers (cheapest first) with their chains, and the active rules."""

    tiers: Mapping[str, Sequence[str]]
    rules: Sequence[PolicyRule]
    baseline: str | None = None
    """The tier that others are compared with; the last one where None."""

    @property
    def baseline_tier(self) -> str:
        return self.baseline or list(self.tiers)[-1]

    def place(self, signals: Signals) -> Place:
        """Where the active rules send such a task."""
        rule = next((rule for rule in self.rules if rule.matches(signals)), None)
        if rule is None:
            return Place(list(self.tiers)[-1])
        return Place(rule.tier, rule.chain if isinstance(rule, DocumentRule) else None)


def derive(evidence: Iterable[Evidence], ground: Ground, wanted: Wanted, now: datetime) -> PolicyDocument:
    """The policy that the evidence speaks for. Kinds of tasks without evidence keep the active rules.

    Evidence on deployments that are in no tier's chain any more is left out.
    """
    kinds: dict[Kind, list[Evidence]] = defaultdict(list)
    for answer in evidence:
        if answer.deployment in ground.tiers.get(answer.tier, ()):
            kinds[answer.type, answer.name].append(answer)
    plan = _plan(kinds, ground, wanted)
    derived = [_Kind(kind, answers, ground, wanted, plan) for kind, answers in sorted(kinds.items())]
    rules = [rule for one in derived for rule in one.rules()]
    rules += [rule for rule in map(_as_document_rule, ground.rules) if not any(one.covers(rule) for one in derived)]
    return PolicyDocument(
        version=_version(rules, ground, now),
        created_at=now,
        tiers=tuple(ground.tiers),
        note=plan.summary() if plan else None,
        policy=tuple(rules),
    )


def _plan(kinds: Mapping[Kind, Sequence[Evidence]], ground: Ground, wanted: Wanted) -> Plan | None:
    if wanted.spend is None:
        return None
    chooser = Chooser(ground.tiers, ground.baseline_tier)
    cells: dict[Cell, list[Evidence]] = defaultdict(list)
    for (type_, name), answers in kinds.items():
        for answer in answers:
            cells[type_, name, bucket(answer.input_tokens)].append(answer)
    known = {cell: standings(answers) for cell, answers in cells.items()}
    return spending_plan.make(known, chooser, wanted.spend, wanted.min_samples)


class _Kind:
    """The rules for one task type and name."""

    def __init__(
        self, kind: Kind, answers: Sequence[Evidence], ground: Ground, wanted: Wanted, plan: Plan | None
    ) -> None:
        self.type, self.name = kind
        self._ground, self._wanted, self._plan = ground, wanted, plan
        self._requirement = wanted.requirement(kind)
        self._chooser = Chooser(ground.tiers, ground.baseline_tier, wanted.order)
        by_bucket: dict[int | None, list[Evidence]] = defaultdict(list)
        for answer in answers:
            by_bucket[bucket(answer.input_tokens)].append(answer)
        self._known = {bound: standings(found) for bound, found in by_bucket.items()}

    def rules(self) -> Iterator[DocumentRule]:
        columns = {profile: [self._choice(edge, profile) for edge in self._edges] for profile in PROFILES}
        return rules_of(self.type, self.name, self._edges, columns, self._merged)

    def covers(self, rule: PolicyRule) -> bool:
        """Whether the derived rules leave nothing for a rule to decide."""
        if (rule.type, rule.name) != (self.type, self.name):
            return False
        top = self._edges[-1]
        return top is None or (rule.max_input_tokens is not None and rule.max_input_tokens <= top)

    @cached_property
    def _edges(self) -> list[int | None]:
        """The buckets' bounds up to the largest input seen, and those of active rules between them."""
        seen = [bound for bound in self._known if bound is not None]
        is_open = None in self._known
        top = BUCKETS[-1] if is_open else max(seen)
        bounds = {bound for bound in BUCKETS if bound <= top}
        bounds |= {
            rule.max_input_tokens
            for rule in self._ground.rules
            if rule.type in (None, self.type) and rule.name in (None, self.name)
            if rule.max_input_tokens is not None and (is_open or rule.max_input_tokens < top)
        }
        return [*sorted(bounds), *([None] if is_open else [])]

    def _choice(self, edge: int | None, profile: Profile) -> Choice:
        stakes, urgency = profile
        bound = bucket(edge or _BEYOND)
        known = self._known.get(bound, [])
        current = self._ground.place(Signals(self.type, self.name, edge or _BEYOND, stakes, urgency))
        choice = self._by_stakes(known, bound, current, stakes)
        return self._fast_enough(choice, known, current, profile) if urgency == "interactive" else choice

    def _by_stakes(self, known: Sequence[Standing], bound: int | None, current: Place, stakes: Stakes) -> Choice:
        if self._is_stricter(stakes):
            return self._chooser.choose(known, self._requirement_of(stakes), current)
        choice = self._general(known, bound, current)
        return self._tier_up(choice) if stakes == "high" and self._wanted.high_stakes == "tier-up" else choice

    def _general(self, known: Sequence[Standing], bound: int | None, current: Place) -> Choice:
        if self._plan is None:
            return self._chooser.choose(known, self._requirement, current)
        planned = self._plan.choice((self.type, self.name, bound), known)
        samples = max((len(one.scores) for one in known), default=0)
        return planned or stay(current, samples, None, "too little data, or an unknown price")

    def _tier_up(self, choice: Choice) -> Choice:
        tiers = list(self._ground.tiers)
        if choice.is_stay or choice.place.tier == tiers[-1]:
            return choice
        tier = tiers[tiers.index(choice.place.tier) + 1]
        verdict = f"high stakes: one tier above {choice.place.tier}"
        required = choice.evidence.required
        return Choice(Place(tier), RuleEvidence(verdict=verdict, samples=choice.evidence.samples, required=required))

    def _fast_enough(self, choice: Choice, known: Sequence[Standing], current: Place, profile: Profile) -> Choice:
        limit = self._wanted.interactive_p95_ms
        slow = {one.deployment: p95 for one in known if limit is not None and (p95 := one.p95_ms or 0) > limit}
        first = self._first(choice.place)
        if choice.is_stay or first not in slow:
            return choice
        requirement = self._requirement_of(profile[0])
        faster = self._chooser.choose(known, requirement, current, too_slow=slow)
        if not faster.is_stay:
            words = (
                f"interactive, within {limit:,} ms at p95 (not {first}: {slow[first]:,} ms): {faster.evidence.verdict}"
            )
            return replace(faster, evidence=faster.evidence.model_copy(update={"verdict": words}))
        words = f"{choice.evidence.verdict}; over {limit:,} ms at p95, but no tier that clears is known to be faster"
        return replace(choice, evidence=choice.evidence.model_copy(update={"verdict": words}))

    def _first(self, place: Place) -> str:
        return (place.chain or tuple(self._ground.tiers[place.tier]) or ("",))[0]

    def _merged(self, profile: Profile, places: Sequence[int], choice: Choice) -> Choice:
        """One choice for neighbouring sizes, with the figures of all of them."""
        buckets = {bucket(self._edges[place] or _BEYOND) for place in places}
        if len(buckets) < 2:
            return choice
        answers = [answer for bound in buckets for one in self._known.get(bound, []) for answer in one.answers]
        known = standings(answers)
        if choice.is_stay:
            samples = max((len(one.scores) for one in known), default=0)
            words = f"too little data in any of these sizes: stays on {choice.place.tier}"
            evidence = choice.evidence.model_copy(update={"samples": samples, "verdict": words})
            return replace(choice, evidence=evidence)
        first = next((one for one in known if one.deployment == self._first(choice.place)), None)
        figures = self._figures(first, known, profile) if first else None
        if figures is None:
            return choice
        words = f"the same in {len(buckets)} sizes; in the smallest: {choice.evidence.verdict}"
        return replace(choice, evidence=figures.model_copy(update={"verdict": words}))

    def _figures(self, standing: Standing, known: Sequence[Standing], profile: Profile) -> RuleEvidence | None:
        if self._plan is not None and not self._is_stricter(profile[0]):
            return self._plan.evidence(standing, known)
        judged = judge(standing, self._requirement_of(profile[0]), self._chooser.baseline_of(known))
        return evidence_of(judged, "") if judged else None

    def _is_stricter(self, stakes: Stakes) -> bool:
        return stakes == "high" and self._wanted.high_stakes == "stricter"

    def _requirement_of(self, stakes: Stakes) -> Requirement:
        return self._requirement.stricter() if self._is_stricter(stakes) else self._requirement


def _as_document_rule(rule: PolicyRule) -> DocumentRule:
    return rule if isinstance(rule, DocumentRule) else DocumentRule(**rule.model_dump())


def _version(rules: Sequence[DocumentRule], ground: Ground, now: datetime) -> str:
    content = [list(ground.tiers), [rule.model_dump() for rule in rules]]
    digest = hashlib.sha256(orjson.dumps(content)).hexdigest()[:8]
    return f"derived-{now:%Y%m%d-%H%M}-{digest}"
