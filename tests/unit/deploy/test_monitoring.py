"""deploy/prometheus and deploy/grafana ask for what workers really export, and the page of metrics names all of it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import promql_parser as promql
import pytest
import yaml

from support.metrics import Exported, exported
from tierq_shared.settings import MetricsSettings
from tierq_workers.fates import FATES
from tierq_workers.observers.calls import OTHER, OUTCOMES, TOKEN_KINDS
from tierq_workers.permits.figures import LEVELS
from unit.docs.pages import ROOT, names, rows, without_fences

PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana" / "tierq.json").read_text())
ALERTS = [one for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"] for one in group["rules"]]
PAGE = ROOT / "docs" / "reference" / "metrics.md"

OF_SCRAPE = {"instance", "job"}
"""What Prometheus itself puts on every series."""

VARIABLES = {"$__rate_interval": "1m", "$__range": "3h", "$tier": ".*", "$deployment": ".*"}
"""What Grafana puts in their place."""

WORDS = {"outcome": {*OUTCOMES, OTHER}, "kind": {*TOKEN_KINDS}, "fate": {fate.replace(" ", "_") for fate in FATES}}


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exported]:
    return exported(tmp_path_factory.mktemp("metrics"))


def faults(expression: str, known: dict[str, Exported], used_labels: set[str]) -> list[str]:
    """What is wrong with a query: metrics, labels and words that no worker exports."""
    found: list[str] = []
    has = _labels(promql.parse(expression), known, found)
    return found + [f"no label {one}" for one in sorted(used_labels - has)]


def _labels(expression: Any, known: dict[str, Exported], found: list[str]) -> set[str]:
    """The labels of what an expression comes to; what is wrong below it is put to what was found."""
    match expression:
        case promql.VectorSelector():
            return _labels_of_metric(expression, known, found)
        case promql.MatrixSelector():
            return _labels_of_metric(expression.vector_selector, known, found)
        case promql.AggregateExpr():
            has, by = _labels(expression.expr, known, found), expression.modifier
            kept = set(by.labels) if by else set()
            found += [f"no label {one} to keep" for one in sorted(kept - has)]
            return kept
        case promql.BinaryExpr():
            matching = expression.modifier.matching if expression.modifier else None
            has = _labels(expression.lhs, known, found) | _labels(expression.rhs, known, found)
            found += [f"no label {one} to match" for one in (matching.labels if matching else []) if one not in has]
            return has
        case promql.Call():
            return set().union(*(_labels(one, known, found) for one in expression.args))
        case promql.ParenExpr():
            return _labels(expression.expr, known, found)
        case _:
            return set()


def _labels_of_metric(selector: Any, known: dict[str, Exported], found: list[str]) -> set[str]:
    metric = next((one for one in known.values() if selector.name in one.samples), None)
    if metric is None:
        found.append(f"no metric {selector.name}")
        return set()
    for matcher in selector.matchers.matchers:
        if matcher.name not in metric.labels:
            found.append(f"no label {matcher.name} on {selector.name}")
        elif matcher.name in WORDS:
            found += [f"no {matcher.name} {one}" for one in set(matcher.value.split("|")) - WORDS[matcher.name]]
    return metric.labels | OF_SCRAPE | ({"le"} if selector.name.endswith("_bucket") else set())


@pytest.mark.parametrize(
    ("expression", "labels", "fault"),
    [
        ("tierq_ready_task", set(), "no metric tierq_ready_task"),
        ('rate(tierq_attempts_total{tier="small"}[5m])', set(), "no label tier on tierq_attempts_total"),
        ('sum(tierq_attempts_total{outcome=~"auth|failed"})', set(), "no outcome failed"),
        ("sum by (tier) (tierq_breaker_state)", {"tier"}, "no label tier to keep"),
        ("max by (limit) (tierq_limit_rpm) > on (tier) tierq_slots", set(), None),
        ("sum(tierq_in_flight)", {"tier"}, "no label tier"),
        ("histogram_quantile(0.5, sum by (le) (rate(tierq_commit_seconds_bucket[5m])))", set(), None),
    ],
)
def test_what_is_wrong_with_a_query_is_found(
    known: dict[str, Exported], expression: str, labels: set[str], fault: str | None
) -> None:
    assert faults(expression, known, labels) == ([fault] if fault else [])


@pytest.mark.parametrize("alert", ALERTS, ids=[one["alert"] for one in ALERTS])
def test_an_alert_asks_for_what_there_is_and_says_what_to_do(alert: dict[str, Any], known: dict[str, Exported]) -> None:
    assert set(alert) <= {"alert", "expr", "for", "labels", "annotations"}
    assert alert["labels"] in [{"severity": one} for one in ("page", "ticket", "info")]
    text = "".join(alert["annotations"].values())
    assert set(alert["annotations"]) == {"summary", "description"}
    assert len(alert["annotations"]["description"]) > 120, "a runbook, in short"
    assert text.count("{{") == text.count("}}") == len(re.findall(r"\{\{ \$(?:labels\.\w+|value)[^{}]* \}\}", text))
    assert faults(alert["expr"], known, set(re.findall(r"\$labels\.(\w+)", text))) == []
    for page in re.findall(r"docs/[\w/-]+\.md", text):
        assert (ROOT / page).exists()


def test_each_alert_has_a_name_of_its_own() -> None:
    assert set(Counter(one["alert"] for one in ALERTS).values()) == {1}


PANELS = [one for one in DASHBOARD["panels"] if one["type"] != "row"]


def queries(panel: dict[str, Any]) -> Iterator[tuple[str, set[str]]]:
    for target in panel["targets"]:
        expression = target["expr"]
        for name, value in VARIABLES.items():
            expression = expression.replace(name, value)
        yield expression, set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))


@pytest.mark.parametrize("panel", PANELS, ids=[one["title"] for one in PANELS])
def test_a_panel_asks_for_what_there_is(panel: dict[str, Any], known: dict[str, Exported]) -> None:
    assert panel["description"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    for expression, labels in queries(panel):
        assert faults(expression, known, labels) == []


def test_the_dashboards_panels_stand_beside_each_other() -> None:
    assert len({one["id"] for one in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    for one, other in combinations([panel["gridPos"] for panel in DASHBOARD["panels"]], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below
        assert one["x"] + one["w"] <= 24


def test_the_dashboards_variables_are_asked_of_metrics_with_these_labels(known: dict[str, Exported]) -> None:
    for variable in DASHBOARD["templating"]["list"][1:]:
        match = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"])
        assert match
        assert match[2] in known[match[1]].labels


def test_breakers_are_shown_in_the_words_of_their_metric() -> None:
    (panel,) = [one for one in PANELS if one["type"] == "state-timeline"]
    shown = {value: one["text"] for value, one in panel["fieldConfig"]["defaults"]["mappings"][0]["options"].items()}
    assert shown == {str(level): str(condition) for condition, level in LEVELS.items()}


def test_prometheus_scrapes_where_workers_serve() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    assert all((PROMETHEUS / name).exists() for name in config["rule_files"])
    (job,) = config["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    assert found["port"] == MetricsSettings().port
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert set(found["names"]) == {name for name in services if name.startswith("worker-")}


def test_every_metric_stands_on_its_page_with_its_kind_and_labels(known: dict[str, Exported]) -> None:
    documented = {names(row[0])[0]: row for row in rows(without_fences(PAGE)) if names(row[0])}
    ours = {name: row for name, row in documented.items() if name.startswith("tierq_")}
    assert sorted(ours) == sorted(known)
    for name, metric in known.items():
        _, kind, labels, meaning = ours[name]
        assert (kind, set(names(labels))) == (metric.kind, metric.labels), name
        assert meaning, name


@pytest.mark.parametrize("label", WORDS)
def test_every_word_of_a_label_stands_on_the_page(label: str) -> None:
    assert WORDS[label] <= set(names(without_fences(PAGE)))
