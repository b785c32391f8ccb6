"""The report as JSON, as rows and as a page, made from the sample ledger."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from support import sample_ledger
from support.sample_ledger import BASELINE
from tierq_insight.report import BreakerEvent, Known, Quoted, Report, Scope, charts, make_report
from tierq_insight.report.document import COLUMNS, document, rows
from tierq_insight.report.page import money, page
from tierq_shared.store import schema
from tierq_shared.store.connection import Store

EVIL = "<script>alert('x')</script>\"><img src=http://evil.example/x>"
TIERS = ("small", "medium", "large")
QUOTE = Quoted("b" * 32, EVIL, 1_000, 2_000, 4_000, 3_060)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    path: Path = tmp_path_factory.mktemp("ledger") / "tierq.db"
    store = Store(f"sqlite:///{path}")
    schema.migrate(store)
    sample_ledger.write(store, names={"classify": EVIL, "extract": EVIL}, tags={"team": EVIL})
    yield store
    store.close()


@pytest.fixture(scope="module")
def report(store: Store) -> Report:
    opened = BreakerEvent(sample_ledger.FIRST, "open", 30)
    closed = BreakerEvent(sample_ledger.LATER, "closed")
    known = Known("small", BASELINE, breakers={"luna": [opened, closed]})
    return replace(make_report(store, Scope(), known, by="tag:team"), quotes=[QUOTE])


@pytest.fixture(scope="module")
def html(report: Report) -> str:
    return page(report, tiers=TIERS)


class Tags(HTMLParser):
    """What a browser would make of a page: elements with their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def tags(html: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(html)
    return parser.seen


def test_json_has_money_as_exact_text(report: Report) -> None:
    found = document(report)
    assert found["total"] == {
        "calls": 16,
        "answers": 9,
        "input_tokens": 169,
        "output_tokens": 132,
        "cost_usd": "0.00000306",
        "unpriced": 1,
    }
    assert found["by"]["dimension"] == "tag:team"
    assert [line["name"] for line in found["by"]["lines"]] == ["–", EVIL, "red"]
    assert found["over_time"] == {
        "unit": "day",
        "lines": [
            {**line, "name": name}
            for name, line in (
                (
                    "2026-11-01",
                    {
                        "calls": 14,
                        "answers": 7,
                        "input_tokens": 152,
                        "output_tokens": 115,
                        "cost_usd": "0.00000254",
                        "unpriced": 1,
                    },
                ),
                (
                    "2026-11-06",
                    {
                        "calls": 2,
                        "answers": 2,
                        "input_tokens": 17,
                        "output_tokens": 17,
                        "cost_usd": "0.00000052",
                        "unpriced": 0,
                    },
                ),
            )
        ],
    }
    assert found["saving"]["saved_usd"] == "-0.000001892"
    assert found["saving"]["is_upper_bound"] is True
    assert found["dearest"]["parts"][0]["cost_usd"] == "0.000001"
    assert found["breakers"][0]["openings"] == 1
    assert found["quotes"][0]["expected_usd"] == "0.000002"
    assert found["quotes"][0]["error"] == pytest.approx(2_000 / 3_060 - 1)


def test_rows_are_the_split_and_no_formulas(report: Report) -> None:
    found = list(rows(report))
    assert all(tuple(row) == ("tag:team", *COLUMNS) for row in found)
    assert found[0] == {
        "tag:team": "–",
        "calls": 6,
        "answers": 5,
        "input_tokens": 72,
        "output_tokens": 78,
        "cost_usd": "0.00000104",
        "unpriced": 1,
    }
    line = replace(report.lines[0], name="=HYPERLINK(1)")
    assert next(rows(replace(report, lines=[line])))["tag:team"] == "'=HYPERLINK(1)"


def test_the_page_fetches_nothing_and_runs_nothing(html: str) -> None:
    seen = tags(html)
    names = {name for name, _ in seen}
    assert names.isdisjoint({"script", "img", "link", "iframe", "object", "embed", "base", "form", "image", "use"})
    found = [(tag, name, value) for tag, attributes in seen for name, value in attributes.items()]
    assert not [one for one in found if one[1] in ("src", "href", "xlink:href", "srcset") or one[1].startswith("on")]
    elsewhere = [one for one in found if "//" in (one[2] or "") and not one[1].startswith("xmlns")]
    assert not elsewhere
    assert "@import" not in html
    assert not re.search(r"url\(\s*['\"]?(?!#)", html)


def test_strangers_names_are_text(html: str) -> None:
    assert "<script" not in html
    assert "&lt;script&gt;alert(" in html
    assert html.count("&lt;img src=http://evil.example/x&gt;") >= 2


def test_the_page_says_all_that_there_is_to_say(html: str) -> None:
    for words in (
        "1 of 16 calls have no known price",
        "not shown",
        "Cost only.",
        "Spent more, at least",
        "1 fail-overs, 2 escalations, 1 re-asks",
        "Calls that broke off",
        "1 more task was answered by the cache",
        "Quoted, and what it came to",
        "34.6 %",
        "1 ×",
    ):
        assert words in html, words
    assert html.count("<svg") == 10


def test_what_is_not_there_has_no_section(report: Report) -> None:
    bare = replace(report, quotes=(), breakers=None, no_breakers="no Redis", saving=None, no_saving="no price")
    html = page(bare, tiers=TIERS)
    assert "Quoted" not in html
    assert "Circuit breakers: not known; no Redis." in html
    assert "Not known: no price." in html


def test_breakers_to_which_nothing_happened_are_no_table(report: Report, html: str) -> None:
    assert report.breakers
    quiet = replace(report.breakers[0], openings=0, open_s=0.0, rests=0, rest_s=0.0, cuts=0)
    told = page(replace(report, breakers=[quiet]), tiers=TIERS)
    assert "No circuit breaker opened, and no deployment had to rest." in told
    assert "<th>Circuit breaker</th>" not in told
    assert "<th>Circuit breaker</th>" in html


def test_a_short_time_has_a_tick_a_bar(report: Report) -> None:
    cells = [replace(report.cells[0], time=f"2026-11-24 03:{minute}") for minute in (28, 29, 31)]
    short = replace(report, cells=cells, unit="minute")
    drawn = charts.over_time(short, lambda cell: cell.tier, "tier")
    for picture in (drawn.wide, drawn.narrow):
        assert re.findall(r">(03:\d\d)<", picture) == ["03:28", "03:29", "03:31"]


def test_an_empty_ledger_has_a_page_that_says_so(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/tierq.db")
    schema.migrate(store)
    html = page(make_report(store, Scope(), Known()))
    store.close()
    assert "There is nothing in the ledger" in html
    assert "<svg" not in html


@pytest.mark.parametrize(
    ("nusd", "digits", "text"),
    [
        (None, 2, "unpriced"),
        (0, 2, "$0.00"),
        (1_234_567_890_000, 2, "$1,234.57"),
        (-2_500_000_000, 2, "−$2.50"),
        (4_000_000, 2, "<$0.01"),
        (4_000_000, 4, "$0.0040"),
    ],
)
def test_money_has_as_many_digits_as_its_column(nusd: int | None, digits: int, text: str) -> None:
    assert money(nusd, digits) == text
