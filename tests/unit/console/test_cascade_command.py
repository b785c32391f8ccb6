"""`tierq cascade`: what stands in the configuration, and tables to paste that load as they are."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import insert

from tierq_console.commands import group
from tierq_shared import configuration
from tierq_shared.errors import TierQError
from tierq_shared.ids import new_id
from tierq_shared.store import schema
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import evaluations, evidence

CONFIG = """
version = 1
database_url = "sqlite:///{folder}/tierq.db"
[tiers.small]
chain = ["mini", "nano"]
[tiers.medium]
chain = ["sol"]
[tiers.large]
chain = ["opus"]
[deployments.mini]
provider = "openai"
model = "gpt-4o-mini"
[deployments.nano]
provider = "openai"
model = "gpt-4.1-nano"
[deployments.sol]
provider = "openai"
model = "gpt-4o"
[deployments.opus]
provider = "anthropic"
model = "claude-opus-5-5"
"""
RULE = '\n[[cascade]]\ntype = "classify"\nsignal = "logprobs"\ntiers = ["small"]\n'
EVALUATION = "3f" * 16


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("migrated") / "tierq.db"
    store = Store(f"sqlite:///{path}")
    schema.migrate(store)
    store.close()
    return path.read_bytes()


@pytest.fixture
def folder(tmp_path: Path, migrated: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a store and a configuration without cascades."""
    (tmp_path / "tierq.db").write_bytes(migrated)
    configure(tmp_path, "")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configure(folder: Path, cascade: str) -> None:
    (folder / "tierq.toml").write_text(CONFIG.format(folder=folder) + cascade)


def run(*words: str) -> Result:
    return CliRunner().invoke(group, ["cascade", *words], standalone_mode=False)


def told(result: Result) -> str:
    """What a user's mistake is told; never a traceback."""
    assert isinstance(result.exception, TierQError)
    return str(result.exception)


def put(folder: Path, *rows: dict[str, Any], evaluation: str = EVALUATION, age_s: float = 0) -> None:
    at = datetime.now(UTC) - timedelta(seconds=age_s)
    store = Store(f"sqlite:///{folder}/tierq.db")

    def write(connection: Any) -> None:
        run_ = {"id": evaluation, "samples_hash": "x", "document": "{}", "created_at": at}
        connection.execute(insert(evaluations).values(**run_))
        for row in rows:
            connection.execute(insert(evidence).values(**_row(evaluation, at), **row))

    store.write(write)
    store.close()


def _row(evaluation: str, at: datetime) -> dict[str, Any]:
    ids = {"id": new_id(), "task_id": new_id(), "evaluation_id": evaluation, "source": "evaluation"}
    return {**ids, "type": "classify", "input_tokens": 20, "model": "m", "created_at": at, "latency_ms": 9}


def judged(deployment: str, tier: str, sample: int, score: float, **more: Any) -> dict[str, Any]:
    cost = {"mini": 1_000, "nano": 500, "sol": 30_000, "opus": 90_000}[deployment]
    values = {"name": "intent", "cost_nusd": cost, "failed": False, **more}
    return {"deployment": deployment, "tier": tier, "sample": str(sample), "score": score, **values}


def both(count: int, seed: int = 1) -> list[dict[str, Any]]:
    """Answers of `mini` that are right where it is sure, and of `sol`, which are right."""
    dice = random.Random(seed)
    rows = []
    for sample in range(count):
        sure = round(dice.random(), 3)
        rows += [
            judged("mini", "small", sample, float(sure > 0.4), confidence=sure),
            judged("sol", "medium", sample, 1.0),
        ]
    return rows


def test_without_rules_it_says_where_to_begin(folder: Path) -> None:
    assert "add one without a threshold" in told(run("show"))
    assert "add one without a threshold" in told(run("calibrate"))
    assert folder.exists()


def test_show_tells_thresholds_by_hand_from_calibrated_ones(folder: Path) -> None:
    by_hand = '\n[[cascade]]\ntype = "extract"\nsignal = "agreement"\nthreshold = 0.8\n'
    verified = '\n[[cascade]]\ntype = "generate"\nsignal = "verifier"\nverifier = "opus"\nthreshold = 0.7\n'
    configure(folder, f'{RULE}{by_hand}{verified}calibrated = "{EVALUATION}"\n')
    lines = [line.rstrip() for line in run("show").output.splitlines()]
    assert "any" in lines[1]
    assert lines[1].endswith("none: only measured, every answer is kept")
    assert "agreement of 3 samples" in lines[2]
    assert lines[2].endswith("0.8 (set by hand, not calibrated)")
    assert "verifier opus" in lines[3]
    assert lines[3].endswith("0.7 (calibrated from 3f3f3f3f3f3f…)")
    assert [rule["origin"] for rule in json.loads(run("show", "--json").output)] == ["none", "by hand", "calibrated"]


def test_the_table_that_calibrate_prints_can_be_pasted(folder: Path) -> None:
    configure(folder, RULE.replace('tiers = ["small"]', 'name = "intent"\ntiers = ["small"]'))
    put(folder, *both(600))
    result = run("calibrate")
    assert result.exception is None or result.exception.args == (0,)
    assert "# classify 'intent': from tier small up to medium" in result.output
    assert "# 600 pairs of evaluation 3f3f3f3f3f3f…: mini and sol" in result.output
    configure(folder, "\n" + result.output)
    (rule,) = configuration.load(folder / "tierq.toml", env={}).cascade
    assert (rule.type, rule.name, rule.signal, rule.tiers) == ("classify", "intent", "logprobs", ["small"])
    assert rule.calibrated == EVALUATION
    assert rule.threshold == pytest.approx(0.4, abs=0.06)
    (told_,) = json.loads(run("calibrate", "--json").output)
    assert (told_["verdict"], told_["threshold"]) == ("found", rule.threshold)
    assert float(told_["cost_usd_per_1000"]) == pytest.approx(0.001 + (1 - told_["kept"]["mean"]) * 0.03)


def test_too_little_data_is_said_and_no_table_printed(folder: Path) -> None:
    configure(folder, RULE)
    put(folder, *both(30))
    result = run("calibrate")
    assert isinstance(result.exception, SystemExit)
    assert result.exception.code == 1
    assert "# too little data: stay as you are: no more than 0.01 worse" in result.output
    assert "[[cascade]]" not in result.output


def test_a_tier_that_was_not_evaluated_is_named(folder: Path) -> None:
    configure(folder, RULE)
    put(folder, *[row for row in both(20) if row["tier"] == "small"])
    assert "the evaluation has no answers of tier medium to such tasks" in run("calibrate").output


def test_answers_are_paired_by_deployment_name_and_sample(folder: Path) -> None:
    """The first of the chain that was evaluated; what failed goes up, and other names have rules of their own."""
    mine = RULE.replace('tiers = ["small"]', 'name = "intent"\ntiers = ["small"]')
    configure(folder, mine + RULE)
    rows = [
        judged("nano", "small", 1, 0.0, confidence=0.99),
        judged("mini", "small", 1, 1.0, confidence=0.9),
        judged("mini", "small", 2, 0.0, failed=True),
        judged("mini", "small", 3, 1.0, confidence=None),
        judged("sol", "medium", 1, 1.0),
        judged("sol", "medium", 2, 1.0),
        judged("sol", "medium", 3, 1.0),
        judged("opus", "large", 1, 1.0),
        judged("mini", "small", 1, 1.0, confidence=0.9, name="other"),
        judged("sol", "medium", 1, 1.0, name="other"),
    ]
    put(folder, *rows)
    named, others = json.loads(run("calibrate", "--json").output)
    assert (named["name"], named["deployment"], named["higher_deployment"], named["pairs"]) == (
        "intent",
        "mini",
        "sol",
        3,
    )
    assert named["cheap_quality"]["mean"] == pytest.approx(2 / 3)
    assert (others["name"], others["pairs"]) == (None, 1)
    assert "1 answers of mini have no confidence, and would all go up" in run("calibrate").output


def test_the_latest_evaluation_is_meant_unless_one_is_named(folder: Path) -> None:
    configure(folder, RULE)
    older = "aa" * 16
    put(folder, *both(5), evaluation=older, age_s=60)
    put(folder, *both(7))
    put(folder, evaluation="bb" * 16, age_s=-60)
    assert json.loads(run("calibrate", "--json").output)[0]["pairs"] == 7, "the newest has no answers yet"
    assert json.loads(run("calibrate", "--json", "--evaluation", "aaaa").output)[0]["pairs"] == 5
    assert told(run("calibrate", "--evaluation", "cc")) == "--evaluation cc: none begins like this"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--quality", "95"], "--quality 95: is a share between 0 and 1"),
        (["--margin", "0"], "--margin 0: is a share between 0 and 1"),
    ],
)
def test_shares_that_are_none_are_refused(folder: Path, words: list[str], said: str) -> None:
    configure(folder, RULE)
    assert said in told(run("calibrate", *words))


def test_no_evaluation_is_no_traceback(folder: Path) -> None:
    configure(folder, RULE)
    assert "`tierq evaluate` runs one" in told(run("calibrate"))
    assert "two ways" in str(run("calibrate", "--quality", "0.9", "--margin", "0.1").exception)
