"""What must be known beside an audit's figures: what they leave out, assume or do not know."""

from __future__ import annotations

from collections.abc import Iterator

from tierq_insight.audit import AuditReport
from tierq_insight.audit.counts import ASSUMED_OUTPUT

_MODELS_NAMED = 5


def notes(report: AuditReport) -> Iterator[str]:
    """One sentence for each thing that a reader could otherwise take for granted."""
    yield from _counts(report)
    yield from _prices(report)
    guessed = report.confidences()["guessed"]
    if guessed:
        yield (
            f"{guessed:,} calls are of a guessed type: say what they are with --type, --instructions, or --output with "
            "the column of their answers"
        )
    yield (
        "could cost is at the first priced model of a tier's chain. Low: no call has to go up. Expected: hard ones "
        "are paid on the next tier as well. High: so are all that show a sign or are guessed, and nothing is cached. "
        "Fail-over to dearer models of a chain is in none of them"
    )


def _counts(report: AuditReport) -> Iterator[str]:
    by_text, assumed = report.sources["from text"], report.sources["assumed"]
    if by_text:
        yield f"tokens of {by_text:,} calls are estimated from their text, at 4 bytes a token: no usage was logged"
    if assumed:
        words = ", ".join(f"{type_} {count}" for type_, count in ASSUMED_OUTPUT.items())
        yield (
            f"output of {assumed:,} calls is assumed, in tokens: {words}; neither usage nor an answer was logged, so "
            "take their costs as an order of magnitude"
        )
    if report.batch_calls:
        yield f"{report.batch_calls:,} calls went through a Batch API: its discount is not in what they cost now"


def _prices(report: AuditReport) -> Iterator[str]:
    unknown = [name for name, one in report.models.items() if name is not None and one.unpriced]
    if unknown:
        more = f" and {len(unknown) - _MODELS_NAMED:,} more" if len(unknown) > _MODELS_NAMED else ""
        names = ", ".join(unknown[:_MODELS_NAMED])
        yield (
            f"no price is known for {names}{more}, so those calls are not compared: give each a deployment with its "
            "price in tierq.toml"
        )
    if report.unpriced_deployments:
        names = ", ".join(report.unpriced_deployments)
        yield f"no price is known for deployment {names}: left out of what tiers could cost; give it one in tierq.toml"
