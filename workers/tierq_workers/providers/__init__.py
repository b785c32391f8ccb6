"""The providers' wire formats, one pure adapter each."""

from __future__ import annotations

from tierq_shared.deployments import Provider
from tierq_workers.providers.anthropic import AnthropicAdapter
from tierq_workers.providers.base import Adapter
from tierq_workers.providers.compatible import CompatibleAdapter
from tierq_workers.providers.gemini import GeminiAdapter
from tierq_workers.providers.openai import OpenAIAdapter

__all__ = ["ADAPTERS", "adapter_for"]

ADAPTERS: dict[Provider, Adapter] = {
    "openai": OpenAIAdapter(),
    "openai-compatible": CompatibleAdapter(),
    "anthropic": AnthropicAdapter(),
    "gemini": GeminiAdapter(),
}
"""Adapters hold no state, so one of each serves every deployment and every thread."""


def adapter_for(provider: Provider) -> Adapter:
    """The adapter that speaks this provider's format."""
    return ADAPTERS[provider]
