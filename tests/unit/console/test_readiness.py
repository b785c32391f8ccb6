"""What must be there before anything is spent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.jobs import SETTINGS
from tierq_console.readiness import check_keys, load_settings
from tierq_shared.errors import ConfigurationError
from tierq_shared.settings import Settings


def test_without_tiers_the_way_to_some_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r"`tierq init` writes one .* `tierq demo`"):
        load_settings()


def test_missing_keys_are_told_by_their_variables() -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_keys(SETTINGS, {"OPENAI_API_KEY": " "})
    assert "OPENAI_API_KEY is not set, and deployment mini needs it" in str(caught.value)
    assert "GEMINI_API_KEY is not set, and deployment pro needs it" in str(caught.value)
    check_keys(SETTINGS, {"OPENAI_API_KEY": "sk", "GEMINI_API_KEY": "AI"})


@pytest.mark.parametrize(
    "deployment",
    [
        {"provider": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1"},
        {"provider": "openai-compatible", "model": "m", "base_url": "http://vllm:8000/v1", "allow_plain_http": True},
    ],
)
def test_servers_of_ones_own_need_no_key(deployment: dict[str, Any]) -> None:
    values = {"tiers": {"small": {"chain": ["d"]}}, "deployments": {"d": deployment}}
    check_keys(Settings.model_validate(values), {})


def test_where_workers_run_elsewhere_so_do_the_keys() -> None:
    check_keys(SETTINGS.model_copy(update={"database_url": "postgresql://db/app"}), {})


def test_a_verifier_in_no_chain_needs_its_key_too() -> None:
    mini = {"provider": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1"}
    values = {
        "tiers": {"small": {"chain": ["mini"]}, "large": {"chain": ["mini"]}},
        "deployments": {"mini": mini, "opus": {"provider": "anthropic", "model": "o"}},
        "cascade": [{"type": "classify", "signal": "verifier", "verifier": "opus"}],
    }
    with pytest.raises(ConfigurationError, match="ANTHROPIC_API_KEY is not set, and deployment opus needs it"):
        check_keys(Settings.model_validate(values), {})
