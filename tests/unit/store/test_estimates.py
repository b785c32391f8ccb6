"""What estimates are learned from, exact to the call; and quotes that are kept with their batches."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from support.quoting import LearnedQuoter, intent, tally_of
from tierq_insight.quotes import accuracy, quoted_batches
from tierq_shared.money import Usage
from tierq_shared.quoting.cells import frame_of
from tierq_shared.quoting.history import History
from tierq_shared.store import submission
from tierq_shared.store.estimates import CallGroup, recent_calls
from tierq_shared.store.outcomes import Requeued
from tierq_shared.store.tables import attempts, batches
from unit.store.installation import FAILED, SPEC, SUCCEEDED, Installation, new_attempt, new_batch, new_task, step

INPUT_BYTES = 5 * 4.0
"""What decisions say of a task here, in bytes by the rule of thumb."""


def groups_of(here: Installation, **options: Any) -> dict[tuple[str, str | None], CallGroup]:
    found: list[CallGroup] = here.read(recent_calls, **options)
    return {(one.tier, one.came_from): one for one in found}


def run_tasks(here: Installation, *usages: Usage) -> list[str]:
    """Tasks that succeed at their first call; their ids."""
    batch_id = here.submit([new_task(str(number)) for number, _ in enumerate(usages)])
    worker = here.worker()
    for id_, usage in zip(here.ids(batch_id), usages, strict=True):
        here.commit(worker, step(here.claim_one(worker, id_), SUCCEEDED, usage=usage))
    here.finish(batch_id)
    return here.ids(batch_id)


def test_calls_are_added_up_exactly(here: Installation) -> None:
    run_tasks(here, Usage(100, 20, 5, 7, 0), Usage(140, 0, 0, 9, 0))
    ((_, group),) = groups_of(here).items()
    sums = group.sums
    assert (group.spec_id, group.tier, group.deployment) == (SPEC.id, "small", "mini")
    assert (sums.calls, sums.first_calls, sums.succeeded, sums.answered, sums.reasks) == (2, 2, 2, 2, 0)
    assert (sums.prompt, sums.prompt_squared) == (2 * INPUT_BYTES, 2 * INPUT_BYTES**2)
    assert (sums.tokens, sums.tokens_squared, sums.prompt_by_tokens) == (240, 100**2 + 140**2, 240 * INPUT_BYTES)
    assert (sums.output, sums.output_squared, sums.cached, sums.written) == (16, 49 + 81, 20, 5)
    assert (sums.answered_cost, sums.unknown_cost, sums.latency, sums.latency_squared) == (20, 0, 10, 50)


def test_reasks_unknown_outcomes_and_calls_under_way_are_told_apart(here: Installation) -> None:
    batch_id = here.submit([new_task("a"), new_task("b"), new_task("c")])
    worker = here.worker()
    first, second, third = here.ids(batch_id)
    taken = here.claim_one(worker, first)
    again = replace(new_attempt(taken[0], ordinal=2), lane="reask")
    here.commit(worker, step(taken, again, outcome="invalid_output", usage=Usage(100, 0, 0, 50, 0)))
    here.commit(worker, step((taken[0], again), SUCCEEDED, usage=Usage(160, 0, 0, 8, 0)))
    here.commit(worker, step(here.claim_one(worker, second), FAILED, outcome="unknown", usage=Usage(), cost=999))
    here.claim_one(worker, third)
    (group,) = groups_of(here).values()
    assert (group.sums.calls, group.sums.first_calls, group.sums.answered, group.sums.reasks) == (3, 2, 2, 1)
    assert (group.sums.tokens, group.sums.unknown_cost, group.sums.answered_cost) == (260, 999, 20)


def test_what_measures_an_answer_serves_no_task(here: Installation) -> None:
    (id_,) = here.ids(here.submit([new_task("a")]))
    small, large = here.worker(), here.worker("large")
    taken = here.claim_one(small, id_)
    sample = replace(new_attempt(taken[0], ordinal=2), lane="sample")
    verdict = replace(new_attempt(taken[0], ordinal=3), lane="verify", deployment="pro")
    here.commit(small, step(taken, sample, usage=Usage(100, 0, 0, 5, 0)))
    here.commit(small, step((taken[0], sample), verdict, usage=Usage(100, 0, 0, 5, 0)))
    unsure = Requeued("large", reason="escalated from small: not confident: 0.61 < 0.83")
    here.commit(small, step((taken[0], verdict), unsure, usage=Usage(900, 0, 0, 1, 0)))
    here.commit(large, step(here.claim_one(large, id_, "large"), SUCCEEDED, usage=Usage(100, 0, 0, 5, 0)))
    groups = groups_of(here)
    assert {place: group.sums.calls for place, group in groups.items()} == {("small", None): 1, ("large", "small"): 1}
    assert {group.sums.tokens for group in groups.values()} == {100}


def test_an_escalated_call_says_where_it_came_from(here: Installation) -> None:
    (id_,) = here.ids(here.submit([new_task("a")]))
    small, large = here.worker(), here.worker("large")
    taken = here.claim_one(small, id_)
    here.commit(small, step(taken, Requeued("large", reason="escalated from small: too_long"), outcome="too_long"))
    here.commit(large, step(here.claim_one(large, id_, "large"), SUCCEEDED, usage=Usage(100, 0, 0, 5, 0)))
    groups = groups_of(here)
    assert set(groups) == {("small", None), ("large", "small")}
    assert groups["large", "small"].sums.prompt == INPUT_BYTES
    history = History(list(groups.values()), [SPEC])
    assert history.escalated(next(iter(tally_of([intent("x")]).cells.values()))).share > 0.05


def test_only_the_latest_calls_count(here: Installation) -> None:
    run_tasks(here, *[Usage(1_000, 0, 0, 5, 0)] * 3, *[Usage(100, 0, 0, 5, 0)] * 2)
    (group,) = groups_of(here, limit=2).values()
    assert (group.sums.calls, group.sums.tokens) == (2, 200)


def test_a_history_knows_the_constant_part_of_its_specs(here: Installation) -> None:
    constant = frame_of(SPEC).constant_bytes
    tokens = round((constant + INPUT_BYTES) * 0.4)
    run_tasks(here, *[Usage(tokens, 0, 0, 6, 0)] * 40)
    history = History.read(here.store)
    cell = next(iter(tally_of([intent("x")]).cells.values()))
    learned = history.of(replace(cell, spec_id=SPEC.id), "mini")
    assert learned.tokens_a_byte.value == pytest.approx(0.4, rel=0.01)
    assert learned.answer_tokens.value == pytest.approx(6, rel=0.02)
    assert (learned.calls, history.calls) == (40, 40)


def test_a_quote_is_kept_and_compared_with_what_came_of_it(here: Installation) -> None:
    quote = LearnedQuoter(History()).quote(tally_of([intent("a text"), intent("another")]))
    assert quote.cost_nusd is not None
    batch = replace(new_batch(), quote=quote.json())

    def submit(connection: Any) -> None:
        submission.insert_batch(connection, batch, total=2)
        submission.insert_slice(connection, batch.id, 0, [new_task("a"), new_task("b")], fresh=True)

    here.store.write(submit)
    plain = here.submit([new_task("c")])
    before = here.progress(batch.id)
    assert (before.quote, before.quote_error, before.seconds) == (quote, None, None)

    worker = here.worker()
    for id_ in here.ids(batch.id):
        here.commit(worker, step(here.claim_one(worker, id_), SUCCEEDED, cost=quote.cost_nusd.expected))
    here.finish(batch.id)

    after = here.progress(batch.id)
    assert after.quote_error == pytest.approx(-0.5)
    (found,) = quoted_batches(here.store)
    assert (found.batch_id, found.cost_nusd) == (batch.id, 2 * quote.cost_nusd.expected)
    assert (found.cost_error, found.is_in_range) == (after.quote_error, False)
    assert quoted_batches(here.store, batch_id=batch.id) == [found]
    assert quoted_batches(here.store, batch_id=plain) == []
    assert quoted_batches(here.store, since=here.now() + timedelta(hours=1)) == []
    assert quoted_batches(here.store, before=here.now() + timedelta(hours=1)) == [found]
    told = accuracy([found])
    assert (told.batches, told.median_cost_error, told.in_range) == (1, pytest.approx(0.5), 0)
    assert accuracy([]).median_cost_error is None


def test_time_waits_behind_the_backlog_of_its_tier(here: Installation) -> None:
    tally = tally_of([intent("a text")])
    alone = LearnedQuoter(History(), store=here.store).quote(tally)
    assert any("no live worker serves tier 'small'" in note for note in alone.notes)
    here.submit([new_task(str(number)) for number in range(500)])
    here.worker()
    here.worker()
    behind = LearnedQuoter(History(), store=here.store).quote(tally)
    assert alone.seconds is not None
    assert behind.seconds is not None
    assert (behind.tiers["small"].workers, behind.tiers["small"].backlog, behind.notes[0][:10]) == (
        2,
        500,
        "the ledger",
    )
    assert behind.seconds.expected > 1.5 * alone.seconds.expected


def test_a_batch_without_a_quote_has_none(here: Installation) -> None:
    run_tasks(here, Usage(100, 0, 0, 5, 0))
    (row,) = here.rows(batches)
    assert row.quote is None
    assert here.progress(row.id).quote_error is None
    assert here.count(attempts) == 1
