"""Faults, outages, quotas and their settings, by value."""

from __future__ import annotations

from typing import Any

import pytest

from tierq_simulator.chance import fraction
from tierq_simulator.faults import Faults, parse_outage
from tierq_simulator.latency import latency_s
from tierq_simulator.quota import Quotas
from tierq_simulator.served import ServedLog
from tierq_simulator.settings import Behaviour, ConfigError, Settings


def _kinds(faults: list[dict[str, Any]], texts: list[str], seed: int = 0) -> list[str | None]:
    resolved = Settings.parse({"models": {"m": {"faults": faults}}}).resolve("openai", "m")
    chooser = Faults(seed)
    return [None if fault is None else fault.kind for fault in (chooser.choose(resolved, "m", text) for text in texts)]


def test_rates_add_up_as_written() -> None:
    kinds = _kinds([{"kind": "reset", "rate": 0.25}, {"kind": "overloaded", "rate": 0.75}], ["x"] * 400)
    assert None not in kinds
    assert 70 < kinds.count("reset") < 130


def test_the_same_seed_draws_the_same_faults() -> None:
    faults = [{"kind": "reset", "rate": 0.5}]
    assert _kinds(faults, ["x"] * 50, seed=3) == _kinds(faults, ["x"] * 50, seed=3)
    assert _kinds(faults, ["x"] * 50, seed=3) != _kinds(faults, ["x"] * 50, seed=4)


def test_a_fault_for_the_first_requests_only() -> None:
    assert _kinds([{"kind": "reset", "first": 2}], ["a", "b", "c"]) == ["reset", "reset", None]


def test_a_fault_of_a_task_depends_on_its_input_only() -> None:
    kinds = _kinds([{"kind": "reset", "rate": 0.5, "per_task": True}], ["a", "b", "c", "d", "e", "f"] * 3)
    assert kinds[:6] == kinds[6:12] == kinds[12:]
    assert {None, "reset"} == set(kinds)


def test_the_first_requests_are_counted_over_all_models_where_the_fault_is_for_all() -> None:
    settings = Settings.parse({"models": {"*": {"faults": [{"kind": "reset", "first": 1}]}, "m": {"faults": ["hang"]}}})
    chooser = Faults(0)
    met = [chooser.choose(settings.resolve("openai", model), model, "x") for model in ("m", "n")]
    assert [None if fault is None else fault.kind for fault in met] == ["hang", None]


def test_the_first_requests_of_each_task() -> None:
    kinds = _kinds([{"kind": "reset", "per_task": True, "first": 1}], ["a", "b", "a", "b"])
    assert kinds == ["reset", "reset", None, None]


def test_the_most_specific_setting_wins_and_faults_add_up() -> None:
    settings = Settings.parse(
        {
            "models": {
                "*": {"latency_ms": 5, "skill": 0.5, "faults": ["reset"]},
                "m": {"skill": 0.9, "faults": ["hang"]},
            },
            "providers": {"openai": {"latency_ms": 7, "rpm": 60}},
        }
    )
    resolved = settings.resolve("openai", "m")
    assert (resolved.behaviour.latency_ms, resolved.behaviour.skill, resolved.behaviour.rpm) == (7, 0.9, 60)
    assert [fault.kind for _, fault in resolved.faults] == ["hang", "reset"]
    assert settings.resolve("gemini", "n").behaviour.latency_ms == 5


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"model": {}}, "unknown key 'model'"),
        ({"models": {"m": {"latency": 1}}}, r"models.m: unknown key 'latency'"),
        ({"models": {"m": {"faults": [{"kind": "fire"}]}}}, r"models.m.faults\[0\].kind: 'fire'"),
        ({"models": {"m": {"faults": [{"kind": "reset", "rate": 2}]}}}, "between 0 and 1"),
        ({"models": {"m": {"faults": [{"kind": "overloaded", "retry_as": "weeks"}]}}}, "not one of seconds, ms, date"),
        ({"models": {"m": {"skill": "high"}}}, "models.m.skill"),
        ({"models": {"m": {"latency_p50_ms": 3}}}, "come together"),
        ({"providers": {"acme": {}}}, "unknown key 'acme'"),
        ({"seed": "x"}, "seed: an integer"),
        ([], "config: an object"),
    ],
)
def test_a_wrong_setting_is_named(raw: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Settings.parse(raw)


def test_settings_read_back_as_they_were_given() -> None:
    raw = {"seed": 4, "models": {"m": {"skill": 0.5, "faults": [{"kind": "reset", "rate": 0.1}]}}, "providers": {}}
    shown = Settings.parse(raw).as_json()
    assert Settings.parse(shown) == Settings.parse(raw)


def test_an_outage_holds_for_its_provider_until_its_time() -> None:
    outage = parse_outage({"provider": "openai", "kind": "overloaded", "seconds": 5}, now=100.0)
    assert outage.hits("openai", "m", 104.9)
    assert not outage.hits("openai", "m", 105.0)
    assert not outage.hits("gemini", "m", 101.0)


def test_a_quota_of_requests_refills_evenly() -> None:
    resolved = Settings.parse({"models": {"m": {"rpm": 60, "burst_s": 2}}}).resolve("openai", "m")
    quotas = Quotas()
    waits = [allowance.wait_s for at in (0.0, 0.0, 0.0, 1.0) if (allowance := quotas.admit(resolved, 1, at))]
    assert waits == [0.0, 0.0, 1.0, 0.0]


def test_a_quota_of_tokens_counts_the_answers_too() -> None:
    resolved = Settings.parse({"models": {"m": {"tpm": 600}}}).resolve("openai", "m")
    quotas = Quotas()
    first = quotas.admit(resolved, 300, 0.0)
    quotas.charge(resolved, 300)
    second = quotas.admit(resolved, 100, 0.0)
    assert first is not None
    assert second is not None
    assert (first.wait_s, second.wait_s, second.scarce) == (0.0, 10.0, "tokens")


def test_a_providers_quota_is_shared_by_its_models() -> None:
    settings = Settings.parse({"providers": {"openai": {"rpm": 1}}})
    quotas = Quotas()
    admitted = [quotas.admit(settings.resolve("openai", model), 1, 0.0) for model in ("a", "b")]
    assert [allowance is not None and allowance.wait_s > 0 for allowance in admitted] == [False, True]


def test_latency_follows_its_settings() -> None:
    assert latency_s(Behaviour(latency_ms=20), 0, 1) == 0.02
    swings = [latency_s(Behaviour(latency_ms=20, latency_jitter_ms=5), 0, number) for number in range(200)]
    assert 0.015 <= min(swings) < 0.016 < 0.024 < max(swings) <= 0.025
    drawn = sorted(latency_s(Behaviour(latency_p50_ms=100, latency_p95_ms=400), 0, number) for number in range(1000))
    assert 0.085 < drawn[500] < 0.115
    assert 0.33 < drawn[950] < 0.48


def test_draws_are_even() -> None:
    drawn = [fraction(1, "x", number) for number in range(2000)]
    assert 0.47 < sum(drawn) / 2000 < 0.53


def test_served_ids_are_counted_in_order_and_bounded() -> None:
    log = ServedLog(limit=3)
    for attempt, delivered in (("a", True), ("b", True), ("a", False), ("c", True), ("d", True)):
        log.add(attempt, delivered=delivered)
    seen = log.since(0)
    assert [(row["id"], row["count"]) for row in seen["served"]] == [("b", 1), ("c", 1), ("d", 1)]
    assert (seen["next"], seen["dropped"]) == (4, 1)
    assert [row["id"] for row in log.since(3)["served"]] == ["d"]
