"""`tierq policy derive` on a store with evidence."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import insert

from tierq_console.policy_deriving import derive
from tierq_shared.errors import ConfigurationError
from tierq_shared.ids import new_id
from tierq_shared.policy_document import DocumentRule, PolicyDocument
from tierq_shared.policy_files import read_policy_file
from tierq_shared.store.clock import now
from tierq_shared.store.tables import policies, policy_activations
from unit.insight.samples import answers, flat
from unit.store.evaluations import add_evaluation, add_evidence
from unit.store.installation import Installation

TOML = """\
[tiers.small]
chain = ["mini"]
[tiers.medium]
chain = ["midi"]
[tiers.large]
chain = ["maxi"]
[deployments.mini]
provider = "openai"
model = "one"
[deployments.midi]
provider = "openai"
model = "two"
[deployments.maxi]
provider = "openai"
model = "three"
[[policy]]
tier = "large"
"""
GOOD = flat(answers("small", 60, 40), answers("medium", 95, 5), answers("large", 97, 3))


@pytest.fixture
def folder(here: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a configuration, on the test's store."""
    (tmp_path / "tierq.toml").write_text(TOML)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TIERQ_DATABASE_URL", here.store.engine.url.render_as_string(hide_password=False))
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(derive, arguments, catch_exceptions=False)


def test_a_file_with_its_evidence(here: Installation, folder: Path) -> None:
    evaluation = add_evaluation(here.store, label="tickets")
    add_evidence(here.store, GOOD, evaluation)
    result = run("--evaluation", "tickets", "--quality", "classify=0.85", "--out", "policy.toml")
    assert result.exit_code == 0
    assert "`tierq policy apply policy.toml` puts it in force" in result.output
    document = read_policy_file(folder / "policy.toml")
    assert document.tiers == ("small", "medium", "large")
    general = next(rule for rule in document.policy if rule.stakes is None)
    assert (general.type, general.name, general.max_input_tokens, general.tier) == (
        "classify",
        "intent",
        250,
        "medium",
    )
    assert general.evidence is not None
    assert (general.evidence.samples, general.evidence.source) == (100, "evaluation")
    assert document.policy[-1].tier == "large"


def test_evaluations_and_live_answers_together(here: Installation, folder: Path) -> None:
    add_evidence(here.store, GOOD, add_evaluation(here.store))
    add_evidence(here.store, answers("medium", 50))
    run("--quality", "classify=0.85", "--out", "policy.toml")
    general = next(rule for rule in read_policy_file(folder / "policy.toml").policy if rule.stakes is None)
    assert general.evidence is not None
    assert (general.evidence.samples, general.evidence.source) == (150, "both")


def test_on_stdout_it_is_the_file_itself(here: Installation, folder: Path) -> None:
    add_evidence(here.store, GOOD)
    result = run("--quality", "classify=0.85")
    (folder / "printed.toml").write_text(result.stdout)
    assert read_policy_file(folder / "printed.toml").policy


def activate(here: Installation, tier: str) -> None:
    """Makes a version the active one that sends everything to one tier."""
    document = PolicyDocument(
        version="mine", created_at=datetime(2026, 11, 24, tzinfo=UTC), tiers=(tier,), policy=(DocumentRule(tier=tier),)
    )
    row = {"version": "mine", "document": document.model_dump_json(), "created_at": now()}
    activation = {"id": new_id(), "version": "mine", "reason": "applied by a test", "activated_at": now()}
    here.store.write(lambda connection: connection.execute(insert(policies).values(row)))
    here.store.write(lambda connection: connection.execute(insert(policy_activations).values(activation)))


def test_too_little_data_keeps_the_active_version_of_sql(here: Installation, folder: Path) -> None:
    activate(here, "medium")
    add_evidence(here.store, answers("small", 5))
    run("--out", "policy.toml")
    rules = read_policy_file(folder / "policy.toml").policy
    assert {rule.tier for rule in rules} == {"medium"}
    assert rules[0].evidence is not None
    assert "too little data (5 of 30 samples): stays on medium" in rules[0].evidence.verdict


def test_an_active_version_of_tiers_that_are_gone_is_not_built_upon(here: Installation, folder: Path) -> None:
    activate(here, "retired")
    add_evidence(here.store, answers("small", 5))
    result = run("--out", "policy.toml")
    assert "version mine goes to retired, which is not configured here" in result.stderr
    assert {rule.tier for rule in read_policy_file(folder / "policy.toml").policy} == {"large"}


def test_a_spending_says_what_the_whole_comes_to(here: Installation, folder: Path) -> None:
    add_evidence(here.store, GOOD)
    result = run("--spend", "0.2", "--out", "policy.toml")
    assert "all rows together: 90.0% cheaper than the large tier" in result.output


def test_evidence_on_a_deployment_that_is_gone_is_said_to_be_left_out(here: Installation, folder: Path) -> None:
    add_evidence(here.store, [*GOOD, *answers("small", 40, deployment="retired")])
    result = run("--quality", "classify=0.85")
    assert "evidence on small/retired is left out" in result.stderr
    assert "retired" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--quality", "extract=0.9"], "--quality extract: there is no evidence on it"),
        (["--quality", "classify/intend=0.9"], r"there is no evidence on it \(did you mean 'classify/intent'\?\)"),
        (["--baseline", "larg"], r"--baseline: there is no tier 'larg' \(did you mean 'large'\?\)"),
        (["--evaluation", "ffff"], "no evaluation has an id that begins with 'ffff'"),
        (["--out", "nowhere/policy.toml"], r"--out nowhere/policy.toml: cannot be written: No such file"),
    ],
)
def test_mistakes_are_said(here: Installation, folder: Path, arguments: list[str], message: str) -> None:
    add_evidence(here.store, GOOD)
    with pytest.raises(ConfigurationError, match=message):
        run(*arguments)


@pytest.mark.parametrize(
    "value", ["classify", "classify=1", "classify=0", "classify=nan", "classify=much", "clasify=0.9"]
)
def test_what_is_no_quality_is_said(folder: Path, value: str) -> None:
    result = run("--quality", value)
    assert result.exit_code == 2
    assert "write classify=0.9" in result.output


def test_a_store_without_evidence_is_said(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no evidence in this store: `tierq evaluate` makes some"):
        run()
