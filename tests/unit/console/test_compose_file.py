"""docker-compose.yml: its shape, and what it promises of secrets, scaling and stopping."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from support import compose
from tierq_shared import configuration
from tierq_shared.prices import PriceList

TOP = compose.FILE.parent
SECRETS = {"TIERQ_POSTGRES_PASSWORD": "pg-secret", "TIERQ_FLOWER_PASSWORD": "flower-secret"}


@pytest.fixture(scope="module")
def file() -> dict[str, Any]:
    return compose.read()


def seconds(duration: str) -> float:
    return sum(int(number) * {"s": 1, "m": 60}[unit] for number, unit in re.findall(r"(\d+)(s|m)", duration))


def test_it_has_the_shape_that_compose_expects(file: dict[str, Any]) -> None:
    jsonschema.validate(file, compose.SCHEMA)


@pytest.mark.parametrize("damage", [{"comand": ["x"]}, {"restart": "sometimes"}, {"stop_grace_period": "soon"}])
def test_the_shape_refuses_what_compose_would(file: dict[str, Any], damage: dict[str, Any]) -> None:
    broken = file | {"services": file["services"] | {"redis": file["services"]["redis"] | damage}}

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, compose.SCHEMA)


def test_dependencies_and_volumes_are_there(file: dict[str, Any]) -> None:
    services = file["services"]
    for service in services.values():
        for name, wanted in service.get("depends_on", {}).items():
            assert name in services
            assert wanted["condition"] != "service_healthy" or "healthcheck" in services[name]
        for volume in service.get("volumes", []):
            source = compose.interpolate(volume, {}).split(":")[0]
            assert source in file["volumes"] or (TOP / source).is_file()
    assert (TOP / services["migrate"]["build"]["dockerfile"]).is_file()


@pytest.mark.parametrize("missing", SECRETS)
def test_a_password_that_is_not_set_is_asked_for(file: dict[str, Any], missing: str) -> None:
    env = {name: value for name, value in SECRETS.items() if name != missing}

    with pytest.raises(compose.MissingVariable, match=missing):
        compose.interpolate(file["services"], env)


def test_no_secret_stands_in_it(file: dict[str, Any]) -> None:
    for service in file["services"].values():
        for name, value in service.get("environment", {}).items():
            if re.search("KEY|PASSWORD", name):
                assert re.fullmatch(r"\$\{\w+(:[-?][^}]*)?\}", value), name
    assert not re.search(r"sk-\w{8}|AIza\w{8}", compose.FILE.read_text())


def test_workers_scale_and_are_given_time_to_stop(file: dict[str, Any]) -> None:
    settings = configuration.load(TOP / "deploy" / "tierq.compose.toml", env={})
    workers = {name: one for name, one in file["services"].items() if name.startswith("worker-")}

    assert set(workers) == {f"worker-{tier}" for tier in settings.tiers}
    for name, service in workers.items():
        assert not {"container_name", "ports", "hostname"} & set(service)
        assert service["command"] == ["worker", name.removeprefix("worker-")]
        assert service["healthcheck"]["test"][2:] == [*service["command"], "--check"]
        assert seconds(service["stop_grace_period"]) >= settings.worker.grace + 15


def test_only_loopback_is_published(file: dict[str, Any]) -> None:
    ports = chain.from_iterable(service.get("ports", []) for service in file["services"].values())

    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("name", ["tierq.compose.toml", "tierq.demo.toml"])
def test_the_configuration_names_only_models_that_are_priced(name: str) -> None:
    settings = configuration.load(TOP / "deploy" / name, env={})

    assert all(PriceList().rates(deployment) for deployment in settings.deployments.values())


def test_the_demo_environment_sends_every_provider_to_the_simulator() -> None:
    lines = (TOP / "deploy" / "demo.env").read_text().splitlines()
    values = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))

    settings = configuration.load(TOP / "deploy" / values["TIERQ_COMPOSE_CONFIG"], env=values)
    for deployment in settings.deployments.values():
        base_url = configuration.resolve_base_url(deployment, values).base_url
        assert base_url is not None
        assert base_url.startswith("http://simulator:8500")
    served = configuration.load(TOP / "deploy" / "tierq.compose.toml", env={})
    assert settings.tier_names == served.tier_names
    assert {values[variable] for variable in configuration.KEY_VARIABLES.values()} == {"simulated"}


def test_the_image_takes_every_room() -> None:
    dockerfile = (TOP / "deploy" / "Dockerfile").read_text()
    ignored = (TOP / ".dockerignore").read_text()

    for room in ("shared", "producer", "workers", "simulator", "insight", "console"):
        assert Path(TOP / room).is_dir()
        assert f"COPY {room} {room}" in dockerfile
        assert f"!{room}\n" in ignored
    assert "USER tierq" in dockerfile
