"""The audit: every row is read, tagged, routed by the policy and priced, in flat memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from tierq_insight.audit.call import Call, Unreadable
from tierq_insight.audit.counts import Tokens, estimated, tokens_of
from tierq_insight.audit.difficulty import HARD, signs_of
from tierq_insight.audit.kinds import Kinds
from tierq_insight.audit.pricing import Band, Pricing
from tierq_insight.audit.reading import Columns, read_call
from tierq_insight.audit.report import (
    AuditReport,
    Finding,
    Line,
    LineKey,
    ModelToday,
    Priced,
    RuleReason,
    TagReason,
)
from tierq_insight.audit.tagging import Tag, tag
from tierq_insight.evidence import bucket
from tierq_shared.checks import size_in_bytes
from tierq_shared.options import Stakes, Urgency
from tierq_shared.policy import Decision, Policy, Signals
from tierq_shared.settings import Settings

SHOWN = 5
"""Rows that could not be read are listed up to here; of the others there is a count."""

Place = int
Values = tuple[Place, Mapping[str, Any] | str]
"""A row's place with what stands in it, or with why the file's reader could not read it."""


@dataclass(frozen=True, slots=True)
class Method:
    """How an audit is made."""

    settings: Settings
    policy: Policy
    columns: Columns = field(default_factory=Columns)
    model: str | None = None
    """The model of today, where the log does not say."""
    stakes: Stakes = "normal"
    urgency: Urgency = "standard"


@dataclass(frozen=True, slots=True)
class Audited:
    """One call, with all that was found of it."""

    line: int
    tag: Tag
    tokens: Tokens
    signs: tuple[str, ...]
    decision: Decision
    model: str | None
    cost: Priced


class Audit:
    """An audit of rows. They may be read twice, so ``rows`` must give the same ones each time it is called."""

    def __init__(self, method: Method, rows: Callable[[], Iterable[Values]]) -> None:
        self._method = method
        self._rows = rows
        self._pricing = Pricing(method.settings, method.policy, method.model)

    def report(self, tell: Callable[[Audited], None] = lambda _one: None) -> AuditReport:
        """Audits all rows. ``tell`` is given each call as it is audited."""
        began = monotonic()
        report = self._empty_report()
        kinds = Kinds(lambda: (call for _, call in self._calls(lambda _finding: None)))
        for line, call in self._calls(lambda finding: _note(report, finding)):
            one = self._examine(line, call, kinds)
            _count(report, call, one)
            tell(one)
        report.seconds = monotonic() - began
        return report

    def _empty_report(self) -> AuditReport:
        return AuditReport(
            priced_by=self._pricing.priced_by(),
            policy_version=self._method.policy.version,
            unpriced_deployments=self._pricing.unpriced(),
        )

    def _calls(self, note: Callable[[Finding], None]) -> Iterator[tuple[int, Call]]:
        for line, values in self._rows():
            if isinstance(values, str):
                note(Finding(line, None, values))
                continue
            try:
                call = read_call(values, self._method.columns)
            except Unreadable as error:
                note(Finding(line, error.field, error.reason))
            else:
                yield line, call

    def _examine(self, line: int, call: Call, kinds: Kinds) -> Audited:
        found = tag(call, kinds)
        tokens = tokens_of(call, found.type)
        signs = signs_of(call, found, tokens.usage)
        decision = self._decide(call, found)
        model = self._pricing.model_of(call.model)
        cost = self._price(decision.tier, model, tokens, signs, found)
        return Audited(line, found, tokens, signs, decision, model, cost)

    def _decide(self, call: Call, found: Tag) -> Decision:
        """Where the policy would send the call: by its own input, as `signals_of` measures a task's."""
        method = self._method
        size = estimated(size_in_bytes(call.input))
        signals = Signals(found.type, call.name or found.type, size, method.stakes, method.urgency)
        unfit = _no_task(call)
        if unfit is not None:
            return Decision(method.policy.tiers[-1], unfit, signals, method.policy.version)
        return method.policy.decide_by(signals)

    def _price(self, tier: str, model: str | None, tokens: Tokens, signs: tuple[str, ...], found: Tag) -> Priced:
        now = self._pricing.now(model, tokens.usage)
        if tier == self._method.policy.tiers[-1]:
            # What goes to the last tier stays as it is: on today's model, at today's cost.
            return Priced(now, None if now is None else Band(now, now, now))
        may_fail = bool(signs) or found.confidence == "guessed"
        return Priced(now, self._pricing.there(tier, tokens.usage, is_hard=len(signs) >= HARD, may_fail=may_fail))


def _note(report: AuditReport, finding: Finding) -> None:
    report.bad += 1
    if len(report.findings) < SHOWN:
        report.findings.append(finding)


def _no_task(call: Call) -> str | None:
    """Why a call cannot be a task of any type, so that it stays as it is; None where it can."""
    if call.tools:
        return "no task: it offers tools to choose from"
    return "no task: it holds images or files" if call.images else None


def _count(report: AuditReport, call: Call, one: Audited) -> None:
    key = LineKey(one.tag.type, bucket(one.decision.signals.input_tokens), one.decision.tier)
    line = report.lines.setdefault(key, Line())
    line.spend.add(one.cost)
    line.confidences[one.tag.confidence] += 1
    line.signs.update(one.signs)
    line.hard += len(one.signs) >= HARD
    report.tags[TagReason(one.tag.type, one.tag.confidence, one.tag.reason)] += 1
    report.rules[RuleReason(one.decision.tier, one.decision.reason)] += 1
    report.sources[one.tokens.source] += 1
    report.batch_calls += call.is_batch
    _count_model(report, one)


def _count_model(report: AuditReport, one: Audited) -> None:
    today = report.models.setdefault(one.model, ModelToday())
    today.calls += 1
    today.cost_nusd += one.cost.now_nusd or 0
    today.unpriced += one.cost.now_nusd is None
