"""The tasks that are measured: classifications of 2 KB of text, the same on every run."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import orjson

from tierq import Classify, Task
from tierq_shared.prompts import PromptTemplate

SIZE = 2_000
"""Characters of input a task."""
MODEL = "gpt-4o-mini"
LABELS = {
    "billing": "Charges, refunds, invoices and payment methods.",
    "technical": "Errors, crashes and anything that does not work.",
    "shipping": "Where a parcel is, delays, damaged deliveries.",
    "account": "Signing in, passwords, profile and access.",
    "other": "Whatever fits nowhere else.",
}
SPEC = Classify.spec("ticket", LABELS, instructions="Sort the customer's message by what it is about.")

_VARIETY = 500
_PHRASES = (
    "I was charged twice for my order",
    "and the parcel never arrived",
    "please help",
    "the app shows an error today",
    "password",
    "invoice",
    "refund",
    "delivery damaged",
    "account",
    "late payment",
)


def texts(count: int) -> Iterator[str]:
    """Inputs of about SIZE characters, each one different."""
    dice = random.Random(1)
    bodies = [" ".join(dice.choices(_PHRASES, k=SIZE // 5))[: SIZE - 16] for _ in range(_VARIETY)]
    return (f"Message {number:07d} {bodies[number % _VARIETY]}" for number in range(count))


def tasks(count: int, *, keyed: bool = True) -> Iterator[Task[str]]:
    """What a backend app submits."""
    if keyed:
        return (SPEC(text, key=number) for number, text in enumerate(texts(count)))
    return (SPEC(text) for text in texts(count))


class PlainRequests:
    """The same requests as a few lines of an application would make them."""

    def __init__(self) -> None:
        template = PromptTemplate(SPEC.content)
        self._system = {"role": "system", "content": template.system}
        schema = {"name": "ticket", "strict": True, "schema": template.schema}
        self._format = {"type": "json_schema", "json_schema": schema}

    def body(self, text: str) -> bytes:
        messages = [self._system, {"role": "user", "content": f"<text>\n{text}\n</text>"}]
        return orjson.dumps(
            {
                "model": MODEL,
                "messages": messages,
                "response_format": self._format,
                "max_completion_tokens": 256,
                "store": False,
            }
        )

    @staticmethod
    def label(answer: bytes) -> str:
        """The label in a provider's answer."""
        completion: dict[str, Any] = orjson.loads(answer)
        label: str = orjson.loads(completion["choices"][0]["message"]["content"])["label"]
        return label
