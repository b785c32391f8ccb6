"""The network between each two parts: reset, refused, swallowed, slow."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from sqlalchemy import func, select

from chaos.ground import Ground
from chaos.proxy import Proxy
from chaos.registry import scenario
from chaos.tickets import tickets
from tierq import Client
from tierq_shared.errors import TierQError
from tierq_shared.store.clock import now
from tierq_shared.store.tables import attempts, tasks, workers

RESETS = 5
REFUSED_S = 1.5
SWALLOWED_S = 3.0
"""Longer than a lease."""
DELAY_S = 0.02

ONLY_POSTGRES: Any = {"stores": ("postgresql",), "left_out": "SQLite has no network to its store"}
ONLY_ONCE: Any = {"stores": ("postgresql",), "brokers": ("redis",), "left_out": "neither store nor broker takes part"}


def tear(ground: Ground, link: Proxy) -> None:
    """All that a network can do, one after the other, while a batch runs."""
    for number in range(RESETS):
        ground.until_ended((number + 1) * 0.05)
        link.reset()
    link.refuse()
    ground.lasts(REFUSED_S)
    link.heal()
    ground.until_ended(0.35)
    link.black_hole()
    ground.lasts(SWALLOWED_S)
    link.heal()
    link.delay(DELAY_S)
    ground.fault(RESETS + 3)


@scenario("net-worker-store", tasks=2000, quick_tasks=800, brokers=("redis",), **ONLY_POSTGRES)
def worker_store(ground: Ground) -> None:
    """Between one of two workers and PostgreSQL: resets, refusal, three seconds of silence, delay"""
    link, env = ground.links.to_store()
    _with_one_cut(ground, link, env)


@scenario("net-worker-broker", tasks=2000, quick_tasks=800, **ONLY_POSTGRES)
def worker_broker(ground: Ground) -> None:
    """Between one of two workers and the broker: resets, refusal, three seconds of silence, delay"""
    link, env = ground.links.to_broker()
    _with_one_cut(ground, link, env)


@scenario("net-worker-state", tasks=2000, quick_tasks=800, **ONLY_ONCE)
def worker_state(ground: Ground) -> None:
    """Between one of two workers and the state Redis: resets, refusal, three seconds of silence, delay"""
    link, env = ground.links.to_state()
    _with_one_cut(ground, link, env)


@scenario("net-worker-provider", tasks=2000, quick_tasks=800, **ONLY_ONCE)
def worker_provider(ground: Ground) -> None:
    """Between one of two workers and the providers: resets, refusal, three seconds of silence, delay"""
    link, env = ground.links.to_providers(timeout_s=SWALLOWED_S / 2)
    _with_one_cut(ground, link, env)
    ground.expect_all("succeeded")


def _with_one_cut(ground: Ground, link: Proxy, env: dict[str, str]) -> None:
    ground.answers_take(100, jitter=60)
    ground.staff(1)
    ground.crew.hire(**env)
    ground.submit()
    tear(ground, link)


@scenario("net-producer-store", tasks=4000, quick_tasks=2000, brokers=("redis",), **ONLY_POSTGRES)
def producer_store(ground: Ground) -> None:
    """Between the producer and PostgreSQL: resets while it submits and while it reads; it tries again by its key"""
    link, env = ground.links.to_store()
    _produce_over(ground, link, database_url=env["TIERQ_DATABASE_URL"])


@scenario("net-producer-broker", tasks=4000, quick_tasks=2000, **ONLY_POSTGRES)
def producer_broker(ground: Ground) -> None:
    """Between the producer and the broker: resets and refusal while it submits; the sweeper publishes the rest"""
    link, env = ground.links.to_broker()
    _produce_over(ground, link, broker_url=env["TIERQ_BROKER_URL"])


def _produce_over(ground: Ground, link: Proxy, **urls: str) -> None:
    ground.answers_take(50, jitter=30)
    ground.staff(2)
    with Client(config=ground.site.config, **urls) as client:
        batch = _submit_stubbornly(ground, client, link)
        link.heal()
        ground.fault(RESETS)
        keys = _read_stubbornly(ground, client, batch, link)
    ground.expect(sorted(map(int, keys)) == list(range(ground.tasks)), "the producer did not read every outcome once")


def _submit_stubbornly(ground: Ground, client: Client, link: Proxy) -> str:
    """Submits by key until it is taken; on the way the link breaks again and again. The batch's id."""
    left = iter(range(RESETS))

    def broken() -> Iterator[Any]:
        for number, ticket in enumerate(tickets(0, ground.tasks)):
            if number % (ground.tasks // RESETS) == ground.tasks // RESETS - 1 and next(left, None) is not None:
                link.reset()
            yield ticket

    for _ in range(RESETS + 1):
        try:
            batch = client.submit_many(broken(), key="once")
        except TierQError:
            continue
        ground.submitted = ground.tasks
        return batch.id
    raise AssertionError("the submission was refused although the link was whole again")


def _read_stubbornly(ground: Ground, client: Client, batch_id: str, link: Proxy) -> list[str]:
    """Reads outcomes while the link breaks; after an error it begins anew, as an application would."""
    for attempt in count():
        keys: list[str] = []
        try:
            for outcome in client.batch(batch_id).as_completed(timeout=60):
                keys.append(outcome.key or "")
                if attempt < RESETS and len(keys) == (attempt + 1) * ground.tasks // (RESETS + 2):
                    link.reset()
        except TierQError:
            continue
        return keys
    raise AssertionError("unreachable")


@scenario("cut-off-worker", tasks=200, quick_tasks=40, brokers=("redis",), lease_s=3, **ONLY_POSTGRES)
def cut_off_worker(ground: Ground) -> None:
    """A worker is cut off from PostgreSQL for longer than its lease: it cancels its calls before, others take over"""
    ground.answers_take(2200, jitter=2100)
    to_store, env = ground.links.to_store()
    to_providers, more = ground.links.to_providers()
    ground.crew.hire(**env, **more)
    ground.submit()
    ground.until(lambda: to_providers.waiting() >= ground.scenario.max_in_flight // 2)
    [[cut_off]] = ground.ledger(select(workers.c.id))
    to_store.black_hole()
    ground.crew.start(1)
    ground.until(lambda: _is_lease_over(ground, cut_off))
    ground.expect(not to_providers.waiting(), "the worker that was cut off still waited for answers after its lease")
    ground.until(lambda: _are_taken_over(ground, cut_off))
    to_store.heal()
    ground.fault()
    ground.expect_all("succeeded")
    # The worker has yet to reach its store again.
    ground.until(lambda: _late_answers(ground, cut_off))


@scenario("term-in-silence", tasks=400, quick_tasks=200, **ONLY_POSTGRES)
def term_in_silence(ground: Ground) -> None:
    """The broker falls silent to one of two workers, which is then told to stop: it ends by itself, and hands back"""
    link, env = ground.links.to_broker()
    ground.answers_take(100, jitter=60)
    ground.staff(1)
    leaving = ground.crew.hire(**env)
    ground.until(lambda: len(ground.ledger(select(workers.c.id))) == 2)
    ground.submit()
    link.black_hole()
    ground.crew.dismiss(leaving)
    ground.fault()
    ground.expect_all("succeeded")


def _is_lease_over(ground: Ground, worker_id: str) -> bool:
    over = select(workers.c.lease_until < now()).where(workers.c.id == worker_id)
    return ground.ledger(over) in ([(True,)], [])


def _are_taken_over(ground: Ground, worker_id: str) -> bool:
    """Whether others have ended every task that the worker had under way."""
    of_worker = select(attempts.c.task_id).where(attempts.c.worker_id == worker_id)
    left = select(func.count()).where(tasks.c.id.in_(of_worker), tasks.c.state.in_(("queued", "running")))
    return ground.ledger(left)[0][0] == 0


def _late_answers(ground: Ground, worker_id: str) -> int:
    """Answers that the worker recorded for tasks which another had ended by then."""
    answered = attempts.c.outcome == "succeeded"
    of_others = select(attempts.c.task_id).where(answered, attempts.c.worker_id != worker_id)
    late = select(func.count()).where(answered, attempts.c.worker_id == worker_id, attempts.c.task_id.in_(of_others))
    return int(ground.ledger(late)[0][0])
