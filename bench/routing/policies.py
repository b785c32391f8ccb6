"""Ways to route: TierQ's derived policy, and the plain ones that it has to beat; each learns from given questions."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from bench.routing.data import Data, Estimate, Question
from tierq_insight.allocation import Option, allocate
from tierq_insight.derivation import Ground, Wanted, derive
from tierq_insight.evidence import Evidence
from tierq_shared.policy import Signals
from tierq_shared.policy_document import PolicyDocument

Route = Callable[[Question], str]
"""The model that a question goes to."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a question came to: its score, and everything charged, in nano-USD."""

    score: float
    cost_nusd: int


Answers = Callable[[Question], Answer]

_NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Learner:
    """The questions that a policy may be learned from, and nothing of the others."""

    data: Data
    questions: Sequence[Question]
    estimate: Estimate
    evidence: Mapping[str, Sequence[Evidence]]
    """Of each question, by its id."""

    @cached_property
    def best_single(self) -> str:
        return max(self.data.models, key=lambda model: sum(one.scores[model] for one in self.questions))

    def cost_of(self, question: Question, model: str) -> int:
        return self.data.cost_nusd(question, model, self.estimate)

    def answers(self, route: Route) -> Answers:
        """What a route's questions come to, one call each."""

        def answer(question: Question) -> Answer:
            model = route(question)
            return Answer(question.scores[model], self.cost_of(question, model))

        return answer

    def cost(self, questions: Sequence[Question], route: Route) -> int:
        return sum(self.cost_of(one, route(one)) for one in questions)

    def share(self, route: Route) -> float:
        """What a route costs here, of what the best single model does."""
        return self.cost(self.questions, route) / self.cost(self.questions, lambda _: self.best_single)

    def single(self) -> Route:
        return lambda _: self.best_single

    def table_of_best(self) -> Route:
        """Per task the cheapest of the models with the best mean."""
        return self._table(lambda means, _: max(means.values()))

    def table_of_enough(self) -> Route:
        """Per task the cheapest model whose mean is at least that of the best single model."""
        return self._table(lambda means, best: means[best])

    def table_within(self, spend: float) -> Route:
        """The best per-task table for a share of the best single model's cost, by means."""
        options, total = {}, 0
        for task, group in self._by_task.items():
            means, costs = self._means(group), self._costs(group)
            options[task] = [Option(model, means[model] * len(group), costs[model]) for model in self.data.models]
            total += costs[self.best_single]
        table = {task: option.what for task, option in allocate(options, spend * total).items()}
        return lambda question: table[question.task]

    def by_length(self, spend: float) -> Route:
        """Short inputs to the best of the smaller models, the others to the best single one, within the spending."""
        small = [model for model in self.data.models if self.data.prices[model] < self.data.prices[self.best_single]]
        cheap = max(small, key=lambda model: sum(one.scores[model] for one in self.questions))
        total = self.cost(self.questions, self.single())
        left = total
        bound = 0
        for one in sorted(self.questions, key=lambda one: one.input_tokens):
            if left <= spend * total:
                break
            left += self.cost_of(one, cheap)
            left -= self.cost_of(one, self.best_single)
            bound = one.input_tokens
        return lambda question: cheap if question.input_tokens <= bound else self.best_single

    def at_random(self) -> Route:
        return lambda question: random.Random(question.id).choice(self.data.models)

    def tierq(self, wanted: Wanted) -> Route:
        """The policy as `tierq policy derive` makes it: rules, of which the first match decides."""
        return self.routed(self.document(wanted))

    def document(self, wanted: Wanted) -> PolicyDocument:
        evidence = [answer for one in self.questions for answer in self.evidence[one.id]]
        return derive(evidence, self._ground(), wanted, _NOW)

    def routed(self, document: PolicyDocument) -> Route:
        tiers = self._ground().tiers

        def route(question: Question) -> str:
            signals = Signals(question.type, question.task, question.input_tokens, "normal", "standard")
            rule = next((rule for rule in document.policy if rule.matches(signals)), None)
            if rule is None:
                return self.best_single
            return rule.chain[0] if rule.chain else tiers[rule.tier][0]

        return route

    def _ground(self) -> Ground:
        """Tiers by price; in that of the best single model it stands first, and nothing is routed yet."""
        tiers: dict[str, list[str]] = defaultdict(list)
        for model in sorted(self.data.models, key=lambda model: (self.data.prices[model], model != self.best_single)):
            tiers[self.data.tier(model)].append(model)
        return Ground(tiers, [], self.data.tier(self.best_single))

    @cached_property
    def _by_task(self) -> dict[str, list[Question]]:
        groups: dict[str, list[Question]] = defaultdict(list)
        for one in self.questions:
            groups[one.task].append(one)
        return groups

    def _means(self, questions: Sequence[Question]) -> dict[str, float]:
        return {model: sum(one.scores[model] for one in questions) / len(questions) for model in self.data.models}

    def _costs(self, questions: Sequence[Question]) -> dict[str, int]:
        return {model: sum(self.cost_of(one, model) for one in questions) for model in self.data.models}

    def _table(self, required: Callable[[Mapping[str, float], str], float]) -> Route:
        table = {}
        for task, group in self._by_task.items():
            means = self._means(group)
            enough = [model for model in self.data.models if means[model] >= required(means, self.best_single)]
            table[task] = min(enough, key=lambda model: (self.data.prices[model], -means[model]))
        return lambda question: table[question.task]


def oracle(data: Data) -> Route:
    """For each question the cheapest of the models that score best on it. Nothing that is learned can reach it."""
    return lambda question: max(data.models, key=lambda model: (question.scores[model], -data.prices[model]))
