"""A real simulator process, driven over sockets: wire formats, faults, outages, quotas and counts."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tierq_simulator.server import start

SCHEMA = {
    "type": "object",
    "properties": {
        "label": {"type": "string", "enum": ["billing", "technical", "other"]},
        "confidence": {"type": "number"},
    },
    "required": ["label", "confidence"],
    "additionalProperties": False,
}
SYSTEM = "Classify.\n- billing: Charges and refunds.\n- technical: Errors and crashes.\n- other: The rest."
TEXT = "<text>I was charged twice, please refund me.</text>"
PROVIDERS = ("openai", "anthropic", "gemini")


class Sim:
    """Speaks each provider's wire format to the simulator."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.Client(base_url=url, timeout=10)

    def config(self, **config: Any) -> None:
        self.http.put("/_sim/config", json=config).raise_for_status()

    def fault(self, model: str = "m", **fault: Any) -> None:
        self.config(models={model: {"faults": [fault]}})

    def ask(self, provider: str, *, text: str = TEXT, timeout: float = 10, **more: Any) -> httpx.Response:
        path, headers, body = _request(provider, "m", text)
        headers.update(more.pop("headers", {}))
        return self.http.post(path, headers=headers, json={**body, **more}, timeout=timeout)

    def get(self, path: str) -> Any:
        return self.http.get(path).raise_for_status().json()


def _request(provider: str, model: str, text: str) -> tuple[str, dict[str, str], dict[str, Any]]:
    turn = {"role": "user", "content": text}
    wanted: dict[str, Any]
    body: dict[str, Any]
    if provider == "openai":
        wanted = {"type": "json_schema", "json_schema": {"name": "out", "strict": True, "schema": SCHEMA}}
        body = {"model": model, "messages": [{"role": "system", "content": SYSTEM}, turn], "response_format": wanted}
        return "/v1/chat/completions", {"authorization": "Bearer k"}, body
    if provider == "anthropic":
        wanted = {"format": {"type": "json_schema", "schema": SCHEMA}}
        body = {"model": model, "system": SYSTEM, "messages": [turn], "max_tokens": 64, "output_config": wanted}
        return "/v1/messages", {"x-api-key": "k", "anthropic-version": "2026-10-21"}, body
    body = {
        "systemInstruction": {"parts": [{"text": SYSTEM}]},
        "contents": [{"role": "user", "parts": [{"text": text}]}],
        "generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA},
    }
    return f"/v1/models/{model}:generateContent", {"x-goog-api-key": "k"}, body


def _content(provider: str, body: dict[str, Any]) -> str:
    if provider == "openai":
        return str(body["choices"][0]["message"]["content"])
    if provider == "anthropic":
        return str(body["content"][0]["text"])
    return str(body["candidates"][0]["content"]["parts"][0]["text"])


def _spawn(*arguments: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tierq_simulator", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().removeprefix("listening on ").strip()


def _stop(process: subprocess.Popen[str]) -> int:
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    return process.returncode


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sim]:
    process, url = _spawn("--served-log", str(tmp_path_factory.mktemp("sim") / "served"), "--exit-with-parent")
    simulator = Sim(url)
    yield simulator
    simulator.http.close()
    _stop(process)


@pytest.fixture
def sim(running: Sim) -> Sim:
    running.config()
    running.http.post("/_sim/reset").raise_for_status()
    return running


@pytest.mark.parametrize("provider", PROVIDERS)
def test_each_wire_format_is_answered_by_its_schema(sim: Sim, provider: str) -> None:
    reply = sim.ask(provider)
    assert reply.status_code == 200
    assert reply.headers["server"] == "tierq-simulator"
    assert json.loads(_content(provider, reply.json()))["label"] == "billing"


def test_openai_says_its_usage_and_request_id(sim: Sim) -> None:
    sim.config(models={"m": {"reasoning_tokens": 30, "cached_tokens": 10}})
    reply = sim.ask("openai")
    usage = reply.json()["usage"]
    assert reply.headers["x-request-id"].startswith("req_")
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 30
    assert usage["prompt_tokens_details"]["cached_tokens"] == 10
    assert usage["completion_tokens"] > 30
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_anthropic_says_its_usage_and_request_id(sim: Sim) -> None:
    sim.config(models={"m": {"cached_tokens": 10}})
    reply = sim.ask("anthropic")
    usage = reply.json()["usage"]
    assert reply.headers["request-id"].startswith("req_")
    assert (reply.json()["stop_reason"], usage["cache_read_input_tokens"]) == ("end_turn", 10)
    assert usage["input_tokens"] > 0


def test_gemini_counts_thoughts_beside_the_answer(sim: Sim) -> None:
    sim.config(models={"m": {"reasoning_tokens": 30}})
    body = sim.ask("gemini").json()
    usage = body["usageMetadata"]
    assert usage["thoughtsTokenCount"] == 30
    parts = usage["promptTokenCount"] + usage["candidatesTokenCount"] + usage["thoughtsTokenCount"]
    assert usage["totalTokenCount"] == parts
    assert body["responseId"]


def test_anthropic_caches_the_prefix_it_is_asked_to(sim: Sim) -> None:
    sim.config(models={"m": {"prompt_cache": True}})
    system = [{"type": "text", "text": SYSTEM + " Mind the rules." * 400, "cache_control": {"type": "ephemeral"}}]
    first, second = (sim.ask("anthropic", system=system).json()["usage"] for _ in range(2))
    assert first["cache_creation_input_tokens"] == second["cache_read_input_tokens"] > 1024
    assert first["cache_read_input_tokens"] == second["cache_creation_input_tokens"] == 0


def test_without_a_schema_there_is_a_short_text(sim: Sim) -> None:
    body = sim.ask("openai", response_format={"type": "text"}).json()
    assert "charged" in _content("openai", body)


def test_any_prefix_speaks_openai(sim: Sim) -> None:
    _, headers, body = _request("openai", "m", TEXT)
    reply = sim.http.post("/vllm/v1/chat/completions", headers=headers, json={**body, "top_k": 5})
    assert reply.status_code == 200


def test_an_answer_is_cut_off_at_max_tokens(sim: Sim) -> None:
    choice = sim.ask("openai", max_completion_tokens=2).json()["choices"][0]
    assert (choice["finish_reason"], len(choice["message"]["content"])) == ("length", 8)


@pytest.mark.parametrize(
    ("provider", "status", "said"),
    [
        ("openai", 401, "invalid_api_key"),
        ("anthropic", 401, "authentication_error"),
        ("gemini", 400, "API_KEY_INVALID"),
    ],
)
def test_a_bad_key_is_refused(sim: Sim, provider: str, status: int, said: str) -> None:
    headers = {"authorization": "Bearer bad", "x-api-key": "bad", "x-goog-api-key": "bad"}
    reply = sim.ask(provider, headers=headers)
    assert reply.status_code == status
    assert said in reply.text


def test_a_missing_key_is_refused(sim: Sim) -> None:
    for provider in PROVIDERS:
        path, headers, body = _request(provider, "m", TEXT)
        for name in ("authorization", "x-api-key", "x-goog-api-key"):
            headers.pop(name, None)
        assert sim.http.post(path, headers=headers, json=body).status_code == 401


@pytest.mark.parametrize(
    ("provider", "more", "said"),
    [
        ("anthropic", {"temperature": 0}, "temperature"),
        ("anthropic", {"top_k": 3}, "top_k"),
        ("anthropic", {"max_tokens": None}, "max_tokens"),
        ("anthropic", {"messages": []}, "messages"),
        ("anthropic", {"seed": 1}, "seed: Extra inputs"),
        ("openai", {"max_output": 3}, "max_output"),
        ("openai", {"messages": None}, "messages"),
        ("gemini", {"model_name": "x"}, "model_name"),
        ("gemini", {"contents": []}, "contents"),
    ],
)
def test_what_a_provider_refuses_is_refused(sim: Sim, provider: str, more: dict[str, Any], said: str) -> None:
    reply = sim.ask(provider, **more)
    assert reply.status_code == 400
    assert said in reply.json()["error"]["message"]


def test_earlier_anthropic_versions_take_sampling_parameters(sim: Sim) -> None:
    reply = sim.ask("anthropic", temperature=0, headers={"anthropic-version": "2023-06-01"})
    assert reply.status_code == 200


def test_a_schema_that_strict_mode_refuses(sim: Sim) -> None:
    loose = {name: value for name, value in SCHEMA.items() if name != "additionalProperties"}
    wanted = {"type": "json_schema", "json_schema": {"name": "out", "strict": True, "schema": loose}}
    error = sim.ask("openai", response_format=wanted).json()["error"]
    assert "Invalid schema for response_format 'out': In context=(), 'additionalProperties'" in error["message"]
    assert (error["type"], error["param"]) == ("invalid_request_error", "response_format")
    reply = sim.ask("anthropic", output_config={"format": {"type": "json_schema", "schema": loose}})
    assert reply.status_code == 400


@pytest.mark.parametrize(
    ("kind", "statuses"),
    [
        ("rate_limited", (429, 429, 429)),
        ("overloaded", (503, 529, 503)),
        ("server_error", (500, 500, 500)),
        ("quota", (429, 402, 429)),
        ("auth", (401, 401, 400)),
        ("too_long", (400, 400, 400)),
        ("not_found", (404, 404, 404)),
        ("invalid_request", (400, 400, 400)),
        ("html_error", (503, 503, 503)),
    ],
)
def test_errors_have_each_providers_status(sim: Sim, kind: str, statuses: tuple[int, ...]) -> None:
    sim.fault(kind=kind)
    assert tuple(sim.ask(provider).status_code for provider in PROVIDERS) == statuses
    assert sim.get("/_sim/stats")["by_outcome"] == {kind: 3}


def test_rate_limits_say_how_long_to_wait(sim: Sim) -> None:
    sim.fault(kind="rate_limited", retry_after_s=2)
    openai, anthropic, gemini = (sim.ask(provider) for provider in PROVIDERS)
    assert (openai.headers["retry-after"], openai.headers["retry-after-ms"]) == ("2", "2000")
    assert openai.json()["error"]["code"] == "rate_limit_exceeded"
    assert anthropic.headers["retry-after"] == "2"
    assert anthropic.json()["error"]["type"] == "rate_limit_error"
    assert gemini.json()["error"]["details"][1]["retryDelay"] == "2s"


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    ("spelling", "said"),
    [("seconds", {"retry-after": "1.5"}), ("ms", {"retry-after-ms": "1500"})],
)
def test_a_wait_may_be_spelled_otherwise(sim: Sim, provider: str, spelling: str, said: dict[str, str]) -> None:
    sim.fault(kind="rate_limited", retry_after_s=1.5, retry_as=spelling)
    reply = sim.ask(provider)
    assert {name: value for name, value in reply.headers.items() if name.startswith("retry-after")} == said
    assert "RetryInfo" not in reply.text


def test_a_wait_may_be_a_date_read_against_the_servers_own_clock(sim: Sim) -> None:
    sim.fault(kind="rate_limited", retry_after_s=90, retry_as="date")
    headers = sim.ask("anthropic").headers
    then, now = (parsedate_to_datetime(headers[name]) for name in ("retry-after", "date"))
    assert (then - now).total_seconds() == 90


def test_a_refusal_may_say_whether_to_try_again(sim: Sim) -> None:
    sim.fault(kind="invalid_request", should_retry=True)
    assert sim.ask("openai").headers["x-should-retry"] == "true"
    sim.fault(kind="overloaded", should_retry=False)
    assert sim.ask("openai").headers["x-should-retry"] == "false"


def test_a_used_up_quota_is_told_apart(sim: Sim) -> None:
    sim.fault(kind="quota")
    assert sim.ask("openai").json()["error"]["code"] == "insufficient_quota"
    assert sim.ask("anthropic").json()["error"]["type"] == "billing_error"
    assert "PerDay" in sim.ask("gemini").text


def test_a_status_may_be_chosen(sim: Sim) -> None:
    sim.fault(kind="overloaded", status=504)
    openai, anthropic, gemini = (sim.ask(provider) for provider in PROVIDERS)
    assert {openai.status_code, anthropic.status_code, gemini.status_code} == {504}
    assert anthropic.json()["error"]["type"] == "timeout_error"
    assert gemini.json()["error"]["status"] == "DEADLINE_EXCEEDED"


def test_a_reset_connection(sim: Sim) -> None:
    sim.fault(kind="reset")
    with pytest.raises(httpx.TransportError):
        sim.ask("openai")


def test_a_reset_within_the_answer_counts_as_served(sim: Sim) -> None:
    sim.fault(kind="reset", where="body")
    with pytest.raises(httpx.RemoteProtocolError):
        sim.ask("openai", headers={"x-client-request-id": "half"})
    assert sim.get("/_sim/served")["served"] == [{"id": "half", "count": 1, "delivered": 0}]


def test_a_hanging_request(sim: Sim) -> None:
    sim.fault(kind="hang")
    with pytest.raises(httpx.ReadTimeout):
        sim.ask("openai", timeout=0.05)


def test_a_slow_body_arrives_in_the_end(sim: Sim) -> None:
    sim.fault(kind="slow_body", seconds=0.2)
    with pytest.raises(httpx.ReadTimeout):
        sim.ask("openai", timeout=0.005)
    assert sim.ask("openai").status_code == 200


def test_a_slow_body_whose_reader_left_is_counted_once(sim: Sim) -> None:
    sim.config(models={"m": {"latency_ms": 30, "faults": [{"kind": "slow_body", "seconds": 0.05}]}})
    with pytest.raises(httpx.ReadTimeout):
        sim.ask("openai", timeout=0.005)
    assert sim.ask("openai").status_code == 200
    stats = sim.get("/_sim/stats")
    assert (stats["in_flight"], stats["by_outcome"]) == (0, {"slow_body": 2})


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    ("fault", "broken"),
    [
        ({"kind": "broken_json"}, "not json"),
        ({"kind": "truncated"}, "not json"),
        ({"kind": "nan"}, "NaN"),
        ({"kind": "unknown_label"}, "no_such_label"),
        ({"kind": "schema_violation"}, "unexpected"),
        ({"kind": "deep", "size": 3000}, '{"a":{"a":'),
        ({"kind": "huge", "size": 2_000_000}, " " * 1_000_000),
    ],
)
def test_spoilt_answers(sim: Sim, provider: str, fault: dict[str, Any], broken: str) -> None:
    sim.fault(**fault)
    content = _content(provider, sim.ask(provider).json())
    if broken == "not json":
        with pytest.raises(json.JSONDecodeError):
            json.loads(content)
    else:
        assert broken in content


def test_spoilt_bodies(sim: Sim) -> None:
    sim.fault(kind="bad_charset")
    with pytest.raises(UnicodeDecodeError):
        sim.ask("openai").content.decode()
    sim.fault(kind="broken_json", where="body")
    with pytest.raises(json.JSONDecodeError):
        json.loads(sim.ask("openai").content)


def test_refusals(sim: Sim) -> None:
    sim.fault(kind="refused")
    assert sim.ask("openai").json()["choices"][0]["message"]["refusal"]
    assert sim.ask("anthropic").json()["stop_reason"] == "refusal"
    assert sim.ask("gemini").json()["candidates"][0]["finishReason"] == "SAFETY"
    sim.fault(kind="refused", where="prompt")
    assert sim.ask("gemini").json()["promptFeedback"]["blockReason"]


def test_an_empty_answer(sim: Sim) -> None:
    sim.fault(kind="empty")
    assert sim.ask("openai").json()["choices"] == []
    assert sim.ask("anthropic").json()["content"] == []
    assert "candidates" not in sim.ask("gemini").json()


def test_a_context_window(sim: Sim) -> None:
    sim.config(models={"m": {"context_window": 100}})
    error = sim.ask("openai", text="word " * 200).json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert "prompt is too long" in sim.ask("anthropic", text="word " * 200).text


def test_an_outage_begins_and_ends(sim: Sim) -> None:
    sim.http.post("/_sim/outage", json={"provider": "openai", "kind": "overloaded", "seconds": None}).raise_for_status()
    assert [sim.ask(provider).status_code for provider in PROVIDERS] == [503, 200, 200]
    assert sim.get("/_sim/config")["outages"][0]["provider"] == "openai"
    sim.http.delete("/_sim/outage").raise_for_status()
    assert sim.ask("openai").status_code == 200


def test_an_outage_of_no_seconds_is_over(sim: Sim) -> None:
    sim.http.post("/_sim/outage", json={"model": "m", "seconds": 0}).raise_for_status()
    assert sim.ask("openai").status_code == 200


def test_a_quota_is_enforced_and_told(sim: Sim) -> None:
    sim.config(models={"m": {"rpm": 2}})
    replies = [sim.ask("openai") for _ in range(3)]
    assert [reply.status_code for reply in replies] == [200, 200, 429]
    assert [reply.headers["x-ratelimit-remaining-requests"] for reply in replies] == ["1", "0", "0"]
    assert replies[0].headers["x-ratelimit-limit-requests"] == "2"
    assert 0 < int(replies[2].headers["retry-after-ms"]) <= 30_000


def test_anthropic_tells_its_quota_in_its_own_headers(sim: Sim) -> None:
    sim.config(providers={"anthropic": {"tpm": 10_000}})
    headers = sim.ask("anthropic").headers
    assert headers["anthropic-ratelimit-tokens-limit"] == "10000"
    assert headers["anthropic-ratelimit-tokens-reset"].endswith("Z")


def test_counts(sim: Sim) -> None:
    sim.config(models={"m": {"latency_ms": 30}})
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: sim.ask("openai"), range(4)))
    stats = sim.get("/_sim/stats")
    assert (stats["requests"], stats["replies"], stats["in_flight"]) == (4, 4, 0)
    assert 1 < stats["max_in_flight"] <= 4
    assert stats["by_model"]["m"]["ok"] == 4
    assert stats["tokens"]["input"] > stats["tokens"]["output"] > 0


def test_served_ids_are_counted(sim: Sim) -> None:
    sim.ask("openai", headers={"x-client-request-id": "one"})
    sim.ask("gemini", headers={"x-client-request-id": "two"})
    sim.ask("gemini", headers={"x-client-request-id": "one"})
    sim.fault(kind="overloaded")
    sim.ask("openai", headers={"x-client-request-id": "three"})
    seen = sim.get("/_sim/served?since=0")
    assert [(row["id"], row["count"]) for row in seen["served"]] == [("one", 2), ("two", 1)]
    assert sim.get(f"/_sim/served?since={seen['next']}")["served"] == []


def test_the_last_requests_are_shown_without_their_keys(sim: Sim) -> None:
    sim.ask("openai", headers={"authorization": "Bearer secret"})
    (shown,) = sim.get("/_sim/requests?last=1")["requests"]
    assert shown["body"]["model"] == "m"
    assert "secret" not in json.dumps(shown)


@pytest.mark.parametrize("body", ["{", '{"models": {"m": {"latency": 1}}}'])
def test_a_wrong_configuration_is_refused(sim: Sim, body: str) -> None:
    assert sim.http.put("/_sim/config", content=body).status_code == 400


def test_models_are_listed(sim: Sim) -> None:
    sim.config(models={"gpt-x": {}, "*": {}})
    assert [model["id"] for model in sim.get("/v1/models")["data"]] == ["gpt-x"]
    assert sim.get("/v1beta/models")["models"][0]["name"] == "models/gpt-x"


def test_unknown_pages_are_not_found(sim: Sim) -> None:
    assert sim.http.get("/nothing").status_code == 404
    assert sim.http.get("/_sim/nothing").status_code == 404


def _raw(sim: Sim, data: bytes) -> bytes:
    host, port = sim.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(data)
        received = b""
        while piece := connection.recv(65536):
            received += piece
    return received


def _post(body: bytes, *headers: str) -> bytes:
    lines = ["POST /v1/chat/completions HTTP/1.1", "host: x", "authorization: Bearer k", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def test_pipelined_requests_are_answered_in_order(sim: Sim) -> None:
    sim.config(models={"a": {"latency_ms": 30}})
    requests = b""
    for model, last in (("a", False), ("b", False), ("c", True)):
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "x"}]}).encode()
        requests += _post(body, f"content-length: {len(body)}", *(["connection: close"] if last else []))
    received = _raw(sim, requests)
    places = [received.index(f'"model":"{model}"'.encode()) for model in "abc"]
    assert places == sorted(places)


def test_a_chunked_body_is_read(sim: Sim) -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"hello world"}]}'
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:9], body[9:])) + b"0\r\n\r\n"
    assert b" 200 OK" in _raw(sim, _post(chunks, "transfer-encoding: chunked", "connection: close"))


def test_a_schema_that_is_none_does_not_break_the_connection(sim: Sim) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "out", "schema": {"type": "object", "properties": ["a"]}}}
    assert sim.ask("openai", response_format=wanted).status_code == 500
    assert sim.ask("openai").status_code == 200
    assert sim.get("/_sim/stats")["in_flight"] == 0


def test_what_is_not_http_is_refused(sim: Sim) -> None:
    assert b" 400 " in _raw(sim, b"\x00\x01\x02 nothing\r\n\r\n")


def test_a_client_that_goes_away_leaves_no_request_in_flight(sim: Sim) -> None:
    sim.config(models={"m": {"latency_ms": 40}})
    with pytest.raises(httpx.ReadTimeout):
        sim.ask("openai", timeout=0.01, headers={"x-client-request-id": "gone"})
    sim.ask("openai")
    assert sim.get("/_sim/served")["served"][0] == {"id": "gone", "count": 1, "delivered": 0}
    assert sim.get("/_sim/stats")["in_flight"] == 0


def test_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(json.dumps({"models": {"m": {"skill": 0.5}}}))
    files = {name: str(tmp_path / name) for name in ("config", "port", "served")}
    process, url = _spawn("--config", files["config"], "--port-file", files["port"], "--served-log", files["served"])
    simulator = Sim(url)
    try:
        assert url.endswith(f":{Path(files['port']).read_text()}")
        assert simulator.get("/_sim/config")["models"]["m"]["skill"] == 0.5
        simulator.ask("openai", headers={"x-client-request-id": "one"})
        (line,) = Path(files["served"]).read_text().splitlines()
        assert json.loads(line)["id"] == "one"
    finally:
        simulator.http.close()
        assert _stop(process) == 0


def test_it_ends_with_its_parent() -> None:
    process, _ = _spawn("--exit-with-parent")
    process.communicate(timeout=10)
    assert process.returncode == 0


def test_a_wrong_configuration_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text('{"modles": {}}')
    command = [sys.executable, "-m", "tierq_simulator", "--config", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "unknown key 'modles'" in done.stderr


def test_a_simulator_within_the_loop() -> None:
    async def drive() -> int:
        async with await start({"models": {"m": {"latency_ms": 1}}}) as server, httpx.AsyncClient() as client:
            path, headers, body = _request("openai", "m", TEXT)
            return (await client.post(server.url + path, headers=headers, json=body)).status_code

    assert asyncio.run(drive()) == 200
