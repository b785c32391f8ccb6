"""LLMRouter's per-question scores of nine models on 14 public tasks, as evidence.

The data has neither the models' answers nor their tokens. A call is charged at the list price for an estimate, at 4
bytes a token: the input is the question, with its choices where it has some; the output is the ground truth, which for
gsm8k and math is a worked solution, for code its tests, and for the others a short answer. What other estimates of the
output change is reported beside the result.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tierq_insight.evidence import Evidence
from tierq_shared.specs import TaskType

VARIABLE = "TIERQ_ROUTING_DATA"
DEFAULT = Path(__file__).resolve().parents[3] / "shared" / "data" / "llmrouter"
HARD_TO_READ = ("mmlu", "gpqa")
"""Tasks of which some cells look like failures to read the answer: one 7B model has 16 % on MMLU."""
EXACT = ("em_mc", "GSM8K", "MATH")
"""Metrics that compare one final answer: two right answers agree, a right and a wrong one do not."""

Estimate = Literal["ground truth", "input only", "256 for all", "by kind"]
_BY_KIND = {"GSM8K": 200, "MATH": 350, "code_eval": 160, "commongen_coverage": 60}
_OTHERWISE = 10


class DataMissing(Exception):
    """The data is not where it was looked for."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question with the score of each model and the tokens that a call would take, estimated."""

    id: str
    task: str
    metric: str
    input_tokens: int
    output_tokens: Mapping[Estimate, int]
    scores: Mapping[str, float]

    @property
    def type(self) -> TaskType:
        return "classify" if self.metric == "em_mc" else "generate"


@dataclass(frozen=True, slots=True)
class Data:
    """The questions, and what a token of each model costs in nano-USD, of input as of output."""

    questions: Sequence[Question]
    prices: Mapping[str, int]
    ambiguous: int
    """Questions that were left out, since they belong to more than one task."""

    @property
    def models(self) -> list[str]:
        return list(self.prices)

    def tier(self, model: str) -> str:
        """Models of one price are one tier."""
        return f"usd-{self.prices[model] / 1_000:.2f}"

    def cost_nusd(self, question: Question, model: str, estimate: Estimate) -> int:
        return (question.input_tokens + question.output_tokens[estimate]) * self.prices[model]

    def evidence(self, question: Question, estimate: Estimate) -> list[Evidence]:
        return [
            Evidence(
                sample=question.id,
                type=question.type,
                name=question.task,
                input_tokens=question.input_tokens,
                tier=self.tier(model),
                deployment=model,
                score=question.scores[model],
                cost_nusd=self.cost_nusd(question, model, estimate),
            )
            for model in self.models
        ]


def folder(option: str | None) -> Path:
    """Where the data is: the option, the environment, or `../shared/data/llmrouter`.

    Raises:
        DataMissing: it is not there.
    """
    path = Path(option or os.environ.get(VARIABLE) or DEFAULT)
    if not (path / "dc_train.json").is_file():
        raise DataMissing(
            f"{path} has no LLMRouter data (dc_train.json, dc_test.json, default_query_train.jsonl, "
            f"default_query_test.jsonl, default_llm.json): name its folder by --data or {VARIABLE}"
        )
    return path


def load(path: Path) -> Data:
    """Both parts of the data; how it is split is for the judge to say."""
    listed = json.loads((path / "default_llm.json").read_text())
    questions: list[Question] = []
    ambiguous = 0
    for part in ("train", "test"):
        described = _described(path / f"default_query_{part}.jsonl")
        for number, row in enumerate(json.loads((path / f"dc_{part}.json").read_text())):
            found = described[row["question"].strip()]
            if len({one["task_name"] for one in found}) == 1:
                questions.append(_question(f"{part}-{number}", row, found[0]))
            ambiguous += len({one["task_name"] for one in found}) > 1
    # USD per million tokens are nano-USD per token, times 1,000.
    prices = {model: round(listed[model]["input_price"] * 1_000) for model in questions[0].scores}
    if any(listed[model]["input_price"] != listed[model]["output_price"] for model in prices):
        raise ValueError("the list's input and output prices differ: they are taken for one here")
    return Data(questions, dict(sorted(prices.items(), key=lambda item: (item[1], item[0]))), ambiguous)


def _described(path: Path) -> dict[str, list[dict[str, Any]]]:
    by_text: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in path.read_text().split("\n"):  # splitlines() would split at U+2028 inside a question, too
        if not line:
            continue
        row = json.loads(line)
        by_text[row["query"].strip()].append(row)
    return by_text


def _question(id_: str, row: Mapping[str, Any], described: Mapping[str, Any]) -> Question:
    metric = described["metric"]
    choices = str(described["choices"]) if metric == "em_mc" and described["choices"] else ""
    truth = described["ground_truth"]
    return Question(
        id=id_,
        task=described["task_name"],
        metric=metric,
        input_tokens=_tokens(row["question"] + choices),
        output_tokens={
            "ground truth": _tokens(truth if isinstance(truth, str) else json.dumps(truth)),
            "input only": 0,
            "256 for all": 256,
            "by kind": _BY_KIND.get(metric, _OTHERWISE),
        },
        scores=row["scores"],
    )


def _tokens(text: str) -> int:
    return max(1, -(-len(text.encode()) // 4))
