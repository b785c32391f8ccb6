"""Evidence comes out of SQL as it went in."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tierq_insight import stored_evidence
from tierq_shared.errors import ConfigurationError
from unit.insight.samples import answers
from unit.store.evaluations import add_evaluation, add_evidence
from unit.store.installation import Installation

JUDGED = answers("small", 2, 1, confidence=0.75) + answers("large", 3, cost_nusd=None, latency_ms=None, failed=True)


def test_evaluations_and_live_answers_are_read_back(here: Installation) -> None:
    evaluation = add_evaluation(here.store)
    add_evidence(here.store, JUDGED, evaluation)
    add_evidence(here.store, answers("small", 1))
    found = stored_evidence.load(here.store)
    assert found[:-1] == [replace(one, sample=f"{'f' * 16}:{one.sample}") for one in JUDGED]
    assert found[-1] == replace(answers("small", 1)[0], source="shadow")


def test_samples_of_different_files_are_never_taken_for_pairs(here: Installation) -> None:
    for samples_hash in ("a" * 64, "b" * 64, "a" * 64):
        add_evidence(here.store, answers("small", 1), add_evaluation(here.store, samples_hash=samples_hash))
    samples = [one.sample for one in stored_evidence.load(here.store)]
    assert len(set(samples)) == 2
    assert samples[0] == samples[2]


def test_only_the_evaluations_that_were_asked_for(here: Installation) -> None:
    first, second = add_evaluation(here.store), add_evaluation(here.store)
    add_evidence(here.store, answers("small", 3), first)
    add_evidence(here.store, answers("large", 2), second)
    add_evidence(here.store, answers("medium", 1))
    found = stored_evidence.load(here.store, evaluation_ids=[second])
    assert {one.tier for one in found} == {"large"}
    assert len(stored_evidence.load(here.store, evaluation_ids=[first, second])) == 5


def test_only_what_is_recent(here: Installation) -> None:
    add_evidence(here.store, answers("small", 3))
    assert len(stored_evidence.load(here.store, since=datetime.now(UTC) - timedelta(hours=1))) == 3
    assert stored_evidence.load(here.store, since=datetime.now(UTC) + timedelta(hours=1)) == []


def test_an_evaluation_is_found_by_the_first_digits_of_its_id_or_its_label(here: Installation) -> None:
    evaluation = add_evaluation(here.store, label="tickets")
    assert stored_evidence.find_evaluation(here.store, evaluation[:14]) == evaluation
    assert stored_evidence.find_evaluation(here.store, "tickets") == evaluation
    with pytest.raises(ConfigurationError, match=r"'ticket', nor that label \(did you mean 'tickets'\?\)"):
        stored_evidence.find_evaluation(here.store, "ticket")
    add_evaluation(here.store, label="tickets")
    with pytest.raises(ConfigurationError, match="more than one"):
        stored_evidence.find_evaluation(here.store, "tickets")
