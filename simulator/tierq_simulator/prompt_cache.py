"""The providers' prompt caches: a long constant prefix seen before costs less."""

from __future__ import annotations

from collections import OrderedDict

from tierq_simulator.settings import Behaviour
from tierq_simulator.wire.base import Ask

_MINIMUM = 1024
_STEP = 128
_REMEMBERED = 10_000


class PromptCache:
    """Remembers which prefixes each model has seen."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, int], None] = OrderedDict()

    def tokens(self, provider: str, ask: Ask, behaviour: Behaviour) -> tuple[int, int]:
        """Tokens read from the cache and tokens written to it."""
        if behaviour.cached_tokens:
            return min(behaviour.cached_tokens, ask.input_tokens), 0
        must_ask = provider == "anthropic"
        if not behaviour.prompt_cache or ask.prefix_tokens < _MINIMUM or (must_ask and not ask.cache_asked):
            return 0, 0
        known = self._know((ask.model, hash(ask.system)))
        if must_ask:
            return (ask.prefix_tokens, 0) if known else (0, ask.prefix_tokens)
        return (ask.prefix_tokens // _STEP * _STEP, 0) if known else (0, 0)

    def _know(self, key: tuple[str, int]) -> bool:
        known = key in self._seen
        self._seen[key] = None
        self._seen.move_to_end(key)
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return known
