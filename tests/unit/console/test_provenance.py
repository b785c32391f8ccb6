"""`tierq config`: every value with its source, secrets masked."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from tierq_console.commands.config import command
from tierq_console.provenance import Value, mask_url, values
from tierq_shared import configuration
from tierq_shared.errors import ConfigurationError

CONFIG = """\
version = 1
broker_url = "redis://:hush@redis/0"
[tiers.small]
chain = ["mini"]
[deployments.mini]
provider = "openai"
model = "gpt-5-mini"
params = { temperature = 0 }
headers = { Authorization = "Bearer hush", "X-Team" = "ours" }
[[policy]]
tier = "small"
"""
ENV = {
    "TIERQ_DATABASE_URL": "postgresql://app:hush@db/app",
    "OPENAI_API_KEY": "sk-hush",
    "OPENAI_BASE_URL": "https://gw/v1",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tierq.toml"
    path.write_text(CONFIG)
    return path


def shown(path: Path, env: dict[str, str]) -> dict[str, Value]:
    return {value.name: value for value in values(configuration.load(path, env=env), env)}


def test_each_value_says_where_it_came_from(file: Path) -> None:
    found = shown(file, ENV)

    assert found["broker_url"].source == f"{file}:2"
    assert found["database_url"].source == "environment TIERQ_DATABASE_URL"
    assert found["tiers.small.chain"].source == f"{file}:4"
    assert found["tiers.small.max_in_flight"].source == "default"
    assert found["deployments.mini.model"].source == f"{file}:7"
    assert found["deployments.mini.base_url"] == Value(
        "deployments.mini.base_url", "https://gw/v1", "environment OPENAI_BASE_URL"
    )
    assert found["policy.0.tier"].source == f"{file}:11"
    assert found["worker.grace"].source == "default"


def test_no_secret_is_shown(file: Path) -> None:
    found = shown(file, ENV)

    assert "hush" not in orjson.dumps([value.json() for value in found.values()]).decode()
    assert found["database_url"].value == "postgresql://app:***@db/app"
    assert found["deployments.mini.key"].value == "***"
    assert found["deployments.mini.headers"].value == {"Authorization": "***", "X-Team": "ours"}


def test_without_a_database_the_embedded_urls_are_shown(file: Path) -> None:
    found = shown(file, {})

    assert found["database_url"].value == f"sqlite:///{file.parent}/.tierq/tierq.db"
    assert found["database_url"].source == "embedded stack"
    assert found["deployments.mini.key"].value is None


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("redis://:pw@host:1/0", "redis://:***@host:1/0"),
        ("amqp://me:p:w@host//", "amqp://me:***@host//"),
        ("postgresql://db/app?password=pw&sslmode=require", "postgresql://db/app?password=***&sslmode=require"),
        ("sqlite:////tmp/a@b:c.db", "sqlite:////tmp/a@b:c.db"),
    ],
)
def test_passwords_in_urls_are_masked(url: str, masked: str) -> None:
    assert mask_url(url) == masked


def test_the_command_prints_a_table_or_json(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)

    table = CliRunner().invoke(command, [], catch_exceptions=False)
    assert f"{file}:7" in table.output
    listed = orjson.loads(CliRunner().invoke(command, ["--json"], catch_exceptions=False).output)
    assert {"name", "value", "source"} == set(listed[0])


def test_where_nothing_is_configured_the_command_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigurationError, match="tierq init"):
        CliRunner().invoke(command, [], catch_exceptions=False)
