"""Caps: what may be spent at most, by whom and in which span; and the name of the budget that counts it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tierq_shared.options import WhenReached

BATCH = "batch"
"""The span of a batch's own cap."""


@dataclass(frozen=True, slots=True)
class Cap:
    """The most that the calls under it may cost together. Days and months are those of UTC."""

    per: str
    """`day`, `month`, `total` or `batch`."""
    of: str | None
    """The tag that it holds for, as `name=value`, or the batch's id; None where it holds for everything."""
    limit_nusd: int
    when_reached: WhenReached

    def scope(self, at: datetime) -> str:
        """The budget that counts a call which begins at this time, such as `day:2026-11-24:team=search`."""
        span = self.per
        if span in ("day", "month"):
            date = at.astimezone(UTC).date().isoformat()
            span = f"day:{date}" if span == "day" else f"month:{date[:7]}"
        return span if self.of is None else f"{span}:{self.of}"

    def ends_in_s(self, at: datetime) -> float | None:
        """Seconds until a new budget begins; None where none ever does."""
        day = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        begins = {
            "day": day + timedelta(days=1),
            "month": (day.replace(day=1) + timedelta(days=32)).replace(day=1),
        }.get(self.per)
        return None if begins is None else (begins - at).total_seconds()

    def holds_for(self, tags: Mapping[str, str]) -> bool:
        """Whether it is a cap of everything, or of one of these tags."""
        if self.of is None:
            return True
        name, _, value = self.of.partition("=")
        return tags.get(name) == value

    def __str__(self) -> str:
        """In words, such as `the cap per day on team=search`."""
        if self.per == BATCH:
            return "the batch's cap"
        span = "in total" if self.per == "total" else f"per {self.per}"
        return f"the cap {span} on {self.of or 'everything'}"


def batch_cap(batch_id: str, limit_nusd: int, on_cap: str | None) -> Cap:
    """A batch's own cap. Unless it says otherwise, tasks that can no longer fit fail: whoever waits for it goes on."""
    reached: WhenReached = on_cap if on_cap in ("wait", "downgrade") else "fail"  # type: ignore[assignment]
    return Cap(BATCH, batch_id, limit_nusd, reached)


def scope_in_words(scope: str) -> str:
    """The cap whose budget this is, in words, such as `the cap per day on team=search`."""
    per, _, rest = scope.partition(":")
    if per == BATCH:
        return f"the cap of batch {rest}"
    of = rest if per == "total" else rest.partition(":")[2]
    return str(Cap(per, of or None, 0, "wait"))


def names_tags(caps: Sequence[Cap]) -> bool:
    """Whether a task's tags must be known to say which of the caps hold for it."""
    return any(cap.of is not None for cap in caps)


def scopes_of(caps: Iterable[Cap], at: datetime) -> list[str]:
    """The budgets of a call under these caps."""
    return [cap.scope(at) for cap in caps]
