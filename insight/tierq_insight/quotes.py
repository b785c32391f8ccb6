"""Quotes against what came of them: how far expected cost and time were off, batch by batch and in all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from tierq_shared.quoting.figures import Quote
from tierq_shared.store import reading
from tierq_shared.store.connection import Store
from tierq_shared.store.reading import Progress


@dataclass(frozen=True, slots=True)
class QuotedBatch:
    """One batch that was quoted before it was submitted."""

    batch_id: str
    label: str | None
    created_at: datetime
    state: str
    quote: Quote
    cost_nusd: int
    """What it has cost so far, with everything charged."""
    unpriced: int
    """Tasks that ended with a cost that is not known, and not in ``cost_nusd``."""
    seconds: float | None
    """How long it took; None until it is over."""
    cost_error: float | None
    """The quote's error as a share of the actual cost: 0.05 where 5 % more was quoted. None until it is over, and where
    tasks were stopped before their end."""
    time_error: float | None

    @property
    def is_in_range(self) -> bool | None:
        """Whether the cost lies between the quote's low and high; None where nothing was priced, or it is not over."""
        band = self.quote.cost_nusd
        return None if self.cost_error is None or band is None else band.low <= self.cost_nusd <= band.high


@dataclass(frozen=True, slots=True)
class QuoteAccuracy:
    """How good the quotes of some batches were."""

    batches: int
    """Batches that are over and could be compared."""
    median_cost_error: float | None
    """Of the errors without their signs; None where there is no batch."""
    in_range: int
    """Batches whose cost lay between low and high: meant to be four in five."""


def quoted_batches(
    store: Store,
    *,
    batch_id: str | None = None,
    since: datetime | None = None,
    before: datetime | None = None,
    limit: int = 1_000,
) -> list[QuotedBatch]:
    """The latest quoted batches, newest first: one, or those that were created in a span of time.

    Raises:
        BatchNotFound: no batch has this id.
    """
    with store.reading() as connection:
        if batch_id is not None:
            found = [reading.progress(connection, batch_id)]
        else:
            found = reading.quoted_batches(connection, since=since, before=before, limit=limit)
    return [_quoted(progress, progress.quote) for progress in found if progress.quote is not None]


def accuracy(quoted: Sequence[QuotedBatch]) -> QuoteAccuracy:
    """What the quotes were worth, over all batches that are over."""
    errors = [abs(one.cost_error) for one in quoted if one.cost_error is not None]
    return QuoteAccuracy(
        batches=len(errors),
        median_cost_error=median(errors) if errors else None,
        in_range=sum(bool(one.is_in_range) for one in quoted),
    )


def _quoted(progress: Progress, quote: Quote) -> QuotedBatch:
    seconds = progress.seconds if progress.is_over else None
    return QuotedBatch(
        batch_id=progress.batch_id,
        label=progress.label,
        created_at=progress.created_at,
        state=progress.state,
        quote=quote,
        cost_nusd=progress.cost_nusd,
        unpriced=progress.unpriced,
        seconds=seconds,
        cost_error=progress.quote_error,
        time_error=None if seconds is None or progress.quote_error is None else quote.time_error(seconds),
    )
