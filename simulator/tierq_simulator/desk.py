"""Where every request arrives: routed, checked, met with faults and quota, and answered."""

from __future__ import annotations

import logging
import time
from collections import deque
from functools import partial

import orjson

from tierq_simulator import control
from tierq_simulator.answers import write_answer, write_tokens
from tierq_simulator.chance import Dice
from tierq_simulator.damage import SLOW_SECONDS, spoil, spoil_body
from tierq_simulator.faults import Faults, Outage
from tierq_simulator.hints import hints
from tierq_simulator.latency import latency_s
from tierq_simulator.messages import Headers, Reply, Request, json_reply
from tierq_simulator.prompt_cache import PromptCache
from tierq_simulator.quota import Quotas
from tierq_simulator.reading import input_of
from tierq_simulator.served import ServedLog
from tierq_simulator.settings import ERROR_KINDS, Behaviour, Fault, Resolved, Settings
from tierq_simulator.stats import Stats
from tierq_simulator.wire import gemini
from tierq_simulator.wire.anthropic import Anthropic
from tierq_simulator.wire.base import (
    Allowance,
    Ask,
    Completion,
    Finish,
    Problem,
    ProblemError,
    Usage,
    Wire,
    estimate_tokens,
)
from tierq_simulator.wire.openai import OpenAI

BAD_KEY = "bad"
_log = logging.getLogger(__name__)
_REQUESTS_KEPT = 100
_MODELS_REMEMBERED = 10_000
_OPENAI, _ANTHROPIC, _GEMINI = OpenAI(), Anthropic(), gemini.Gemini()
_HTML = b"<html><head><title>503</title></head><body><h1>Service Temporarily Unavailable</h1></body></html>"


class Desk:
    """Answers requests. It does no I/O and never waits: a reply says after how long it is to leave."""

    def __init__(self, settings: Settings, served: ServedLog) -> None:
        self.stats = Stats()
        self.served = served
        self.outages: list[Outage] = []
        self.recent: deque[Request] = deque(maxlen=_REQUESTS_KEPT)
        self._sequence = 0
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Take a new configuration; counts of faults and quotas start anew."""
        self.settings = settings
        self._faults = Faults(settings.seed)
        self._quotas = Quotas()
        self._cache = PromptCache()
        self._resolved: dict[tuple[str, str], Resolved] = {}

    def reset(self) -> None:
        """Forget what happened: counts, outages, served ids; the configuration stays."""
        self.stats.clear()
        self.served.clear()
        self.outages.clear()
        self.recent.clear()
        self.configure(self.settings)

    def close(self) -> None:
        """Close the served log."""
        self.served.close()

    def handle(self, request: Request) -> Reply:
        """Answer one request."""
        path = request.path
        if path.startswith("/_sim/"):
            return control.answer(self, request)
        wire = wire_for(request)
        if wire is None:
            return self._list_models(request)
        self.recent.append(request)
        if request.method != "POST":
            return json_reply(405, {"error": {"message": f"{request.method} is not allowed here."}})
        return self._answer(wire, request)

    def _list_models(self, request: Request) -> Reply:
        wire: Wire = _ANTHROPIC if "anthropic-version" in request.headers else _OPENAI
        if request.path == "/v1beta/models" or "x-goog-api-key" in request.headers:
            wire = _GEMINI
        if request.method != "GET" or not request.path.endswith("/models"):
            return json_reply(404, {"error": {"message": f"The simulator does not serve {request.path}."}})
        return json_reply(200, wire.models([name for name in self.settings.models if name != "*"]))

    def _answer(self, wire: Wire, request: Request) -> Reply:
        self.stats.begin(wire.name)
        self._sequence += 1
        request_id = f"req_{Dice(self.settings.seed + (self._sequence << 20)).number():016x}{self._sequence:08x}"
        call = _Call(wire, request, request_id)
        try:
            return self._serve(call)
        except ProblemError as error:
            return self._refuse(call, error.problem)
        except Exception as error:
            # A caller's odd request must not take the connection, or the other callers, down with it.
            _log.exception("no answer to %s", request.path)
            return self._refuse(call, Problem("server_error", call.model, f"The simulator failed: {error!r}"))

    def _serve(self, call: _Call) -> Reply:
        ask = call.ask = call.wire.read(call.request)
        text = input_of(ask.users)
        resolved = self._resolve(call.wire.name, ask.model)
        self._check_key(call, resolved.behaviour)
        fault = self._outage(call.wire.name, ask.model) or self._faults.choose(resolved, ask.model, text)
        if fault is not None and (early := self._early(call, fault, resolved.behaviour)) is not None:
            return early
        self._check_window(call, ask, resolved.behaviour.context_window)
        self._check_quota(call, ask, resolved)
        return self._complete(call, ask, text, resolved, fault)

    def _complete(self, call: _Call, ask: Ask, text: str, resolved: Resolved, fault: Fault | None) -> Reply:
        behaviour = resolved.behaviour
        written = write_answer(ask, text, self.settings.seed, behaviour.skill, self.settings.key)
        completion = self._completion(call, ask, written, behaviour, fault)
        if ask.logprobs is not None:
            completion.tokens = write_tokens(ask, text, self.settings.seed, behaviour.skill, completion.text)
        self._quotas.charge(resolved, completion.usage.output)
        body = orjson.dumps(call.wire.answer(ask, completion, call.request_id))
        reply = Reply(200, body, call.wire.headers(call.request_id, call.allowance))
        reply.delay_s = latency_s(behaviour, self.settings.seed, self._sequence)
        outcome = "ok" if completion.finish != "length" else "truncated"
        if fault is not None:
            outcome = fault.kind
            _spoil_reply(reply, fault)
        reply.settle = partial(self._settle_answer, call, outcome, completion.usage)
        return reply

    def _completion(self, call: _Call, ask: Ask, text: str, behaviour: Behaviour, fault: Fault | None) -> Completion:
        finish: Finish = "stop"
        if fault is not None:
            text = spoil(fault, text, ask.schema)
            finish = _finish(fault)
        output = estimate_tokens(text) if finish in ("stop", "length") else 0
        reasoning = behaviour.reasoning_tokens
        # A spoilt answer goes out as it is: cut off, it would be another fault than the one asked for.
        if fault is None and ask.max_tokens is not None and output + reasoning > ask.max_tokens:
            reasoning = min(reasoning, ask.max_tokens)
            output = ask.max_tokens - reasoning
            text, finish = text[: 4 * output], "length"
        cached, cache_write = self._cache.tokens(call.wire.name, ask, behaviour)
        return Completion(text, finish, Usage(ask.input_tokens, output + reasoning, cached, cache_write, reasoning))

    def _early(self, call: _Call, fault: Fault, behaviour: Behaviour) -> Reply | None:
        """The reply of a fault that comes instead of an answer."""
        model = call.model
        if fault.kind in ERROR_KINDS or (fault.kind == "refused" and fault.status is not None):
            wait = fault.retry_after_s
            if wait is None and fault.kind == "rate_limited":
                wait = 1.0
            window = behaviour.context_window or 8192
            tokens = (window + 1, window)
            own_wait = None if fault.retry_as else wait
            problem = Problem(fault.kind, model, status=fault.status, retry_after_s=own_wait, tokens=tokens)
            return self._refuse(call, problem, hints(fault, wait, time.time()))
        if fault.kind == "html_error":
            reply = Reply(fault.status or 503, _HTML, content_type="text/html")
        elif fault.kind == "hang":
            reply = Reply(0, b"", manner="hang")
        elif fault.kind == "reset" and fault.where == "content":
            reply = Reply(0, b"", manner="reset")
        else:
            return None
        reply.settle = partial(self._settle, model, fault.kind)
        return reply

    def _refuse(self, call: _Call, problem: Problem, more: Headers = ()) -> Reply:
        status, body, headers = call.wire.error(problem, call.request_id)
        reply = json_reply(status, body, call.wire.headers(call.request_id, call.allowance) + headers + more)
        reply.settle = partial(self._settle, problem.model or call.model, problem.kind)
        return reply

    def _settle(self, model: str, outcome: str, delivered: bool) -> None:
        self.stats.end(model, outcome, delivered=delivered)

    def _settle_answer(self, call: _Call, outcome: str, usage: Usage, delivered: bool) -> None:
        self.stats.end(call.model, outcome, delivered=delivered)
        self.stats.count(call.model, usage)
        attempt = call.request.headers.get("x-client-request-id")
        if attempt:
            self.served.add(
                attempt,
                delivered=delivered,
                model=call.model,
                provider=call.wire.name,
                outcome=outcome,
                input_tokens=usage.input,
                output_tokens=usage.output,
            )

    @staticmethod
    def _check_window(call: _Call, ask: Ask, window: int | None) -> None:
        if window is None:
            return
        # OpenAI counts the room asked for the answer too.
        used = ask.input_tokens + (ask.max_tokens or 0 if call.wire.name == "openai" else 0)
        if used > window:
            raise ProblemError(Problem("too_long", ask.model, tokens=(used, window)))

    def _check_quota(self, call: _Call, ask: Ask, resolved: Resolved) -> None:
        allowance = call.allowance = self._quotas.admit(resolved, ask.input_tokens, time.monotonic())
        if allowance is not None and allowance.wait_s > 0:
            wait, scarce = allowance.wait_s, allowance.scarce
            raise ProblemError(Problem("rate_limited", ask.model, retry_after_s=wait, scarce=scarce))

    def _check_key(self, call: _Call, behaviour: Behaviour) -> None:
        key = call.wire.key(call.request)
        if key == BAD_KEY:
            raise ProblemError(Problem("auth", call.model))
        if not key and behaviour.key_required:
            raise ProblemError(Problem("no_key", call.model))

    def _outage(self, provider: str, model: str) -> Fault | None:
        if not self.outages:
            return None
        now = time.monotonic()
        return next((outage.fault for outage in self.outages if outage.hits(provider, model, now)), None)

    def _resolve(self, provider: str, model: str) -> Resolved:
        found = self._resolved.get((provider, model))
        if found is None:
            if len(self._resolved) >= _MODELS_REMEMBERED:
                self._resolved.clear()
            found = self._resolved[provider, model] = self.settings.resolve(provider, model)
        return found


class _Call:
    """One request on its way through the desk."""

    __slots__ = ("allowance", "ask", "request", "request_id", "wire")

    def __init__(self, wire: Wire, request: Request, request_id: str) -> None:
        self.wire = wire
        self.request = request
        self.request_id = request_id
        self.ask: Ask | None = None
        self.allowance: Allowance | None = None

    @property
    def model(self) -> str:
        """The model asked, as far as it is known."""
        return "" if self.ask is None else self.ask.model


def wire_for(request: Request) -> Wire | None:
    """The wire format that the path stands for."""
    path = request.path
    if path.endswith("/chat/completions"):
        return _OPENAI
    if path == "/v1/messages":
        return _ANTHROPIC
    return _GEMINI if gemini.PATH.fullmatch(path) else None


def _spoil_reply(reply: Reply, fault: Fault) -> None:
    reply.body = spoil_body(fault, reply.body)
    if fault.kind == "slow_body":
        reply.manner = "slow"
        reply.seconds = SLOW_SECONDS if fault.seconds is None else fault.seconds
    elif fault.kind == "reset":
        reply.manner = "cut"


def _finish(fault: Fault) -> Finish:
    if fault.kind == "truncated":
        return "length"
    if fault.kind == "refused":
        return "refused_prompt" if fault.where == "prompt" else "refused"
    return "empty" if fault.kind == "empty" else "stop"
