"""Judges ways to route on questions that they did not learn from."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bench.routing import cascade
from bench.routing.data import EXACT, Data, Estimate, Question
from bench.routing.policies import Answer, Answers, Learner, oracle
from tierq_insight.derivation import Wanted
from tierq_insight.evidence import Evidence
from tierq_insight.statistics import large_sample_interval
from tierq_shared.intervals import Interval

BAR = 0.60
"""What has to be saved of the best single model's cost."""
ASKED = 1 - BAR - 0.05
"""The share of its cost that the policy is derived for: the bar, with five points left for what turns out dearer."""
SHARES = (0.25, 0.30, ASKED, 0.40)
FOLDS = 5

Split = tuple[Sequence[Question], Sequence[Question]]
"""Questions to derive from, and those held out."""
Ways = Callable[[Learner], Mapping[str, Answers]]

SINGLE = "best single model"
TABLE_BEST = "per-task table: best mean"
TABLE_ENOUGH = "per-task table: as good as the single model"
TABLE_WITHIN = f"per-task table, best within {ASKED:.0%} of the cost"
ROWS = "TierQ, each row by itself (margin 0.05)"


def tierq(share: float) -> str:
    return f"TierQ, spend {share:.0%}"


POLICY = tierq(ASKED)


def at_the_cost_of(table: str) -> str:
    return f"TierQ at the cost of the {table}"


@dataclass(slots=True)
class Result:
    """The held-out answers of one way, with those of the best single model to the same questions."""

    answers: list[Answer] = field(default_factory=list)
    singles: list[Answer] = field(default_factory=list)

    @property
    def quality(self) -> float:
        return sum(one.score for one in self.answers) / len(self.answers)

    @property
    def saved(self) -> float:
        return 1 - sum(one.cost_nusd for one in self.answers) / sum(one.cost_nusd for one in self.singles)

    @property
    def difference(self) -> Interval:
        return self.against(self.singles)

    @property
    def meets_the_bar(self) -> bool:
        return self.saved >= BAR and self.difference.lower >= 0

    def against(self, others: Sequence[Answer]) -> Interval:
        return large_sample_interval([one.score - other.score for one, other in zip(self.answers, others, strict=True)])


@dataclass(frozen=True)
class Judge:
    """Derives and judges, split by split, at one estimate of the output's tokens."""

    data: Data
    estimate: Estimate
    evidence: Mapping[str, Sequence[Evidence]]

    @classmethod
    def of(cls, data: Data, estimate: Estimate) -> Judge:
        return cls(data, estimate, {one.id: data.evidence(one, estimate) for one in data.questions})

    def judge(self, splits: Iterator[Split], ways: Ways) -> dict[str, Result]:
        """The results of each way over all splits together, in the order of the held-out questions."""
        results: dict[str, Result] = {}
        for derive_from, held_out in splits:
            learner = Learner(self.data, derive_from, self.estimate, self.evidence)
            singles = [learner.answers(learner.single())(one) for one in held_out]
            for name, answers in ways(learner).items():
                result = results.setdefault(name, Result())
                result.answers += [answers(one) for one in held_out]
                result.singles += singles
        return results


def cross_fitted(questions: Sequence[Question], seed: int) -> Iterator[Split]:
    """Five splits in which each question is held out once, task by task."""
    ordered = _shuffled(questions, seed)
    for fold in range(FOLDS):
        held_out = ordered[fold::FOLDS]
        yield [one for place, one in enumerate(ordered) if place % FOLDS != fold], held_out


def halves(questions: Sequence[Question], seed: int) -> Iterator[Split]:
    """One split: half to derive from, half held out, task by task."""
    ordered = _shuffled(questions, seed)
    yield ordered[::2], ordered[1::2]


def all_ways(learner: Learner) -> dict[str, Answers]:
    """Everything that is compared; the tables also with TierQ's policy at what they cost where it is derived."""
    best, enough = learner.table_of_best(), learner.table_of_enough()
    routes = {
        "random": learner.at_random(),
        f"input length, within {ASKED:.0%} of the cost": learner.by_length(ASKED),
        SINGLE: learner.single(),
        TABLE_BEST: best,
        TABLE_ENOUGH: enough,
        TABLE_WITHIN: learner.table_within(ASKED),
        ROWS: learner.tierq(Wanted(margin=0.05, high_stakes="same")),
        **{tierq(share): learner.tierq(_spending(share)) for share in SHARES},
        at_the_cost_of(TABLE_BEST): learner.tierq(_spending(learner.share(best))),
        at_the_cost_of(TABLE_ENOUGH): learner.tierq(_spending(learner.share(enough))),
        "oracle (knows every score)": oracle(learner.data),
    }
    return {name: learner.answers(route) for name, route in routes.items()}


def policy_and_table(learner: Learner) -> dict[str, Answers]:
    """The policy that has to reach the bar, and the strongest table beside it."""
    return {
        TABLE_WITHIN: learner.answers(learner.table_within(ASKED)),
        POLICY: learner.answers(learner.tierq(_spending(ASKED))),
    }


def cascades(learner: Learner) -> dict[str, Answers]:
    """For questions with one final answer: the policy, and the bounds of a cascade by agreement."""
    return {
        SINGLE: learner.answers(learner.single()),
        POLICY: learner.answers(learner.tierq(_spending(ASKED))),
        "cascade, were two wrong answers always the same": cascade.by_agreement(learner, wrong_agree=True),
        "cascade, were two wrong answers never the same": cascade.by_agreement(learner, wrong_agree=False),
    }


def exact(questions: Sequence[Question]) -> list[Question]:
    """The questions with one final answer."""
    return [one for one in questions if one.metric in EXACT]


def _spending(share: float) -> Wanted:
    return Wanted(spend=share, high_stakes="same")


def _shuffled(questions: Sequence[Question], seed: int) -> list[Question]:
    shuffled = sorted(questions, key=lambda one: one.id)
    random.Random(seed).shuffle(shuffled)
    return sorted(shuffled, key=lambda one: one.task)
