"""Evaluations and their evidence in the store: picked up by what they are, and written once a task."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import func, select

from tierq_insight.evaluation import record
from tierq_insight.evaluation.record import Judged, Plan
from tierq_shared.store.tables import evaluations, evidence
from unit.store.installation import Installation

PLAN = Plan("ab" * 32, "tickets.csv", {"mini": {"tier": "small", "model": "gpt-4o-mini"}}, None)
ANSWER = Judged(
    task_id="t1",
    sample="T-1",
    type="classify",
    name="intent",
    input_tokens=58,
    tier="small",
    deployment="mini",
    model="gpt-4o-mini",
    score=1.0,
    failed=False,
    details={"expected": "bug", "given": "bug"},
    confidence=0.9,
    cost_nusd=12_345,
    latency_ms=321,
)


def test_the_same_plan_is_the_same_evaluation(here: Installation) -> None:
    first = record.open_evaluation(here.store, PLAN, fresh=False)
    assert record.open_evaluation(here.store, PLAN, fresh=False) == first
    other_model = replace(PLAN, deployments={"mini": {"tier": "small", "model": "gpt-5"}})
    assert record.open_evaluation(here.store, other_model, fresh=False).id != first.id
    assert record.open_evaluation(here.store, replace(PLAN, samples_hash="cd" * 32), fresh=False).id != first.id


def test_a_fresh_one_is_another_which_is_then_picked_up(here: Installation) -> None:
    first = record.open_evaluation(here.store, PLAN, fresh=False)
    record.finish(here.store, first)
    second = record.open_evaluation(here.store, PLAN, fresh=True)
    assert second.id != first.id
    assert record.open_evaluation(here.store, PLAN, fresh=False) == second
    third = record.open_evaluation(here.store, PLAN, fresh=True)
    assert len({first.id, second.id, third.id}) == 3


def test_a_finished_one_is_known_as_finished(here: Installation) -> None:
    opened = record.open_evaluation(here.store, PLAN, fresh=False)
    with here.store.reading() as connection:
        assert record.find_evaluation(connection, PLAN) == opened
    record.finish(here.store, opened)
    with here.store.reading() as connection:
        found = record.find_evaluation(connection, PLAN)
        row = connection.execute(select(evaluations)).one()
    assert found is not None
    assert found.is_finished
    assert (row.label, row.samples_hash) == ("tickets.csv", PLAN.samples_hash)
    assert row.finished_at >= row.created_at


def test_evidence_is_a_row_a_task_however_often_it_is_judged(here: Installation) -> None:
    evaluation = record.open_evaluation(here.store, PLAN, fresh=False)
    many = [replace(ANSWER, task_id=f"t{number}") for number in range(450)]
    record.keep(here.store, evaluation, many)
    record.keep(here.store, evaluation, many)
    judged_anew = replace(many[7], score=0.0, failed=True, details={"expected": "bug", "given": None}, cost_nusd=None)
    record.keep(here.store, evaluation, [judged_anew])
    with here.store.reading() as connection:
        assert connection.execute(select(func.count()).select_from(evidence)).scalar_one() == 450
        assert set(connection.execute(select(evidence.c.source)).scalars()) == {"evaluation"}
        found = {one.task_id: one for one in record.read(connection, evaluation.id)}
        assert record.read(connection, "another") == []
    assert found == {one.task_id: one for one in [*many, judged_anew]}
