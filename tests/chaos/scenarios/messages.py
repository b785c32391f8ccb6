"""Messages that come twice, out of order, too late, or never."""

from __future__ import annotations

from sqlalchemy import func, select

from chaos.broker_hand import waiting_chunks
from chaos.crew import TIER
from chaos.ground import Ground
from chaos.registry import scenario
from tierq_shared.store.tables import attempts

_ATTEMPTS = select(func.count()).select_from(attempts)


@scenario("duplicates", tasks=3000, quick_tasks=1000)
def duplicates(ground: Ground) -> None:
    """Every chunk is published three times in all, in random order, and once more when its batch has ended"""
    ground.answers_take(60, jitter=30)
    ground.submit()
    chunks = waiting_chunks(ground.store)
    ground.staff(2)
    again = [*chunks, *chunks]
    ground.rng.shuffle(again)
    for number, chunk in enumerate(again):
        ground.until_ended(0.8 * number / len(again))
        ground.broker.send([chunk])
    ground.fault(len(again))
    ground.until_ended(1.0)
    ground.expect(ground.ledger(_ATTEMPTS)[0][0] == ground.submitted, "messages that came twice cost calls")
    ground.broker.send(chunks)
    # Behind them in the queue: when it has ended, they have all been received.
    ground.submit(1)
    ground.until_ended(1.0)
    ground.expect(ground.ledger(_ATTEMPTS)[0][0] == ground.submitted, "messages of an ended batch cost calls")


@scenario("lost-messages", tasks=6000, quick_tasks=1500, max_in_flight=40)
def lost_messages(ground: Ground) -> None:
    """One queued message in five is taken out of the broker under load; markers find which ones"""
    ground.answers_take(80, jitter=40)
    ground.submit()
    to_lose = ground.tasks // 500
    ground.staff(2)
    lost = 0
    for number in range(to_lose):
        ground.until_ended(0.5 * number / to_lose)
        lost += ground.broker.take_away(TIER)
    ground.fault(lost)
    ground.expect(lost, "no message was in the queue to be lost")
    ground.expect_all("succeeded")
