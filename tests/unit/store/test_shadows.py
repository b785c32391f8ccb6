"""Shadowing and drift: what is repeated on the next tier, what evidence comes of it, and what it leads to."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from sqlalchemy import insert

from tierq_shared.ids import new_id
from tierq_shared.policy import Decision, Signals
from tierq_shared.policy_document import DocumentRule, PolicyDocument, RuleEvidence
from tierq_shared.settings import ShadowSettings, WorkerSettings
from tierq_shared.store import drift, policies, shadows
from tierq_shared.store.outcomes import Ended
from tierq_shared.store.submission import decision_row
from tierq_shared.store.tables import batches, decisions, evidence, payloads, tasks
from tierq_workers.sweeper import Sweeper
from unit.store.installation import FAILED, Installation, new_task, step


def answer(here: Installation, label: str = "bug", *, tier: str = "small", **fields: Any) -> str:
    """A task that has succeeded on a tier; its id."""
    (task_id,) = here.ids(here.submit([new_task("K", tier=tier, **fields)]))
    finish(here, task_id, label, tier)
    return task_id


def finish(here: Installation, task_id: str, label: str, tier: str) -> None:
    worker = here.worker(tier)
    here.commit(worker, step(here.claim_one(worker, task_id, tier), Ended("succeeded", output=f'"{label}"')))


def shadow(here: Installation, *ids: str, tier: str = "medium") -> list[str]:
    """Shadows of tasks; their ids."""

    def work(connection: Any) -> Any:
        return shadows.insert_shadows(connection, [(one, tier) for one in shadows.answered(connection, ids)], "v1")

    return [id_ for chunk in here.store.write(work) for id_ in chunk.task_ids]


def judge(here: Installation) -> int:
    return here.store.write(shadows.judge_shadows)


# Shadows.


def test_a_shadow_is_a_task_of_its_own_in_a_batch_apart(here: Installation) -> None:
    constraints = orjson.dumps({"max_tier": "small", "require": {"region": "eu"}, "stakes": "high"}).decode()
    of = answer(here, constraints=constraints, tags='{"team":"support"}')
    (id_,) = shadow(here, of)
    row, original = here.task(id_), here.task(of)
    assert (row.shadow_of, row.state, row.tier, row.urgency, row.priority) == (of, "queued", "medium", "relaxed", 1)
    assert (row.spec_id, row.payload_hash, row.tags) == (original.spec_id, original.payload_hash, original.tags)
    assert orjson.loads(row.constraints) == {"pinned": True, "require": {"region": "eu"}}
    assert row.deadline is not None
    assert here.one(payloads, payloads.c.task_id == id_).input == here.one(payloads, payloads.c.task_id == of).input
    batch = here.one(batches, batches.c.id == row.batch_id)
    assert (batch.label, batch.state, batch.total) == ("shadow", "running", 1)
    decision = here.one(decisions, decisions.c.task_id == id_)
    assert (decision.reason, decision.policy_version) == (f"shadow of task {of} on small", "v1")
    assert orjson.loads(decision.signals)["stakes"] == "high"
    assert [chunk.tier for chunk in here.chunks(row.batch_id)] == ["medium"]


def test_shadows_of_a_day_are_one_batch_that_goes_on_when_it_had_ended(here: Installation) -> None:
    ids = [answer(here), answer(here), answer(here)]
    first = shadow(here, *ids[:2])
    assert (len(first), shadow(here, *ids[:2])) == (2, []), "a commit that seemed to have failed is tried again"
    batch_id = here.task(first[0]).batch_id
    for id_ in first:
        finish(here, id_, "bug", "medium")
    here.finish(batch_id)
    assert here.progress(batch_id).state == "finished"
    (last,) = shadow(here, ids[2])
    progress = here.progress(batch_id)
    assert (here.task(last).batch_id, progress.state, progress.total, progress.done) == (batch_id, "running", 3, 2)
    finish(here, last, "bug", "medium")
    here.finish(batch_id)
    progress = here.progress(batch_id)
    assert (progress.state, progress.label, progress.succeeded) == ("finished", "shadow", 3)


def test_what_is_no_measure_is_not_shadowed(here: Installation) -> None:
    pinned = answer(here, constraints='{"pinned":true}')
    (repeated,) = shadow(here, answer(here))
    generated = answer(here)
    here.set(tasks, tasks.c.id == generated, type="generate")
    assert shadow(here, pinned, repeated, generated) == []


# Evidence.


def test_the_higher_tiers_answer_judges_the_lower_ones(here: Installation) -> None:
    same, other = answer(here, "bug"), answer(here, "bug")
    ids = dict(zip((same, other), shadow(here, same, other), strict=True))
    assert judge(here) == 0, "no shadow has ended"
    finish(here, ids[same], "bug", "medium")
    finish(here, ids[other], "billing", "medium")
    assert (judge(here), judge(here)) == (2, 0)
    rows = {row.task_id: row for row in here.rows(evidence)}
    assert {id_: row.score for id_, row in rows.items()} == {same: 1.0, other: 0.0}
    row = rows[other]
    assert (row.source, row.sample, row.type, row.name, row.tier) == ("shadow", other, "classify", "triage", "small")
    assert (row.deployment, row.model, row.cost_nusd, row.latency_ms) == ("mini", "gpt-4o-mini", 10, 5)
    assert (row.input_tokens, row.failed) == (5, False)
    assert orjson.loads(row.details) == {"shadow": ids[other], "tier": "medium"}, "no answer goes into it"


def test_a_shadow_that_failed_says_nothing(here: Installation) -> None:
    (id_,) = shadow(here, answer(here))
    worker = here.worker("medium")
    here.commit(worker, step(here.claim_one(worker, id_, "medium"), FAILED))
    assert judge(here) == 0
    assert here.count(evidence) == 0


# Drift.

NEEDS_90 = RuleEvidence(verdict="derived", samples=100, quality=0.95, lower=0.91, upper=0.98, required=0.9)


def document(*rules: DocumentRule, version: str = "v1") -> PolicyDocument:
    at = datetime(2030, 1, 1, tzinfo=UTC)
    return PolicyDocument(version=version, created_at=at, tiers=("small", "medium", "large"), policy=rules)


def apply(here: Installation, one: PolicyDocument) -> None:
    here.store.write(lambda connection: policies.store(connection, one))
    here.store.write(lambda connection: policies.activate(connection, one.version, "applied by a test"))


def observe(
    here: Installation, scores: list[float], *, tier: str = "small", urgency: Any = "standard", name: str = "triage"
) -> None:
    """Live evidence, as shadows would leave it."""

    signals = Signals("classify", name, 5, "normal", urgency)
    at, ids = here.later(), [new_id() for _ in scores]
    why = [decision_row(id_, Decision(tier, "rule 1", signals, "v1"), at) for id_ in ids]
    shared = {"source": "shadow", "type": "classify", "name": name, "input_tokens": 5, "failed": False}
    shared |= {"tier": tier, "deployment": "mini", "model": "m", "created_at": at}
    rows = [{"id": id_, "task_id": id_, "sample": id_, "score": score} for id_, score in zip(ids, scores, strict=True)]

    def work(connection: Any) -> None:
        connection.execute(insert(decisions), why)
        connection.execute(insert(evidence), [shared | row for row in rows])

    here.store.write(work)


def move(here: Installation, window: int = 200, min_samples: int = 20) -> str | None:
    return here.store.write(lambda connection: drift.move_drifted(connection, window, min_samples))


def tiers(here: Installation) -> list[str]:
    return [rule.tier for rule in here.read(policies.active).policy]


WATCHED = DocumentRule(tier="small", type="classify", evidence=NEEDS_90)
REST = DocumentRule(tier="large")


def test_a_rule_whose_answers_got_worse_moves_up_by_itself_and_only_up(here: Installation) -> None:
    apply(here, document(WATCHED, REST))
    observe(here, [1.0] * 19 + [0.0])
    assert move(here) is None
    observe(here, [0.0] * 20)
    alarm = move(here)
    assert alarm is not None
    assert tiers(here) == ["medium", "large"]
    latest = here.read(policies.activations)[0]
    assert latest.version == "v1-drift-1"
    assert latest.reason.startswith("drift of v1, rule 1 (type=classify): 0.475 [0.329, 0.625] of 40 live answers")
    assert alarm == f"policy version v1-drift-1 is active: {latest.reason}"
    # Evidence of the tier that it left, good or bad, moves it no more.
    observe(here, [1.0] * 300)
    observe(here, [0.0] * 300)
    assert move(here) is None
    observe(here, [0.0] * 20, tier="medium")
    assert move(here) is not None
    assert tiers(here) == ["large", "large"]
    observe(here, [0.0] * 50, tier="large")
    assert move(here) is None, "there is nothing above the last tier"
    assert here.read(policies.active_version) == "v1-drift-2"


def test_whoever_puts_a_rule_back_down_is_believed_until_there_is_new_evidence(here: Installation) -> None:
    apply(here, document(WATCHED, REST))
    observe(here, [0.0] * 30)
    assert move(here) is not None
    here.store.write(lambda connection: policies.roll_back(connection, "a test"))
    assert (here.read(policies.active_version), move(here)) == ("v1", None)
    observe(here, [0.0] * 19)
    assert move(here) is None
    observe(here, [0.0])
    assert move(here) is not None
    assert here.read(policies.active_version) == "v1-drift-2"


def test_evidence_counts_for_the_rule_that_decided_alone(here: Installation) -> None:
    urgent = WATCHED.model_copy(update={"urgency": "interactive"})
    apply(here, document(urgent, WATCHED, REST))
    observe(here, [1.0] * 30, urgency="interactive")
    observe(here, [0.0] * 30, urgency="standard")
    assert move(here) is not None
    assert tiers(here) == ["small", "medium", "large"]


def test_only_the_latest_answers_count(here: Installation) -> None:
    apply(here, document(WATCHED, REST))
    observe(here, [0.0] * 100)
    observe(here, [1.0] * 40)
    assert move(here, window=40) is None
    assert move(here, window=140) is not None


@pytest.mark.parametrize("rule", [DocumentRule(tier="small"), DocumentRule(tier="large", evidence=NEEDS_90)])
def test_a_rule_that_nothing_is_required_of_or_nothing_is_above_stays(here: Installation, rule: DocumentRule) -> None:
    apply(here, document(rule))
    observe(here, [0.0] * 50, tier=rule.tier)
    assert move(here) is None


def test_the_configurations_own_policy_is_not_watched(here: Installation) -> None:
    observe(here, [0.0] * 50)
    assert move(here) is None
    assert here.read(policies.activations) == []


def test_the_sweeper_judges_and_raises_the_alarm_once(here: Installation, caplog: pytest.LogCaptureFixture) -> None:
    apply(here, document(WATCHED, REST))
    ids = [answer(here, "bug") for _ in range(10)]
    for id_, other in zip(ids, shadow(here, *ids), strict=True):
        finish(here, other, "billing", "medium")
        assert here.task(other).shadow_of == id_
    settings = ShadowSettings(min_samples=10, judge_every=0.001)
    sweeper = Sweeper(here.store, _Silent(), WorkerSettings(), lambda _ended: None, settings)  # type: ignore[arg-type]
    with caplog.at_level(logging.ERROR, "tierq.sweeper"):
        for _ in range(3):
            assert sweeper.sweep("me")
    assert len(caplog.records) == 1
    assert "policy version v1-drift-1 is active: drift of v1, rule 1" in caplog.text
    assert tiers(here) == ["medium", "large"]
    assert here.count(evidence) == 10


class _Silent:
    """A broker that nobody hears."""

    def publish(self, _chunks: Any) -> None:
        """Nothing is heard of it."""

    def publish_marker(self, *_marker: Any) -> None:
        """Nor of this."""
