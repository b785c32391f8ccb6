"""Every shape in which requests are logged gives the same call."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tierq_insight.audit import Call, Columns, Unreadable
from tierq_insight.audit.reading import read_call
from tierq_shared.money import Usage

SYSTEM, USER, ANSWER = "Classify the ticket.", "I was charged twice.", "billing"
SCHEMA = {"type": "object", "properties": {"label": {"type": "string", "enum": ["billing", "bug"]}}}
MESSAGES = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": USER}]
CHAT_FORMAT = {"type": "json_schema", "json_schema": {"name": "intent", "schema": SCHEMA}}
CHAT_USAGE = {
    "prompt_tokens": 90,
    "completion_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 40},
    "completion_tokens_details": {"reasoning_tokens": 5},
}
CHAT_ANSWER = {"model": "gpt-4o-2024-08-06", "choices": [{"message": {"content": ANSWER}}], "usage": CHAT_USAGE}
CHAT_REQUEST = {"model": "gpt-4o", "messages": MESSAGES, "response_format": CHAT_FORMAT}
RESPONSES = {
    "model": "gpt-4o",
    "instructions": SYSTEM,
    "input": [{"role": "user", "content": [{"type": "input_text", "text": USER}]}],
    "text": {"format": {"type": "json_schema", "name": "intent", "schema": SCHEMA}},
    "output": [{"type": "message", "content": [{"type": "output_text", "text": ANSWER}]}],
    "usage": {
        "input_tokens": 90,
        "output_tokens": 7,
        "input_tokens_details": {"cached_tokens": 40},
        "output_tokens_details": {"reasoning_tokens": 5},
    },
}
ANTHROPIC_TOOL = {"name": "intent", "input_schema": SCHEMA}
ANTHROPIC_FORMAT = {"format": {"type": "json_schema", "schema": SCHEMA}}

SHAPES: dict[str, dict[str, Any]] = {
    "chat with its response": {**CHAT_REQUEST, "response": CHAT_ANSWER},
    "chat with choices and usage beside": {**CHAT_REQUEST, "choices": CHAT_ANSWER["choices"], "usage": CHAT_USAGE},
    "chat whose last turn is the answer": {
        **CHAT_REQUEST,
        "messages": [*MESSAGES, {"role": "assistant", "content": ANSWER}],
        "usage": CHAT_USAGE,
    },
    "a proxy's request and response": {"request": CHAT_REQUEST, "response": {"status": 200, "body": CHAT_ANSWER}},
    "messages as JSON text in a CSV column": {
        "model": "gpt-4o",
        "messages": orjson.dumps(MESSAGES).decode(),
        "response_format": orjson.dumps(CHAT_FORMAT).decode(),
        "response": ANSWER,
        "usage": orjson.dumps(CHAT_USAGE).decode(),
    },
    "a line of OpenAI's Batch API": {
        "custom_id": "1",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": CHAT_REQUEST,
        "response": {"status_code": 200, "body": CHAT_ANSWER},
    },
    "Responses": RESPONSES,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_what_openai_was_sent(shape: str) -> None:
    call = read_call(SHAPES[shape], Columns())
    assert (call.instructions, call.input, call.output) == (SYSTEM, USER, ANSWER)
    assert (call.model, call.name, call.schema) == ("gpt-4o", "intent", SCHEMA)
    assert call.counted.usage == Usage(90, 40, 0, 7, 5)
    assert call.is_batch == (shape == "a line of OpenAI's Batch API")
    assert (call.turns, call.tools, call.images) == (1, 0, 0)


ANTHROPIC = {"model": "claude-opus-4-5", "system": [{"type": "text", "text": SYSTEM}], "max_tokens": 10}
ANTHROPIC_USAGE = {
    "input_tokens": 30,
    "cache_read_input_tokens": 40,
    "cache_creation_input_tokens": 20,
    "output_tokens": 7,
}


@pytest.mark.parametrize(
    ("form", "content"),
    [
        ({"output_config": ANTHROPIC_FORMAT}, [{"type": "text", "text": ANSWER}]),
        (
            {"tools": [ANTHROPIC_TOOL], "tool_choice": {"type": "tool", "name": "intent"}},
            [{"type": "tool_use", "name": "intent", "input": {"label": ANSWER}}],
        ),
    ],
    ids=["output_config", "a tool it had to use"],
)
@pytest.mark.parametrize("wrapper", [None, "params"])
def test_what_anthropic_was_sent(form: dict[str, Any], content: list[Any], wrapper: str | None) -> None:
    request = {**ANTHROPIC, **form, "messages": [{"role": "user", "content": [{"type": "text", "text": USER}]}]}
    line = {wrapper: request, "custom_id": "1"} if wrapper else request
    call = read_call({**line, "response": {"content": content, "usage": ANTHROPIC_USAGE}}, Columns())
    assert (call.instructions, call.input, call.model, call.schema) == (SYSTEM, USER, "claude-opus-4-5", SCHEMA)
    assert ANSWER in (call.output or "")
    assert call.counted.usage == Usage(90, 40, 20, 7), "cached and written tokens are part of the input here"


def test_tools_to_choose_from_and_images_are_counted() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:…"}}
    tools = [{"type": "function", "function": {"name": name, "parameters": {}}} for name in ("find", "refund")]
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, picture]}]
    call = read_call({"messages": messages, "tools": tools}, Columns())
    assert (call.images, call.tools, call.schema) == (1, 2, None)


class TestPlainColumns:
    def test_a_column_of_texts_is_data_and_one_of_prompts_asks(self) -> None:
        assert not read_call({"text": "Write me a refund."}, Columns()).is_prompt
        assert read_call({"prompt": "Write a refund mail."}, Columns()).is_prompt
        assert read_call({"body": "x", "q": "Write a mail."}, Columns(prompt="q")).is_prompt

    def test_counts_and_models_may_stand_in_columns(self) -> None:
        row = {"prompt": "Hi", "completion": "Hello", "model": "m", "prompt_tokens": "12", "completion_tokens": "3"}
        call = read_call(row, Columns())
        assert (call.output, call.model, call.counted.usage) == ("Hello", "m", Usage(12, 0, 0, 3))

    def test_named_columns_win_over_a_request(self) -> None:
        call = read_call({"messages": MESSAGES, "t": "the text", "a": "billing"}, Columns(text="t", output="a"))
        assert (call.input, call.output) == ("the text", "billing")

    def test_passages_are_counted_and_are_part_of_the_input(self) -> None:
        row = {"question": "When?", "passages": '[{"id": "1", "text": "On Monday."}, {"id": "2", "text": "Or not."}]'}
        call = read_call(row, Columns())
        assert (call.passages, call.input) == (2, "On Monday.\n\nOr not.\n\nWhen?")

    def test_what_is_said_of_every_row_holds(self) -> None:
        call = read_call({"text": "x"}, Columns(type="extract", instructions="Read it."))
        assert (call.type, call.instructions) == ("extract", "Read it.")


@pytest.mark.parametrize(
    ("row", "columns", "reason"),
    [
        ({"foo": 1}, Columns(), "name it with --text or --prompt"),
        ({"text": "  "}, Columns(), "field 'text': is empty"),
        ({"body": 7}, Columns(text="body"), "field 'body': must be text, not int"),
        ({"id": 1}, Columns(text="body"), "field 'body': is missing"),
        ({"messages": []}, Columns(), "field 'messages': must be a list of messages"),
        ({"messages": "[{"}, Columns(), "field 'messages': is broken JSON"),
        ({"messages": ["hello"]}, Columns(), "field 'messages': must be a JSON object, not a str"),
        ({"messages": [{"role": "user", "content": ""}]}, Columns(), "log the request's content too"),
        ({"custom_id": "1", "response": {"body": {}}}, Columns(), "audit the batch's input file"),
        ({"text": "caf\udce9"}, Columns(), "not UTF-8: save the file as UTF-8"),
    ],
)
def test_a_row_without_a_request_says_what_is_wrong(row: dict[str, Any], columns: Columns, reason: str) -> None:
    with pytest.raises(Unreadable) as raised:
        read_call(row, columns)
    assert reason in str(raised.value)


def test_no_text_shows_in_a_repr() -> None:
    call = read_call({**SHAPES["chat with its response"]}, Columns(instructions="secret words"))
    assert isinstance(call, Call)
    for text in (USER, ANSWER, "secret words", "billing"):
        assert text not in repr(call)
    assert "secret words" not in repr(Columns(instructions="secret words"))
