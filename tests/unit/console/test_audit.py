"""`tierq audit` as it is typed: what it prints, writes and refuses."""

from __future__ import annotations

import csv
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console, Group

from support.command import tierq
from tierq_console.audit_view import COULD, Shown
from tierq_console.commands.audit import command
from tierq_insight.audit.report import AuditReport, Finding
from tierq_shared.errors import InvalidInput
from tierq_shared.policy_document import DocumentRule, PolicyDocument
from tierq_shared.store import policies, schema
from tierq_shared.store.connection import Store

REQUESTS = Path(__file__).parents[3] / "examples" / "data" / "requests.jsonl"
TICKETS = REQUESTS.with_name("tickets.csv")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(one) for one in arguments], catch_exceptions=False)


def found(*arguments: object) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_example_is_tagged_routed_and_priced() -> None:
    report = found(REQUESTS)
    assert report["tiers_from"] == "TierQ's built-in tiers and rules"
    assert {tier: one["calls"] for tier, one in report["by_tier"].items()} == {"small": 66, "medium": 48, "large": 6}
    types = Counter({one["type"]: 0 for one in report["by_type"]})
    for line in report["by_type"]:
        types[line["type"]] += line["calls"]
    assert types == {"classify": 48, "extract": 18, "answer": 20, "generate": 34}
    assert report["tokens_from"] == {"logged": 120}
    saving = {name: float(usd) for name, usd in report["total"]["could_save_usd"].items()}
    assert 0 < saving["low"] < saving["expected"] < saving["high"] < float(report["total"]["cost_now_usd"])


TIERS = """
[tiers.small]
chain = ["mini"]
[tiers.large]
chain = ["pro"]
[deployments.mini]
provider = "openai"
model = "gpt-4o-mini"
[deployments.pro]
provider = "openai"
model = "gpt-4o"
[[policy]]
tier = "large"
"""


def test_the_active_version_decides_where_a_store_has_one(tmp_path: Path) -> None:
    config = tmp_path / "tierq.toml"
    config.write_text(TIERS)
    assert found(REQUESTS)["by_tier"]["small"]["calls"] == 0
    url = f"sqlite:///{tmp_path}/tierq.db"
    config.write_text(f'database_url = "{url}"\n{TIERS}')
    store = Store(url)
    schema.migrate(store)
    rules = (DocumentRule(type="classify", tier="small"), DocumentRule(tier="large"))
    version = PolicyDocument(version="v7", created_at=datetime.now(UTC), tiers=("small", "large"), policy=rules)
    store.write(lambda connection: policies.store(connection, version))
    store.write(lambda connection: policies.activate(connection, "v7", "a test"))
    store.close()
    report = found(REQUESTS)
    assert (report["policy_version"], report["by_tier"]["small"]["calls"]) == ("v7", 48)


def test_people_are_told_what_could_be_and_that_quality_is_not_shown() -> None:
    text = run(REQUESTS).stdout
    assert "no model was called" in text
    assert "It could save " in text
    assert COULD in text
    assert "no task: it offers tools to choose from" in text


def test_tags_of_each_call_are_written_without_its_text(tmp_path: Path) -> None:
    result = run(REQUESTS, "--tags", "tags.csv", "--limit", 40)
    assert result.exit_code == 0, result.output
    with (tmp_path / "tags.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["line"] for row in rows] == [str(n) for n in range(1, 41)]
    assert {row["type"] for row in rows} == {"classify", "extract", "answer", "generate"}
    assert all(row["reason"] and row["tier"] and row["rule"] for row in rows)
    assert "Tallybarn" not in (tmp_path / "tags.csv").read_text() + result.stdout


def test_answers_in_a_column_show_that_tickets_are_classified() -> None:
    report = found(TICKETS, "--text", "body", "--output", "label", "--model", "gpt-4o")
    assert [(one["type"], one["confidence"], one["calls"]) for one in report["tags"]] == [("classify", "inferred", 260)]
    assert report["by_tier"]["small"]["calls"] == 260


def test_a_plain_text_column_alone_is_said_to_be_a_guess_without_a_price() -> None:
    report = found(TICKETS, "--text", "body")
    assert [(one["type"], one["confidence"]) for one in report["tags"]] == [("generate", "guessed")]
    assert report["total"]["cost_now_usd"] is None
    assert report["total"]["could_save_usd"] is None
    assert any("say what they are with --type" in note for note in report["notes"])
    assert "Nothing can be said of a saving" in run(TICKETS, "--text", "body").stdout


def test_the_nearest_configuration_routes_and_prices(tmp_path: Path) -> None:
    config = tmp_path / "tierq.toml"
    config.write_text(
        '[tiers.only]\nchain = ["mine"]\n[deployments.mine]\nprovider = "openai"\nmodel = "gpt-5.6-sol"\n'
        "price = { input = 1, output = 1 }\n"
    )
    report = found(REQUESTS)
    assert report["tiers_from"] == str(config)
    assert report["by_tier"]["only"]["calls"] == 120
    assert report["total"]["could_save_usd"]["high"] == "0"
    assert found(REQUESTS, "--config", config)["policy_version"] == report["policy_version"]


def test_a_log_with_broken_lines_is_audited_and_they_are_told(tmp_path: Path) -> None:
    lines = REQUESTS.read_text(encoding="utf-8").splitlines()
    (tmp_path / "log.jsonl").write_text("\n".join([*lines[:50], '{"messages": [', '{"id": 7}', *lines[50:]]))
    report = found("log.jsonl")
    assert (report["total"]["calls"], report["bad"]) == (120, 2)
    assert [one["line"] for one in report["findings"]] == [51, 52]
    text = run("log.jsonl").stdout
    assert "2 of 122 rows could not be read and are left out:" in text
    assert "log.jsonl:51: is broken JSON" in text


@pytest.mark.parametrize(
    ("content", "arguments", "reason"),
    [
        (
            '{"id": 1}\n{"id": 2}\n',
            [],
            r"none of 2 lines holds a request(.|\n)*log\.jsonl:1: there is neither a request",
        ),
        ('{"text": ""}\n' * 9, [], r"log\.jsonl:1: field 'text': is empty(.|\n)*… and 4 more"),
        ("\n\n", [], "has no rows"),
        ('{"text": "x"}', ["--text", "a", "--prompt", "b"], "--text and --prompt both name what is asked"),
        ('{"text": "x"}', ["--instructions", "@nowhere.txt"], r"--instructions nowhere\.txt: cannot be read"),
        ('{"text": "x"}', ["--tags", "tags.xlsx"], r"\.xlsx"),
    ],
)
def test_what_cannot_be_audited_is_refused(tmp_path: Path, content: str, arguments: list[str], reason: str) -> None:
    (tmp_path / "log.jsonl").write_text(content)
    with pytest.raises(InvalidInput, match=reason):
        run("log.jsonl", *arguments)


def test_a_column_that_is_not_there_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(InvalidInput, match=r"no column 'bdy' \(did you mean 'body'\?\).*--text"):
        run(TICKETS, "--text", "bdy")


def test_a_mistake_ends_with_a_message_and_2(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"secret": "words"}\n')
    done = tierq(tmp_path, "audit", "log.jsonl")
    assert done.returncode == 2
    assert "log.jsonl:1: there is neither a request" in done.stderr
    assert "Traceback" not in done.stderr
    assert "words" not in done.stderr


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_narrow_terminal_loses_no_figure(width: int) -> None:
    report = AuditReport({"small": "a-model-with-a-long-name", "large": None}, "config-1", ["maxi"])
    report.findings, report.bad = [Finding(3, "text", "is empty")], 7
    console = Console(width=width)
    with console.capture() as captured:
        console.print(Group(*Shown(Path("[b]log.jsonl"), "tierq.toml", report).parts()), highlight=False)
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= width
    assert "[b]log.jsonl" in lines[0]
    assert "…" not in "".join(lines).replace("… and 6 more", "")
