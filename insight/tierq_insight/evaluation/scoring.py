"""Makes evidence of answers: each with its sample, its deployment and its score."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from tierq_insight.evaluation.answers import Answered
from tierq_insight.evaluation.record import Judged
from tierq_insight.evaluation.samples import Sample, Target
from tierq_insight.evaluation.scores import Score, score

Grader: TypeAlias = Callable[[Answered, Sample], Score | None]
"""Scores a generated text; None where it could not be graded."""


def sample_of(answer: Answered, samples: Sequence[Sample]) -> tuple[Sample, str]:
    """The sample that an answer belongs to, and the deployment that gave it: the task's key says both."""
    deployment, _, number = answer.key.rpartition("/")
    return samples[int(number) - 1], deployment


def judge_all(
    answers: Iterable[Answered],
    samples: Sequence[Sample],
    targets: Sequence[Target],
    models: Mapping[str, str],
    grade: Grader,
) -> Iterator[Judged]:
    """The evidence; what could not be graded is left out. ``models``: of each deployment, where no call was made."""
    tiers = {target.deployment: target.tier for target in targets}
    for answer in answers:
        sample, deployment = sample_of(answer, samples)
        scored = _score(answer, sample, grade)
        if scored is not None:
            yield _judged(answer, sample, deployment, tiers[deployment], answer.model or models[deployment], scored)


def _score(answer: Answered, sample: Sample, grade: Grader) -> Score | None:
    if sample.task.type != "generate":
        return score(sample.task.content, sample.expected, answer.output)
    return Score(0.0, {}) if answer.failed else grade(answer, sample)


def _judged(answer: Answered, sample: Sample, deployment: str, tier: str, model: str, scored: Score) -> Judged:
    return Judged(
        task_id=answer.task_id,
        sample=sample.key,
        type=sample.task.type,
        name=sample.task.content.name,
        input_tokens=sample.input_tokens,
        tier=tier,
        deployment=deployment,
        model=model,
        score=0.0 if answer.failed else scored.value,
        failed=answer.failed,
        details=scored.details,
        confidence=answer.confidence,
        cost_nusd=answer.cost_nusd,
        latency_ms=answer.latency_ms,
    )
