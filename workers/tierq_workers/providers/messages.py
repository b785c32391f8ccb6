"""Provider messages made fit to be stored and shown: short, printable, without keys."""

from __future__ import annotations

import re

from tierq_shared.checks import printable

LONGEST = 300
"""Characters of a provider's message that are kept: what a terminal shows on a few lines."""
_READ = 1_000
"""Characters of a message that are looked at at all, which bounds the work that a hostile body can cause."""

_SECRETS = re.compile(
    r"""
      \b(?:sk|pk|rk)-[^\s"'<>,]{4,}                     # OpenAI, Anthropic, OpenRouter, LiteLLM
    | \b(?:gsk|xai|hf|r8|nvapi|pplx|fw|csk|tgp)[-_][^\s"'<>,]{8,}
    | \bAIza[^\s"'<>,]{4,} | \bAQ\.[\w-]{16,}           # Gemini, both spellings
    | (?<=bearer\ )\s*[^\s"'<>,]{4,}
    | (?<=key\ provided:\ )\s*[^\s"'<>,]+               # OpenAI's 401 says the key it was given
    | (?<=key=)[^\s"'<>,&]+
    | \b[0-9a-f]{32,}\b                                 # Azure
    | \b(?=[A-Za-z_-]*\d)[\w-]{40,}\b                   # whatever else is as long and as random as a key
    """,
    re.VERBOSE | re.IGNORECASE,
)
_ECHO = re.compile(r"""['"]?\binput['"]?\s*[:=]\s*['"{\[]""")
"""Where pydantic's error lists, which vLLM and LiteLLM pass on as text, begin to repeat the request."""


def shown(text: str) -> str:
    """A provider's message as it may be stored: printable, its keys masked, cut to `LONGEST` characters."""
    plain = printable(text[:_READ])
    echo = _ECHO.search(plain)
    masked = _SECRETS.sub("***", plain[: echo.start()] if echo else plain)
    return masked if len(masked) <= LONGEST else masked[: LONGEST - 1] + "…"
