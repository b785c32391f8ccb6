"""Payloads at rest: what is encrypted, what is read without a key, and how keys are changed."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import select

from tierq_console.commands import config, doctor, rekey
from tierq_shared.errors import ConfigurationError, PayloadLocked, SchemaMismatch
from tierq_shared.store import actions, dead_letters, reading, rekeying, sealed, shadows
from tierq_shared.store.claims import LOCKED_S
from tierq_shared.store.connection import Store
from tierq_shared.store.outcomes import Ended
from tierq_shared.store.tables import attempts, evidence, payloads, tasks
from unit.store.installation import Installation, new_task, step
from unit.store.private import REFUSED, as_stored, plant

OLD, NEW = (base64.urlsafe_b64encode(bytes([number]) * 32).decode() for number in (1, 2))
PRIVATE = (payloads.c.input, payloads.c.output, payloads.c.error, attempts.c.error, evidence.c.details)

pytestmark = pytest.mark.timeout(60)


class Keys:
    """What this process has for keys."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._environment = monkeypatch

    def use(self, *keys: str) -> None:
        self._environment.setenv(sealed.KEYS_VARIABLE, ",".join(keys))
        sealed.cipher.cache_clear()


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[Keys]:
    yield Keys(monkeypatch)
    monkeypatch.undo()
    sealed.cipher.cache_clear()


def stored(here: Installation) -> list[str]:
    """All private texts, as they are in the database."""
    return [text for column in PRIVATE for text in as_stored(here, column)]


def read_all(here: Installation) -> list[str]:
    found = [here.read(lambda c, column=column: c.execute(select(column)).scalars().all()) for column in PRIVATE]
    return sorted(text for texts in found for text in texts if text is not None)


def outcomes_of(here: Installation, id_: str) -> Any:
    batch = here.task(id_).batch_id
    return here.read(lambda c: reading.outcomes_after(c, batch, -1, 10, {}, lambda _spec, _type, value: value))


def test_every_private_text_is_encrypted_and_read_as_it_was(here: Installation, keys: Keys) -> None:
    keys.use(NEW)
    answered, refused = plant(here), plant(here, ended=REFUSED)
    here.store.write(lambda c: shadows.insert_shadows(c, [(shadows.answered(c, [answered])[0], "medium")], "v1"))
    texts = stored(here)
    assert len(texts) == 9
    assert all(text.startswith("fernet:") for text in texts)
    (good,), (bad,) = outcomes_of(here, answered), outcomes_of(here, refused)
    assert good.output == "the secret answer"
    assert bad.error.message == "it said the secret error"
    (group,) = here.read(dead_letters.failures, bad.batch_id).groups
    assert group.example.attempts[0].error == "the secret quote"


def test_what_was_written_before_stays_readable_and_rekey_encrypts_it(here: Installation, keys: Keys) -> None:
    before = plant(here)
    assert not any(text.startswith("fernet:") for text in stored(here))
    keys.use(OLD)
    after = plant(here)
    plain = read_all(here)
    assert [one.output for id_ in (before, after) for one in outcomes_of(here, id_)] == ["the secret answer"] * 2
    assert rekeying.rekey(here.store) == 4
    keys.use(NEW, OLD)
    told: list[int] = []
    assert rekeying.rekey(here.store, told.append) == told[-1] == 8
    assert rekeying.rekey(here.store) == 0, "what is done stays as it is"
    keys.use(NEW)
    assert read_all(here) == plain
    done = here.read(lambda c: [(one.action, one.details) for one in actions.recent(c, 3)])
    assert done == [("rekey", {"texts": 0}), ("rekey", {"texts": 8}), ("rekey", {"texts": 4})]


def test_rekey_goes_through_long_tables_in_slices(
    here: Installation, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rekeying, "SLICE", 3)
    here.submit([new_task(text=str(number)) for number in range(8)])
    keys.use(NEW)
    assert rekeying.rekey(here.store) == 8


def test_without_the_key_reading_says_what_to_do(here: Installation, keys: Keys) -> None:
    keys.use(OLD)
    id_ = plant(here)
    keys.use(NEW)
    with pytest.raises(PayloadLocked, match="TIERQ_PAYLOAD_KEYS does not have: add"):
        outcomes_of(here, id_)
    with pytest.raises(PayloadLocked):
        rekeying.rekey(here.store)
    keys.use()
    with pytest.raises(PayloadLocked, match="set TIERQ_PAYLOAD_KEYS"):
        outcomes_of(here, id_)
    with pytest.raises(ConfigurationError, match=r"tierq rekey --new"):
        rekeying.rekey(here.store)


def test_a_worker_without_the_key_leaves_a_task_to_others(here: Installation, keys: Keys) -> None:
    keys.use(OLD)
    (locked,), worker = here.ids(here.submit([new_task()])), here.worker()
    keys.use(NEW)
    (open_,) = here.ids(here.submit([new_task()]))
    claims = here.claim(worker, [locked, open_])
    assert [task.id for task, _ in claims.taken] == [open_]
    assert (claims.left, claims.held, claims.locked) == ([locked], {locked: LOCKED_S}, [locked])
    assert (here.task(locked).state, here.task(locked).attempts, here.ledger(locked)) == ("queued", 0, [])
    keys.use(NEW, OLD)
    assert here.claim_one(worker, locked)[0].input_json == '{"text":"the text"}'


def test_a_stored_answer_that_cannot_be_opened_is_none(here: Installation, keys: Keys) -> None:
    keys.use(OLD)
    plant(here)
    here.set(payloads, output='"bug"')
    same = {"constraints": '{"cache":true}', "text": "one text"}
    worker, (source,) = here.worker(), here.ids(here.submit([new_task(**same)]))
    here.commit(worker, step(here.claim_one(worker, source), Ended("succeeded", output='"bug"')))
    keys.use(NEW)
    claims = here.claim(worker, here.ids(here.submit([new_task(**same)])))
    assert (len(claims.taken), claims.answered) == (1, [])


@pytest.mark.parametrize("text", ["fernet:gAAAAA", "plain:fernet:x", "plain:plain:fernet:", "plain: text", "fernet"])
def test_a_provider_s_text_that_looks_encrypted_is_only_text(here: Installation, text: str) -> None:
    id_ = plant(here, ended=Ended("failed", error_code="refused", error=text))
    (outcome,) = outcomes_of(here, id_)
    assert outcome.error.message == text


@pytest.mark.parametrize("given", [f"{OLD},nonsense", "x" * 43, f"{OLD},,{NEW}"])
def test_a_key_that_is_none_is_refused_when_a_store_is_opened(given: str, keys: Keys) -> None:
    keys.use(given)
    with pytest.raises(ConfigurationError, match=r"TIERQ_PAYLOAD_KEYS: key \d of \d is no Fernet key") as refused:
        Store("sqlite://")
    assert not any(part in str(refused.value) for part in given.split(",") if part)


def test_keys_come_from_a_file_too(tmp_path: Any, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "keys").write_text(f"{NEW},{OLD}\n")
    monkeypatch.setenv(f"{sealed.KEYS_VARIABLE}_FILE", str(tmp_path / "keys"))
    keys.use()
    found = sealed.cipher()
    assert found is not None
    assert found.keys == 2


def test_the_commands_tell_of_keys_and_never_show_one(
    on_sqlite: Installation, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIERQ_DATABASE_URL", str(on_sqlite.store.engine.url))
    assert "payloads" in (told := CliRunner().invoke(doctor.command).output)
    assert "not encrypted" in told
    keys.use(NEW, OLD)
    told = CliRunner().invoke(doctor.command).output + CliRunner().invoke(config.command).output
    assert "encrypted with the first of 2 keys" in told
    assert "environment TIERQ_PAYLOAD_KEYS" in told
    assert NEW not in told
    assert OLD not in told
    keys.use(CliRunner().invoke(rekey.command, ["--new"]).output.strip())
    assert CliRunner().invoke(rekey.command).output == "0 texts were encrypted anew; all are under the first key now\n"


def test_rekey_refuses_tables_of_the_release_before(on_sqlite: Installation, keys: Keys) -> None:
    keys.use(NEW)
    on_sqlite.store.schema_version = "0005"
    with pytest.raises(SchemaMismatch, match="tierq migrate"):
        rekeying.rekey(on_sqlite.store)
    assert on_sqlite.count(tasks) == 0
