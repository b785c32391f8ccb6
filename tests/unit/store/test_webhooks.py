"""The outbox of the webhooks: what happened is found once, nothing from before, and sent by one worker at a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import orjson
import pytest

from tierq_shared.policy_document import DocumentRule
from tierq_shared.store import schema, webhook_events, webhooks
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import batches, budgets, evaluations, tasks
from tierq_shared.store.tables import webhooks as table
from tierq_shared.store.webhooks import Message, Verdict
from tierq_shared.webhooks import Endpoint
from tierq_workers import noticing
from tierq_workers.noticing import Noticing
from unit.store.installation import FAILED, SUCCEEDED, Installation, new_task, step
from unit.store.test_shadows import NEEDS_90, answer, apply, document, finish, move, observe, shadow

URL = "https://hooks.example.com/tierq"
EVENTS = ("batch.finished", "budget.reached", "policy.drifted")


def endpoint(name: str = URL, *events: str, tag: str | None = None, min_tasks: int = 1) -> Endpoint:
    return Endpoint(name, name, b"k" * 24, frozenset(events or EVENTS), tag, min_tasks, allow_private=False)


def configured(here: Installation, *endpoints: Endpoint) -> Noticing:
    """A sweep that knows these endpoints, and has noted since when they are told."""
    sweep = Noticing(here.store, endpoints or [endpoint()])
    sweep.look()
    here.later()
    return sweep


def end(here: Installation, *, count: int = 1, cost: int | None = 10, **fields: Any) -> str:
    """A batch whose tasks have all succeeded; its id."""
    batch_id = here.submit([new_task() for _ in range(count)], **fields)
    worker = here.worker()
    claimed = here.claim(worker, here.ids(batch_id)).taken
    here.commit(worker, *(step(taken, SUCCEEDED, cost=cost) for taken in claimed))
    here.finish(batch_id)
    return batch_id


def outbox(here: Installation, name: str = URL) -> list[dict[str, Any]]:
    """The bodies of the events for an endpoint."""
    rows = here.rows(table, table.c.state != "since", table.c.endpoint == name, order=table.c.id)
    return [orjson.loads(row.body) for row in rows]


def told(here: Installation, name: str = URL) -> list[str]:
    return [body["data"]["batch_id"] for body in outbox(here, name)]


def take(here: Installation, name: str = URL, limit: int = 10) -> list[Message]:
    return here.store.write(lambda connection: webhooks.take_due(connection, name, 60.0, limit))


def settle(here: Installation, message: Message, *verdict: Any) -> None:
    here.store.write(lambda connection: webhooks.settle(connection, message, Verdict(*verdict)))


# What is noticed.


def test_an_ended_batch_is_told_once_with_what_it_came_to_and_nothing_private(here: Installation) -> None:
    sweep = configured(here)
    batch_id = end(here, count=2, key="secret-key", label="March", tags='{"team":"support"}')
    sweep.look()
    sweep.look()
    configured(here)
    Noticing(here.store, [endpoint()]).look()
    (body,) = outbox(here)
    finished_at = here.one(batches, batches.c.id == batch_id).finished_at.isoformat()
    assert body == {
        "type": "batch.finished",
        "timestamp": finished_at,
        "data": {
            "batch_id": batch_id,
            "label": "March",
            "tags": {"team": "support"},
            "state": "finished",
            "total": 2,
            "counts": {"succeeded": 2, "failed": 0, "cancelled": 0, "expired": 0},
            "cost_usd": "0.00000002",
            "finished_at": finished_at,
        },
    }


def test_an_unknown_cost_is_null(here: Installation) -> None:
    sweep = configured(here)
    end(here, cost=None)
    sweep.look()
    assert outbox(here)[0]["data"]["cost_usd"] is None


def test_what_ended_before_the_endpoint_was_configured_is_not_told(here: Installation) -> None:
    end(here)
    here.later()
    sweep = configured(here)
    batch_id = end(here)
    sweep.look()
    assert told(here) == [batch_id]


def test_a_type_that_is_added_later_is_told_of_from_then_on(here: Installation) -> None:
    configured(here, endpoint(URL, "budget.reached"))
    end(here)
    here.later()
    sweep = configured(here, endpoint(URL, "budget.reached", "batch.finished"))
    batch_id = end(here)
    sweep.look()
    assert told(here) == [batch_id]


def test_a_batch_that_is_sent_again_ends_again(here: Installation) -> None:
    sweep = configured(here)
    batch_id = end(here)
    sweep.look()
    here.later()
    here.set(batches, batches.c.id == batch_id, finished_at=here.now())
    sweep.look()
    assert told(here) == [batch_id, batch_id]


def test_only_batches_with_the_tag_and_of_so_many_tasks_are_told(here: Installation) -> None:
    few, tagged = endpoint("https://a.example/", min_tasks=2), endpoint("https://b.example/", tag="team=a")
    sweep = configured(here, few, tagged)
    single, pair = end(here, tags='{"team":"a"}'), end(here, count=2, tags='{"team":"b"}')
    sweep.look()
    assert (told(here, few.name), told(here, tagged.name)) == ([pair], [single])


def test_a_cancelled_batch_says_so_and_one_that_runs_nothing(here: Installation) -> None:
    sweep = configured(here)
    here.submit([new_task()])
    batch_id = end(here)
    here.cancel(batch_id)
    sweep.look()
    assert [(one["data"]["batch_id"], one["data"]["state"]) for one in outbox(here)] == [(batch_id, "cancelled")]


def test_tierqs_own_batches_are_not_told(here: Installation) -> None:
    sweep = configured(here)
    original = answer(here)
    (repeated,) = shadow(here, original)
    finish(here, repeated, "bug", "medium")
    here.finish(here.task(repeated).batch_id, here.task(original).batch_id)
    evaluation = "e" * 32
    here.put(evaluations, id=evaluation, samples_hash="", document="{}", created_at=here.now())
    for key in (f"evaluation:{evaluation}", f"evaluation:{evaluation}:judge"):
        end(here, key=key)
    ours = end(here, key="evaluation:of-a-users-own")
    sweep.look()
    assert set(told(here)) == {here.task(original).batch_id, ours}


def test_a_late_commit_is_found_by_looking_at_the_last_minutes_again(here: Installation) -> None:
    sweep = configured(here)
    stamped = here.later()
    sweep.look()
    here.later()
    end(here)
    sweep.look()
    late = end(here)
    here.set(batches, batches.c.id == late, finished_at=stamped)
    sweep.look()
    assert late in told(here)


def test_more_than_a_slice_is_told_wholly(here: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (noticing, webhook_events):
        monkeypatch.setattr(module, "SLICE", 2)
    monkeypatch.setattr(noticing, "_SLICES", 2)
    sweep = configured(here)
    ids = [end(here) for _ in range(5)]
    # The last two at the very same time: a slice may end between them.
    here.set(batches, batches.c.id.in_(ids[3:]), finished_at=here.now())
    sweep.look()
    assert len(told(here)) == 4
    sweep.look()
    assert sorted(told(here)) == sorted(ids)


def test_a_reached_cap_is_told_in_words(here: Installation) -> None:
    sweep = configured(here, endpoint(tag="team=a"))
    mine, other = end(here, tags='{"team":"a"}'), end(here)
    at = here.later()
    for scope in ("day:2026-11-24:team=search", "total", f"batch:{mine}", f"batch:{other}"):
        here.put(budgets, scope=scope, limit_nusd=2_000_000_000, spent_nusd=1_999_999_999, reached_at=at)
    here.put(budgets, scope="month:2026-11", limit_nusd=1)
    sweep.look()
    sweep.look()
    found = {body["data"]["cap"]: body for body in outbox(here) if body["type"] == "budget.reached"}
    assert set(found) == {
        "the cap per day on team=search",
        "the cap in total on everything",
        f"the cap of batch {mine}",
    }
    assert found["the cap per day on team=search"]["data"] == {
        "cap": "the cap per day on team=search",
        "scope": "day:2026-11-24:team=search",
        "limit_usd": "2",
        "spent_usd": "1.999999999",
        "reached_at": at.isoformat(),
    }


def test_a_rule_that_drifted_is_told_with_its_versions(here: Installation) -> None:
    apply(here, document(DocumentRule(tier="small", type="classify", evidence=NEEDS_90), DocumentRule(tier="large")))
    sweep = configured(here)
    observe(here, [0.0] * 30)
    assert move(here) is not None
    sweep.look()
    (body,) = outbox(here)
    reason = body["data"].pop("reason")
    assert reason.startswith("drift of v1, rule 1 (type=classify): 0.000")
    drifted = {"version_before": "v1", "version": "v1-drift-1", "rule": 1, "conditions": "type=classify"}
    assert (body["type"], body["data"]) == ("policy.drifted", drifted)


def test_on_the_tables_of_the_release_before_nothing_is_looked_for(here: Installation) -> None:
    here.store.schema_version = "0005"
    Noticing(here.store, [endpoint()]).look()
    here.store.schema_version = schema.HEAD
    assert here.count(table) == 0


# What is sent.


@pytest.fixture
def messages(here: Installation) -> Sequence[Message]:
    """Two that are due, taken."""
    sweep = configured(here)
    end(here)
    end(here)
    sweep.look()
    return take(here)


def test_what_is_taken_is_nobody_elses_until_its_time_is_up(here: Installation, messages: Sequence[Message]) -> None:
    other = Store(here.store.engine.url.render_as_string(hide_password=False))
    assert [one.tries for one in messages] == [1, 1]
    assert other.write(lambda connection: webhooks.take_due(connection, URL, 60.0, 10)) == []
    assert not here.read(webhooks.any_due, URL)
    other.close()
    here.set(table, table.c.state == "pending", next_at=here.now() - timedelta(seconds=1))
    assert here.read(webhooks.any_due, URL)
    assert take(here, "https://another.example/") == []
    assert [(one.id, one.tries) for one in take(here, limit=1)] == [(messages[0].id, 2)]


def test_what_came_of_it_is_recorded(here: Installation, messages: Sequence[Message]) -> None:
    settle(here, messages[0], "delivered", 204, None)
    settle(here, messages[1], "pending", 500, "was answered 500", 300.0)
    first, second = (here.one(table, table.c.id == one.id) for one in messages)
    assert (first.state, first.http_status, first.error, first.next_at) == ("delivered", 204, None, None)
    assert first.ended_at >= first.created_at
    assert (second.state, second.http_status, second.error, second.ended_at) == (
        "pending",
        500,
        "was answered 500",
        None,
    )
    assert timedelta(seconds=290) < second.next_at - here.now() <= timedelta(seconds=300)


def test_an_answer_that_comes_after_another_worker_took_over_counts_no_more(
    here: Installation, messages: Sequence[Message]
) -> None:
    here.set(table, table.c.id == messages[0].id, next_at=here.now() - timedelta(seconds=1))
    (again,) = take(here)
    settle(here, messages[0], "failed", 500, "was answered 500")
    assert here.one(table, table.c.id == again.id).state == "pending"
    settle(here, again, "delivered", 200, None)
    assert here.one(table, table.c.id == again.id).state == "delivered"


def test_what_was_given_up_is_sent_again_with_all_its_tries(here: Installation, messages: Sequence[Message]) -> None:
    delivered, failed = messages
    settle(here, delivered, "delivered", 200, None)
    settle(here, failed, "failed", 410, "was answered 410")
    assert not here.store.write(lambda connection: webhooks.send_again(connection, delivered.id))
    assert here.store.write(webhooks.send_failed_again) == 1
    assert [(one.id, one.tries) for one in take(here)] == [(failed.id, 1)]
    assert here.store.write(lambda connection: webhooks.send_again(connection, failed.id)), "though its next try waits"
    assert [(one.id, one.tries) for one in take(here)] == [(failed.id, 2)]


def test_the_latest_are_listed_first_and_found_by_the_beginning_of_their_ids(
    here: Installation, messages: Sequence[Message]
) -> None:
    assert [one.id for one in here.read(webhooks.recent, 10)] == [messages[1].id, messages[0].id]
    assert [one.id for one in here.read(webhooks.recent, 1)] == [messages[1].id]
    assert [one.id for one in here.read(webhooks.beginning_with, messages[0].id[:-1], 5)] == [messages[0].id]


def test_old_rows_are_forgotten_but_not_what_is_to_be_sent(here: Installation, messages: Sequence[Message]) -> None:
    settle(here, messages[0], "delivered", 200, None)
    assert here.store.write(webhooks.forget_old) == 0
    for number, message in enumerate(messages):
        here.set(table, table.c.id == message.id, id=f"00000000000{number}" + "0" * 20)
    assert here.store.write(webhooks.forget_old) == 1
    assert [row.state for row in here.rows(table, table.c.state != "since")] == ["pending"]


def test_a_failed_task_is_counted(here: Installation) -> None:
    sweep = configured(here)
    batch_id = here.submit([new_task()])
    worker = here.worker()
    here.commit(worker, step(here.claim_one(worker, here.ids(batch_id)[0]), FAILED))
    here.finish(batch_id)
    sweep.look()
    assert outbox(here)[0]["data"]["counts"]["failed"] == here.count(tasks, tasks.c.state == "failed") == 1
