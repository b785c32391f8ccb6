"""The backlog is what could run now, by tier; and the statement that other tools are given counts the same."""

from __future__ import annotations

import io
import re

from rich.console import Console
from sqlalchemy import text

from tierq_console.status_view import read_report
from tierq_shared.store import backlog, leases
from tierq_shared.store.backlog import TierBacklog
from tierq_shared.store.clock import now
from tierq_shared.store.tables import tasks
from unit.docs.pages import ROOT, blocks
from unit.store.installation import SUCCEEDED, Installation, new_task, step

PAGE = ROOT / "docs" / "how-to" / "scale-on-the-backlog.md"


def keep_busy(here: Installation) -> str:
    """On tier small, in a batch of eight: one that ended, two that run, one not due, one too late, three ready; one
    more in a batch that streams, and none in a batch that was cancelled or given up; the id of one that is open."""
    batch = here.submit([new_task(str(number)) for number in range(8)])
    ids, worker = here.ids(batch), here.worker()
    here.commit(worker, step(here.claim_one(worker, ids[0]), SUCCEEDED))
    here.claim(worker, ids[1:3])
    here.set(tasks, tasks.c.id == ids[3], not_before=now(60))
    here.set(tasks, tasks.c.id == ids[4], deadline=now(-1))
    here.set(tasks, tasks.c.id == ids[5], not_before=now(-1), deadline=now(60))
    here.set(tasks, tasks.c.id == ids[6], created_at=now(-90))
    here.cancel(here.submit([new_task()]))
    here.add(here.open(streaming=True), [new_task()])
    given_up, opened = here.open(), here.open()
    here.add(given_up, [new_task()])
    here.abort(given_up)
    here.add(opened, [new_task()])
    here.submit([new_task(tier="large")])
    return opened


def test_each_tier_is_counted(here: Installation) -> None:
    keep_busy(here)
    found = here.read(backlog.backlog)
    small, large = found["small"], found["large"]
    assert list(found) == ["large", "small"]
    assert (small.ready, small.waiting, small.running, small.workers) == (4, 1, 2, 1)
    assert 90 <= (small.oldest_ready_s or 0) < 200
    assert (large.ready, large.waiting, large.running, large.workers) == (1, 0, 0, 0)


def test_what_is_ready_is_what_a_claim_takes(here: Installation) -> None:
    opened = keep_busy(here)
    ready = here.read(backlog.ready_tasks, "small")
    # Nothing of an open batch is published, so none of it comes to a claim.
    offered = [row.id for row in here.rows(tasks, tasks.c.state == "queued", tasks.c.batch_id != opened)]
    assert len(here.claim(here.worker(), offered).taken) == ready == 4


def test_the_statement_for_other_tools_counts_the_same(on_postgres: Installation) -> None:
    keep_busy(on_postgres)
    (block,) = blocks("sql", [PAGE])
    (counted,) = on_postgres.read(lambda c: c.execute(text(block.text)).one())
    assert counted == on_postgres.read(backlog.ready_tasks, "small") == 4


def test_status_says_it_for_people_and_for_scripts(here: Installation) -> None:
    keep_busy(here)
    report = read_report(here.store, None, 20)
    small = report.json()["tiers"]["small"]
    assert small.pop("oldest_ready_s") >= 90
    assert small == {"ready": 4, "waiting": 1, "running": 2, "workers": 1, "resting_s": None, "is_paused": False}
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(*report.tables(120))
    assert re.search(r"small +4 +0:01:\d\d +1 +2 +1\b", console.export_text())


def test_an_empty_store_has_no_backlog(here: Installation) -> None:
    assert here.read(backlog.backlog) == {}
    worker = here.worker("large")
    assert here.read(backlog.backlog) == {"large": TierBacklog(workers=1)}
    assert worker


def test_a_resting_chain_is_seen_in_sql(here: Installation) -> None:
    """So nobody starts more workers for a tier whose providers are what it waits for."""
    worker = here.worker()
    here.store.write(lambda connection: leases.renew(connection, worker, 30, rest_s=40.0))
    resting = here.read(backlog.backlog)["small"].resting_s
    assert resting is not None
    assert 30 < resting <= 40
    here.store.write(lambda connection: leases.renew(connection, worker, 30))
    assert here.read(backlog.backlog)["small"].resting_s is None


def test_a_label_reaches_the_terminal_as_words(here: Installation) -> None:
    batch = here.submit([new_task()], label="\x1b[2J[b]urgent[/b]")
    for report in (read_report(here.store, None, 5), read_report(here.store, batch, 5)):
        console = Console(file=io.StringIO(), width=160)
        for table in report.tables(160):
            console.print(table)
        shown = console.file.getvalue()  # type: ignore[attr-defined] # a StringIO
        assert "[b]urgent[/b]" in shown
        assert "\x1b" not in shown
