"""What a call may cost at its worst, and what becomes of a task that a cap has no room for. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import orjson

from tierq_shared.caps import Cap
from tierq_shared.deployments import Deployment
from tierq_shared.money import Usage, show_usd
from tierq_shared.policy import Policy
from tierq_shared.prices import PriceList
from tierq_shared.prompts import MAX_QUOTED_ANSWER, VERIFICATION_BYTES, most_bytes
from tierq_shared.settings import Settings, meets
from tierq_shared.store.budgets import Account
from tierq_shared.store.claims import SETTLES_SOON_S, ClaimedTask, HeldBack, MovedDown, Refusal
from tierq_workers.answers import MAX_PROBLEM, Kind
from tierq_workers.cascade import Ask
from tierq_workers.chain import Fits
from tierq_workers.providers import adapter_for

FRAME_TOKENS = 600
"""What a provider may add of its own: message framing, and the hidden prompt of a structured mode (346 tokens for tools
by Anthropic's pricing page, the most that any documents)."""

REASK_BYTES = 4 * (MAX_QUOTED_ANSWER + MAX_PROBLEM) + 200
"""A re-ask's two turns: the answer and what was wrong with it, at UTF-8's four bytes a character, and our own words."""

UNBOUNDED_PARAMS = frozenset(
    {
        *("tools", "toolConfig", "functions", "web_search_options", "mcp_servers", "container", "plugins"),
        *("cachedContent", "prediction", "modalities", "audio", "service_tier", "serviceTier", "speed"),
    }
)
"""Parameters that add charges which neither the request's length nor its bound on the output bounds."""

LOOK_AGAIN_S = 60.0
"""How soon it is looked again whether a cap that nothing under way can make room under was raised."""


@dataclass(frozen=True, slots=True)
class WorstCase:
    """The most that one call can cost."""

    nusd: int | None
    """None where the price is unknown."""
    price_version: str | None


class CapKeeper:
    """Knows the worst case of every call, and what the caps of a task make of it. One a worker process."""

    def __init__(self, settings: Settings, tier: str, policy: Policy, prices: PriceList) -> None:
        self._settings = settings
        self._tier = tier
        self.policy = policy
        """The one that is followed now: its version is said where a task is moved down."""
        self._prices = prices

    def worst_case(
        self,
        kind: Kind,
        deployment: Deployment,
        input_bytes: int,
        *,
        reask: bool = False,
        verifies: int | None = None,
    ) -> WorstCase:
        """What a call costs when each byte of it is a token, none is cached, and the answer is as long as it may be.

        No tokenizer in use makes more tokens than bytes: byte-level BPE merges bytes, SentencePiece falls back to them.
        ``verifies``: the bytes of the answer that the call is to verify; None for any other call.
        """
        given = _frame_bytes(kind, deployment) + input_bytes + (REASK_BYTES if reask else 0) + FRAME_TOKENS
        given += 0 if verifies is None else VERIFICATION_BYTES + verifies
        rates = self._prices.rates(deployment, input_tokens=given)
        if rates is None:
            return WorstCase(None, None)
        # All of it written to the provider's cache, where that is dearer than plain input.
        written = given if rates.cache_write > rates.input else 0
        own_bound = kind.spec.max_output_tokens if verifies is None else None
        made = own_bound or deployment.max_output_tokens
        usage = Usage(input_tokens=given, cache_write_tokens=written, output_tokens=made)
        return WorstCase(rates.cost_nusd(usage), rates.version)

    def fits(self, task: ClaimedTask, kind: Kind, most_nusd: int | None) -> Fits:
        """Whether a deployment's worst case is known, and within ``most_nusd`` where that is given."""
        input_bytes = most_bytes(task.input_json)

        def fits(deployment: Deployment, *, reask: bool = False) -> bool:
            if not UNBOUNDED_PARAMS.isdisjoint(deployment.params):
                return False
            worst = self.worst_case(kind, deployment, input_bytes, reask=reask).nusd
            return worst is not None and (most_nusd is None or worst <= most_nusd)

        return fits

    def can_ask(self, task: ClaimedTask, kind: Kind, ask: Ask, most_nusd: int) -> bool:
        """Whether a call of the cascade is sure to cost no more than this."""
        worst = self.worst_case(kind, ask.deployment, most_bytes(task.input_json), verifies=ask.verifies).nusd
        return worst is not None and worst <= most_nusd

    def held_back(self, task: ClaimedTask, kind: Kind) -> Refusal | HeldBack | MovedDown:
        """What becomes of a task that no deployment of this tier may be called for now, because of its caps."""
        cheapest, headroom = self._cheapest(task, kind, self._tier), task.headroom
        if cheapest is None or headroom is None:
            return Refusal("unpriced", self._unpriced())
        left = headroom.of_task
        if left is not None and cheapest > left:
            return self._moved_down(task, kind, "max_cost") or self.refusal(task, left)
        over = [(cap, account) for cap, account in headroom.accounts if account.unspent < cheapest]
        if not over:
            # What is reserved stands in the way, and most calls cost less than that.
            return HeldBack(SETTLES_SOON_S)
        return self._reached(task, kind, over)

    def refusal(self, task: ClaimedTask, left: int | None) -> Refusal:
        """The failure of a task whose own cap has no room for another call."""
        if left is None:
            return Refusal("unpriced", self._unpriced())
        return Refusal(
            "cap_reached",
            f"no call that it may make is sure to cost no more than {show_usd(max(0, left))}, "
            f"which is left of its max_cost of {show_usd(task.max_cost_nusd)}",
        )

    def _reached(
        self, task: ClaimedTask, kind: Kind, over: list[tuple[Cap, Account]]
    ) -> Refusal | HeldBack | MovedDown:
        reached = tuple(account.scope for _, account in over)
        ways = {cap.when_reached for cap, _ in over}
        cap, account = over[0]
        if "fail" not in ways and "downgrade" not in ways:
            return HeldBack(_wait_s(task, over), reached)
        if "fail" not in ways and (down := self._moved_down(task, kind, str(cap), reached)):
            return down
        spent, limit = show_usd(account.spent), show_usd(account.limit)
        message = f"{cap} of {limit} has no room for another call at its worst: {spent} of it is spent"
        return Refusal("cap_reached", message, reached)

    def _moved_down(self, task: ClaimedTask, kind: Kind, whose: str, reached: tuple[str, ...] = ()) -> MovedDown | None:
        """To the next lower tier whose cheapest call fits; not where lower ones have tried it already, or may not."""
        if task.constraints.get("pinned") or task.attempts > task.uncounted_attempts or task.headroom is None:
            return None
        left = [account.unspent for _, account in task.headroom.accounts]
        left += [] if task.headroom.of_task is None else [task.headroom.of_task]
        for tier in self._lower_tiers(task.constraints.get("min_tier")):
            cheapest = self._cheapest(task, kind, tier)
            if cheapest is not None and cheapest <= min(left):
                reason = f"moved down from {self._tier}: {whose} is reached"
                return MovedDown(tier, reason, self.policy.version, reached)
        return None

    def _lower_tiers(self, lowest: str | None) -> Iterable[str]:
        """From the next lower one on, down to the lowest that a task may use."""
        names = self._settings.tier_names
        first = names.index(lowest) if lowest in names else 0
        return reversed(names[first : names.index(self._tier)])

    def _cheapest(self, task: ClaimedTask, kind: Kind, tier: str) -> int | None:
        """The least worst case on a tier; None where no deployment that the task may use has a known one."""
        require, input_bytes = task.constraints.get("require", {}), most_bytes(task.input_json)
        costs = [
            self.worst_case(kind, one, input_bytes).nusd
            for one in self._settings.chain(tier)
            if meets(one, require) and UNBOUNDED_PARAMS.isdisjoint(one.params)
        ]
        return min((cost for cost in costs if cost is not None), default=None)

    def _unpriced(self) -> str:
        return (
            f"a cap holds for it, and no deployment of tier {self._tier} that it may use has a known price and a "
            "bounded cost: give one a price in tierq.toml"
        )


def _frame_bytes(kind: Kind, deployment: Deployment) -> int:
    """The bytes of a request without its input, as the provider's adapter makes it; the schema once more.

    Once, since providers write a schema of a structured mode into the prompt in words of their own.
    """
    found = kind.frame_bytes.get(deployment.name)
    if found is None:
        prompt = kind.template.render({"text": ""}, max_output_tokens=deployment.max_output_tokens)
        request = adapter_for(deployment.provider).request(prompt, deployment, key=None, attempt_id="")
        found = len(request.body) + (len(orjson.dumps(prompt.schema)) if prompt.schema else 0)
        kind.frame_bytes[deployment.name] = found
    return found


def _wait_s(task: ClaimedTask, over: list[tuple[Cap, Account]]) -> float:
    """Until the last of the reached caps begins anew; caps may be raised before."""
    spans = [cap.ends_in_s(task.claimed_at) for cap, _ in over]
    return min(LOOK_AGAIN_S, max(LOOK_AGAIN_S if span is None else span for span in spans))
