"""What `tierq top` counts, look by look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from types import SimpleNamespace

import pytest

from tierq_console import progress_view, top_figures
from tierq_console.top_figures import Look, Watcher, running_batches
from tierq_shared.settings import Settings
from tierq_shared.store import actions, controls
from unit.store.installation import SUCCEEDED, Installation, new_task, step

SETTINGS = Settings.model_validate(
    {
        "tiers": {"small": {"chain": ["mini"], "max_in_flight": 40}, "large": {"chain": ["mini"]}},
        "deployments": {"mini": {"provider": "openai", "model": "m"}},
    }
)


@pytest.fixture
def looks(here: Installation, monkeypatch: pytest.MonkeyPatch) -> Iterator[Look]:
    """Looks that are a second apart."""
    watcher = Watcher(SETTINGS, here.store, None, "no state Redis")

    def looking() -> Iterator[Look]:
        for second in count():
            clock = SimpleNamespace(monotonic=lambda now=float(second): now)
            monkeypatch.setattr(progress_view, "time", clock)
            yield watcher.look()

    return looking()


def work(here: Installation, ids: Sequence[str]) -> None:
    """A worker does these tasks."""
    worker = here.worker()
    here.commit(worker, *[step(here.claim_one(worker, id_), SUCCEEDED) for id_ in ids])
    here.finish(*{here.task(id_).batch_id for id_ in ids})
    here.kill(worker)


def test_rates_count_what_ends_while_it_looks(here: Installation, looks: Iterator[Look]) -> None:
    batch = here.submit([new_task(text=str(number)) for number in range(10)], label="tickets")
    ids = here.ids(batch)
    work(here, ids[:4])
    assert next(looks).tiers["small"].rate == 0.0, "what had ended before is no part of it"
    work(here, ids[4:7])
    # One that came and went between two looks.
    work(here, here.ids(here.submit([new_task(text="alone")])))
    seen = next(looks)
    (shown,) = seen.batches
    assert seen.tiers["small"].rate == 4.0
    assert (shown.progress.done, shown.rate, shown.seconds_left) == (7, 3.0, 1.0)
    work(here, ids[7:])
    last = next(looks)
    assert last.tiers["small"].rate == (3 + 1 + 3) / 2
    assert last.batches == []


def test_tiers_are_told_with_slots_and_in_their_order(here: Installation, looks: Iterator[Look]) -> None:
    here.submit([new_task(), new_task(tier="other")])
    here.worker("small")
    seen = next(looks)
    assert list(seen.tiers) == ["small", "large", "other"]
    assert [one.slots for one in seen.tiers.values()] == [40, 0, 0]
    assert [one.backlog.ready for one in seen.tiers.values()] == [1, 0, 1]
    assert seen.alarms == ["other: tasks are ready (1), and no worker is live"]
    assert (seen.deployments, seen.why_unknown) == (None, "no state Redis")


def test_what_operators_did_is_told(here: Installation, looks: Iterator[Look]) -> None:
    batch = here.submit([new_task()])

    def pause(connection: object) -> None:
        controls.pause(connection, controls.batch_scope(batch))  # type: ignore[arg-type]
        actions.record(connection, "pause", f"batch:{batch}")  # type: ignore[arg-type]

    here.store.write(pause)
    seen = next(looks)
    assert [one.is_paused for one in seen.batches] == [True]
    assert [(one.action, one.target) for one in seen.actions] == [("pause", f"batch:{batch}")]


def test_the_newest_running_batches_are_shown(here: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top_figures, "MOST_BATCHES", 3)
    batches = [here.submit([new_task()]) for _ in range(5)]
    work(here, here.ids(batches[4]))
    opened = here.open()
    assert here.read(running_batches) == ([opened, batches[3], batches[2]], 2)
