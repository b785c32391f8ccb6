"""What `tierq policy` says: a version rule by rule with its evidence, and what changes from one version to another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from tierq_console.summary import shortened
from tierq_shared.policy_document import DocumentRule, PolicyDocument, RuleEvidence
from tierq_shared.store.policies import Activation, Stored


def shown(document: PolicyDocument) -> Iterator[str]:
    """For people: each rule with the evidence that it rests on."""
    yield f"policy {document.version} · tiers {', '.join(document.tiers)}"
    if document.note:
        yield shortened(document.note)
    for number, rule in enumerate(document.policy, 1):
        yield from _with_evidence(f"{number:>3}  ", rule)
    yield "what no rule matches goes to the last tier"


def derived(document: PolicyDocument) -> Iterator[str]:
    """For people: the rules that rest on evidence."""
    for number, rule in enumerate(document.policy, 1):
        if rule.evidence is not None:
            yield from _with_evidence(f"rule {number}: ", rule)


def evidence_lines(evidence: RuleEvidence) -> Iterator[str]:
    """The figures of a rule's tier, then why it is this tier; what is not known is left out."""
    required = "" if evidence.required is None else f" · required {evidence.required:.3f}"
    yield f"{_quality(evidence)}{required}"
    parts = []
    if evidence.cost_usd_per_1000 is not None:
        parts.append(f"${evidence.cost_usd_per_1000:.4g} per 1,000")
    if evidence.p50_ms is not None and evidence.p95_ms is not None:
        parts.append(f"p50 {evidence.p50_ms:,} ms, p95 {evidence.p95_ms:,} ms")
    if evidence.failure_rate is not None:
        parts.append(f"{evidence.failure_rate:.1%} failed")
    yield " · ".join([*parts, f"source: {evidence.source}"])
    yield shortened(evidence.verdict)


def _with_evidence(lead: str, rule: DocumentRule) -> Iterator[str]:
    yield f"{lead}{_rule(rule)}"
    if rule.evidence is not None:
        yield from (f"       {line}" for line in evidence_lines(rule.evidence))


def changes(before: PolicyDocument, after: PolicyDocument) -> list[str]:
    """For people: what is different, rule by rule; nothing where the two decide alike and rest on the same evidence.

    A rule is known by its conditions. `~` is a rule that changed, `+` one that is new, `-` one that is gone.
    """
    old, new = _by_conditions(before), _by_conditions(after)
    lines: list[str] = []
    if before.tiers != after.tiers:
        lines.append(f"~ tiers: {', '.join(before.tiers)} → {', '.join(after.tiers)}")
    for conditions, (number, rule) in new.items():
        if conditions not in old:
            lines += [f"+ rule {number}: {_rule(rule)}", *_reasons("  because", rule.evidence)]
        else:
            lines += _changed(number, old[conditions][1], rule)
    lines += [f"- rule {number}: {_rule(rule)}" for key, (number, rule) in old.items() if key not in new]
    return lines + _reordered(old, new)


def listed(found: Sequence[Stored]) -> Iterator[str]:
    """For people: a version a line, the active one marked."""
    width = max((len(one.version) for one in found), default=0)
    for one in found:
        since = f"last activated {_time(one.activated_at)}" if one.activated_at else "never active"
        yield f"{'*' if one.is_active else ' '} {one.version:<{width}}  stored {_time(one.created_at)} · {since}"


def history(found: Sequence[Activation]) -> Iterator[str]:
    """For people: an activation a line, the latest first."""
    for one in found:
        yield f"  {_time(one.activated_at)}  {one.version}  {shortened(one.reason)}"


def listed_json(found: Sequence[Stored], past: Sequence[Activation]) -> dict[str, Any]:
    return {
        "active": next((one.version for one in found if one.is_active), None),
        "versions": [_json(one) for one in found],
        "activations": [_json(one) for one in past],
    }


def _by_conditions(document: PolicyDocument) -> dict[str, tuple[int, DocumentRule]]:
    """The rules with their numbers. Of two that ask the same, only the first ever decides."""
    found: dict[str, tuple[int, DocumentRule]] = {}
    for number, rule in enumerate(document.policy, 1):
        found.setdefault(rule.conditions, (number, rule))
    return found


def _changed(number: int, old: DocumentRule, new: DocumentRule) -> list[str]:
    what = []
    if old.tier != new.tier:
        what.append(f"tier {old.tier} → {new.tier}")
    if old.chain != new.chain:
        what.append(f"chain {_chain(old)} → {_chain(new)}")
    if old.evidence != new.evidence:
        what.append("evidence")
    if not what:
        return []
    reasons = (
        [*_reasons("  was", old.evidence), *_reasons("  now", new.evidence)] if old.evidence != new.evidence else []
    )
    return [f"~ rule {number}: {new.conditions}: {', '.join(what)}", *reasons]


def _reasons(word: str, evidence: RuleEvidence | None) -> list[str]:
    """What a rule rests on, a line a matter, the first of them with the word before it."""
    if evidence is None:
        return []
    indent = " " * (len(word) + 2)
    return [f"{indent if number else f'{word}: '}{line}" for number, line in enumerate(evidence_lines(evidence))]


def _reordered(old: dict[str, tuple[int, DocumentRule]], new: dict[str, tuple[int, DocumentRule]]) -> list[str]:
    """Rules that both have, where they do not stand in the same order: the first that matches decides."""
    before, after = [key for key in old if key in new], [key for key in new if key in old]
    if before == after:
        return []
    moved = [(new[key][0], old[key][0]) for key in after if new[key][0] != old[key][0]]
    return ["~ order: " + "; ".join(f"rule {now} was rule {was}" for now, was in moved)]


def _rule(rule: DocumentRule) -> str:
    return f"{rule}, chain {_chain(rule)}" if rule.chain else str(rule)


def _chain(rule: DocumentRule) -> str:
    return ", ".join(rule.chain) if rule.chain else "as configured"


def _quality(evidence: RuleEvidence) -> str:
    if evidence.quality is None:
        return f"{evidence.samples:,} samples"
    between = ""
    if evidence.lower is not None and evidence.upper is not None:
        between = f" ({evidence.lower:.3f} to {evidence.upper:.3f})"
    return f"quality {evidence.quality:.3f}{between} of {evidence.samples:,} samples"


def _time(at: Any) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}Z"


def _json(one: Stored | Activation) -> dict[str, Any]:
    values = asdict(one)
    return {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in values.items()}
