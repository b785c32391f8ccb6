"""From a table of choices by input size, stakes and urgency to the fewest rules of which the first match decides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from tierq_insight.choosing import Choice
from tierq_shared.options import STAKES, URGENCIES, Stakes, Urgency
from tierq_shared.policy_document import DocumentRule
from tierq_shared.specs import TaskType

Profile = tuple[Stakes, Urgency]
Column = Sequence[Choice]
"""One choice for each edge, smallest inputs first."""
Merged = Callable[[Profile, Sequence[int], Choice], Choice]
"""The choice of several neighbouring edges (by their places) as one, with the evidence of all of them."""

PROFILES: tuple[Profile, ...] = tuple((stakes, urgency) for stakes in STAKES for urgency in URGENCIES)
_GENERAL: Profile = ("normal", "standard")


def rules_of(
    type_: TaskType, name: str, edges: Sequence[int | None], columns: Mapping[Profile, Column], merged: Merged
) -> Iterator[DocumentRule]:
    """The rules for one kind of task: special cases before the general ones, small inputs before large ones.

    ``edges``: the upper bounds of the input sizes, ascending; None for no bound.
    """
    for profile, conditions in _needed(columns):
        column = columns[profile]
        below = _falls_to(columns, profile, conditions)
        # What the rows below say all the same needs no row here, as long as no larger input does.
        last = len(column) if below is None else _last_difference(column, below)
        for places in _runs(column[:last]):
            choice = merged(profile, places, column[places[0]])
            yield DocumentRule(
                type=type_,
                name=name,
                max_input_tokens=edges[places[-1]],
                tier=choice.place.tier,
                chain=choice.place.chain,
                evidence=choice.evidence,
                **conditions,  # type: ignore[arg-type]
            )


def _needed(columns: Mapping[Profile, Column]) -> Iterator[tuple[Profile, dict[str, str]]]:
    """The profiles that need rows of their own, with the conditions that name them; the most special ones first."""
    both = [profile for profile in PROFILES if profile[0] != "normal" and profile[1] != "standard"]
    by_stakes: list[Profile] = [("high", "standard"), ("low", "standard")]
    by_urgency: list[Profile] = [("normal", "interactive"), ("normal", "relaxed")]
    for stakes, urgency in both:
        if not _same(columns[stakes, urgency], _below_both(columns, stakes, urgency)):
            yield (stakes, urgency), {"stakes": stakes, "urgency": urgency}
    for profile in by_stakes:
        if not _same(columns[profile], columns[_GENERAL]):
            yield profile, {"stakes": profile[0]}
    for profile in by_urgency:
        if not _same(columns[profile], columns[_GENERAL]):
            yield profile, {"urgency": profile[1]}
    yield _GENERAL, {}


def _falls_to(columns: Mapping[Profile, Column], profile: Profile, conditions: Mapping[str, str]) -> Column | None:
    """What tasks of a profile would get from the rows below its own, edge by edge; None for the general rows."""
    if profile == _GENERAL:
        return None
    return _below_both(columns, *profile) if len(conditions) == 2 else columns[_GENERAL]


def _below_both(columns: Mapping[Profile, Column], stakes: Stakes, urgency: Urgency) -> Column:
    """What rows by stakes alone, then by urgency alone, then the general ones say of a profile.

    A row by stakes speaks only up to the last size at which it differs; from there on the rows below it do.
    """
    general = columns[_GENERAL]
    by_urgency = _spoken(columns["normal", urgency], general)
    return _spoken(columns[stakes, "standard"], general, by_urgency)


def _spoken(column: Column, general: Column, below: Column | None = None) -> Column:
    last = _last_difference(column, general)
    return [*column[:last], *(below or general)[last:]]


def _last_difference(column: Column, below: Column) -> int:
    """How many edges there are up to the last one at which the two differ."""
    return max(
        (place + 1 for place, (one, other) in enumerate(zip(column, below, strict=True)) if _differ(one, other)),
        default=0,
    )


def _differ(one: Choice, other: Choice) -> bool:
    return one.place != other.place


def _same(column: Column, other: Column) -> bool:
    return _last_difference(column, other) == 0


def _runs(column: Column) -> Iterator[list[int]]:
    """The places of neighbours that say the same."""
    run: list[int] = []
    for place, choice in enumerate(column):
        if run and not choice.same_as(column[run[-1]]):
            yield run
            run = []
        run.append(place)
    if run:
        yield run
