"""`tierq policy`: from a file to the active version and back, and what is said of a user's mistakes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from support.jobs import job_of
from tierq_console import policy_view
from tierq_console.checking import check
from tierq_console.commands.policy import command
from tierq_console.commands.quote import command as quote
from tierq_console.policy_sources import policy_in_force
from tierq_shared import configuration
from tierq_shared.errors import ConfigurationError, PolicyRefused
from tierq_shared.policy_document import DocumentRule, PolicyDocument, RuleEvidence
from tierq_shared.policy_files import policy_toml, read_policy_file
from tierq_shared.store import schema
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import policies

CONFIG = """
database_url = "sqlite:///{folder}/tierq.db"
[tiers.small]
chain = ["mini", "haiku"]
[tiers.large]
chain = ["pro"]
[deployments.mini]
provider = "openai"
model = "gpt-4o-mini"
[deployments.haiku]
provider = "anthropic"
model = "claude-haiku-4-5"
[deployments.pro]
provider = "openai"
model = "gpt-4o"
[[policy]]
type = "classify"
tier = "large"
[[policy]]
tier = "large"
"""

POLICY = """
version = "2026-11.1"
created_at = 2026-11-24T02:00:00Z
tiers = ["small", "large"]

[[policy]]
type = "classify"
tier = "small"
chain = ["haiku", "mini"]

[policy.evidence]
verdict = "the cheapest whose lower bound clears 0.9"
samples = 210
quality = 0.95
lower = 0.91
upper = 0.97
required = 0.9
cost_usd_per_1000 = 0.0123
source = "evaluation"

[[policy]]
tier = "large"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a configuration, a migrated store and a policy file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tierq.toml").write_text(CONFIG.format(folder=tmp_path))
    (tmp_path / "policy.toml").write_text(POLICY)
    store = Store(f"sqlite:///{tmp_path}/tierq.db")
    schema.migrate(store)
    store.close()
    return tmp_path


def run(*words: str) -> str:
    result = CliRunner().invoke(command, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_a_file_is_applied_shown_and_rolled_back(folder: Path) -> None:
    applied = run("apply", "policy.toml").splitlines()
    assert applied[0].startswith("from config-")
    assert applied[0].endswith(" to 2026-11.1:")
    assert applied[1:] == [
        "  ~ rule 1: type=classify: tier large → small, chain as configured → haiku, mini, evidence",
        "    now: quality 0.950 (0.910 to 0.970) of 210 samples · required 0.900",
        "         $0.0123 per 1,000 · source: evaluation",
        "         the cheapest whose lower bound clears 0.9",
        "policy version 2026-11.1 is active: producers and workers follow within 2 s",
    ]
    shown = run("show").splitlines()
    assert shown[0] == "policy 2026-11.1 · tiers small, large"
    assert shown[1] == "  1  type=classify → small, chain haiku, mini"
    assert "of 210 samples" in shown[2]
    assert run("apply", "2026-11.1").splitlines() == [
        "2026-11.1 and 2026-11.1 decide alike",
        "policy version 2026-11.1 is active already",
    ]
    back = run("rollback").splitlines()
    assert "tier small → large" in back[1]
    assert back[-1].startswith("policy version config-")
    assert run("diff", "config", "active").endswith("decide alike\n")
    with pytest.raises(PolicyRefused, match="nothing to roll back to"):
        run("rollback")
    assert folder.exists()


def test_files_are_checked_and_added_up_by_the_active_version(folder: Path) -> None:
    config = configuration.load(folder / "tierq.toml")
    assert policy_in_force(config).version == config.make_policy().version
    run("apply", "policy.toml")
    (folder / "texts.csv").write_text("body\nThe app crashes.\nI was charged twice.\n")
    checked = check(job_of(folder / "texts.csv"), config, policy_in_force(config))
    (cell,) = checked.tally.cells.values()
    assert (cell.tasks, cell.tier, cell.order) == (2, "small", ("haiku", "mini"))
    lines = CliRunner().invoke(quote, ["texts.csv", "--type", "classify", "--labels", "billing,bug", "--text", "body"])
    assert "  small: 2 on haiku, $" in lines.output


def test_the_list_says_what_was_active_when_and_why(folder: Path) -> None:
    assert run("list").splitlines() == ["* config: the rules of tierq.toml hold", ""]
    run("apply", "policy.toml")
    second = folder / "second.toml"
    second.write_text(POLICY.replace("2026-11.1", "2026-11.2").replace("0.0123", "0.0122"))
    run("apply", "second.toml")
    run("rollback")
    found: dict[str, Any] = json.loads(run("list", "--json"))
    assert found["active"] == "2026-11.1"
    assert {(one["version"], one["is_active"]) for one in found["versions"]} == {
        ("2026-11.1", True),
        ("2026-11.2", False),
    }
    assert [one["version"] for one in found["activations"]] == ["2026-11.1", "2026-11.2", "2026-11.1"]
    assert found["activations"][0]["reason"].startswith("rolled back by ")
    assert found["activations"][0]["reason"].endswith(", from 2026-11.2")
    assert [line for line in run("list").splitlines() if line.startswith("* 2026-11.1")]


def test_a_dry_run_changes_nothing(folder: Path) -> None:
    assert "~ rule 1" in run("apply", "policy.toml", "--dry-run")
    assert json.loads(run("list", "--json")) == {"active": None, "versions": [], "activations": []}
    assert folder.exists()


def test_the_configurations_policy_is_a_file_to_begin_with(folder: Path) -> None:
    (folder / "mine.toml").write_text(run("show", "config", "--toml"))
    assert run("diff", "config", "mine.toml").endswith("decide alike\n")
    with pytest.raises(PolicyRefused, match="means the configuration's: give it another"):
        run("apply", "mine.toml")
    run("apply", "policy.toml")
    assert run("apply", "config").splitlines()[-1].endswith("is active: producers and workers follow within 2 s")
    assert json.loads(run("list", "--json"))["active"] is None


def test_a_version_never_changes(folder: Path) -> None:
    run("apply", "policy.toml")
    (folder / "policy.toml").write_text(POLICY.replace("samples = 210", "samples = 211"))
    with pytest.raises(PolicyRefused, match="stored already, with other content"):
        run("apply", "policy.toml")
    assert "of 210 samples" in run("show")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            'tier = "small"',
            'tier = "smal"',
            "policy.toml:8: policy.0.tier: there is no tier 'smal' (did you mean 'small'?)",
        ),
        (
            '"haiku", "mini"',
            '"haiku", "mimi"',
            "policy.toml:9: policy.0.chain: no deployment of tier 'small' is named 'mimi'",
        ),
        ('"haiku", "mini"', '"pro"', "policy.toml:9: policy.0.chain: no deployment of tier 'small' is named 'pro'"),
        ('"haiku", "mini"', '"mini", "mini"', "policy.toml:9: policy.0.chain: names a deployment more than once"),
        ('["small", "large"]', '["large", "small"]', "policy.toml:4: tiers: stand in another order"),
        ('["small", "large"]', '["small", "huge"]', "policy.toml:4: tiers: there is no tier 'huge'"),
        ('["small", "large"]', '["small"]', "policy.toml:22: policy.1.tier: 'large' is not among the tiers"),
        ("samples = 210", "samples = -1", "policy.toml:13: policy.0.evidence.samples: Input should be greater"),
        (
            "verdict =",
            "verdikt =",
            "policy.toml:12: policy.0.evidence.verdikt: there is no such key (did you mean 'verdict'",
        ),
        ('version = "2026-11.1"', 'version = "a b"', "policy.toml:2: version: String should match pattern"),
        ("[[policy]]", "[[policy", "policy.toml: this is no valid TOML"),
        ("tiers = [", "teirs = [", "policy.toml:4: teirs: there is no such key (did you mean 'tiers'?)"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_line(folder: Path, old: str, new: str, said: str) -> None:
    assert old in POLICY
    (folder / "policy.toml").write_text(POLICY.replace(old, new))
    with pytest.raises(ConfigurationError) as refused:
        run("apply", "policy.toml")
    assert said in str(refused.value)
    assert json.loads(run("list", "--json"))["versions"] == []


def test_a_file_without_rules_is_refused(folder: Path) -> None:
    (folder / "policy.toml").write_text(POLICY[: POLICY.index("[[policy]]")] + "policy = []\n")
    with pytest.raises(ConfigurationError, match="policy: has no rule"):
        run("apply", "policy.toml")


@pytest.mark.parametrize("word", ["missing.toml", "./missing"])
def test_a_file_that_is_not_there_is_said(folder: Path, word: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        run("apply", word)
    assert folder.exists()


def test_a_version_that_is_not_there_is_said_with_what_was_meant(folder: Path) -> None:
    run("apply", "policy.toml")
    with pytest.raises(PolicyRefused, match=r"no policy version '2026-11' is stored \(did you mean '2026-11\.1'\?\)"):
        run("show", "2026-11")
    assert folder.exists()


def test_a_version_of_a_newer_release_is_said_to_be_one(folder: Path) -> None:
    run("apply", "policy.toml")
    store = Store(f"sqlite:///{folder}/tierq.db")
    store.write(lambda c: c.execute(update(policies).values(document='{"version": "2026-11.1", "later": true}')))
    store.close()
    for words in (["show"], ["diff", "config", "active"], ["apply", "policy.toml"]):
        with pytest.raises(PolicyRefused, match=r"2026-11\.1 cannot be read by this release of TierQ: upgrade it"):
            run(*words)


def test_a_version_that_the_configuration_has_outgrown_is_not_rolled_back_to(folder: Path) -> None:
    run("apply", "policy.toml")
    run("apply", "config")
    text = CONFIG.format(folder=folder)
    (folder / "tierq.toml").write_text(text.replace('["mini", "haiku"]', '["mini"]'))
    with pytest.raises(ConfigurationError, match=r"^2026-11\.1: policy\.0\.chain: no deployment of"):
        run("rollback")
    assert json.loads(run("list", "--json"))["active"] is None


# The difference of two versions.

A = DocumentRule(tier="small", type="classify")
B = DocumentRule(tier="large", type="extract")
C = DocumentRule(tier="large")


def document(*rules: DocumentRule, **fields: Any) -> PolicyDocument:
    at = datetime(2030, 1, 1, tzinfo=UTC)
    return PolicyDocument(**{"version": "v1", "created_at": at, "tiers": ("small", "large"), "policy": rules, **fields})


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ((A, C), (A, C), []),
        ((A, C), (C,), ["- rule 1: type=classify → small"]),
        ((C,), (B, C), ["+ rule 1: type=extract → large"]),
        ((A, B, C), (B, A, C), ["~ order: rule 1 was rule 2; rule 2 was rule 1"]),
        (
            (A,),
            (A.model_copy(update={"tier": "large", "chain": ("pro",)}),),
            ["~ rule 1: type=classify: tier small → large, chain as configured → pro"],
        ),
    ],
)
def test_a_change_is_told_rule_by_rule(before: Any, after: Any, lines: list[str]) -> None:
    assert policy_view.changes(document(*before), document(*after, version="v2")) == lines


def test_nothing_that_a_terminal_would_obey_is_shown() -> None:
    evil = A.model_copy(update={"evidence": RuleEvidence(verdict="a\x1b[31m\nb", samples=1, required=0.9)})
    lines = [*policy_view.shown(document(evil, note="\x1b[2J")), *policy_view.changes(document(A), document(evil))]
    assert all(line.isprintable() for line in lines)


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40)
SHARES = st.floats(0, 1)
EVIDENCE = st.builds(
    RuleEvidence,
    verdict=TEXTS,
    samples=st.integers(0, 10**9),
    quality=st.none() | SHARES,
    required=SHARES,
    cost_usd_per_1000=st.none() | st.floats(0, 1e6),
    p95_ms=st.none() | st.integers(0, 10**6),
    source=st.sampled_from(["live", "both"]),
)
RULES = st.builds(
    DocumentRule,
    tier=st.sampled_from(["small", "large"]),
    name=st.none() | TEXTS,
    max_input_tokens=st.none() | st.integers(1, 10**9),
    chain=st.none() | st.lists(TEXTS, max_size=3).map(tuple),
    evidence=st.none() | EVIDENCE,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(RULES, max_size=4), st.none() | TEXTS)
def test_a_file_gives_back_the_very_same_document(
    tmp_path_factory: pytest.TempPathFactory, rules: list[DocumentRule], note: str | None
) -> None:
    file = tmp_path_factory.getbasetemp() / "round.toml"
    written = document(*rules, note=note)
    file.write_bytes(policy_toml(written).encode())
    assert read_policy_file(file) == written
