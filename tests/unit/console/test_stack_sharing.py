"""Which commands may share a stack, and what `running_stack` does where there is none to run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tierq_console.embedded import parts
from tierq_console.embedded.files import StackFiles
from tierq_console.embedded.record import StackRecord, environment, fingerprint, refuse_another
from tierq_console.flower_access import settle_password
from tierq_console.stack import attached_stack, running_stack
from tierq_shared.configuration import EmbeddedPaths
from tierq_shared.errors import ConfigurationError
from tierq_shared.settings import Settings


def settings(model: str = "gpt-5-mini", **more: object) -> Settings:
    deployment = {"provider": "openai", "model": model}
    return Settings.model_validate(
        {"tiers": {"small": {"chain": ["mini"]}}, "deployments": {"mini": deployment}, **more}
    )


def record(of: Settings, simulator: Path | None = None) -> StackRecord:
    return StackRecord(
        nonce="n", pid=1, fingerprint=fingerprint(of, simulator), environment=environment(of), simulator=simulator
    )


def test_a_configured_database_needs_no_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    configured = settings(database_url="postgresql://db/app", broker_url="redis://redis/0")

    with running_stack(configured) as given:
        assert given is configured
    assert not list(tmp_path.iterdir())


def test_without_tiers_there_is_nothing_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigurationError, match="tierq init"), running_stack(Settings()):
        pass
    assert not list(tmp_path.iterdir())


def test_nobody_attaches_to_a_stack_that_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigurationError, match="tierq up"), attached_stack(settings()):
        pass


def test_the_same_configuration_and_keys_may_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "one")
    running = record(settings())

    refuse_another(running, settings(), None)
    monkeypatch.delenv("OPENAI_API_KEY")
    refuse_another(running, settings(), None)


def test_another_configuration_key_or_simulator_may_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "one")
    running = record(settings())
    faults = tmp_path / "faults.json"
    faults.write_text("{}")

    with pytest.raises(ConfigurationError, match="another configuration"):
        refuse_another(running, settings("gpt-5"), None)
    with pytest.raises(ConfigurationError, match="calls the configured providers"):
        refuse_another(running, settings(), faults)
    with pytest.raises(ConfigurationError, match="answers from the simulator"):
        refuse_another(record(settings(), faults), settings(), None)
    monkeypatch.setenv("OPENAI_API_KEY", "two")
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        refuse_another(running, settings(), None)


def test_no_key_is_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")

    assert "sk-very-secret" not in record(settings()).model_dump_json()


def test_the_workers_settings_come_back_as_they_were(tmp_path: Path) -> None:
    files = StackFiles(EmbeddedPaths(tmp_path / ".tierq"))
    files.prepare()
    before = settings()

    parts.write_settings(files, before)
    after = parts.read_settings(files.settings)

    assert fingerprint(after, None) == fingerprint(before, None)
    assert after.database_url is not None
    assert after.database_url.get_secret_value() == f"sqlite:///{tmp_path}/.tierq/tierq.db"


def test_a_stack_with_a_simulator_calls_nobody_else_and_sends_no_real_key() -> None:
    deployments = {
        "mini": {"provider": "openai", "model": "m", "base_url": "https://gateway.example"},
        "haiku": {"provider": "anthropic", "model": "m"},
        "own": {"provider": "openai-compatible", "model": "m", "base_url": "https://10.0.0.1", "key_env": "OWN_KEY"},
    }
    simulated = parts.simulated(settings().model_validate({"deployments": deployments}), 8500)

    assert {name: one.base_url for name, one in simulated.deployments.items()} == {
        "mini": "http://127.0.0.1:8500/v1",
        "haiku": "http://127.0.0.1:8500",
        "own": "http://127.0.0.1:8500/v1",
    }
    assert parts.simulator_keys(simulated) == {
        "OPENAI_API_KEY": "simulated",
        "OPENAI_API_KEY_FILE": "",
        "ANTHROPIC_API_KEY": "simulated",
        "ANTHROPIC_API_KEY_FILE": "",
        "OWN_KEY": "simulated",
        "OWN_KEY_FILE": "",
    }


def test_flowers_password_is_the_given_one_else_the_former_else_a_new_one(tmp_path: Path) -> None:
    files = StackFiles(EmbeddedPaths(tmp_path))
    made = settle_password(files, {})

    assert len(made) >= 20
    assert settle_password(files, {}) == made
    assert settle_password(files, {"TIERQ_FLOWER_PASSWORD": "given"}) == "given"
    assert files.flower_password.stat().st_mode & 0o077 == 0
