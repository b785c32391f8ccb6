"""What the scores alone tell of a cascade by agreement: bounds, since they do not say what the models answered.

Two smaller models answer first; where they agree the answer is kept, else the best single model answers too, and all
of it is charged. Where one final answer is compared (choices, numbers), two right answers agree, and a right and a
wrong one do not: that is known. Two wrong answers may be the same or not: one bound takes all of them to agree (kept,
wrong and cheap), the other all to differ (asked again, dearer, perhaps right). The truth lies between.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from bench.routing.data import Question
from bench.routing.policies import Answer, Answers, Learner


def by_agreement(learner: Learner, *, wrong_agree: bool) -> Answers:
    """Each task's two best smaller models and the best single one, which is alone where fewer are smaller."""
    best = learner.best_single
    small = [model for model in learner.data.models if learner.data.prices[model] < learner.data.prices[best]]
    if len(small) < 2:
        return learner.answers(learner.single())
    pairs = _pairs(learner.questions, small)

    def answer(question: Question) -> Answer:
        first, second = pairs[question.task]
        scores = (question.scores[first], question.scores[second])
        cost = learner.cost_of(question, first) + learner.cost_of(question, second)
        if scores == (1.0, 1.0) or (scores == (0.0, 0.0) and wrong_agree):
            return Answer(scores[0], cost)
        return Answer(question.scores[best], cost + learner.cost_of(question, best))

    return answer


def _pairs(questions: Sequence[Question], models: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Of each task the two models with the most right answers."""
    totals: dict[str, dict[str, float]] = defaultdict(lambda: dict.fromkeys(models, 0.0))
    for one in questions:
        for model in models:
            totals[one.task][model] += one.scores[model]
    return {task: _two_best(found) for task, found in totals.items()}


def _two_best(totals: dict[str, float]) -> tuple[str, str]:
    first, second, *_ = sorted(totals, key=lambda model: -totals[model])
    return first, second
