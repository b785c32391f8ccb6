"""The interval of the saving: how often it holds the truth, and when there is none."""

from __future__ import annotations

import random

import pytest

from tierq_insight.report import Baseline
from tierq_insight.report.figures import Sums
from tierq_insight.report.saving import Costs, interval, saving
from tierq_shared.money import Rates

PLAIN = Baseline("sol", "big-model", Rates(1_000_000, 1_000_000, 1_000_000, 1_000_000, "test"))


def a_ledger(dice: random.Random, tasks: int) -> list[Costs]:
    """Nine in ten tasks cost a tenth of the baseline's price, the others all of it and half as much again."""
    sizes = [dice.lognormvariate(6, 0.8) for _ in range(tasks)]
    shares = [0.1 if dice.random() < 0.9 else 1.5 for _ in range(tasks)]
    return [(round(share * size), round(size)) for share, size in zip(shares, sizes, strict=True)]


def test_it_holds_the_truth_about_as_often_as_it_says() -> None:
    dice = random.Random(7)
    truth = 1 - (0.9 * 0.1 + 0.1 * 1.5)
    found = [interval(a_ledger(dice, 250), resamples=200) for _ in range(120)]
    held = sum(one is not None and one.lower <= truth <= one.upper for one in found)
    assert 0.88 <= held / len(found) <= 1.0


def test_bags_of_tasks_are_as_good_as_the_tasks() -> None:
    """Four tasks a bag, put there by chance, give an interval of about the same width."""
    tasks = a_ledger(random.Random(3), 2_000)
    bags = [(sum(ours for ours, _ in tasks[n::500]), sum(theirs for _, theirs in tasks[n::500])) for n in range(500)]
    one_by_one, by_bags = interval(tasks, resamples=200), interval(bags, resamples=200)
    assert one_by_one is not None
    assert by_bags is not None
    width = one_by_one.upper - one_by_one.lower
    assert by_bags.upper - by_bags.lower == pytest.approx(width, rel=0.3)


@pytest.mark.parametrize("costs", [[], [(1, 10)] * 29, [(5, 0)] * 40], ids=["none", "few", "no baseline"])
def test_too_little_says_nothing(costs: list[Costs]) -> None:
    assert interval(costs) is None


def test_bags_are_folded_without_losing_anything() -> None:
    bags = {f"{number:03x}": Sums(2, 1, 10, 0, 30, 10) for number in range(4_096)}
    found = saving(PLAIN, bags)
    assert (found.answers, found.cost_nusd, found.baseline_nusd) == (4_096, 40_960, 4_096 * 40)
    assert found.share is not None
    assert found.share.lower == pytest.approx(found.saved_share or 0.0) == found.share.upper


def test_more_was_spent_than_the_baseline_would_have_cost() -> None:
    found = saving(PLAIN, {"001": Sums(1, 1, 100, 0, 40, 10)})
    assert (found.saved_nusd, found.saved_share) == (-50, -1.0)
