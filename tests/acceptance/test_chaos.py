"""Some of `make chaos`, in small: after each fault nothing is lost, nothing counted twice, every call accounted for."""

from __future__ import annotations

from pathlib import Path

import pytest

import chaos.scenarios  # noqa: F401  # enters the scenarios into the registry
from chaos.ground import run
from chaos.registry import SCENARIOS, Shape
from support.servers import amqp_url

HANDFUL = [
    ("kill-points", Shape("postgresql", "rabbitmq")),
    ("cut-off-worker", Shape("postgresql", "redis")),
    ("disk-full", Shape("sqlite", "redis")),
]


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("name", "shape"), HANDFUL, ids=str)
def test_every_zero_is_a_zero(tmp_path: Path, name: str, shape: Shape) -> None:
    if shape.broker == "rabbitmq" and amqp_url() is None:
        pytest.skip("no RabbitMQ answers: set TIERQ_TEST_AMQP_URL")
    scenario = SCENARIOS[name]
    result = run(scenario, shape, tmp_path, seed=1, tasks=scenario.quick_tasks)
    assert not result.findings
    assert result.reckoning.lost == result.reckoning.double == result.reckoning.difference == 0
    assert result.reckoning.states == {"succeeded": result.reckoning.tasks}
    assert result.faults
