"""The reckoning as a table: on the terminal while the runs go on, and on the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from chaos.ground import Result
from chaos.registry import SCENARIOS, Scenario

HEADS = (
    "scenario",
    "store + broker",
    "tasks",
    "ended",
    "faults",
    "**lost**",
    "**double**",
    "**difference**",
    "unknown: served / not",
    "paid twice",
    "all ended after",
    "standstill",
    "wall",
)

_LEGEND = """
Each run has real worker processes, a real producer and a simulator that speaks the providers' wire formats over real
sockets and keeps its own list of every answer it gave. Faults are done on purpose; then both sides are counted.

- **lost**: tasks without an ended state. **double**: outcomes that were counted and no task has, or vice versa.
- **difference**: attempts that the simulator answered and the ledger lacks or calls free of charge, that the ledger
  calls answered and the simulator never did, and those that were answered more than once.
- *unknown*: calls under way when their worker or connection died; they stay charged at their worst case. Split by what
  the simulator knows: it answered them (money spent), or never did.
- *paid twice*: tasks for which more than one answer was served, other than a re-ask after an unusable one. A provider's
  answer to a dead worker is paid and cannot be had again: such tasks are called again, and the ledger shows both calls.
- *all ended after*: seconds from the last fault until the last task had ended. *standstill*: the longest time in which
  nothing ended.

Every run also ends with no attempt still `started`, no chunk left, every batch finished, and each task's cost the sum
of its attempts'. Leases are {lease} s and markers go out every second, so that a run takes seconds; with the settings
that ship, a dead worker's tasks are found after 30 s and a lost message after 90.
"""


def cells(result: Result) -> list[str]:
    reckoning = result.reckoning
    return [
        result.scenario.name,
        str(result.shape),
        f"{reckoning.tasks:,}",
        " · ".join(f"{count:,} {state}" for state, count in sorted(reckoning.states.items())),
        f"{result.faults}",
        f"{reckoning.lost}",
        f"{reckoning.double}",
        f"{reckoning.difference}",
        f"{reckoning.unknown_served} / {reckoning.unknown_not_served}",
        f"{reckoning.paid_twice}",
        "" if result.recovery_s is None else f"{result.recovery_s:.1f} s",
        f"{result.standstill_s:.1f} s",
        f"{result.wall_s:.0f} s",
    ]


def head() -> str:
    return "\n".join((_row(HEADS), _row(["---"] * len(HEADS))))


def row(result: Result) -> str:
    return _row(cells(result))


def section(results: Sequence[Result], seed: int) -> str:
    """The page's part: what was counted, how, and what each scenario does."""
    legend = _LEGEND.format(lease=min(one.lease_s for one in SCENARIOS.values()))
    parts = (
        f"`make chaos`, seed {seed}: {len(results)} runs, {_total(results):,} tasks. {_verdict(results)}",
        "\n".join((head(), *map(row, results))),
        *(
            f"Not as promised, in {one.scenario.name} over {one.shape}: {'; '.join(one.findings)}."
            for one in _bad(results)
        ),
        legend.strip(),
        "\n".join(map(_about, SCENARIOS.values())),
    )
    return "\n\n".join(parts)


def _total(results: Iterable[Result]) -> int:
    return sum(one.reckoning.tasks for one in results)


def _bad(results: Iterable[Result]) -> list[Result]:
    return [one for one in results if one.findings]


def _verdict(results: Sequence[Result]) -> str:
    bad = _bad(results)
    return f"{len(bad)} were not as promised; they stand below the table." if bad else "Every zero is a zero."


def _about(scenario: Scenario) -> str:
    left_out = f" Not over every store and broker: {scenario.left_out}." if scenario.left_out else ""
    return f"- `{scenario.name}`: {scenario.about}.{left_out}"


def _row(values: Sequence[str]) -> str:
    return f"| {' | '.join(values)} |"
