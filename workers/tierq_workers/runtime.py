"""What all runs of one tier share: its deployments and their keys, prices, policy, permits, caps and transport."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

from pydantic import SecretStr
from sqlalchemy import Connection

from tierq_shared.configuration import resolve_base_url, resolve_key
from tierq_shared.deployments import Deployment
from tierq_shared.ids import new_id
from tierq_shared.money import Rates, Usage
from tierq_shared.options import Urgency
from tierq_shared.policy import BYTES_PER_TOKEN, Policy, Signals, likely_tokens
from tierq_shared.prices import PriceList
from tierq_shared.prompts import most_bytes
from tierq_shared.settings import Settings
from tierq_shared.specs import SpecBody
from tierq_shared.store.claims import ClaimedTask, HeldBack, MovedDown, Refusal, read_specs
from tierq_shared.store.controls import NOTHING_SET, Controls, limit_scope
from tierq_shared.store.ledger import NewAttempt
from tierq_workers.answers import Kind
from tierq_workers.caps import CapKeeper
from tierq_workers.cascade import Ask, Cascades
from tierq_workers.chain import Call, Chain, Fail, OverCap, Room, Trail
from tierq_workers.observers.base import NOBODY, Observer
from tierq_workers.permits.desk import Desk, Permit
from tierq_workers.steering import PUT_OFF_S
from tierq_workers.transport import Transport

_LIKELY_OUTPUT_TOKENS = 100
"""Where the bound on the output is higher: most answers are far below theirs. What calls use corrects both."""

_MAX_KINDS = 1_000


@dataclass(frozen=True, slots=True)
class Lane:
    """A deployment with what it takes to call it."""

    deployment: Deployment
    key: SecretStr | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PermittedAttempt(NewAttempt):
    """An attempt with the permit that its call was given."""

    permit: Permit


class TierRuntime:
    """What all runs of one tier share: deployments, prices, policy, permits, transport."""

    def __init__(
        self,
        settings: Settings,
        tier: str,
        transport: Transport,
        holder: str = "",
        observer: Observer = NOBODY,
    ) -> None:
        self.tier = tier
        self.observer = observer
        self.policy = settings.make_policy()
        self._has_orders = False
        self.settings = settings
        self.controls = NOTHING_SET
        self.transport = transport
        self._prices = PriceList()
        self.kinds: dict[str, Kind] = {}
        """Specs by their id, ready to be run."""
        self.cascades = Cascades(settings, tier)
        self.lanes = {
            deployment.name: Lane(resolve_base_url(deployment), resolve_key(deployment))
            for deployment in settings.called(tier)
        }
        self.caps = CapKeeper(settings, tier, self.policy, self._prices)
        self.desk = Desk(settings.called(tier), settings.limits, holder=holder)
        self.chain = Chain(
            settings.chain(tier),
            self.desk,
            spill_after_s=settings.tiers[tier].spill_after,
            max_attempts=settings.worker.max_attempts,
            refusal_failover=settings.tiers[tier].refusal_failover,
            windows={name: self._prices.context_window(lane.deployment) for name, lane in self.lanes.items()},
        )

    def follow(self, policy: Policy) -> None:
        """Goes by another policy from now on: for escalations, and for the order in which deployments are tried."""
        self.policy = self.caps.policy = policy
        orders = policy.orders(self.tier)
        self._has_orders = orders != {()}
        self.chain.follow(orders)

    def steer(self, controls: Controls) -> None:
        """Goes by what operators have set."""
        self.controls = controls
        limits = {}
        for deployment in self.settings.called(self.tier):
            if (given := controls.limits.get(limit_scope(deployment))) is not None:
                limits[deployment.name] = (given.rpm, given.tpm)
        self.desk.steer(controls.deployments, limits)

    def room(self) -> Room:
        """How many tasks are worth claiming now."""
        return Room(0.0, 0.0) if self.tier in self.controls.tiers else self.chain.room()

    def rest_s(self) -> float:
        """How long it takes until most work can go on; 0 where it can now."""
        return PUT_OFF_S if self.tier in self.controls.tiers else self.chain.rest_s()

    def trail(self, task: ClaimedTask, kind: Kind) -> Trail:
        """What is known of a task before its first call in this claim.

        Its tokens are no worst case: a permit reserves what a call is likely to need.
        """
        answer = min(kind.spec.max_output_tokens or _LIKELY_OUTPUT_TOKENS, _LIKELY_OUTPUT_TOKENS)
        return Trail(
            urgency=task.urgency,
            waited_s=(task.claimed_at - task.created_at).total_seconds(),
            require=task.constraints.get("require", {}),
            calls=task.attempts - task.uncounted_attempts + 1,
            tokens=_asked_bytes(task, kind) / BYTES_PER_TOKEN + answer,
            order=self._order(task, kind),
        )

    def _order(self, task: ClaimedTask, kind: Kind) -> tuple[str, ...]:
        """The deployments that the policy puts first for a task; a pinned one has nothing to do with the policy."""
        if not self._has_orders or task.constraints.get("pinned"):
            return ()
        return self.policy.order(signals_of_claimed(task, kind), self.tier)

    def learn(self, connection: Connection, spec_ids: set[str]) -> None:
        """Reads the specs that are new here, and makes them ready."""
        if len(self.kinds) > _MAX_KINDS:
            # Runs under way hold their own; an application that makes a schema a request must not fill the memory.
            self.kinds = {}
        unknown = sorted(spec_ids - self.kinds.keys())
        if unknown:
            for spec_id, content in read_specs(connection, unknown).items():
                self.kinds[spec_id] = Kind(SpecBody.from_json(content))

    def first_attempt(self, task: ClaimedTask) -> NewAttempt | Refusal | HeldBack | MovedDown | None:
        """The attempt that a claim writes ahead; None where the task has to wait, a refusal where nobody may run it."""
        if task.batch_id in self.controls.batches:
            return HeldBack(PUT_OFF_S)
        kind = self.kinds[task.spec_id]
        trail = self.trail(task, kind)
        if task.headroom is not None:
            trail.fits = self.caps.fits(task, kind, task.headroom.nusd)
        step = self.chain.first(trail)
        if isinstance(step, OverCap):
            return self.caps.held_back(task, kind)
        if isinstance(step, Fail):
            return Refusal(step.code, step.message)
        return self.attempt(task, kind, step, task.attempts + 1) if isinstance(step, Call) else None

    def attempt(
        self, task: ClaimedTask, kind: Kind, call: Call, ordinal: int, second: Ask | None = None
    ) -> PermittedAttempt:
        """The attempt of a call, with its worst case; ``second``: it is to tell how sure an answer is."""
        deployment = call.deployment
        lane = second.lane if second else "reask" if call.reask else "call"
        verifies = second.verifies if second else None
        worst = self.caps.worst_case(kind, deployment, most_bytes(task.input_json), reask=call.reask, verifies=verifies)
        return PermittedAttempt(
            id=new_id(),
            task_id=task.id,
            epoch=task.epoch,
            ordinal=ordinal,
            tier=task.tier,
            deployment=deployment.name,
            provider=deployment.provider,
            model=deployment.model,
            lane=lane,
            reserved_nusd=worst.nusd,
            price_version=worst.price_version,
            caps=task.caps,
            base_url=self.lanes[deployment.name].deployment.base_url,
            permit=call.permit,
        )

    def rates(self, deployment: Deployment, usage: Usage) -> Rates | None:
        return self._prices.rates(deployment, input_tokens=usage.input_tokens)


def _asked_bytes(task: ClaimedTask, kind: Kind) -> int:
    return len(task.input_json.encode()) + kind.system_bytes


def signals_of_claimed(task: ClaimedTask, kind: Kind) -> Signals:
    """What the policy was asked about this task when it was submitted."""
    return Signals(
        type=kind.spec.type,
        name=kind.spec.name,
        input_tokens=likely_tokens(len(task.input_json.encode())),
        stakes=task.constraints.get("stakes", "normal"),
        urgency=cast("Urgency", task.urgency),
    )
