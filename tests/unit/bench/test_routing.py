"""The judge of routing, on made-up scores in the format of LLMRouter's data."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT))

from bench.routing import cascade, page  # noqa: E402
from bench.routing.data import Data, DataMissing, Question, folder, load  # noqa: E402
from bench.routing.judging import POLICY, SINGLE, TABLE_WITHIN, Judge, all_ways, cross_fitted, halves  # noqa: E402
from bench.routing.policies import Learner  # noqa: E402

QUALITY = {"easy": {"tiny": 0.9, "other": 0.5, "huge": 0.85}, "hard": {"tiny": 0.1, "other": 0.3, "huge": 0.9}}
PRICES = {"tiny": 0.10, "other": 0.20, "huge": 0.90}
DETAILS = {
    "easy": {"metric": "em_mc", "choices": {"text": ["yes", "no"]}, "ground_truth": "A"},
    "hard": {"metric": "f1_score", "choices": None, "ground_truth": "forty-two"},
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Easy questions, for which the cheapest model is best, and as many hard ones, for which only the dearest is."""
    folder = tmp_path_factory.mktemp("llmrouter")
    rng = random.Random(7)
    for part, count in (("train", 300), ("test", 100)):
        scored, described = [], []
        for number in range(count):
            task = ("easy", "hard")[number % 2]
            text = f"{part} {task} question {number}: what is it?"
            scores = {model: float(rng.random() < quality) for model, quality in QUALITY[task].items()}
            scored.append({"question": text, "scores": scores})
            described.append({"task_name": task, "query": f"{text} ", "task_id": None, **DETAILS[task]})
        both = {"question": "in two tasks", "scores": dict.fromkeys(PRICES, 1.0)}
        twice = [{"task_name": task, "query": "in two tasks", **DETAILS[task]} for task in DETAILS]
        (folder / f"dc_{part}.json").write_text(json.dumps([*scored, both]))
        lines = [json.dumps(row, ensure_ascii=False) for row in [*described, *twice]]
        (folder / f"default_query_{part}.jsonl").write_text("\n".join(lines))
    prices = {model: {"input_price": price, "output_price": price} for model, price in PRICES.items()}
    (folder / "default_llm.json").write_text(
        json.dumps({**prices, "not judged": {"input_price": 1, "output_price": 2}})
    )
    return folder


@pytest.fixture(scope="module")
def found(path: Path) -> Data:
    return load(path)


def learner(found: Data) -> Learner:
    evidence = {one.id: found.evidence(one, "ground truth") for one in found.questions}
    return Learner(found, found.questions, "ground truth", evidence)


def test_the_data_is_read_with_its_prices_and_without_what_is_ambiguous(found: Data) -> None:
    assert len(found.questions) == 400
    assert found.ambiguous == 2
    assert found.prices == {"tiny": 100, "other": 200, "huge": 900}
    assert [found.tier(model) for model in found.models] == ["usd-0.10", "usd-0.20", "usd-0.90"]


def test_a_call_costs_its_estimated_tokens_at_the_list_price(found: Data) -> None:
    question = next(one for one in found.questions if one.task == "hard")
    text = f"{question.id.split('-')[0]} hard question 1: what is it?"
    assert question.input_tokens == -(-len(text) // 4)
    assert question.output_tokens["ground truth"] == 3  # 9 characters
    assert found.cost_nusd(question, "huge", "ground truth") == (question.input_tokens + 3) * 900
    assert found.cost_nusd(question, "huge", "input only") == question.input_tokens * 900


@pytest.mark.parametrize("split", [cross_fitted, halves])
def test_nothing_is_both_learned_from_and_held_out(found: Data, split: object) -> None:
    splits = list(split(found.questions, 1))  # type: ignore[operator]
    for derive_from, held_out in splits:
        assert not {one.id for one in derive_from} & {one.id for one in held_out}
        assert {one.task for one in derive_from} == {one.task for one in held_out} == {"easy", "hard"}
    if split is cross_fitted:
        assert sorted(one.id for _, held in splits for one in held) == sorted(one.id for one in found.questions)
        assert list(split(found.questions, 1)) == splits
        assert list(split(found.questions, 2)) != splits


def test_what_is_held_out_changes_nothing_that_was_learned(found: Data) -> None:
    """The very same routes, whatever the scores of the held-out questions are."""
    derive_from, held_out = next(halves(found.questions, 1))
    routed = []
    for score in (0.0, 1.0):
        spoiled = [
            Question(one.id, one.task, one.metric, one.input_tokens, one.output_tokens, dict.fromkeys(PRICES, score))
            for one in held_out
        ]
        judge = Judge.of(Data([*derive_from, *spoiled], found.prices, 0), "ground truth")
        results = judge.judge(iter([(derive_from, spoiled)]), all_ways)
        routed.append({name: [one.cost_nusd for one in result.answers] for name, result in results.items()})
    oracle = next(name for name in routed[0] if name.startswith("oracle"))
    assert {name for name in routed[0] if routed[0][name] != routed[1][name]} <= {oracle}


def test_the_policy_finds_what_the_data_was_made_of(found: Data) -> None:
    results = Judge.of(found, "ground truth").judge(cross_fitted(found.questions, 1), all_ways)
    single, table = results[SINGLE], results["per-task table: best mean"]
    assert single.quality == pytest.approx(0.875, abs=0.05)
    assert (single.saved, single.difference.mean) == (0, 0)
    assert 0.3 < table.saved < 0.6
    assert results["oracle (knows every score)"].quality > table.quality > single.quality - 0.02
    assert results["TierQ, spend 25%"].saved >= 0.7
    assert results[POLICY].quality >= results[TABLE_WITHIN].quality - 0.02
    assert results["random"].quality < single.quality


def test_the_bar_asks_for_both(found: Data) -> None:
    cheap_but_worse = Judge.of(found, "ground truth").judge(cross_fitted(found.questions, 1), all_ways)[POLICY]
    assert cheap_but_worse.saved >= 0.6
    assert cheap_but_worse.difference.lower < 0
    assert not cheap_but_worse.meets_the_bar


def test_a_cascade_charges_every_call(found: Data) -> None:
    ours = learner(found)
    for question in found.questions:
        costs = [ours.cost_of(question, model) for model in ("tiny", "other")]
        scores = [question.scores[model] for model in ("tiny", "other")]
        low = cascade.by_agreement(ours, wrong_agree=True)(question)
        high = cascade.by_agreement(ours, wrong_agree=False)(question)
        escalated = sum(costs) + ours.cost_of(question, "huge")
        if scores == [1, 1]:
            assert (low.score, low.cost_nusd) == (high.score, high.cost_nusd) == (1, sum(costs))
        elif scores == [0, 0]:
            assert (low.score, low.cost_nusd) == (0, sum(costs))
            assert (high.score, high.cost_nusd) == (question.scores["huge"], escalated)
        else:
            assert low == high
            assert low.cost_nusd == escalated


def test_the_page_shows_it_all(found: Data) -> None:
    text = page.text(found, seeds=1)
    for part in ("## All tasks", "## Without MMLU and GPQA", POLICY, SINGLE, "oracle", "cascade", "**missed**"):
        assert part in text


def test_data_that_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataMissing, match="name its folder by --data or TIERQ_ROUTING_DATA"):
        folder(str(tmp_path))
    monkeypatch.setenv("TIERQ_ROUTING_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(DataMissing, match="elsewhere has no LLMRouter data"):
        folder(None)


def test_the_command_says_so_too_without_a_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.routing", "--data", str(tmp_path)],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("bench.routing: ")
    assert "Traceback" not in done.stderr
