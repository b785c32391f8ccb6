"""Simulated skill: it depends on the input, is shared in its difficulty, follows a key, and shows in probabilities."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import mean
from typing import Any

import orjson
import pytest

from tierq_simulator.answer_key import AnswerKey
from tierq_simulator.answers import write_answer
from tierq_simulator.desk import Desk
from tierq_simulator.difficulty import chance_of_right, choices, outlook
from tierq_simulator.logprobs import tokens
from tierq_simulator.messages import Request
from tierq_simulator.served import ServedLog
from tierq_simulator.settings import ConfigError, Settings
from tierq_simulator.wire.base import Ask

LABELS = ["billing", "bug", "praise", "shipping"]
SCHEMA = {"type": "object", "properties": {"label": {"type": "string", "enum": LABELS}}, "required": ["label"]}
TEXTS = [f"Message {number}, of which no word says anything." for number in range(400)]
KEY = AnswerKey({text: LABELS[number % 4] for number, text in enumerate(TEXTS)})


def label(text: str, skill: float, *, model: str = "m", seed: int = 0) -> str:
    found: str = orjson.loads(write_answer(Ask(model, "", [text], SCHEMA, 1, 1), text, seed, skill, KEY))["label"]
    return found


def right(skill: float, **more: Any) -> set[str]:
    return {text for text in TEXTS if label(text, skill, **more) == KEY.find(text)}


def test_a_model_of_full_skill_gives_the_keys_answer_where_words_say_nothing() -> None:
    assert right(1.0) == set(TEXTS)
    assert right(0.0) == set()


def test_more_skill_is_right_wherever_less_skill_is() -> None:
    weak, middle, strong = (right(skill, model=str(skill)) for skill in (0.5, 0.8, 0.95))
    assert weak < middle < strong
    assert [len(found) / len(TEXTS) for found in (weak, middle, strong)] == pytest.approx([0.5, 0.8, 0.95], abs=0.06)


def test_the_seed_decides_which_inputs_are_hard() -> None:
    assert right(0.5, seed=3) == right(0.5, seed=3)
    assert right(0.5, seed=3) != right(0.5, seed=4)


def test_long_inputs_and_many_labels_are_harder() -> None:
    easy = chance_of_right(0.8, 64, 4)
    assert easy == pytest.approx(0.8)
    assert chance_of_right(0.8, 1_024, 4) == pytest.approx(0.8**2)
    assert chance_of_right(0.8, 64, 64) == pytest.approx(0.8**2)
    assert chance_of_right(1.0, 10_000, 100) == 1.0


def test_what_there_is_to_get_wrong_is_labels_or_fields() -> None:
    many = {"properties": {"labels": {"type": "array", "items": {"enum": list("abcdef")}}}}
    fields = {"properties": {name: {"type": "string"} for name in "abc"}}
    assert [choices(schema) for schema in (SCHEMA, many, fields, None)] == [4, 6, 3, 1]


def test_sureness_tells_right_from_wrong_without_being_the_share_of_right_answers() -> None:
    ask = Ask("m", "", [], SCHEMA, 1, 1)
    seen = [outlook(ask, text, 0, 0.7) for text in TEXTS]
    sure_right = [one.sure for one in seen if not one.is_wrong]
    sure_wrong = [one.sure for one in seen if one.is_wrong]
    assert mean(sure_right) > mean(sure_wrong) + 0.2
    assert min(sure_right) < max(sure_wrong), "they overlap, as real ones do"
    assert mean(one.sure for one in seen) > len(sure_right) / len(seen) + 0.05, "it is too sure of itself"


def test_the_doubt_stands_on_the_label_and_the_tokens_are_the_text() -> None:
    text = '{"label":"billing"}'
    found = tokens(text, SCHEMA, "label", 0.75, 0)
    assert "".join(one.text for one in found) == text
    (doubted,) = [one for one in found if one.logprob < -0.01]
    assert text.index(doubted.text) == text.index("billing")
    assert math.exp(doubted.logprob) == pytest.approx(0.75)
    assert sum(math.exp(one) for _, one in doubted.top) <= 1
    assert {"bug", "praise", "shippi"} <= {one for one, _ in doubted.top}


@pytest.mark.parametrize("skill", [1.0, 0.0])
def test_a_known_extraction_is_right_but_for_one_field(skill: float) -> None:
    expected = {"vendor": "Hollowmere Joinery", "total": 756.0, "lines": [{"what": "Oak"}, {"what": "Fitting"}]}
    properties = {
        "vendor": {"type": "string"},
        "total": {"type": "number"},
        "lines": {"type": "array", "items": {"type": "object", "properties": {"what": {"type": "string"}}}},
    }
    schema = {"type": "object", "properties": properties}
    key = AnswerKey({"the invoice": expected})
    found = orjson.loads(write_answer(Ask("m", "", [], schema, 1, 1), "the invoice", 0, skill, key))
    assert found.keys() == expected.keys()
    assert sum(found[name] != expected[name] for name in expected) == (0 if skill else 1)


@pytest.mark.parametrize(
    ("expected", "wrong"),
    [
        ({"answer": "Blue.", "citations": ["p1"], "answerable": True}, ["p2"]),
        ({"answer": None, "citations": [], "answerable": False}, ["p1"]),
    ],
)
def test_a_known_answer_cites_what_is_right_or_something_else(expected: dict[str, Any], wrong: list[str]) -> None:
    text = (
        '<passages>\n<passage id="p1">\nThe sky is blue.\n</passage>\n<passage id="p2">\nGrass is green.\n</passage>\n'
        "</passages>\n<question>\nWhat colour is the sky?\n</question>"
    )
    schema = {
        "type": "object",
        "properties": {
            "answer": {"type": "string"},
            "citations": {"type": "array", "items": {"type": "string"}},
            "answerable": {"type": "boolean"},
        },
    }
    key = AnswerKey({"What colour is the sky?": expected})
    ask = Ask("m", "", [], schema, 1, 1)
    good, bad = (orjson.loads(write_answer(ask, text, 0, skill, key)) for skill in (1.0, 0.0))
    assert (good["citations"], good["answerable"]) == (expected["citations"], expected["answerable"])
    assert bad["citations"] != expected["citations"]
    assert isinstance(good["answer"], str)


def test_a_key_that_does_not_fit_the_labels_leaves_it_to_the_rules() -> None:
    text = "I was charged twice: the payment is wrong, refund me"
    key = AnswerKey({text: "no such label"})
    assert orjson.loads(write_answer(Ask("m", "", [], SCHEMA, 1, 1), text, 0, 1.0, key)) == {"label": "billing"}


def told(provider: str, **more: Any) -> Any:
    """What the simulator answers to a classification that asks for log-probabilities."""
    settings = Settings.parse({"answers": [{"text": "some text", "expected": "bug"}]})
    user = "<text>\nsome text\n</text>"
    if provider == "openai":
        wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
        turn = {"role": "user", "content": user}
        body: dict[str, Any] = {"model": "m", "messages": [turn], "response_format": wanted, **more}
        path, headers = "/v1/chat/completions", {"authorization": "Bearer any"}
    else:
        config = {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA, **more}
        body = {"contents": [{"role": "user", "parts": [{"text": user}]}], "generationConfig": config}
        path, headers = "/v1/models/m:generateContent", {"x-goog-api-key": "any"}
    desk = Desk(settings, ServedLog())
    return orjson.loads(desk.handle(Request("POST", path, "", headers, orjson.dumps(body))).body)


def test_openai_tells_log_probabilities_where_they_are_asked_for() -> None:
    (choice,) = told("openai", logprobs=True, top_logprobs=2)["choices"]
    content = choice["logprobs"]["content"]
    assert "".join(one["token"] for one in content) == choice["message"]["content"] == '{"label":"bug"}'
    assert all(set(one) == {"token", "logprob", "bytes", "top_logprobs"} for one in content)
    assert all(one["bytes"] == list(one["token"].encode()) and one["logprob"] <= 0 for one in content)
    assert max(len(one["top_logprobs"]) for one in content) == 2
    assert choice["logprobs"]["refusal"] is None
    assert told("openai")["choices"][0]["logprobs"] is None


def test_gemini_tells_log_probabilities_where_they_are_asked_for() -> None:
    (candidate,) = told("gemini", responseLogprobs=True, logprobs=3)["candidates"]
    result = candidate["logprobsResult"]
    chosen = result["chosenCandidates"]
    assert "".join(one["token"] for one in chosen) == candidate["content"]["parts"][0]["text"]
    assert all(set(one) == {"token", "tokenId", "logProbability"} for one in chosen)
    assert len(result["topCandidates"]) == len(chosen)
    assert candidate["avgLogprobs"] == pytest.approx(mean(one["logProbability"] for one in chosen))
    assert result["logProbabilitySum"] == pytest.approx(sum(one["logProbability"] for one in chosen))
    (plain,) = told("gemini")["candidates"]
    assert not {"avgLogprobs", "logprobsResult"} & plain.keys()


@pytest.mark.parametrize(
    ("provider", "asked"),
    [
        ("openai", {"top_logprobs": 3}),
        ("openai", {"logprobs": True, "top_logprobs": 21}),
        ("gemini", {"logprobs": 3}),
        ("gemini", {"responseLogprobs": True, "logprobs": 21}),
    ],
)
def test_a_wrong_wish_for_log_probabilities_is_refused(provider: str, asked: dict[str, Any]) -> None:
    assert "logprobs" in told(provider, **asked)["error"]["message"]


def test_answers_come_from_files_and_the_configuration_says_where_they_are_wrong(tmp_path: Path) -> None:
    file = tmp_path / "samples.jsonl"
    file.write_text(json.dumps({"text": "a", "expected": "bug"}) + "\n" + json.dumps({"prompt": "b", "expected": "c"}))
    settings = Settings.parse({"answers": ["samples.jsonl"]}, folder=tmp_path)
    assert (settings.key.find("a"), settings.key.find("b"), settings.key.find("c")) == ("bug", "c", None)
    assert Settings.parse(settings.as_json()).key.find("a") == "bug", "handed back, it means the same"
    for answers, said in (
        ("x", "a list is expected"),
        (["none.jsonl"], "cannot be read"),
        ([{"text": "a"}], r"answers\[0\]: an object with expected"),
    ):
        with pytest.raises(ConfigError, match=said):
            Settings.parse({"answers": answers}, folder=tmp_path)
