"""Logged requests: OpenAI's Chat Completions and Responses, Anthropic's Messages, and lines of their Batch APIs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tierq_insight.audit.call import Call, Counted, Unreadable
from tierq_insight.audit.content import as_json, media_in, optional_table, optional_text, table, text_of, unpacked
from tierq_insight.audit.counts import counted_in

_WRAPPERS = ("body", "request", "params", "request_body", "kwargs")
"""Where a line keeps the request: OpenAI's and Anthropic's Batch APIs, and proxies that log both sides."""
_ANSWERS = ("response", "response_body", "completion", "output", "result")
_CONSTANT_ROLES = ("system", "developer")


def is_request(values: Mapping[str, Any]) -> bool:
    """Whether a row is a logged request rather than one of plain columns."""
    if "messages" in values or isinstance(values.get("input"), list):
        return True
    return _wrapper(values) is not None


def read_request(values: Mapping[str, Any]) -> Call:
    """The call that a logged request was.

    Raises:
        Unreadable: there is no request in it, or no text in the request.
    """
    wrapper = _wrapper(values)
    request = table(values[wrapper], wrapper) if wrapper else values
    messages, place = _messages(request)
    turns = [table(message, place) for message in messages]
    answer = _answer(values)
    constant = [text_of(turn.get("content")) for turn in turns if turn.get("role") in _CONSTANT_ROLES]
    asked, output = _exchange([turn for turn in turns if turn.get("role") not in _CONSTANT_ROLES], answer)
    own = "\n\n".join(filter(None, map(_said, asked)))
    images = sum(media_in(turn.get("content")) for turn in turns)
    if not own.strip() and not images:
        raise Unreadable("holds no text of a user: log the request's content too", place)
    return Call(
        input=own,
        instructions="\n\n".join(filter(None, [_system(request), *constant])),
        output=output,
        model=optional_text(request.get("model")) or optional_text(answer.get("model")) or _model(values),
        counted=_counted(values, answer),
        turns=sum(turn.get("role", "user") == "user" for turn in asked),
        images=images,
        is_batch="custom_id" in values,
        **_format(request),
    )


def _wrapper(values: Mapping[str, Any]) -> str | None:
    for name in _WRAPPERS:
        inner = optional_table(values.get(name))
        if "messages" in inner or "input" in inner:
            return name
    return None


def _model(values: Mapping[str, Any]) -> str | None:
    return optional_text(values.get("model"))


def _messages(request: Mapping[str, Any]) -> tuple[list[Any], str]:
    """The turns, and the field they stand in."""
    place = "messages" if "messages" in request else "input"
    messages = unpacked(request.get(place), place)
    if place == "input" and isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    if not isinstance(messages, list) or not messages:
        raise Unreadable('must be a list of messages, each {"role": …, "content": …}', place)
    return messages, place


def _system(request: Mapping[str, Any]) -> str:
    """Anthropic's `system` and Responses' `instructions`, which stand beside the messages."""
    return text_of(request.get("system")) or text_of(request.get("instructions"))


def _exchange(turns: list[Mapping[str, Any]], answer: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], str | None]:
    """The turns that were asked, and the answer: the logged one, else a last turn of the model's own."""
    output = _output_text(answer)
    if output is None and turns and turns[-1].get("role") == "assistant":
        return turns[:-1], _said(turns[-1])
    return turns, output


def _said(turn: Mapping[str, Any]) -> str:
    text = text_of(turn.get("content"))
    return text or _tool_call(turn.get("tool_calls")) or ""


def _answer(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The logged response's object, however deep its wrapper; empty where none was logged."""
    for name in _ANSWERS:
        answer = values.get(name)
        if isinstance(answer, list) and name == "output":
            return {"output": answer}
        if isinstance(answer, str) and not answer.lstrip().startswith("{"):
            return {"content": answer}
        found = optional_table(answer)
        if found:
            return _unwrapped(found)
    return {"choices": values["choices"]} if isinstance(values.get("choices"), list) else {}


def _unwrapped(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in ("body", "message"):
        inner = optional_table(answer.get(name))
        if "choices" in inner or "content" in inner or "output" in inner or "usage" in inner:
            return inner
    return answer


def _output_text(answer: Mapping[str, Any]) -> str | None:
    choices = answer.get("choices")
    if isinstance(choices, list) and choices:
        choice = optional_table(choices[0])
        message = optional_table(choice.get("message"))
        return text_of(message.get("content")) or _tool_call(message.get("tool_calls")) or text_of(choice) or None
    if "content" in answer:
        return text_of(answer["content"]) or _used_tool(answer["content"])
    return text_of(answer["output"]) or _used_tool(answer["output"]) if "output" in answer else None


def _tool_call(calls: object) -> str | None:
    """The arguments of the first tool that a Chat Completion called: where tools serve to extract, its answer."""
    if not isinstance(calls, list) or not calls:
        return None
    return optional_text(optional_table(optional_table(calls[0]).get("function")).get("arguments"))


def _used_tool(parts: object) -> str | None:
    """The input of the first tool that Anthropic's Messages or Responses called."""
    for part in parts if isinstance(parts, list) else ():
        if isinstance(part, dict) and part.get("type") == "tool_use":
            return as_json(part.get("input"))
        if isinstance(part, dict) and part.get("type") == "function_call":
            return optional_text(part.get("arguments"))
    return None


def _counted(values: Mapping[str, Any], answer: Mapping[str, Any]) -> Counted:
    """The answer's usage, else the line's own, else counts that stand as fields of the line."""
    return counted_in(optional_table(answer.get("usage")) or optional_table(values.get("usage")) or values)


def _format(request: Mapping[str, Any]) -> dict[str, Any]:
    """What the request said about the form of its answer."""
    form = _response_format(request)
    described = optional_table(form.get("json_schema")) or form
    schema = optional_table(described.get("schema"))
    if schema:
        return {"schema": dict(schema), "name": optional_text(described.get("name"))}
    tools = [_tool(one) for one in request.get("tools") or request.get("functions") or () if isinstance(one, dict)]
    required = _required_tool(request, tools)
    if required is not None:
        return {"schema": dict(required[1]), "name": required[0]}
    return {"asks_json": form.get("type") == "json_object", "tools": len(tools)}


def _response_format(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """`response_format` of Chat Completions, `text.format` of Responses, `output_config.format` of Messages."""
    return (
        optional_table(request.get("response_format"))
        or optional_table(optional_table(request.get("text")).get("format"))
        or optional_table(optional_table(request.get("output_config")).get("format"))
    )


def _tool(tool: Mapping[str, Any]) -> tuple[str | None, Mapping[str, Any]]:
    """A tool's name and the schema of its arguments."""
    described = optional_table(tool.get("function")) or tool
    arguments = described.get("parameters") or described.get("input_schema")
    return optional_text(described.get("name")), optional_table(arguments)


def _required_tool(
    request: Mapping[str, Any], tools: list[tuple[str | None, Mapping[str, Any]]]
) -> tuple[str | None, Mapping[str, Any]] | None:
    """The tool that the model had to use: then its arguments are the answer. None where it was free to choose."""
    choice = request.get("tool_choice") or request.get("function_call")
    named = optional_table(choice)
    wanted = optional_table(named.get("function")).get("name") or named.get("name")
    if wanted is not None:
        return next((tool for tool in tools if tool[0] == wanted and tool[1]), None)
    is_forced = choice in ("required", "any") or named.get("type") == "any"
    return tools[0] if is_forced and len(tools) == 1 and tools[0][1] else None
