"""Servers that speak OpenAI's Chat Completions: vLLM, Ollama, llama.cpp, LiteLLM, OpenRouter, Azure and others."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from tierq_workers.providers.openai import OpenAIAdapter


class CompatibleAdapter(OpenAIAdapter):
    """OpenAI's format for any base URL, in the older spelling that all of these servers know.

    `max_tokens` rather than `max_completion_tokens` (a deployment whose `params` use the newer name gets that one),
    and nothing that a strict server could refuse, such as `store`. The key is optional. For Azure, the base URL holds
    the `api-version` as its query, and the deployment's header ``api-key = "{key}"`` takes the key.
    """

    bounds: ClassVar[tuple[str, ...]] = ("max_tokens", "max_completion_tokens")
    defaults: ClassVar[Mapping[str, Any]] = MappingProxyType({})
