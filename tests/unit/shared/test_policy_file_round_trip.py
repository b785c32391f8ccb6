"""A policy's file holds all of the document, whatever is in it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tierq_shared.options import STAKES, URGENCIES
from tierq_shared.policy_document import DocumentRule, PolicyDocument, RuleEvidence
from tierq_shared.policy_files import policy_toml, read_policy_file
from tierq_shared.specs import TASK_TYPES

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
figures = st.none() | st.floats(allow_nan=False, allow_infinity=False)
counts = st.none() | st.integers(0, 2**62)
evidence = st.builds(
    RuleEvidence,
    verdict=texts,
    samples=st.integers(0, 2**62),
    quality=figures,
    lower=figures,
    upper=figures,
    required=st.floats(allow_nan=False, allow_infinity=False),
    cost_usd_per_1000=figures,
    p50_ms=counts,
    p95_ms=counts,
    failure_rate=figures,
    source=st.sampled_from(["evaluation", "live", "both", "none"]),
)
rules = st.builds(
    DocumentRule,
    tier=texts,
    type=st.none() | st.sampled_from(TASK_TYPES),
    name=st.none() | texts,
    max_input_tokens=st.none() | st.integers(1, 2**62),
    stakes=st.none() | st.sampled_from(STAKES),
    urgency=st.none() | st.sampled_from(URGENCIES),
    chain=st.none() | st.lists(texts, max_size=3).map(tuple),
    evidence=st.none() | evidence,
)
documents = st.builds(
    PolicyDocument,
    version=st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z"),
    created_at=st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC)),
    tiers=st.lists(texts, min_size=1, max_size=4).map(tuple),
    note=st.none() | texts,
    policy=st.lists(rules, max_size=4).map(tuple),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(documents)
def test_what_is_written_is_read_back(tmp_path: Path, document: PolicyDocument) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(policy_toml(document), encoding="utf-8", newline="")
    assert read_policy_file(file) == document
