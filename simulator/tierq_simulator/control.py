"""The simulator's own pages under /_sim/: configuration, outages, counts, and what was served."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson

from tierq_simulator.faults import Outage, parse_outage
from tierq_simulator.messages import Reply, Request, json_reply
from tierq_simulator.settings import ConfigError, Settings

if TYPE_CHECKING:
    from tierq_simulator.desk import Desk

_SECRET_HEADERS = frozenset({"authorization", "x-api-key", "x-goog-api-key", "api-key", "cookie"})
_BODY_SHOWN = 1 << 20


def answer(desk: Desk, request: Request) -> Reply:
    """Answer one request for a control page."""
    page = _PAGES.get((request.method, request.path))
    if page is None:
        pages = sorted(f"{method} {path}" for method, path in _PAGES)
        return json_reply(404, {"error": f"no such page; there are {', '.join(pages)}"})
    try:
        return json_reply(200, page(desk, request))
    except orjson.JSONDecodeError as error:
        return json_reply(400, {"error": f"the body is not JSON: {error}"})
    except ValueError as error:
        return json_reply(400, {"error": str(error)})


def _get_config(desk: Desk, request: Request) -> dict[str, Any]:  # noqa: ARG001  # every page takes both
    return {**desk.settings.as_json(), "outages": [_shown(outage) for outage in _standing(desk)]}


def _put_config(desk: Desk, request: Request) -> dict[str, Any]:
    raw = orjson.loads(request.body)
    if isinstance(raw, dict):
        raw.pop("outages", None)
    desk.configure(Settings.parse(raw, desk.settings.seed))
    return _get_config(desk, request)


def _post_outage(desk: Desk, request: Request) -> dict[str, Any]:
    desk.outages.append(parse_outage(orjson.loads(request.body), time.monotonic()))
    return {"outages": [_shown(outage) for outage in _standing(desk)]}


def _delete_outage(desk: Desk, request: Request) -> dict[str, Any]:
    wanted = request.params()
    kept = [outage for outage in desk.outages if any(getattr(outage, k, None) != v for k, v in wanted.items())]
    desk.outages[:] = kept
    return {"outages": [_shown(outage) for outage in _standing(desk)]}


def _post_reset(desk: Desk, request: Request) -> dict[str, Any]:  # noqa: ARG001
    desk.reset()
    return {"reset": True}


def _get_stats(desk: Desk, request: Request) -> dict[str, Any]:  # noqa: ARG001
    return desk.stats.as_json()


def _get_served(desk: Desk, request: Request) -> dict[str, Any]:
    return desk.served.since(_number(request, "since", 0))


def _get_requests(desk: Desk, request: Request) -> dict[str, Any]:
    last = _number(request, "last", 20)
    return {"requests": [_retold(kept) for kept in list(desk.recent)[-last:]] if last else []}


def _number(request: Request, name: str, default: int) -> int:
    value = request.params().get(name, str(default))
    if not value.isdecimal():
        raise ConfigError(f"{name}: an integer of at least 0 is expected")
    return int(value)


def _standing(desk: Desk) -> list[Outage]:
    now = time.monotonic()
    desk.outages[:] = [outage for outage in desk.outages if outage.until is None or outage.until > now]
    return desk.outages


def _shown(outage: Outage) -> dict[str, Any]:
    left = None if outage.until is None else round(outage.until - time.monotonic(), 3)
    return {"provider": outage.provider, "model": outage.model, "kind": outage.fault.kind, "seconds_left": left}


def _retold(request: Request) -> dict[str, Any]:
    """One request without its key, whose place is kept."""
    headers = {name: "…" if name in _SECRET_HEADERS else value for name, value in request.headers.items()}
    query = {name: "…" if name == "key" else value for name, value in request.params().items()}
    shown = {"method": request.method, "path": request.path, "query": query, "headers": headers}
    try:
        body = orjson.loads(request.body) if len(request.body) <= _BODY_SHOWN else None
    except orjson.JSONDecodeError:
        body = request.body.decode("utf-8", "replace")
    return {**shown, "bytes": len(request.body), "body": body}


_PAGES: dict[tuple[str, str], Callable[[Desk, Request], dict[str, Any]]] = {
    ("GET", "/_sim/config"): _get_config,
    ("PUT", "/_sim/config"): _put_config,
    ("POST", "/_sim/outage"): _post_outage,
    ("DELETE", "/_sim/outage"): _delete_outage,
    ("POST", "/_sim/reset"): _post_reset,
    ("GET", "/_sim/stats"): _get_stats,
    ("GET", "/_sim/served"): _get_served,
    ("GET", "/_sim/requests"): _get_requests,
}
