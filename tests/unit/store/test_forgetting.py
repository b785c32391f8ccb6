"""Forgetting by key and by tag: what goes, what stays, and what becomes of tasks that had not ended."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tierq_shared.errors import InvalidTask, SchemaMismatch
from tierq_shared.store import actions, erasing, forgetting, inputs, shadows
from tierq_shared.store import connection as connecting
from tierq_shared.store.forgetting import Forgotten, Subject
from tierq_shared.store.outcomes import Ended
from tierq_shared.store.tables import evidence, payloads, tasks
from unit.store.installation import Installation, new_task, opened, step
from unit.store.private import EVERYWHERE, REFUSED, figures, plant, secrets_of

pytestmark = pytest.mark.timeout(60)


def forget(here: Installation, key: Any = None, tag: Any = None) -> Forgotten:
    return forgetting.forget(here.store, Subject.of(key, tag))


def recorded(here: Installation) -> list[tuple[str, str, dict[str, Any]]]:
    return [(one.action, one.target, one.details) for one in here.read(lambda c: list(actions.recent(c, 10)))]


def test_by_key_everything_private_goes_and_every_figure_stays(here: Installation) -> None:
    ids, other = [plant(here, "4711"), plant(here, "4711", REFUSED)], plant(here, "4712")
    before = [figures(here, id_) for id_ in ids]
    assert secrets_of(here, ids[0]) == secrets_of(here, other) == EVERYWHERE, "the search finds what is there"
    assert forget(here, key=4711) == Forgotten(tasks=2, cancelled=0, cache_entries=2)
    assert [secrets_of(here, id_) for id_ in ids] == [[], []]
    assert [figures(here, id_) for id_ in ids] == before
    assert [(row.key, row.payload_hash) for row in map(here.task, ids)] == [(None, "")] * 2, "names and hashes tell too"
    assert secrets_of(here, other) == EVERYWHERE
    assert here.task(other).key == "4712"
    assert recorded(here) == [("forget", "by key", {"tasks": 2, "cancelled": 0, "cache_entries": 2})]
    assert forget(here, key="4711") == Forgotten()


def test_by_tag_a_task_s_own_wins_over_its_batch_s(here: Installation) -> None:
    own, alike, foreign = (
        plant(here, tags=tags) for tags in ('{"customer":"4_"}', '{"customer":"42"}', '{"note":"customer:4_"}')
    )
    batch = here.submit([new_task("a"), new_task("b", tags='{"customer":"7"}')], tags='{"customer":"4_"}')
    assert forget(here, tag="customer=4_") == Forgotten(tasks=2, cancelled=1, cache_entries=1)
    assert secrets_of(here, own) == []
    assert secrets_of(here, alike) == secrets_of(here, foreign) == EVERYWHERE
    assert [here.task(id_).state for id_ in here.ids(batch)] == ["cancelled", "queued"]
    assert here.task(own).tags == '{"customer":"4_"}', "what is spent on a customer is still asked by it"
    assert recorded(here)[0][1] == "by tag customer", "the record does not say which"


def test_what_waits_is_cancelled_and_its_batch_ends(here: Installation) -> None:
    batch = here.submit([new_task("K"), new_task("L")])
    worker, (first, second) = here.worker(), here.ids(batch)
    here.commit(worker, step(here.claim_one(worker, second), REFUSED))
    assert forget(here, key="K") == Forgotten(tasks=1, cancelled=1)
    row = here.task(first)
    assert (row.state, row.error_code, row.chunk_id) == ("cancelled", "cancelled", None)
    assert here.one(payloads, payloads.c.task_id == first).input is None
    assert here.claim(worker, [first]).taken == []
    assert here.progress(batch).state == "finished"
    assert here.tally_counts(batch) == {"succeeded": 0, "failed": 1, "cancelled": 1, "expired": 0}


def test_what_runs_is_cancelled_and_its_call_is_charged_but_not_told(here: Installation) -> None:
    batch, worker = here.submit([new_task("K")]), here.worker()
    taken = here.claim_one(worker, *here.ids(batch))
    assert forget(here, key="K").cancelled == 1
    answer = step(taken, Ended("succeeded", output='"the secret answer"'), cost=10)
    assert answer.result is not None
    quoting = replace(answer, result=replace(answer.result, outcome="refused", error="the secret quote"))
    assert here.commit(worker, quoting).counted == [False]
    row = here.task(taken[0].id)
    assert (row.state, row.epoch, row.cost_nusd) == ("cancelled", 2, 10)
    assert [call.outcome for call in here.ledger(row.id)] == ["refused"]
    assert secrets_of(here, row.id) == []
    assert here.progress(batch).cost_nusd == 10


def test_a_call_of_a_worker_that_died_is_charged_to_the_forgotten_task(here: Installation) -> None:
    batch, worker = here.submit([new_task("K")]), here.worker()
    taken = here.claim_one(worker, *here.ids(batch), reserved=700)
    forget(here, key="K")
    here.kill(worker)
    assert here.settle(worker) == (True, [])
    assert here.task(taken[0].id).cost_nusd == here.progress(batch).cost_nusd == 700
    assert here.tally_counts(batch)["cancelled"] == 1


def test_shadows_go_with_their_tasks(here: Installation) -> None:
    id_, other = plant(here, "K"), plant(here, "L")

    def work(connection: Any) -> Any:
        found = shadows.answered(connection, [id_, other])
        return shadows.insert_shadows(connection, [(task, "medium") for task in found], "v1")

    chunks = here.store.write(work)
    repeated = {here.task(one).shadow_of: one for chunk in chunks for one in chunk.task_ids}
    assert forget(here, key="K") == Forgotten(tasks=2, cancelled=1, cache_entries=1)
    assert secrets_of(here, repeated[id_]) == []
    assert secrets_of(here, repeated[other]) == ["tierq_payload.input"]
    assert here.read(shadows.answered, [id_]) == [], "and none is made afterwards"


def test_shadows_that_were_forgotten_do_not_keep_others_from_being_judged(
    here: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadows, "_UNJUDGED", shadows._UNJUDGED.limit(1))
    for key in ("K", "L"):
        (id_,) = here.ids(here.submit([new_task(key)]))
        worker, above = here.worker(), here.worker("medium")
        here.commit(worker, step(here.claim_one(worker, id_), Ended("succeeded", output='"bug"')))
        made = here.store.write(
            lambda c, id_=id_: shadows.insert_shadows(c, [(shadows.answered(c, [id_])[0], "medium")], "v1")
        )
        ((again,),) = (chunk.task_ids for chunk in made)
        here.commit(above, step(here.claim_one(above, again, "medium"), Ended("succeeded", output='"bug"')))
    forget(here, key="K")
    assert here.store.write(shadows.judge_shadows) == 1
    assert here.task(here.one(evidence).task_id).key == "L"


def test_evaluations_know_a_key_by_their_samples(here: Installation) -> None:
    """The tasks of an evaluation have keys of their own; what their answers are paired by is the sample's."""
    ids = [plant(here, f"mini/{number}") for number in range(2)]
    for id_ in ids:
        here.set(evidence, evidence.c.task_id == id_, sample="K")
    assert forget(here, key="K").tasks == 2
    assert [secrets_of(here, id_) for id_ in ids] == [[], []]
    (paired,) = {row.sample for row in here.rows(evidence)}
    assert paired != "K"


def test_it_looks_through_everything_window_by_window(here: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasing, "WINDOW", 3)
    monkeypatch.setattr(forgetting, "SLICE", 2)
    batches_ = [here.submit([new_task("K"), new_task("L", tags='{"a":"b"}')]) for _ in range(7)]
    here.submit([new_task(str(number)) for number in range(5)], tags='{"a":"b"}')
    assert forget(here, key="K").tasks == 7
    assert forget(here, tag="a=b").tasks == 12
    assert {here.task(id_).state for batch in batches_ for id_ in here.ids(batch)} == {"cancelled"}


def test_stopped_half_way_it_goes_on_and_the_record_says_how_far_it_came(
    here: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [plant(here, "K") for _ in range(2)]
    slices, erase = iter([inputs.drop_inputs]), inputs.drop_inputs

    def once(connection: Any, task_ids: Any) -> None:
        next(slices, _interrupt)(connection, task_ids)

    monkeypatch.setattr(forgetting, "SLICE", 1)
    monkeypatch.setattr(forgetting, "drop_inputs", once)
    with pytest.raises(KeyboardInterrupt):
        forget(here, key="K")
    monkeypatch.setattr(forgetting, "drop_inputs", erase)
    assert forget(here, key="K").tasks == 1
    assert [secrets_of(here, id_) for id_ in ids] == [[], []]
    assert [details["tasks"] for _, _, details in recorded(here)] == [1, 1]


def _interrupt(_connection: Any, _task_ids: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "one of them"),
        ({"key": "K", "tag": "a=b"}, "one of them"),
        ({"tag": "customer"}, "name=value"),
        ({"tag": "=42"}, "name=value"),
        ({"key": " "}, "empty"),
    ],
)
def test_what_cannot_be_meant_is_refused(given: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidTask, match=said):
        Subject.of(**given)


def test_tables_of_the_release_before_are_refused(on_sqlite: Installation) -> None:
    on_sqlite.store.schema_version = "0005"
    with pytest.raises(SchemaMismatch, match="tierq migrate"):
        forget(on_sqlite, key="K")


def test_the_bytes_leave_sqlite_s_files(on_sqlite: Installation) -> None:
    """Also those of pages that rows were moved from, as a tree grows."""
    texts = [f"{'of nobody' if number % 2 else 'of somebody'} {number}" + " x" * number * 5 for number in range(300)]
    random.Random(5).shuffle(texts)
    for text in texts:
        on_sqlite.submit([new_task("K" if "somebody" in text else "L", text)])
    database = Path(on_sqlite.store.engine.url.database or "")

    def held() -> set[str]:
        content = database.read_bytes() + Path(f"{database}-wal").read_bytes()
        return {who for who in ("somebody", "nobody") if f"of {who}".encode() in content}

    assert held() == {"somebody", "nobody"}
    forget(on_sqlite, key="K")
    assert held() == {"nobody"}


def test_a_log_that_somebody_reads_is_told_of(
    on_sqlite: Installation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plant(on_sqlite, "K")
    monkeypatch.setattr(connecting, "_SQLITE_BUSY_S", 0.01)
    with opened(str(on_sqlite.store.engine.url)) as here, on_sqlite.store.reading() as reader:
        assert reader.execute(tasks.select()).fetchone()
        assert forget(here, key="K").tasks == 1
    assert "try again later" in caplog.text
