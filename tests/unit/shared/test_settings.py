"""Settings: what a configuration may say, and what it never shows."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tierq_shared.deployments import Deployment
from tierq_shared.policy import DEFAULT_RULES
from tierq_shared.settings import Settings, WorkerSettings, meets

OPENAI = {"provider": "openai", "model": "m"}


def settings(**values: Any) -> Settings:
    return Settings.model_validate(values)


# Spans of time.


@pytest.mark.parametrize(
    ("span", "seconds"),
    [
        ("250ms", 0.25),
        ("60s", 60),
        ("5m", 300),
        ("2h", 7_200),
        ("1d", 86_400),
        ("1.5h", 5_400),
        (" 10 s ", 10),
        (3, 3),
        (0.5, 0.5),
        (timedelta(minutes=1), 60),
    ],
)
def test_spans_are_seconds(span: Any, seconds: float) -> None:
    assert WorkerSettings(hold=span).hold == pytest.approx(seconds)


@pytest.mark.parametrize("span", ["", "10", "1 year", "s", "-5s", "1h30m", "5 M", "١s5"])
def test_what_is_no_span_says_how_to_write_one(span: str) -> None:
    with pytest.raises(ValidationError, match="is no span of time: write it as 250ms, 60s, 5m, 2h or 1d"):
        WorkerSettings(hold=span)  # type: ignore[arg-type]


@pytest.mark.parametrize("span", [float("inf"), float("nan"), 0, -1, "0s", None, ["1s"]])
def test_a_span_is_finite_and_long_enough(span: Any) -> None:
    with pytest.raises(ValidationError):
        WorkerSettings(hold=span)


@given(st.integers(1, 10**6), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_a_span_is_its_number_times_its_unit(number: int, unit: str) -> None:
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
    assert WorkerSettings(hold=f"{number}{unit}").hold == pytest.approx(number * units[unit])  # type: ignore[arg-type]


# Names.


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"version": 2}, "version: 2 is not known to this release; write version = 1"),
        (
            {"tiers": {"Small": {"chain": ["mini"]}}, "deployments": {"mini": OPENAI}},
            "tiers.Small: a tier's name is lower-case letters",
        ),
        (
            {"tiers": {"small": {"chain": ["mni"]}}, "deployments": {"mini": OPENAI}},
            r"tiers.small.chain: no deployment is named 'mni' \(did you mean 'mini'\?\)",
        ),
        (
            {
                "tiers": {"small": {"chain": ["mini"]}},
                "deployments": {"mini": OPENAI},
                "policy": [{"tier": "small"}, {"tier": "smal"}],
            },
            r"policy.1.tier: there is no tier 'smal' \(did you mean 'small'\?\)",
        ),
        (
            {"deployments": {"mini": {**OPENAI, "name": "maxi"}}},
            r"deployments.mini.name: there is no such key: the name is the one in \[deployments.mini\]",
        ),
        (
            {"deployments": {"own": {**OPENAI, "provider": "openai-compatible"}}},
            "deployments.own: an openai-compatible server needs a base_url",
        ),
        (
            {"deployments": {"mini": {**OPENAI, "base_url": "https://me:pass@host/v1"}}},
            "deployments.mini.base_url: a password has no place here: name its variable in key_env",
        ),
        (
            {"deployments": {"haiku": {"provider": "anthropic", "model": "m", "params": {"top_p": 1}}}},
            "deployments.haiku.params: top_p is refused by Anthropic from version 2026-10-21 on",
        ),
    ],
)
def test_names_that_point_nowhere_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        settings(**values)


def test_an_older_version_of_anthropic_takes_sampling_parameters() -> None:
    haiku = {"provider": "anthropic", "model": "m", "params": {"top_p": 1}, "api_version": "2023-06-01"}
    assert settings(deployments={"haiku": haiku}).deployments["haiku"].params == {"top_p": 1}


def test_a_deployment_is_named_by_its_table_which_stays_as_it_was() -> None:
    table = dict(OPENAI)
    for _ in range(2):
        assert settings(deployments={"mini": table}).deployments["mini"].name == "mini"
    assert table == OPENAI


def test_settings_are_read_back_from_their_own_json() -> None:
    said = settings(tiers={"small": {"chain": ["mini"]}}, deployments={"mini": OPENAI})
    assert Settings.model_validate_json(said.model_dump_json()) == said


@pytest.mark.parametrize("price", [float("nan"), float("inf"), -1, None])
def test_a_price_is_a_number_that_can_be_paid(price: Any) -> None:
    with pytest.raises(ValidationError):
        settings(deployments={"mini": {**OPENAI, "price": {"input": price, "output": 1}}})


# What is not said.


def test_a_producer_without_tiers_assumes_the_default_ones() -> None:
    policy = settings().make_policy()
    assert policy.tiers == ["small", "medium", "large"]
    assert tuple(policy.rules) == DEFAULT_RULES


def test_the_default_rules_hold_only_where_their_tiers_are() -> None:
    one = settings(tiers={"only": {"chain": ["mini"]}}, deployments={"mini": OPENAI})
    assert (one.tier_names, one.make_policy().rules) == (["only"], [])


def test_settings_are_never_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        settings().version = 2  # type: ignore[misc]


# What is never shown.


def test_secrets_are_neither_in_repr_nor_in_str() -> None:
    urls = {name: f"redis://me:hunter2-{name}@host/0" for name in ("database_url", "broker_url", "state_url")}
    headers = {"Authorization": "Bearer hunter2"}
    shown = settings(**urls, deployments={"mini": {**OPENAI, "headers": headers}})
    for text in (repr(shown), str(shown), repr(shown.deployments["mini"]), str(shown.deployments["mini"])):
        assert "hunter2" not in text
        assert "Authorization" not in text
    assert shown.deployments["mini"].headers == headers


# What a task may require.


@pytest.mark.parametrize(
    ("require", "met"),
    [
        ({}, True),
        ({"region": "eu"}, True),
        ({"region": "us"}, False),
        ({"region": "eu", "provider": "openai", "model": "m", "deployment": "mini"}, True),
        ({"region": "eu", "model": "other"}, False),
        ({"colour": "red"}, False),
    ],
)
def test_a_deployment_meets_all_that_is_required_or_nothing(require: dict[str, str], met: bool) -> None:
    assert meets(Deployment(name="mini", provider="openai", model="m", region="eu"), require) is met
    tiers = {"small": {"chain": ["other", "mini"]}}
    deployments = {"mini": {**OPENAI, "region": "eu"}, "other": {"provider": "gemini", "model": "g"}}
    assert settings(tiers=tiers, deployments=deployments).serves("small", require) is met
