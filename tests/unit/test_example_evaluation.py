"""The example evaluation: its simulator knows the right answer to every labelled sample, and its models differ."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tierq_insight.evaluation.scores import score
from tierq_shared import configuration
from tierq_shared.prompts import PromptTemplate
from tierq_shared.tasks import Answer, Classify, Extract, Task
from tierq_simulator.answers import write_answer
from tierq_simulator.reading import input_of
from tierq_simulator.settings import Settings
from tierq_simulator.wire.base import Ask

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DATA = EXAMPLES / "data"


@pytest.fixture(scope="module")
def simulated() -> Settings:
    folder = EXAMPLES / "evaluation"
    return Settings.parse(json.loads((folder / "simulator.json").read_text()), folder=folder)


def samples() -> Iterator[tuple[Task[Any], Any]]:
    labels = json.loads((DATA / "tickets.labels.json").read_text())
    intent = Classify.spec("ticket-intent", labels=labels)
    invoice = Extract.spec("invoice", schema=json.loads((DATA / "invoice.schema.json").read_text()))
    question = Answer.spec("handbook")
    for line in _lines("ticket_samples.jsonl"):
        yield intent(line["text"]), line["expected"]
    for line in _lines("invoices.jsonl"):
        yield invoice(line["text"]), line["expected"]
    for line in _lines("questions.jsonl"):
        expected = {name: value for name, value in line["expected"].items() if value is not None}
        yield question(line["question"], line["passages"]), expected


def _lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def quality(simulated: Settings, skill: float) -> list[float]:
    """The score of every sample's answer by a model of this skill."""
    templates: dict[str, PromptTemplate] = {}
    found = []
    for task, expected in samples():
        template = templates.setdefault(task.content.id, PromptTemplate(task.content))
        prompt = template.render(orjson.loads(task.input_json), max_output_tokens=1_000)
        ask = Ask("m", prompt.system, [turn.text for turn in prompt.turns], prompt.schema, 1, 1)
        written = orjson.loads(write_answer(ask, input_of(ask.users), simulated.seed, skill, simulated.key))
        output = written["label"] if task.type == "classify" else written
        found.append(score(task.content, expected, output).value)
    return found


def test_full_skill_is_right_everywhere(simulated: Settings) -> None:
    assert quality(simulated, 1.0) == [1.0] * 270


def test_no_skill_is_wrong_everywhere(simulated: Settings) -> None:
    assert max(quality(simulated, 0.0)) < 1.0


def test_its_deployments_are_the_models_that_differ(simulated: Settings) -> None:
    settings = configuration.load(EXAMPLES / "evaluation" / "tierq.toml", env={})
    models = [settings.chain(tier)[0].model for tier in settings.tiers]
    skills = [simulated.resolve("openai", model).behaviour.skill for model in models]
    assert skills == sorted(skills)
    assert len(set(skills)) == 3
