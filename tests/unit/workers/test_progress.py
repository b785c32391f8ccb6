"""What Flower is told of a chunk, once its last task ended."""

from __future__ import annotations

import pytest

from tierq_shared.queues import Chunk
from tierq_workers.progress import Delivery, summary


@pytest.mark.parametrize(
    ("ended", "handed_back", "says"),
    [
        ({"succeeded": 48, "failed": 2}, 0, "48 succeeded · 2 failed"),
        ({}, 0, "0 succeeded · 0 failed"),
        (
            {"succeeded": 1, "escalated": 2, "queued again": 3},
            0,
            "1 succeeded · 0 failed · 2 escalated · 3 queued again",
        ),
        ({"succeeded": 1}, 4, "1 succeeded · 0 failed · 4 handed back"),
    ],
)
def test_a_summary_counts_what_became_of_each_task(ended: dict[str, int], handed_back: int, says: str) -> None:
    delivery = Delivery(Chunk("c", "b", "small", 5, ["t"]))
    delivery.ended.update(ended)
    delivery.handed_back = handed_back
    assert summary(delivery) == says
