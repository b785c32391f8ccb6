"""The demo's folder: its tierq.toml, with the built-in chains, and the simulator's configuration."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tierq_console.stack import running_record, stack_files
from tierq_shared import configuration
from tierq_shared.errors import ConfigurationError
from tierq_shared.settings import Settings

_TOML = """\
# The demo's configuration. A simulator answers in the providers' place: no key is read, nothing is spent.
version = 1

[tiers.small]
chain = ["luna", "haiku", "flash-lite"]
max_in_flight = 16
[tiers.medium]
chain = ["flash", "terra", "sonnet"]
max_in_flight = 8
[tiers.large]
chain = ["sol", "opus", "pro"]
max_in_flight = 6

[deployments]
luna = { provider = "openai", model = "gpt-5.6-luna" }
haiku = { provider = "anthropic", model = "claude-haiku-5-5" }
flash-lite = { provider = "gemini", model = "gemini-3.5-flash-lite" }
flash = { provider = "gemini", model = "gemini-3.8-flash" }
terra = { provider = "openai", model = "gpt-5.6-terra" }
sonnet = { provider = "anthropic", model = "claude-sonnet-5-5" }
sol = { provider = "openai", model = "gpt-5.6-sol" }
opus = { provider = "anthropic", model = "claude-opus-5-5" }
pro = { provider = "gemini", model = "gemini-2.5-pro" }

[flower]
port = {port}
"""

OUTAGE_PROVIDER = "openai"
"""The provider that is taken down half-way: it leads the small tier's chain, so that fail-over is seen."""

_SIMULATOR = {
    "seed": 7,
    "models": {
        "*": {"latency_p50_ms": 450, "latency_p95_ms": 1200},
        "gpt-5.6-sol": {"latency_p50_ms": 900, "latency_p95_ms": 2000},
        "gpt-5.6-luna": {
            "latency_p50_ms": 350,
            "latency_p95_ms": 900,
            "faults": [{"kind": "unknown_label", "rate": 0.01}],
        },
        "claude-haiku-5-5": {"faults": [{"kind": "rate_limited", "rate": 0.02, "retry_after_s": 1}]},
    },
}


def prepare(folder: Path, flower_port: int) -> tuple[Settings, Path]:
    """A fresh demo in this folder: its settings, and the simulator's configuration file.

    Raises:
        ConfigurationError: a demo runs there already.
    """
    if folder.exists():
        if running_record(stack_files(Settings(path=folder / configuration.FILE_NAME))) is not None:
            raise ConfigurationError(f"a demo runs in {folder} already: wait for its end")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, mode=0o700)
    file = folder / configuration.FILE_NAME
    file.write_text(_TOML.replace("{port}", str(flower_port)), encoding="utf-8")
    simulator = folder / "simulator.json"
    simulator.write_text(json.dumps(_SIMULATOR, indent=2), encoding="utf-8")
    # The environment's URLs are for the user's own stack, never for the demo.
    return configuration.load(file, env={}), simulator
