"""Runs labelled samples through deployments: quoted, submitted as ordinary tasks, watched, judged and kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any

from sqlalchemy import select

from tierq import Client
from tierq_console import batches
from tierq_console.cost_quote import quote
from tierq_console.jobs import Job
from tierq_console.policy_sources import policy_in_force
from tierq_console.progress_view import View
from tierq_console.readiness import check_keys
from tierq_console.running import Interrupted, Watch, check_job
from tierq_console.sample_file import read_samples
from tierq_console.stack import running_stack
from tierq_console.submitting_thread import Submission
from tierq_console.targets import describe
from tierq_insight.evaluation import record
from tierq_insight.evaluation.answers import Answered, answered
from tierq_insight.evaluation.judging import Scorer, judge_task, score_by, score_of_grade
from tierq_insight.evaluation.record import Evaluation, Judged, Plan
from tierq_insight.evaluation.report import Line, report
from tierq_insight.evaluation.samples import Sample, Target, all_tasks, pinned, place_of, samples_hash
from tierq_insight.evaluation.scores import Score
from tierq_insight.evaluation.scoring import judge_all, sample_of
from tierq_shared.errors import InvalidInput
from tierq_shared.ids import prefix
from tierq_shared.money import show_usd, usd
from tierq_shared.outcomes import TERMINAL
from tierq_shared.quoting.figures import Range
from tierq_shared.quoting.quoter import Quoter
from tierq_shared.settings import Settings
from tierq_shared.store.connection import Store
from tierq_shared.store.reading import Progress
from tierq_shared.store.tables import tasks
from tierq_shared.tasks import Task


@dataclass(frozen=True)
class Order:
    """What is to be evaluated."""

    job: Job
    """Its rows are samples."""
    targets: Sequence[Target]
    judge: Target | None = None
    scorer: tuple[str, Scorer] | None = None
    """A function by its name, where it scores generated texts."""
    max_cost_nusd: int | None = None
    fresh: bool = False


@dataclass(frozen=True)
class Result:
    """What an evaluation came to."""

    evaluation_id: str
    batch_id: str
    samples: int
    deployments: Sequence[str]
    lines: Sequence[Line]
    cost_nusd: int
    """All that it was charged, the judge among it."""
    judge_nusd: int
    unpriced: int
    missing: int
    """Answers that are no evidence: cancelled, expired, or not graded."""
    failed: int
    seconds: float


@dataclass(frozen=True)
class Quote:
    """What is left to be done, and what it is likely to cost; None for a deployment without a price."""

    calls: Mapping[str, int]
    costs: Mapping[str, Range[int] | None]

    @property
    def total(self) -> Range[int]:
        known = [one for one in self.costs.values() if one is not None]
        return Range(sum(one.low for one in known), sum(one.expected for one in known), sum(one.high for one in known))


Agree = Callable[[Quote], bool]
"""Shows a quote, and says whether to go on."""


@dataclass(frozen=True)
class _EvaluationBatch:
    """How a batch of an evaluation is submitted."""

    key: str
    label: str
    tags: Mapping[str, str]
    max_cost: Decimal | None
    """What is left of the evaluation's cap."""
    deadline: None = None
    on_cap: None = None


def evaluate(order: Order, settings: Settings, view: View, agree: Agree) -> Result:
    """Runs an evaluation, or carries on where the same one was left; nothing that is committed is paid again.

    Raises:
        InvalidInput: something about the samples or the options is wrong, or the quote is over the cap; nothing was
            submitted.
        Interrupted: Ctrl-C, or no agreement to the quote; what is committed is kept.
    """
    began = time.monotonic()
    samples = read_samples(order.job, check_job(order.job, settings, policy_in_force(settings), view))
    _check_scoring(order, samples)
    plan = _plan(order, settings, samples)
    if not order.fresh and (ended := _finished(order, settings, plan, samples, began)) is not None:
        view.note("this very evaluation has been finished before: nothing to run (--fresh runs it anew)")
        return ended
    check_keys(settings)
    try:
        with (
            running_stack(settings, notify=view.note) as running,
            batches.open_store(running) as store,
            Client(settings=running) as client,
        ):
            run = _Run(order, running, samples, store, client, view)
            evaluation = run.begin(plan, agree)
            run.answer(evaluation)
            record.keep(store, evaluation, run.judged(evaluation))
            record.finish(store, evaluation)
            return _result(order, store, evaluation, samples, began)
    except KeyboardInterrupt:
        raise Interrupted(
            "stopped; what is done is kept. The same command carries on, and pays nothing twice"
        ) from None


class _Run:
    """One evaluation on a stack that runs."""

    def __init__(
        self, order: Order, settings: Settings, samples: Sequence[Sample], store: Store, client: Client, view: View
    ) -> None:
        self._order = order
        self._settings = settings
        self._samples = samples
        self._store = store
        self._client = client
        self._view = view

    def begin(self, plan: Plan, agree: Agree) -> Evaluation:
        """The evaluation, once its cost is agreed to.

        Raises:
            InvalidInput: the quote is over the cap.
            Interrupted: it was not agreed to.
        """
        with self._store.reading() as connection:
            known = None if self._order.fresh else record.find_evaluation(connection, plan)
        before = self._former(known)
        if known is not None:
            answers = sum(one.done for one in before)
            self._view.note(f"carrying on with evaluation {known.id}: {answers:,} tasks have ended")
        quoted = self._quote(known, {key for one in before for key in _ended_keys(self._store, one)})
        _refuse_over(self._order.max_cost_nusd, quoted, sum(one.cost_nusd for one in before))
        if any(quoted.calls.values()) and not agree(quoted):
            raise Interrupted("not agreed: nothing was submitted")
        return record.open_evaluation(self._store, plan, fresh=self._order.fresh)

    def answer(self, evaluation: Evaluation) -> None:
        """Has every sample answered by every deployment, and generated texts graded where there is a judge."""
        total = len(self._samples) * len(self._order.targets)
        self._carry_out(evaluation, evaluation.batch_key, partial(all_tasks, self._samples, self._order.targets), total)
        if self._order.judge is not None:
            graded = partial(self._grading, evaluation, self._order.judge)
            self._carry_out(evaluation, evaluation.judge_key, graded)

    def judged(self, evaluation: Evaluation) -> Iterable[Judged]:
        """The evidence, as far as there are answers."""
        targets = self._order.targets
        models = {one.deployment: self._settings.deployments[one.deployment].model for one in targets}
        answers = answered(self._store, self._batch_id(evaluation.batch_key))
        return judge_all(answers, self._samples, targets, models, self._grader(evaluation))

    def _former(self, known: Evaluation | None) -> list[Progress]:
        """The batches of an evaluation that was begun before."""
        keys = (known.batch_key, known.judge_key) if known else ()
        return [found for key in keys if (found := batches.find_by_key(self._store, key)) is not None]

    def _quote(self, known: Evaluation | None, done: Set[str]) -> Quote:
        """What is left to be done. ``done`` are the keys of the tasks that have ended."""
        calls, costs, quoter = {}, {}, Quoter(self._settings, self._store)
        for target in self._order.targets:
            left = [sample for sample in self._samples if place_of(sample, target) not in done]
            calls[target.deployment], costs[target.deployment] = len(left), quote(self._settings, quoter, target, left)
        judge = self._order.judge
        if judge is not None:
            texts = [] if self._is_graded(known) else self._texts()
            left = [_as_graded(sample) for sample, place in texts if _grading_key(place) not in done]
            name = f"{judge.deployment} (judge)"
            calls[name], costs[name] = len(left), quote(self._settings, quoter, judge, left)
        return Quote(calls, costs)

    def _is_graded(self, known: Evaluation | None) -> bool:
        """Whether all gradings have been submitted: no more will be."""
        found = batches.find_by_key(self._store, known.judge_key) if known else None
        return found is not None and found.total is not None

    def _texts(self) -> Sequence[tuple[Sample, str]]:
        """Samples of type generate with the key of each deployment's task."""
        texts = [sample for sample in self._samples if sample.task.type == "generate"]
        return [(sample, place_of(sample, target)) for sample in texts for target in self._order.targets]

    def _carry_out(
        self, evaluation: Evaluation, key: str, made: Callable[[], Iterable[Task[Any]]], total: int | None = None
    ) -> None:
        before = batches.find_by_key(self._store, key)
        tags = {"evaluation": prefix(evaluation.id)}
        label = f"evaluation of {self._order.job.path.name}"
        batch = _EvaluationBatch(key, label, tags, self._left_for(evaluation, key))
        submission = Submission(self._client, batch, lambda: iter(made()))

        def look() -> Progress | None:
            submission.raise_error()
            return batches.find_by_key(self._store, key)

        if before is None or before.total is None:
            submission.start()
        try:
            Watch(self._store, self._view, look, total).until_over()
        finally:
            submission.leave()

    def _left_for(self, evaluation: Evaluation, key: str) -> Decimal | None:
        """What a batch may cost: the cap without what the evaluation's other batch was charged."""
        cap = self._order.max_cost_nusd
        others = [one for one in (evaluation.batch_key, evaluation.judge_key) if one != key]
        spent = sum(found.cost_nusd for one in others if (found := batches.find_by_key(self._store, one)))
        return None if cap is None else usd(max(1, cap - spent))

    def _grading(self, evaluation: Evaluation, judge: Target) -> Iterable[Task[Any]]:
        for answer in answered(self._store, self._batch_id(evaluation.batch_key)):
            sample, _ = sample_of(answer, self._samples)
            if sample.task.type == "generate" and not answer.failed:
                yield pinned(judge_task(sample, answer.output), judge, _grading_key(answer.key))

    def _grader(self, evaluation: Evaluation) -> Callable[[Answered, Sample], Score | None]:
        if self._order.scorer is not None:
            name, scorer = self._order.scorer
            return lambda answer, sample: score_by(scorer, name, sample, answer.output)
        judge = self._order.judge
        if judge is None:
            return lambda _answer, _sample: None
        graded = answered(self._store, self._batch_id(evaluation.judge_key))
        grades = {one.key: score_of_grade(one.output, judge.deployment) for one in graded if not one.failed}
        return lambda answer, _sample: grades.get(_grading_key(answer.key))

    def _batch_id(self, key: str) -> str:
        found = batches.find_by_key(self._store, key)
        return found.batch_id if found else ""


def _plan(order: Order, settings: Settings, samples: Sequence[Sample]) -> Plan:
    scorer = f"scorer {order.scorer[0]}" if order.scorer else None
    deployments = describe(settings, order.targets)
    if order.judge is not None:
        (judge,) = describe(settings, [order.judge]).values()
        scorer = f"judge {order.judge.deployment} ({judge['model']})"
    return Plan(samples_hash(samples), order.job.path.name, deployments, scorer)


def _check_scoring(order: Order, samples: Sequence[Sample]) -> None:
    """Refuses texts that nobody scores, and a judge of nothing."""
    has_texts = any(sample.task.type == "generate" for sample in samples)
    if order.judge is not None and order.scorer is not None:
        raise InvalidInput("--judge and --scorer: generated texts are scored by one of them; leave the other out")
    if has_texts and order.judge is None and order.scorer is None:
        raise InvalidInput(
            f"{order.job.path}: has samples of type generate, whose quality no comparison tells: name a deployment "
            "that grades them with --judge, or a function of your own with --scorer module:function"
        )
    if not has_texts and (order.judge or order.scorer):
        raise InvalidInput(
            "--judge and --scorer are for samples of type generate, of which there are none: leave them out"
        )


def _refuse_over(cap: int | None, quoted: Quote, spent_nusd: int) -> None:
    if cap is None:
        return
    unpriced = [name for name, cost in quoted.costs.items() if cost is None]
    if unpriced:
        raise InvalidInput(
            f"--max-cost: no price is known for {', '.join(unpriced)}, so no cap can hold: give it a price in "
            "tierq.toml, or leave --max-cost out; nothing was submitted"
        )
    high = spent_nusd + quoted.total.high
    if high > cap:
        spent = f" with the {show_usd(spent_nusd)} that is spent" if spent_nusd else ""
        raise InvalidInput(
            f"--max-cost {show_usd(cap)}: the evaluation may come to {show_usd(high)}{spent}: raise it, or take fewer "
            "samples with --limit or fewer deployments; nothing was submitted"
        )


def _as_graded(sample: Sample) -> Sample:
    """A sample as its judge meets it: the brief with a text of unknown length, and a grade for an answer."""
    task = judge_task(sample, "x" * _TEXT_BYTES)
    return Sample(sample.number, sample.key, task, "5")


_TEXT_BYTES = 1_200
"""A text of about 300 tokens."""


def _grading_key(place: str) -> str:
    """The key of the task that grades the answer of this key."""
    return f"judge/{place}"


def _ended_keys(store: Store, batch: Progress) -> set[str]:
    statement = select(tasks.c.key).where(tasks.c.batch_id == batch.batch_id, tasks.c.state.in_(TERMINAL))
    with store.reading() as connection:
        return set(connection.execute(statement).scalars())


def _finished(order: Order, settings: Settings, plan: Plan, samples: Sequence[Sample], began: float) -> Result | None:
    """The result of a run that has nothing left to do; then nothing need be started.

    A scorer of the user's own is asked anew, for nothing: it may have been mended since. Answers that failed or are
    missing are looked at again: they may have been sent again.
    """
    if order.scorer is not None:
        return None
    with batches.store_if_there(settings) as store:
        if store is None:
            return None
        with store.reading() as connection:
            known = record.find_evaluation(connection, plan)
        if known is None or not known.is_finished:
            return None
        found = _result(order, store, known, samples, began)
    return None if found.failed or found.missing else found


def _result(order: Order, store: Store, evaluation: Evaluation, samples: Sequence[Sample], began: float) -> Result:
    with store.reading() as connection:
        judged = record.read(connection, evaluation.id)
    names = [target.deployment for target in order.targets]
    main, judge = (batches.find_by_key(store, key) for key in (evaluation.batch_key, evaluation.judge_key))
    return Result(
        evaluation_id=evaluation.id,
        batch_id=main.batch_id if main else "",
        samples=len(samples),
        deployments=names,
        lines=report(judged, names),
        cost_nusd=sum(one.cost_nusd for one in (main, judge) if one),
        judge_nusd=judge.cost_nusd if judge else 0,
        unpriced=sum(one.unpriced for one in (main, judge) if one),
        missing=len(samples) * len(names) - len(judged),
        failed=sum(one.failed for one in judged),
        seconds=time.monotonic() - began,
    )
