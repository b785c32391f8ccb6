"""What `tierq init` writes: it loads, every model is priced, and only providers with a key are in it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import combinations
from pathlib import Path

import pytest
from click.testing import CliRunner

from tierq_console import starter
from tierq_console.commands.init import command
from tierq_console.starter import Candidate
from tierq_shared import configuration
from tierq_shared.errors import ConfigurationError
from tierq_shared.prices import PriceList

PROVIDERS = ("openai", "anthropic", "gemini")
KEYS = [configuration.KEY_VARIABLES[provider] for provider in PROVIDERS]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(starter, "local_candidate", lambda: None)
    return tmp_path


@pytest.fixture
def model_server() -> Iterator[int]:
    class Models(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"data": [{"id": "qwen3:4b"}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Models) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("providers", [some for count in range(4) for some in combinations(PROVIDERS, count)])
@pytest.mark.parametrize("with_local", [False, True])
def test_every_combination_loads_and_serves_all_tiers(
    tmp_path: Path, providers: tuple[str, ...], *, with_local: bool
) -> None:
    local = Candidate("local", "openai-compatible", "qwen3:4b", [], "http://127.0.0.1:11434/v1") if with_local else None
    path = tmp_path / "tierq.toml"
    path.write_text(starter.render(starter.choose(providers, local)))

    settings = configuration.load(path, env={})

    assert settings.tier_names == ["small", "medium", "large"]
    assert settings.make_policy().rules
    found = {deployment.provider for deployment in settings.deployments.values()}
    expected = {*providers, *(["openai-compatible"] if with_local else [])}
    assert found == (expected or {"openai"})
    prices = PriceList()
    assert all(prices.rates(deployment) is not None for deployment in settings.deployments.values())


def test_a_local_server_is_found_by_what_it_lists(model_server: int) -> None:
    found = starter.local_candidate([model_server])

    assert found is not None
    assert (found.model, found.base_url) == ("qwen3:4b", f"http://127.0.0.1:{model_server}/v1")
    assert starter.local_candidate([]) is None


def test_init_writes_what_it_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-secret")

    result = CliRunner().invoke(command, ["--yes"], catch_exceptions=False)

    assert result.exit_code == 0
    assert "✓ ANTHROPIC_API_KEY" in result.output
    assert "– OPENAI_API_KEY" in result.output
    text = (folder / "tierq.toml").read_text()
    assert "sk-ant-secret" not in text
    assert {one.provider for one in configuration.load(folder / "tierq.toml").deployments.values()} == {"anthropic"}


def test_init_without_any_key_says_so(folder: Path) -> None:
    result = CliRunner().invoke(command, ["--yes"], catch_exceptions=False)

    assert result.exit_code == 0
    assert "set OPENAI_API_KEY" in result.output
    assert len(configuration.load(folder / "tierq.toml").deployments) == 1


def test_init_never_overwrites_unless_forced(folder: Path) -> None:
    (folder / "tierq.toml").write_text("version = 1\n")

    with pytest.raises(ConfigurationError, match="--force"):
        CliRunner().invoke(command, ["--yes"], catch_exceptions=False)
    assert (folder / "tierq.toml").read_text() == "version = 1\n"
    assert CliRunner().invoke(command, ["--yes", "--force"]).exit_code == 0


def test_init_does_not_write_where_nobody_can_be_asked(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="--yes"):
        CliRunner().invoke(command, [], catch_exceptions=False)
    assert not (folder / "tierq.toml").exists()
