"""`tierq purge`: what ended before a time is erased, whatever its age, and nothing else."""

from __future__ import annotations

from datetime import timedelta

import pytest
from click.testing import CliRunner

from tierq_console.commands.purge import command
from tierq_shared.store import actions, erasing, purging
from tierq_shared.store.clock import now
from tierq_shared.store.purging import Purged
from tierq_shared.store.tables import tasks
from unit.store.installation import Installation, new_task
from unit.store.private import EVERYWHERE, REFUSED, figures, plant, secrets_of

pytestmark = pytest.mark.timeout(60)


def test_what_ended_before_is_erased_and_recorded(here: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasing, "WINDOW", 3)
    monkeypatch.setattr(purging, "SLICE", 2)
    old, young = [plant(here), *(plant(here, ended=REFUSED) for _ in range(5))], plant(here)
    (waiting,) = here.ids(here.submit([new_task(text="the secret input")]))
    for id_ in old:
        here.set(tasks, tasks.c.id == id_, finished_at=now(-100))
    before, kept = here.now() - timedelta(seconds=50), [figures(here, id_) for id_ in old]
    assert purging.count(here.store, before) == 6
    assert secrets_of(here, old[0]) == EVERYWHERE, "counting erases nothing"
    assert purging.purge(here.store, before) == Purged(tasks=6, cache_entries=6)
    assert [secrets_of(here, id_) for id_ in old] == [[]] * 6
    assert [figures(here, id_) for id_ in old] == kept
    assert secrets_of(here, young) == EVERYWHERE
    assert secrets_of(here, waiting) == ["tierq_payload.input"]
    assert (purging.count(here.store, before), purging.purge(here.store, before)) == (0, Purged())
    done = here.read(lambda c: list(actions.recent(c, 10)))
    assert [(one.action, one.details["tasks"]) for one in done] == [("purge", 0), ("purge", 6)]
    assert done[1].target.startswith("ended before 20")


def test_the_command_counts_asks_and_erases(on_sqlite: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIERQ_DATABASE_URL", str(on_sqlite.store.engine.url))
    id_ = plant(on_sqlite)
    on_sqlite.set(tasks, finished_at=now(-100))

    def run(*words: str, answer: str = "") -> str:
        return CliRunner().invoke(command, ["--before", "50s", *words], input=answer).output

    assert "1 task ended before 20" in run("--dry-run")
    assert "Aborted!" in run(answer="n\n")
    assert secrets_of(on_sqlite, id_) == EVERYWHERE
    assert "what was private about 1 task is erased; 1 cached answers are gone" in run("--yes")
    assert secrets_of(on_sqlite, id_) == []
    assert run("--yes").startswith("0 tasks ended before")
