"""What the tests of the adapters share: the captured wire bodies, and short ways to the values they need."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tierq_shared.deployments import Deployment
from tierq_shared.prompts import Prompt, Turn
from tierq_workers.providers.base import Request, Response

_WIRE = Path(__file__).parent / "wire"

KEY = "sk-test-0123456789abcdef"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"label": {"type": "string", "enum": ["ham", "spam"]}, "confidence": {"type": "number"}},
    "required": ["label", "confidence"],
    "additionalProperties": False,
}


def captured(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((_WIRE / f"{name}.json").read_text())
    return loaded


def captured_errors() -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads((_WIRE / "errors.json").read_text())
    return loaded


def prompt(**changes: Any) -> Prompt:
    values: dict[str, Any] = {
        "system": "Classify the message.",
        "turns": (Turn("user", "WIN money now!!!"),),
        "schema": SCHEMA,
        "schema_name": "out",
        "max_output_tokens": 64,
    }
    return Prompt(**{**values, **changes})


def deployment(provider: str, model: str = "m", **fields: Any) -> Deployment:
    return Deployment.model_validate({"name": "d", "provider": provider, "model": model, **fields})


def body_of(request: Request) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(request.body)
    return loaded


def path_of(request: Request) -> str:
    return urlsplit(request.url).path


def answer(body: Any, status: int = 200, **headers: str) -> Response:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, raw)
