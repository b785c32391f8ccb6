"""What people, programs and Prometheus are told of deployments, on any width."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console, Group

from tierq_console.deployments_view import Seen, exposition
from tierq_workers.permits.history import BreakerSeen, Condition, Event, LimitSeen, Report

AT = datetime(2026, 1, 27, 14, 3, 21, tzinfo=UTC)


def breaker(deployment: str, model: str, condition: Condition = Condition.CLOSED, **known: Any) -> BreakerSeen:
    """A deployment of which nothing else is known, but for what is named."""
    nothing = {"tiers": {}, "limit": f"of {deployment}", "seconds": 0.0, "is_probing": False}
    counts = dict.fromkeys(("calls", "failures", "openings"), 0)
    provider, name = model.split("/")
    return BreakerSeen(deployment, provider, name, condition=condition, **{**nothing, **counts, **known})


BOTH = {"small": 1, "medium": 2}
REPORT = Report(
    [
        breaker("mini", "openai/gpt-4o-mini", tiers=BOTH, limit="account", calls=1_312, failures=4),
        breaker("haiku", "anthropic/haiku", Condition.OPEN, seconds=12.3, calls=10, failures=10, openings=3),
        breaker("flash", "gemini/[b]flash", Condition.HALF_OPEN, is_probing=True, tiers={"small": 2}),
        breaker("pro", "gemini/pro", Condition.HALF_OPEN),
        breaker("spent", "openai/o", Condition.RESTING, limit="account", seconds=244.0),
    ],
    [
        LimitSeen("account", ["mini", "spent"], 1_080.0, "learned", 0.97, 4e6, "configured", 0.0, 12),
        LimitSeen("of haiku", ["haiku"], 4_000.0, "told", 0.1, None, None, 11.0, 0),
        LimitSeen("of flash", ["flash"], None, None, None, None, None, 0.0, 0),
    ],
)
HISTORY = [
    Event(AT, "open", 10.0, "the probe failed", None),
    Event(AT, "throttled", None, None, 1_080.0),
    Event(AT, "resting", 300.0, "quota exhausted", None),
    Event(AT, "closed", None, None, None),
]


def printed(seen: Seen, width: int) -> list[str]:
    console = Console(width=width, record=True)
    with console.capture() as captured:
        console.print(Group(*seen.tables()), highlight=False)
    return [line.rstrip() for line in captured.get().splitlines()]


def test_on_a_wide_terminal_each_has_its_line() -> None:
    assert printed(Seen(REPORT), 160) == [
        "deployment  model               tiers              state                           calls  failed  limit",
        "mini        openai gpt-4o-mini  small 1, medium 2  closed                          1,312       4  account",
        "haiku       anthropic haiku     none               open for 12 s more                 10      10  of haiku",
        "flash       gemini [b]flash     small 2            half open, probing                  0          of flash",
        "pro         gemini pro          none               half open: to be probed             0          of pro",
        "spent       openai o            none               resting 4 min: quota exhausted      0          account",
        "",
        "limit     calls a minute  used  tokens a minute       rests  throttled",
        "account   1,080 learned    97%  4,000,000 configured              12 ×",
        "of haiku  4,000 told       10%  no limit known        11 s",
        "of flash  no limit known        no limit known",
    ]


@pytest.mark.parametrize("width", [60, 80])
def test_a_narrow_terminal_wraps_and_loses_no_word(width: int) -> None:
    lines = printed(Seen(REPORT, HISTORY), width)
    assert max(map(len, lines)) <= width
    words = " ".join(lines).split()
    assert {"mini", "haiku", "closed", "probing", "1,312", "97%", "1,080", "resting", "throttled:"} <= set(words)
    assert "…" not in " ".join(words)


def test_the_history_is_in_local_time_with_its_reasons() -> None:
    when = AT.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    assert printed(Seen(Report([], []), HISTORY), 160)[-5:] == [
        "when                 what                             why",
        f"{when}  open for 10 s                    the probe failed",
        f"{when}  throttled: 1,080 calls a minute",
        f"{when}  resting for 5 min                quota exhausted",
        f"{when}  closed",
    ]


def test_a_deployment_without_a_history_says_so() -> None:
    assert printed(Seen(REPORT, []), 160)[-1] == "nothing has happened to it yet"


def test_json_has_all_of_it() -> None:
    found: dict[str, Any] = json.loads(json.dumps(Seen(REPORT, HISTORY).json()))
    assert found["deployments"][1]["condition"] == "open"
    assert found["deployments"][0]["tiers"] == {"small": 1, "medium": 2}
    assert found["limits"][0]["deployments"] == ["mini", "spent"]
    assert found["history"][0] == {
        "at": "2026-01-27T14:03:21+00:00",
        "state": "open",
        "seconds": 10.0,
        "why": "the probe failed",
        "rpm": None,
    }
    assert "history" not in Seen(REPORT).json()


# The text format of Prometheus, version 0.0.4, as far as it is used here.
_SAMPLE = re.compile(r'(?P<name>[a-z_]+)\{(?P<label>[a-z]+)="(?P<value>(?:[^"\\\n]|\\.)*)"\} (?P<number>[0-9.e+]+)')


def samples(text: str) -> dict[tuple[str, str], float]:
    """What a text says, where every line is one that Prometheus reads, after its HELP and TYPE."""
    found = {}
    typed: list[str] = []
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert kind == ("counter" if name.endswith("_total") else "gauge")
            typed.append(name)
        elif not line.startswith("# HELP "):
            match = _SAMPLE.fullmatch(line)
            assert match, line
            assert typed[-1] == match["name"]
            found[match["name"], match["value"]] = float(match["number"])
    assert len(typed) == len(set(typed))
    return found


def test_prometheus_is_told_the_same() -> None:
    text = exposition(REPORT)
    found = samples(text)
    states = [found["tierq_breaker_state", name] for name in ("mini", "flash", "haiku", "spent")]
    assert states == [0, 1, 2, 3]
    assert found["tierq_breaker_openings_total", "haiku"] == 3
    assert found["tierq_limit_rpm", "account"] == 1_080
    assert found["tierq_limit_rest_seconds", "of haiku"] == 11
    assert found["tierq_limit_cuts_total", "account"] == 12
    assert 'tierq_limit_tpm{limit="account"} 4000000\n' in text
    # What nothing bounds has no sample, rather than a made-up one.
    assert ("tierq_limit_rpm", "of flash") not in found


def test_names_are_escaped_for_prometheus() -> None:
    odd = LimitSeen('a "b"\\\n', [], 60.0, "told", None, None, None, 0.0, 0)
    text = exposition(Report([], [odd]))
    assert 'tierq_limit_rpm{limit="a \\"b\\"\\\\\\n"} 60\n' in text
    assert ("tierq_limit_rpm", 'a \\"b\\"\\\\\\n') in samples(text)
