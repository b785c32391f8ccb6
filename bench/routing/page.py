"""The page that shows how the derived policy did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import get_args

from bench.routing import cascade, data
from bench.routing.data import HARD_TO_READ, Data, Estimate, Question
from bench.routing.judging import (
    ASKED,
    BAR,
    FOLDS,
    POLICY,
    TABLE_BEST,
    TABLE_ENOUGH,
    TABLE_WITHIN,
    Judge,
    Result,
    all_ways,
    at_the_cost_of,
    cascades,
    cross_fitted,
    exact,
    halves,
    policy_and_table,
)
from tierq_shared.intervals import Interval

SEEDS = 5
_HALVES = 10
_MAIN: Estimate = "ground truth"

_HOW = f"""\
# Routing: is the derived policy worth it?

    .venv/bin/python -m bench.routing --data FOLDER     # some minutes; writes this page

Judged on LLMRouter's per-question scores of nine models on 14 public tasks. No model is called. Nine models are three
tiers by list price ($0.10, $0.20 and $0.90 per million tokens); a task of the data is a type and name for the policy.

**Derived and held out.** {FOLDS} parts, task by task; each question is judged by a policy that was derived from the
other {FOLDS - 1} parts, and so are the best single model and the tables: nothing learns from what it is judged by. The
seed is 1; other seeds, and plain halves with half as much to derive from, stand below. Intervals are of 95 %, paired
by question.

**The bar.** At least {BAR:.0%} cheaper than the best single model, with the lower bound of the paired difference in
quality at 0 or above; and not worse than the per-task table. The policy is derived to spend {ASKED:.0%} of that
model's cost: the bar, less five points for what turns out dearer on other questions. Other shares stand beside it.
No question decides on what it is judged by, but the method was found with this data at hand: expect a little less
elsewhere.

**What it takes.** The bar is for all tasks together: `tierq policy derive --spend` moves money to where it buys most. A
policy each of whose rows clears a lower bound by itself is another, stricter promise, and saves less: see its line.

**Tried and left out.** A ridge regression on the words of the question, for each task and model (4,096 hashed words,
one strength), in place of means by task and size: +0.019 against +0.032 at 65 % saved (5 parts, 3 seeds). How far the
mean of an input size is drawn to that of its task (30, 100 or 300 samples) made no difference on a derivation half.
Leaving sizes with few samples on the best single model cost 10 % more at 0.004 to 0.010 less quality there, so in a
spending plan the task's other sizes speak for them.
"""


def text(found: Data, *, seeds: int = SEEDS) -> str:
    """The whole page."""
    without = [one for one in found.questions if one.task not in HARD_TO_READ]
    judge = Judge.of(found, _MAIN)
    blocks = [_HOW, "**Costs.**", _paragraph(data.__doc__), *_counts(found)]
    for title, questions in (("All tasks", found.questions), ("Without MMLU and GPQA", without)):
        blocks += [f"\n## {title}\n", *_section(judge, questions, seeds)]
    blocks += ["\n## Other estimates of the output's tokens\n", *_estimates(found, without)]
    blocks += ["\n## A cascade\n", _paragraph(cascade.__doc__) + "\n", *_cascades(judge, found.questions)]
    return "\n".join(blocks) + "\n"


def _section(judge: Judge, questions: Sequence[Question], seeds: int) -> Iterator[str]:
    results = judge.judge(cross_fitted(questions, 1), all_ways)
    yield _verdict(results)
    yield ""
    shown = {name: result for name, result in results.items() if not name.startswith("TierQ at")}
    yield from _table(shown)
    yield ""
    yield from _against_tables(results)
    yield ""
    yield from _stability(judge, questions, seeds)


def _verdict(results: Mapping[str, Result]) -> str:
    policy = results[POLICY]
    word = "met" if policy.meets_the_bar else "**missed**"
    against = policy.against(results[TABLE_WITHIN].answers)
    return (
        f"Bar of cost and quality: {word}: {policy.saved:.1%} cheaper, quality {_signed(policy.difference)}. Against\n"
        f"the per-task table for the same money: {_signed(against)}: {_word(against)}."
    )


def _table(results: Mapping[str, Result]) -> Iterator[str]:
    yield "| | quality | cheaper by | quality against the best single model |\n|---|---|---|---|"
    for name, result in results.items():
        bold = "**" if name == POLICY else ""
        yield f"| {bold}{name}{bold} | {result.quality:.4f} | {result.saved:.1%} | {_signed(result.difference)} |"


def _against_tables(results: Mapping[str, Result]) -> Iterator[str]:
    yield "Against the per-task tables, TierQ's policy being given what each of them costs where it is derived:\n"
    yield "| table | quality of TierQ's less the table's | cost of TierQ's ÷ the table's | |\n|---|---|---|---|"
    pairs = [(TABLE_WITHIN, POLICY), *((table, at_the_cost_of(table)) for table in (TABLE_ENOUGH, TABLE_BEST))]
    for table, name in pairs:
        policy, other = results[name], results[table]
        difference = policy.against(other.answers)
        ratio = (1 - policy.saved) / (1 - other.saved)
        yield f"| {table} | {_signed(difference)} | {ratio:.3f} | {_word(difference)} |"


def _stability(judge: Judge, questions: Sequence[Question], seeds: int) -> Iterator[str]:
    yield "| splits | cheaper by | lower bound of the difference | bar met | against the table for the same money |"
    yield "|---|---|---|---|---|"
    folds = [judge.judge(cross_fitted(questions, seed), policy_and_table) for seed in range(1, seeds + 1)]
    yield _spread(f"{FOLDS} parts, seeds 1–{seeds}", folds)
    halved = [
        judge.judge(halves(questions, seed), policy_and_table) for seed in range(1, (_HALVES if seeds > 1 else 1) + 1)
    ]
    yield _spread(f"halves, seeds 1–{len(halved)}", halved)


def _spread(name: str, runs: Sequence[Mapping[str, Result]]) -> str:
    policies = [run[POLICY] for run in runs]
    saved = [one.saved for one in policies]
    lowers = [one.difference.lower for one in policies]
    against = [run[POLICY].against(run[TABLE_WITHIN].answers).mean for run in runs]
    return (
        f"| {name} | {min(saved):.1%} to {max(saved):.1%} | {min(lowers):+.4f} to {max(lowers):+.4f} "
        f"| {sum(one.meets_the_bar for one in policies)} of {len(runs)} | {min(against):+.4f} to {max(against):+.4f} |"
    )


def _estimates(found: Data, without: Sequence[Question]) -> Iterator[str]:
    yield "`by kind`: 200 tokens for gsm8k, 350 for other mathematics, 160 for code, 60 for commongen, 10 otherwise.\n"
    yield "| output | tasks | cheaper by | quality against the best single model | bar |\n|---|---|---|---|---|"
    for estimate in get_args(Estimate):
        judge = Judge.of(found, estimate)
        for name, questions in (("all", found.questions), ("without MMLU, GPQA", without)):
            one = judge.judge(cross_fitted(questions, 1), policy_and_table)[POLICY]
            word = "met" if one.meets_the_bar else "**missed**"
            yield f"| {estimate} | {name} | {one.saved:.1%} | {_signed(one.difference)} | {word} |"


def _cascades(judge: Judge, questions: Sequence[Question]) -> Iterator[str]:
    yield (
        "The data has no confidence, no answers and no second sample of an answer, so neither TierQ's confidence\n"
        "nor a threshold can be judged on it. On the tasks with one final answer (choices, GSM8K, MATH):\n"
    )
    yield from _table(judge.judge(cross_fitted(exact(questions), 1), cascades))


def _counts(found: Data) -> Iterator[str]:
    yield (
        f"\n{len(found.questions):,} questions; {found.ambiguous} were left out: their text stands in two tasks.\n"
        "Some cells look like failures to read the answer (a 7B model with 16 % on MMLU), so everything is shown\n"
        "without MMLU and GPQA too."
    )


def _word(difference: Interval) -> str:
    if difference.lower > 0:
        return "better"
    if difference.upper < 0:
        return "**worse**"
    return "no difference that this many questions show"


def _signed(one: Interval) -> str:
    return f"{one.mean:+.4f} ({one.lower:+.4f} to {one.upper:+.4f})"


def _paragraph(doc: str | None) -> str:
    """A module's docstring without its title."""
    return (doc or "").partition("\n\n")[2].strip()
