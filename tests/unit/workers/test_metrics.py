"""What a worker does is counted exactly, under labels that are bounded; what cannot be read soon is left out."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import generate_latest
from sqlalchemy.exc import OperationalError

from support.metrics import Samples, healthy, samples
from support.waiting import eventually
from tierq_shared.money import Usage
from tierq_shared.settings import Settings
from tierq_shared.store import controls
from tierq_shared.store.connection import Store
from tierq_shared.store.ledger import AttemptResult
from tierq_workers.observers import cached, make_observer
from tierq_workers.observers.cached import Cached
from tierq_workers.observers.gauges import Gauges
from tierq_workers.observers.prometheus import PrometheusObserver
from unit.store.installation import Installation, new_task

SETTINGS = Settings.model_validate(
    {
        "tiers": {"small": {"chain": ["mini", "haiku"]}, "large": {"chain": ["opus"]}},
        "deployments": {name: {"provider": "openai", "model": "m"} for name in ("mini", "haiku", "opus")},
    }
)
TASK: Any = SimpleNamespace(id="t", tier="small")


def attempt(deployment: str) -> Any:
    return SimpleNamespace(id="a", deployment=deployment)


def result(outcome: str = "succeeded", **fields: Any) -> AttemptResult:
    return AttemptResult("a", outcome, **{"latency_ms": 1_200, "cost_nusd": 0, **fields})


def seen(observer: PrometheusObserver) -> Samples:
    return samples(generate_latest(observer.registry).decode())


def test_calls_are_counted_with_their_tokens_and_their_exact_cost() -> None:
    observer = PrometheusObserver(SETTINGS, "small")
    for _ in range(3):
        usage = Usage(100, 60, 10, 20, 5)
        observer.answered(TASK, attempt("mini"), result(usage=usage, cost_nusd=100_000_000))
    observer.answered(TASK, attempt("mini"), result("rate_limited", latency_ms=30))
    observer.answered(TASK, attempt("haiku"), result("unknown", cost_nusd=None))
    observer.answered(TASK, attempt("haiku"), result("cancelled", latency_ms=0))

    found = seen(observer)
    assert found["tierq_attempts_total"]["mini/succeeded"] == 3
    assert found["tierq_attempts_total"]["mini/rate_limited"] == 1
    # Exact: three floats of 0.1 would be 0.30000000000000004.
    assert found["tierq_cost_usd_total"]["mini"] == 0.3
    assert found["tierq_unpriced_attempts_total"] == {"mini": 0, "haiku": 1}
    tokens = found["tierq_tokens_total"]
    kinds = ("input", "cached", "cache_write", "output", "reasoning")
    assert [tokens[f"mini/{kind}"] for kind in kinds] == [300, 180, 30, 60, 15]
    assert found["tierq_attempt_seconds_sum"]["mini"] == 3.63
    # What was never sent took no time.
    assert found["tierq_attempt_seconds_count"] == {"mini": 4, "haiku": 1}
    buckets = found["tierq_attempt_seconds_bucket"]
    assert [buckets[f"mini/{le}"] for le in ("0.1", "1.0", "1.5", "+Inf")] == [1, 1, 4, 4]


def test_every_series_is_there_before_its_first_count() -> None:
    found = seen(PrometheusObserver(SETTINGS, "small"))
    assert found["tierq_attempts_total"]["haiku/unknown"] == 0
    assert found["tierq_tasks_total"]["failed/small"] == 0
    assert not [one for one in found["tierq_attempts_total"] if one.startswith("opus/")], "another tier's"


def test_labels_are_names_of_the_configuration_or_words_of_ours() -> None:
    observer = PrometheusObserver(SETTINGS, "small")
    for number in range(50):
        observer.answered(TASK, attempt(f"made-up-{number}"), result(f"odd-{number}"))
        observer.ended(SimpleNamespace(tier=f"tier-{number}"), f"fate {number}")  # type: ignore[arg-type]
    observer.ended(TASK, "queued again")

    found = seen(observer)
    assert found["tierq_attempts_total"]["other/other"] == 50
    assert {one.partition("/")[0] for one in found["tierq_attempts_total"]} == {"mini", "haiku", "other"}
    assert found["tierq_tasks_total"]["other/other"] == 50
    assert found["tierq_tasks_total"]["queued_again/small"] == 1


def test_a_deployment_that_came_by_sighup_is_counted_by_its_name(here: Installation) -> None:
    now_set = [SETTINGS]
    observer = PrometheusObserver(SETTINGS, "small")
    observer.begins(here.store, lambda: healthy(now_set[0]))
    added = SETTINGS.model_dump()
    added["deployments"]["new"] = added["deployments"]["mini"] | {"name": "new"}
    now_set.append(Settings.model_validate(added))
    now_set.pop(0)
    observer.answered(TASK, attempt("new"), result())
    assert seen(observer)["tierq_attempts_total"]["new/succeeded"] == 1
    observer.close()


def test_commits_and_sweeps_are_counted() -> None:
    observer = PrometheusObserver(SETTINGS, "small")
    observer.committed(7, 5, 0.02)
    observer.swept(0.3)
    observer.requeued(4)
    observer.lost(2)
    found = {name: values.get("") for name, values in seen(observer).items()}
    assert (found["tierq_committed_outcomes_total"], found["tierq_claims_total"]) == (7, 5)
    assert (found["tierq_commit_seconds_sum"], found["tierq_commit_seconds_count"]) == (0.02, 1)
    assert (found["tierq_sweeps_total"], found["tierq_sweep_seconds_sum"]) == (1, 0.3)
    assert (found["tierq_requeued_tasks_total"], found["tierq_lost_chunks_total"]) == (4, 2)


def test_nothing_is_served_where_the_port_is_0() -> None:
    off = SETTINGS.model_copy(update={"metrics": SETTINGS.metrics.model_copy(update={"port": 0})})
    kinds = [[type(one).__name__ for one in make_observer(one, "small")._observers] for one in (SETTINGS, off)]
    assert kinds == [["LogObserver", "PrometheusObserver"], ["LogObserver"]]


def gauges(here: Installation) -> Samples:
    return _read(Gauges(here.store, lambda: healthy(SETTINGS)))


def _read(from_: Gauges) -> Samples:
    observer = PrometheusObserver(SETTINGS, "small")
    observer.registry.register(from_)
    return seen(observer)


def test_the_backlog_is_that_of_sql_for_every_tier(here: Installation) -> None:
    here.submit([new_task(), new_task(), new_task(tier="gone"), new_task(tier="lost")])
    found = gauges(here)
    assert found["tierq_ready_tasks"] == {"small": 2, "large": 0, "other": 2}
    assert 0 <= found["tierq_oldest_ready_seconds"]["small"] < 60
    assert found["tierq_oldest_ready_seconds"]["large"] == 0
    assert (found["tierq_in_flight"], found["tierq_slots"]) == ({"small": 3}, {"small": 200})
    assert (found["tierq_healthy"], found["tierq_lease_seconds"]) == ({"small": 1}, {"small": 30})
    # Without a state Redis each worker has limits of its own, which nobody reads.
    assert not found["tierq_breaker_state"]


def test_what_is_paused_waits(here: Installation) -> None:
    here.submit([new_task()])
    here.store.write(lambda connection: controls.pause(connection, "tier:small"))
    found = gauges(here)
    assert (found["tierq_ready_tasks"]["small"], found["tierq_waiting_tasks"]["small"]) == (0, 1)
    assert found["tierq_paused"] == {"small": 1, "large": 0}


def test_a_store_that_cannot_be_reached_leaves_its_figures_out_and_the_others_in(
    here: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_store: Store) -> Any:
        raise OperationalError("SELECT", None, Exception("connection refused"))

    monkeypatch.setattr(Store, "reading", fail)
    found = gauges(here)
    assert not found["tierq_ready_tasks"]
    assert found["tierq_in_flight"] == {"small": 3}


def test_a_store_that_hangs_is_not_waited_for(here: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached, "PATIENCE_S", 0.05)
    hung = Gauges(here.store, lambda: healthy(SETTINGS))
    looks = []

    def hang(store: Store) -> Any:
        looks.append(store)
        while len(looks) < 2:
            time.sleep(0.01)
        return controls.NOTHING_SET

    monkeypatch.setattr(controls, "current", hang)
    for _ in range(3):
        assert not _read(hung)["tierq_ready_tasks"]
    assert len(looks) == 1, "one look at a time, however often it is asked"
    looks.append(here.store)
    eventually(lambda: _read(hung)["tierq_ready_tasks"], 5)


class Clocked:
    """A look that takes a while, on a clock of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, takes_s: float, lookers: int) -> None:
        self.at, self.looks, self._takes_s = 100.0, 0, takes_s
        monkeypatch.setattr(cached, "time", SimpleNamespace(monotonic=lambda: self.at))
        self.cached = Cached(self._look, lambda _: lookers)

    def _look(self) -> int:
        self.at += self._takes_s
        self.looks += 1
        return self.looks

    def kept_s(self) -> float:
        """How long the first look was kept."""
        assert self.cached.get() == 1
        began = self.at
        while self.cached.get() == 1:
            self.at += 0.5
        return self.at - self._takes_s - began


@pytest.mark.parametrize(
    ("takes_s", "lookers", "kept_s"),
    [(0.001, 1, 2.0), (0.3, 1, 6.0), (0.3, 4, 24.0), (0.3, 100, 60.0)],
)
def test_a_slow_look_is_kept_the_longer_the_more_there_are_who_look(
    monkeypatch: pytest.MonkeyPatch, takes_s: float, lookers: int, kept_s: float
) -> None:
    assert Clocked(monkeypatch, takes_s, lookers).kept_s() == pytest.approx(kept_s, abs=0.5)
