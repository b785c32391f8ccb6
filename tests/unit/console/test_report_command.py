"""`tierq report`, as a user calls it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from support import sample_ledger
from support.command import tierq
from tierq_console.commands.report import command
from tierq_shared.errors import TierQError
from tierq_shared.store import schema
from tierq_shared.store.connection import Store

TOML = """
[report]
baseline = "sol"
[tiers.small]
chain = ["luna"]
[tiers.large]
chain = ["opus"]
[deployments]
luna = { provider = "openai", model = "small-a", price = { input = 0.1, output = 0.4 } }
sol = { provider = "openai", model = "big-model", price = { input = 0.002, output = 0.01 } }
opus = { provider = "anthropic", model = "nobody-knows" }
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a configuration and an empty, migrated store."""
    (tmp_path / "tierq.toml").write_text(f'database_url = "sqlite:///{tmp_path}/tierq.db"\n{TOML}')
    store = Store(f"sqlite:///{tmp_path}/tierq.db")
    schema.migrate(store)
    store.close()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def filled(folder: Path) -> Path:
    store = Store(f"sqlite:///{folder}/tierq.db")
    sample_ledger.write(store)
    store.close()
    return folder


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def fault(*arguments: str) -> str:
    result = run(*arguments)
    assert isinstance(result.exception, TierQError)
    return str(result.exception)


def test_people_are_told_the_cost_first_and_the_unknown_loudly(filled: Path) -> None:
    found = run("--by", "tier").stdout
    assert found.splitlines()[0].startswith("$0.000003 · 9 tasks · 16 calls · 2026-11-01 12:00 to 2026-11-06 12:00 UTC")
    assert "UNPRICED: 1 call of unknown price, in none of these sums" in found
    assert "at least 162.0% MORE, since the price of 1 call is not known" in found
    assert "cost only" in found
    assert "fail-overs: 1   escalations: 2   re-asks: 1   other tries: 2" in found
    assert "breakers: not known; no state Redis is configured" in found


def test_json_csv_and_html(filled: Path) -> None:
    result = run("--by", "type", "--json", "--csv", "types.csv", "--html", "report.html")
    assert result.exit_code == 0, result.exception
    found = json.loads(result.stdout)
    assert found["saving"]["baseline"] == {"deployment": "sol", "model": "big-model"}
    assert found["saving"]["baseline_usd"] == "0.000001168"
    assert found["simple"] == {"tier": "small", "share": pytest.approx(3 / 6)}
    with (filled / "types.csv").open() as lines:
        table = list(csv.DictReader(lines))
    assert table[0] == {
        "type": "extract",
        "calls": "7",
        "answers": "4",
        "input_tokens": "79",
        "output_tokens": "61",
        "cost_usd": "0.00000213",
        "unpriced": "0",
    }
    assert (filled / "report.html").read_text().startswith("<!doctype html>")
    assert sorted(path.name for path in filled.iterdir() if path.name.startswith(".")) == []


def test_one_batch_by_the_first_digits_of_its_id(filled: Path) -> None:
    found = json.loads(run("--batch", sample_ledger.BLUE, "--json").stdout)
    assert found["total"]["cost_usd"] == "0.00000202"
    assert "no batch has an id that begins with 'abc'" in fault("--batch", "abc")


def test_an_empty_ledger_says_so(folder: Path) -> None:
    result = run()
    assert (result.exit_code, result.stdout) == (0, "there is nothing in the ledger yet\n")
    assert "nothing in the ledger since" in run("--since", "7d").stdout


def test_a_baseline_of_unknown_price_is_said(filled: Path) -> None:
    file = filled / "tierq.toml"
    file.write_text(file.read_text().replace('baseline = "sol"', ""))
    assert "saving: not known; the price of the baseline opus (nobody-knows) is not known" in run().stdout


def test_a_state_redis_that_does_not_answer_costs_no_report(filled: Path) -> None:
    file = filled / "tierq.toml"
    file.write_text('state_url = "redis://:secret@127.0.0.1:1/0"\n' + file.read_text())
    found = run().stdout
    assert "breakers: not known; the state Redis" in found
    assert "secret" not in found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--by", "tire"),
            "--by tire: is not one of tier, model, type, day, deployment, tag:NAME (did you mean 'tier'?)",
        ),
        (("--by", "tag:"), "--by tag:: is not one of"),
        (("--since", "yesterday"), "--since: 'yesterday' is neither a span such as"),
        (("--until", "2026-11-01T00:00:00"), "--until: has no time zone"),
        (("--since", "1d", "--until", "2d"), "--until 2d: is not after --since 1d"),
        (("--csv", "report.xlsx"), "--csv report.xlsx: is written by its suffix; use .csv"),
        (("--csv", "-"), "--csv -: is written by its suffix; use .csv"),
        (("--html", "nowhere/report.html"), "--html nowhere/report.html: there is no folder nowhere"),
    ],
)
def test_a_users_mistake_is_said(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    assert message in fault(*arguments)


def test_a_mistake_in_the_baseline_has_its_line(folder: Path) -> None:
    file = folder / "tierq.toml"
    file.write_text(file.read_text().replace('"sol"', '"sool"', 1))
    done = tierq(folder, "report")
    assert done.returncode == 2
    assert "tierq.toml:4: report.baseline: no deployment is named 'sool' (did you mean 'sol'?)" in done.stderr
    assert "Traceback" not in done.stderr
