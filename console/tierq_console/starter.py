"""The tierq.toml that `tierq init` writes: tiers over the providers whose keys it finds, every line explained."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from tierq_shared import environment
from tierq_shared.configuration import KEY_VARIABLES
from tierq_shared.deployments import Deployment
from tierq_shared.settings import DEFAULT_TIERS, Settings, Tier


@dataclass(frozen=True, slots=True)
class Candidate:
    """A deployment that a new configuration may hold."""

    name: str
    provider: str
    model: str
    tiers: Sequence[str]
    base_url: str | None = None


CANDIDATES = (
    Candidate("haiku", "anthropic", "claude-haiku-5-5", ["small"]),
    Candidate("luna", "openai", "gpt-5.6-luna", ["small"]),
    Candidate("flash-lite", "gemini", "gemini-3.5-flash-lite", ["small"]),
    Candidate("flash", "gemini", "gemini-3.8-flash", ["medium"]),
    Candidate("sonnet", "anthropic", "claude-sonnet-5-5", ["medium"]),
    Candidate("terra", "openai", "gpt-5.6-terra", ["medium"]),
    Candidate("pro", "gemini", "gemini-2.5-pro", ["large"]),
    Candidate("opus", "anthropic", "claude-opus-5-5", ["large"]),
    Candidate("sol", "openai", "gpt-5.6-sol", ["large"]),
)
"""Each provider's models by tier, cheapest first within a tier by the price list. They are only a start."""

LOCAL_PORTS = {11434: "Ollama", 8000: "vLLM", 8080: "llama.cpp"}
"""Where servers with OpenAI's wire format listen by default."""

_HEAD = """\
# TierQ's configuration. `tierq doctor` says what of it works, `tierq config` where each value comes from.
# Keys never stand here: they come from the environment. Only deployments that this file names are ever called.
version = 1

# Without these, the embedded stack in .tierq/ beside this file is used. The environment wins over them:
# TIERQ_DATABASE_URL, TIERQ_BROKER_URL, TIERQ_STATE_URL.
# database_url = "postgresql://user@host/database"
# broker_url = "redis://host/0"        # or amqp://host//
# state_url = "redis://host/1"         # live results; without it, they are polled
"""

_TIERS_NOTE = """
# The tiers, cheapest first. A tier's chain is tried in order: what is overloaded or broken is passed by.
"""

_TIER_NOTES = """\
# max_in_flight = 200                  # calls under way at once, per worker process
# spill_after = "60s"                  # how long a standard task waits out a rate limit before it takes the next one
"""

_DEPLOYMENTS_NOTE = """
# The deployments: one way to reach one model each. More keys, all optional:
#   key_env = "OTHER_API_KEY"          a variable of its own for the key
#   base_url = "https://…"             a gateway, or a server of your own
#   region = "eu"                      for tasks that require one
#   limit = "openai"                   the account's quota below that it draws on; without one, limits are learned
#   params = { temperature = 0 }       sent as they are in the provider's request
#   max_output_tokens = 1024           where the task names no bound
#   price = { input = 0.2, output = 1.2 }   USD per million tokens, where the price list does not know the model
"""

_POLICY = """
# Your accounts' quotas, kept to by all workers together.
# [limits.openai]
# rpm = 10_000                         # requests a minute
# tpm = 4_000_000                      # tokens a minute

# The policy: the first rule that matches decides a task's tier. `type` is classify, extract, answer or generate.
[[policy]]
stakes = "high"
tier = "large"

[[policy]]
type = "classify"
max_input_tokens = 4000
tier = "small"

[[policy]]
type = "extract"
max_input_tokens = 4000
tier = "small"

[[policy]]
tier = "medium"

# [worker]
# lease = "30s"                        # a worker that was not heard of for this long is dead, others take its tasks
# grace = "25s"                        # how long a stopping worker lets calls finish
# max_attempts = 10                    # calls for one task before it fails

# [flower]
# port = 5555                          # its password comes from TIERQ_FLOWER_PASSWORD
"""


def providers_found(env: Mapping[str, str] = os.environ) -> list[str]:
    """The providers whose key is in the environment."""
    return [provider for provider, variable in KEY_VARIABLES.items() if environment.read(variable, env)]


def local_candidate(ports: Iterable[int] = tuple(LOCAL_PORTS)) -> Candidate | None:
    """A server with OpenAI's wire format on this machine, with the first model it lists."""
    for port in ports:
        with suppress(OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
            model = _first_model(port)
            return Candidate("local", "openai-compatible", model, DEFAULT_TIERS, f"http://127.0.0.1:{port}/v1")
    return None


def choose(providers: Sequence[str], local: Candidate | None = None) -> list[Candidate]:
    """The deployments of a new configuration; with neither keys nor a local server, OpenAI's cheapest."""
    chosen = [candidate for candidate in CANDIDATES if candidate.provider in providers]
    if local is not None:
        # What runs here costs nothing: first choice for small tasks, and for all where there is nothing else.
        tiers = ["small"] if chosen else DEFAULT_TIERS
        chosen = [replace(local, tiers=tiers), *chosen]
    if not chosen:
        luna = next(candidate for candidate in CANDIDATES if candidate.name == "luna")
        chosen = [replace(luna, tiers=DEFAULT_TIERS)]
    return chosen


def built_in() -> Settings:
    """The default tiers with every provider's models, and the default rules: to look at prices, never to call."""
    return Settings(
        tiers={tier: Tier(chain=[one.name for one in CANDIDATES if tier in one.tiers]) for tier in DEFAULT_TIERS},
        deployments={
            one.name: Deployment(name=one.name, provider=one.provider, model=one.model)  # type: ignore[arg-type]
            for one in CANDIDATES
        },
    )


def render(candidates: Sequence[Candidate]) -> str:
    """The text of the file."""
    parts = [_HEAD, _TIERS_NOTE]
    for number, tier in enumerate(DEFAULT_TIERS):
        chain = [candidate.name for candidate in candidates if tier in candidate.tiers]
        parts.append(f"{chr(10) if number else ''}[tiers.{tier}]\nchain = {json.dumps(chain)}\n")
        parts.append("" if number else _TIER_NOTES)
    parts.append(_DEPLOYMENTS_NOTE)
    parts += [_deployment(candidate) for candidate in candidates]
    parts.append(_POLICY)
    return "".join(parts)


def _deployment(candidate: Candidate) -> str:
    lines = [
        f"[deployments.{candidate.name}]",
        f'provider = "{candidate.provider}"',
        f"model = {json.dumps(candidate.model)}",
    ]
    if candidate.base_url:
        lines += [
            f'base_url = "{candidate.base_url}"',
            "price = { input = 0, output = 0 }    # it runs on this machine",
        ]
    else:
        lines[1] += f"{' ' * max(1, 37 - len(lines[1]))}# its key: {KEY_VARIABLES[candidate.provider]}"
    return "\n" + "\n".join(lines) + "\n"


def _first_model(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=0.5)
    try:
        connection.request("GET", "/v1/models")
        listed = json.loads(connection.getresponse().read(1_000_000))
    finally:
        connection.close()
    model = listed["data"][0]["id"]
    if not isinstance(model, str) or not model:
        raise TypeError("a model's id is a text")
    return model
