"""What an evaluation is about to cost, by deployment, before anything is spent."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from tierq.intake import Intake
from tierq_insight.evaluation.samples import Sample, Target, pinned, place_of
from tierq_shared.quoting.cells import Tally
from tierq_shared.quoting.figures import Range
from tierq_shared.quoting.quoter import Quoter
from tierq_shared.settings import Settings


def quote(settings: Settings, quoter: Quoter, target: Target, samples: Iterable[Sample]) -> Range[int] | None:
    """What one deployment is to charge for these samples, in nano-USD; None where its price is unknown."""
    # A pinned task goes where it is pinned to, whatever the policy in force.
    intake = Intake(settings, settings.make_policy(), lambda: datetime.now(UTC), None)
    tally = Tally()
    for position, sample in enumerate(samples):
        tally.add(intake.prepare(pinned(sample.task, target, place_of(sample, target)), position))
    found = quoter.quote(tally)
    return None if found.unpriced_tasks else found.cost_nusd
