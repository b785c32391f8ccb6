"""Labelled samples, and the tasks by which one deployment alone answers them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from tierq_shared.policy import signals_of
from tierq_shared.tasks import Task


@dataclass(frozen=True, slots=True)
class Sample:
    """One task and what a right answer to it holds; None where nothing is expected of a generated text."""

    number: int
    """Its place among the samples, from 1."""
    key: str
    task: Task[Any]
    expected: Any = field(repr=False)

    @property
    def input_tokens(self) -> int:
        """By the rule of thumb that routing goes by."""
        return signals_of(self.task, len(self.task.input_json.encode())).input_tokens


@dataclass(frozen=True, slots=True)
class Target:
    """A deployment that is evaluated, and the tier whose workers call it."""

    deployment: str
    tier: str


def pinned(task: Task[Any], target: Target, key: str) -> Task[Any]:
    """The task for one deployment alone: no other tier, no fail-over, no escalation, after all other work."""
    return Task(
        task.content,
        orjson.loads(task.input_json),
        key,
        {"tier": target.tier, "require": {"deployment": target.deployment}, "urgency": "relaxed"},
        task.output_type,
    )


def place_of(sample: Sample, target: Target) -> str:
    """The key of a sample's task for a deployment."""
    return f"{target.deployment}/{sample.number}"


def all_tasks(samples: Sequence[Sample], targets: Sequence[Target]) -> Iterable[Task[Any]]:
    """Every sample for every deployment, sample by sample, so that the deployments meet the same hour of the day."""
    for sample in samples:
        for target in targets:
            yield pinned(sample.task, target, place_of(sample, target))


def samples_hash(samples: Iterable[Sample]) -> str:
    """SHA-256 over the samples in order: their keys, specs (with the prompts' version), inputs and expectations."""
    digest = hashlib.sha256()
    for sample in samples:
        task = sample.task
        content = [sample.key, task.content.id, task.input_json, sample.expected]
        digest.update(orjson.dumps(content, option=orjson.OPT_SORT_KEYS))
    return digest.hexdigest()
