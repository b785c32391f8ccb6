"""Hard caps: reserved with the attempt, settled with its answer, in the same transaction; on both stores."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from support.statements import statements
from tierq_shared.caps import Cap
from tierq_shared.errors import InvalidTask
from tierq_shared.outcomes import AttemptOutcome
from tierq_shared.store import budgets, claims
from tierq_shared.store.claims import HeldBack, MovedDown, Refusal
from tierq_shared.store.outcomes import Requeued, move_down
from tierq_shared.store.tables import budgets as budgets_table
from tierq_shared.store.tables import chunks, decisions
from unit.store.installation import RESERVED, SUCCEEDED, Installation, learn_nothing, new_attempt, new_task, step

DAY = Cap("day", None, 2 * RESERVED, "wait")
SEARCH = Cap("total", "team=search", 2 * RESERVED, "wait")


def capped(here: Installation, count: int, limit: int) -> tuple[str, str, list[str]]:
    """A batch with a cap that waits: its id, a worker's, and its tasks."""
    batch = here.submit([new_task() for _ in range(count)], max_cost_nusd=limit, on_cap="wait")
    return batch, here.worker(), here.ids(batch)


def of_batch(here: Installation, batch: str) -> tuple[int, int]:
    """What is spent and reserved of a batch's cap."""
    return here.budgets()[f"batch:{batch}"][1:]


def test_a_claim_takes_in_order_what_fits_and_leaves_the_rest(here: Installation) -> None:
    batch, worker, ids = capped(here, 5, 3_500)
    found = here.claim(worker, ids)
    assert [task.id for task, _ in found.taken] == ids[:3]
    assert found.left == ids[3:]
    assert set(found.held) == set(ids[3:])
    assert here.budgets() == {f"batch:{batch}": (3_500, 0, 3_000)}
    assert orjson.loads(here.ledger(ids[0])[0].budgets) == [f"batch:{batch}"]


def test_an_answer_below_the_worst_case_makes_room(here: Installation) -> None:
    batch, worker, ids = capped(here, 4, 2_000)
    first, second = here.claim(worker, ids).taken
    here.commit(worker, step(first, SUCCEEDED, cost=70))
    assert here.claim(worker, ids[2:]).taken == []
    here.commit(worker, step(second, SUCCEEDED, cost=30))
    assert of_batch(here, batch) == (100, 0)
    assert len(here.claim(worker, ids[2:]).taken) == 1
    assert of_batch(here, batch) == (100, 1_000)


def test_an_answer_counts_once_however_often_it_is_said(here: Installation) -> None:
    batch, worker, ids = capped(here, 1, 2_000)
    said = step(here.claim_one(worker, ids[0]), SUCCEEDED, cost=70)
    for _ in range(3):
        here.commit(worker, said)
    here.commit(worker, said, said)
    assert of_batch(here, batch) == (70, 0)


def test_one_said_twice_in_one_group_counts_once(here: Installation) -> None:
    batch, worker, ids = capped(here, 1, 2_000)
    said = step(here.claim_one(worker, ids[0]), SUCCEEDED, cost=70)
    here.commit(worker, said, said)
    assert of_batch(here, batch) == (70, 0)


def test_an_unknown_cost_is_charged_at_the_worst_case(here: Installation) -> None:
    batch, worker, ids = capped(here, 1, 2_000)
    here.commit(worker, step(here.claim_one(worker, ids[0]), SUCCEEDED, cost=None))
    assert of_batch(here, batch) == (RESERVED, 0)
    assert here.task(ids[0]).cost_nusd is None


def test_a_call_that_was_never_sent_frees_all_of_it(here: Installation) -> None:
    batch, worker, ids = capped(here, 1, 2_000)
    taken = here.claim_one(worker, ids[0])
    here.commit(worker, step(taken, Requeued("small"), cost=0, outcome=AttemptOutcome.CANCELLED))
    assert of_batch(here, batch) == (0, 0)


def test_a_dead_workers_calls_stay_charged_until_a_late_answer_says_better(here: Installation) -> None:
    batch, worker, ids = capped(here, 2, 2_000)
    first, second = here.claim(worker, ids).taken
    here.commit(worker, step(first, SUCCEEDED, cost=70))
    here.kill(worker)
    here.settle(worker)
    assert of_batch(here, batch) == (70 + RESERVED, 0)
    other = here.worker()
    assert here.claim(other, [ids[1]]).taken == [], "1,070 are spent, and another 1,000 do not fit"
    here.commit(worker, step(second, SUCCEEDED, cost=50))
    assert of_batch(here, batch) == (120, 0)
    assert len(here.claim(other, [ids[1]]).taken) == 1


def test_a_further_call_without_room_waits_in_the_queue(here: Installation) -> None:
    batch, worker, ids = capped(here, 2, 2_000)
    first, _ = here.claim(worker, ids).taken
    again = new_attempt(first[0], ordinal=2)
    done = here.commit(worker, step(first, again, cost=900, outcome="overloaded"))
    assert done.counted == [False]
    row = here.task(ids[0])
    assert (row.state, row.cost_nusd) == ("queued", 900)
    assert row.not_before > here.now()
    assert len(here.ledger(ids[0])) == 1
    assert of_batch(here, batch) == (900, 1_000)


def test_a_further_call_is_reserved_with_the_answer_before_it(here: Installation) -> None:
    batch, worker, ids = capped(here, 1, 1_500)
    taken = here.claim_one(worker, ids[0])
    again = new_attempt(taken[0], ordinal=2)
    assert here.commit(worker, step(taken, again, cost=400, outcome="overloaded")).counted == [True]
    assert of_batch(here, batch) == (400, 1_000)
    assert orjson.loads(here.ledger(ids[0])[1].budgets) == [f"batch:{batch}"]


def test_a_call_of_unknown_price_is_not_made_under_a_cap(here: Installation) -> None:
    batch, worker, ids = capped(here, 1, 2_000)
    assert here.claim(worker, ids, reserved=None).left == ids
    assert of_batch(here, batch) == (0, 0)


def test_a_tasks_own_cap_counts_all_its_attempts(here: Installation) -> None:
    worker = here.worker()
    (id_,) = here.ids(here.submit([new_task(max_cost_nusd=1_500)]))
    here.commit(worker, step(here.claim_one(worker, id_), Requeued("small"), cost=None, outcome="invalid_output"))
    room: list[int] = []

    def look(task: Any) -> None:
        room.append(task.headroom.nusd)

    here.store.write(lambda c: claims.claim(c, worker, "small", [id_], learn_nothing, look))
    assert room == [500], "the unpriced answer counts at its worst case"
    assert here.claim(worker, [id_]).left == [id_], "whatever the chooser says"
    assert here.claim(worker, [id_], reserved=500).taken


def test_a_cap_on_a_tag_holds_for_tasks_and_batches_with_it(here: Installation) -> None:
    worker = here.worker()
    of_task = here.submit([new_task(tags='{"team":"search"}'), new_task(tags='{"team":"mail"}')])
    whole = here.submit([new_task(), new_task(tags='{"team":"mail"}'), new_task()], tags='{"team":"search"}')
    ids = [*here.ids(of_task), *here.ids(whole)]
    taken = {task.id for task, _ in here.claim(worker, ids, caps=[SEARCH]).taken}
    under = [ids[0], ids[2], ids[4]]
    assert taken - set(under) == {ids[1], ids[3]}, "a task's own tag goes before its batch's"
    assert len(taken & set(under)) == 2
    assert here.budgets() == {"total:team=search": (2_000, 0, 2_000)}


def test_each_day_has_a_budget_of_its_own() -> None:
    late = datetime(2026, 11, 30, 23, 59, 30, tzinfo=UTC)
    month = Cap("month", "team=search", 1, "wait")
    assert (DAY.scope(late), month.scope(late)) == ("day:2026-11-30", "month:2026-11:team=search")
    assert DAY.scope(late + timedelta(minutes=1)) == "day:2026-12-01"
    assert (DAY.ends_in_s(late), month.ends_in_s(late)) == (30.0, 30.0)
    assert SEARCH.scope(late) == SEARCH.scope(late + timedelta(days=90)) == "total:team=search"
    assert SEARCH.ends_in_s(late) is None


def test_an_answer_settles_where_it_was_reserved_whatever_caps_hold_by_then(here: Installation) -> None:
    worker = here.worker()
    (id_,) = here.ids(here.submit([new_task()]))
    (taken,) = here.claim(worker, [id_], caps=[DAY]).taken
    (scope,) = here.budgets()
    here.commit(worker, step((replace(taken[0], caps=()), taken[1]), SUCCEEDED, cost=70))
    assert here.budgets() == {scope: (2_000, 70, 0)}


def test_the_limit_is_the_callers_and_a_raised_one_is_no_longer_reached(here: Installation) -> None:
    batch, worker, ids = capped(here, 2, 500)
    held = HeldBack(60.0, (f"batch:{batch}",))
    here.store.write(lambda c: claims.claim(c, worker, "small", ids, learn_nothing, lambda _task: held))
    assert here.one(budgets_table).reached_at is not None
    here.set(chunks, chunks.c.batch_id == batch, not_before=here.now() + timedelta(seconds=60))
    here.store.write(lambda c: budgets.set_batch_cap(c, batch, 1_000))
    assert all(chunk.not_before <= here.now() for chunk in here.chunks(batch)), "what waits is due now"
    assert len(here.claim(worker, ids).taken) == 1
    assert here.one(budgets_table).reached_at is None
    assert here.budgets() == {f"batch:{batch}": (1_000, 0, 1_000)}


def test_a_cap_can_be_changed_and_not_added(here: Installation) -> None:
    batch = here.submit([new_task()])
    with pytest.raises(InvalidTask, match="without one"):
        here.store.write(lambda c: budgets.set_batch_cap(c, batch, 1_000))


def test_a_task_moves_down_with_a_decision_that_says_why(here: Installation) -> None:
    batch = here.submit([new_task(tier="large")], max_cost_nusd=500)
    worker, (id_,) = here.worker("large"), here.ids(batch)
    down = MovedDown("small", "moved down from large: the batch's cap is reached", "config-1", (f"batch:{batch}",))
    found = here.store.write(lambda c: claims.claim(c, worker, "large", [id_], learn_nothing, lambda _task: down))
    cut = here.store.write(lambda c: move_down(c, found.moved))
    assert [(chunk.tier, chunk.task_ids) for chunk in cut] == [("small", [id_])]
    row = here.task(id_)
    assert (row.state, row.tier, row.chunk_id) == ("queued", "small", cut[0].id)
    assert down.reason in {one.reason for one in here.rows(decisions, decisions.c.task_id == id_)}


def test_how_the_caps_stand_is_read_without_any_call(here: Installation) -> None:
    batch = here.submit([new_task()], max_cost_nusd=500)
    cap = here.read(budgets.read_batch_cap, batch)
    assert (str(cap), cap.when_reached) == ("the batch's cap", "fail")
    assert here.read(budgets.read_budgets, [cap]) == [(cap, budgets.Budget(500))]
    assert here.read(budgets.read_batch_cap, here.submit([new_task()])) is None


def test_uncapped_work_asks_nothing_more_of_the_store(here: Installation) -> None:
    worker, plain = here.worker(), here.ids(here.submit([new_task(), new_task()]))
    with statements(here.store) as seen:
        taken = here.claim(worker, plain, caps=[SEARCH]).taken
        here.commit(worker, *[step(one, SUCCEEDED) for one in taken])
    _, worker, ids = capped(here, 2, 5_000)
    with statements(here.store) as seen_capped:
        taken = here.claim(worker, ids).taken
        here.commit(worker, *[step(one, SUCCEEDED) for one in taken])
    assert not any("tierq_budget" in one for one in seen)
    assert len(seen_capped) == len(seen) + 5, "lock and write at the claim; attempts, lock and write at the answer"


def test_refusals_leave_no_trace_in_budgets_but_that_they_were_reached(here: Installation) -> None:
    batch, worker, ids = capped(here, 1, 500)
    refusal = Refusal("cap_reached", "no room", (f"batch:{batch}",))
    here.store.write(lambda c: claims.claim(c, worker, "small", ids, learn_nothing, lambda _task: refusal))
    assert here.budgets() == {f"batch:{batch}": (500, 0, 0)}
    assert here.one(budgets_table).reached_at is not None
