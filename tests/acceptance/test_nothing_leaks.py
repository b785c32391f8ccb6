"""A full run with planted secrets, prompts and answers, failing paths among them; then everything is searched for them.

Logs of workers at every level and of the producer, all that went over the broker's wire, what Flower shows, process
lists, every table, reprs, exceptions and their tracebacks.
"""

from __future__ import annotations

import itertools
import json
import logging
import re
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from pydantic import BaseModel
from sqlalchemy import Connection, create_engine, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from conftest import SiteMaker
from support.hostile import answer, request_of, response, serving_in_thread
from support.servers import Site, running
from support.waiting import eventually
from tierq import Classify, Client, Extract, Generate, Outcome
from tierq_console.embedded.parts import free_port
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import metadata, payloads, specs

pytestmark = pytest.mark.timeout(240)

KEY = "planted.openai.key.4711"
HEADER = "planted.header.secret.4712"
DATABASE = "planted-database-password-4713"
FLOWER = "planted-flower-password-4714"
SECRETS = (KEY, HEADER, DATABASE, FLOWER)

PROMPT = "said in private by a customer who owes"
ANSWER = "told in private by a model that knows"
LABEL = "planted label of a spec"
INSTRUCTIONS = "planted instructions of a spec"
TAG = "planted key of a task"
PRIVATE = (PROMPT, ANSWER)
"""What stands in `tierq_payload` alone."""
THEIRS = (*PRIVATE, LABEL, INSTRUCTIONS, TAG)
"""What leaves the store in no log, message or page."""

CONFIG = """
database_url = "{database_url}"
broker_url = "{broker_url}"
state_url = "{state_url}"
[tiers.small]
chain = ["mini"]
[deployments.mini]
provider = "openai"
model = "gpt-4o-mini"
base_url = "{base_url}/v1"
headers = {{ x-team = "{header}" }}
[worker]
max_attempts = 2
sweep_every = "250ms"
"""


class Debt(BaseModel):
    who: str
    total: float


async def provider(reader: Any, writer: Any) -> None:
    """Does what the prompt says, and repeats all it was sent where it fails."""
    while True:
        request = await request_of(reader)
        head, _, body = request.partition(b"\r\n\r\n")
        asked = next(one["content"] for one in json.loads(body)["messages"] if one["role"] == "user")
        echo = f"you sent {asked} with {head.decode()} and {json.dumps(json.loads(body))}"
        writer.write(_reply(asked, echo))
        await writer.drain()


def _reply(asked: str, echo: str) -> bytes:
    wanted = next((word for word in _REPLIES if word in asked), "well")
    if wanted == "refuse-429" and next(_THROTTLED) % 2:
        wanted = "well"  # throttled for ever, a task would wait for ever
    status, content = _REPLIES[wanted]
    if status == "200 OK" and content is not None:
        message = {"choices": [{"message": {"content": content}, "finish_reason": "stop"}], "id": f"{KEY} {HEADER}"}
        return answer(message)
    error = {"error": {"message": echo, "code": KEY, "type": PROMPT}, "request_id": KEY}
    return response(json.dumps(error).encode(), "content-type: application/json", f"x-request-id: {KEY}", status=status)


_THROTTLED = itertools.count()
_REPLIES: dict[str, tuple[str, str | None]] = {
    "well": ("200 OK", json.dumps({"label": LABEL})),
    "refuse-400": ("400 Bad Request", None),
    "refuse-429": ("429 Too Many Requests", None),
    "fail-500": ("500 Internal Server Error", None),
    "fail-inside": ("200 OK", None),
    "no-json": ("200 OK", ANSWER),
    "no-label": ("200 OK", json.dumps({"label": ANSWER})),
    "no-schema": ("200 OK", json.dumps({"who": ANSWER, "total": ANSWER, ANSWER: 1})),
    "nul": ("200 OK", json.dumps({"label": f"{ANSWER}\0"})),
    "unstorable": ("200 OK", f"{ANSWER} unstorable"),
    "text": ("200 OK", ANSWER),
}


@dataclass
class Seen:
    """Where something may have leaked to, by place."""

    places: dict[str, str] = field(default_factory=dict)

    def add(self, place: str, content: object) -> None:
        self.places[place] = self.places.get(place, "") + str(content) + "\n"

    def leaks(self, planted: tuple[str, ...]) -> list[str]:
        """Places and what stands in them, however its spaces are written."""
        found = []
        for place, content in self.places.items():
            plain = re.sub(r"(?:\s|%20|\+|\\n)+", " ", content)
            found += [f"{place}: {one}" for one in planted if one in plain]
        return found


@contextmanager
def wire_of(socket: str, seen: Seen) -> Iterator[None]:
    """All that goes over the broker's wire while the block runs."""
    over = threading.Event()
    client = redis.Redis(unix_socket_path=socket, socket_timeout=None)

    def watch() -> None:
        with client.monitor() as monitor:
            for command in monitor.listen():
                seen.add("broker", command["command"])
                if over.is_set():
                    return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        client.ping()
        thread.join(10)
        assert not thread.is_alive()
        client.close()


@contextmanager
def logs_of_this_process(seen: Seen) -> Iterator[None]:
    """What the producer and all its libraries log, at the lowest level."""

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.add("producer's log", self.format(record))

    root, keep = logging.getLogger(), Keep()
    before = root.level
    root.addHandler(keep)
    root.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.removeHandler(keep)
        root.setLevel(before)


def planted_site(site: Site, base_url: str) -> str:
    """Puts the planted secrets in their places; the socket of the broker."""
    url = make_url(site.database_url).set(password=DATABASE).render_as_string(hide_password=False)
    site.database_url = url
    socket = site.broker_url.removeprefix("redis+socket://").partition("?")[0]
    site.config.write_text(
        CONFIG.format(
            database_url=url,
            broker_url=site.broker_url,
            state_url=f"unix://{socket}?db=1",
            base_url=base_url,
            header=HEADER,
        )
    )
    store = Store(url)
    with store.engine.begin() as connection:
        for column in ("output", "input"):
            rule = f"CHECK ({column} NOT LIKE '%unstorable {column}%')".replace("unstorable output", "unstorable")
            connection.execute(text(f"ALTER TABLE tierq_payload ADD CONSTRAINT {column}s {rule}"))
    store.close()
    return socket


def work(client: Client, seen: Seen) -> list[Outcome[Any]]:
    """One task for each reply, and what the producer refuses."""
    intent = Classify.spec("intent", labels=[LABEL, "other"], instructions=INSTRUCTIONS)
    tasks: list[Any] = [
        intent(f"{PROMPT} {word}", key=f"{TAG} {word}")
        for word in _REPLIES
        if word not in ("no-schema", "unstorable", "text")
    ]
    tasks += [Extract(f"{PROMPT} no-schema", schema=Debt)]
    tasks += [Generate(f"{PROMPT} {word}") for word in ("unstorable", "text")]
    batch = client.submit_many(tasks, label=TAG, key=TAG)
    outcomes = list(batch.as_completed(timeout=90))
    one = client.submit(intent(f"{PROMPT} well"))
    outcomes.append(one.wait(timeout=60))
    for shown in (client, client.settings, batch, one, tasks[0], intent, *outcomes):
        seen.add("reprs", f"{shown!r} {shown}")
    return outcomes


def refusals(client: Client, site: Site, seen: Seen) -> None:
    """Exceptions of the producer, with the tracebacks that an app would log."""
    unstorable = f"{PROMPT} unstorable input"
    engine = create_engine(make_url(site.database_url).set(drivername="postgresql+psycopg"))

    def in_a_session(task: Any) -> None:
        with Session(engine) as session:
            client.submit(task, session=session)

    raising = (
        "CREATE FUNCTION quote() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION 'row %', NEW; END $$ LANGUAGE plpgsql"
    )
    trigger = "CREATE TRIGGER quoting BEFORE INSERT ON tierq_payload FOR EACH ROW EXECUTE FUNCTION quote()"
    attempts: list[Any] = [
        lambda: client.submit(Generate(f"{PROMPT}\0")),
        lambda: client.submit(Generate(f"{PROMPT}\ud800")),
        lambda: client.submit_many([Generate(PROMPT), PROMPT]),  # type: ignore[list-item]
        lambda: client.submit(Generate(unstorable)),
        lambda: in_a_session(Generate(unstorable)),
    ]
    for attempt in attempts:
        _expect_refusal(attempt, seen)
    with engine.begin() as connection:
        connection.execute(text(raising))
        connection.execute(text(trigger))
    for attempt in (lambda: client.submit(Generate(PROMPT)), lambda: in_a_session(Generate(PROMPT))):
        _expect_refusal(attempt, seen)
    engine.dispose()


def _expect_refusal(attempt: Any, seen: Seen) -> None:
    try:
        attempt()
    except Exception as error:
        place = f"exception {type(error).__name__}"
        seen.add(place, f"{error} {error!r}")
        seen.add(place, "".join(traceback.format_exception(error)))
        # Some error trackers walk what a traceback hides.
        while error.__context__ is not None:
            error = error.__context__  # type: ignore[assignment]
            seen.add(place, f"{error} {error!r}")
    else:
        pytest.fail("nothing was refused")


@contextmanager
def flower(site: Site, port: int) -> Iterator[None]:
    command = [sys.executable, "-m", "tierq_console", "flower", "--port", str(port)]
    env = {"TIERQ_CONFIG": str(site.config), "TIERQ_FLOWER_PASSWORD": FLOWER}
    with running(command, site.folder / "worker-flower.log", env) as process:
        eventually(lambda: _is_up(port), 60)
        yield
        assert process.poll() is None


def _is_up(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthcheck").is_success
    except httpx.TransportError:
        return False


def look_at_flower(port: int, seen: Seen) -> None:
    pages = ["/", "/workers", "/tasks", "/broker", "/metrics", "/api/tasks", "/api/workers", "/api/queues/length"]

    def page(path: str) -> str:
        return httpx.get(f"http://127.0.0.1:{port}{path}", auth=("tierq", FLOWER), timeout=30).text

    listed = eventually(lambda: json.loads(page("/api/tasks")), 30)
    pages += [f"/task/{uuid}" for uuid in listed]
    for path in pages:
        seen.add(f"Flower {path}", page(path))
    assert any("batch" in str(one["args"]) for one in listed.values())


def look_at_processes(seen: Seen) -> None:
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            seen.add("process list", entry.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue


def look_at_tables(connection: Connection) -> dict[str, Seen]:
    found: dict[str, Seen] = {}
    for table in metadata.sorted_tables:
        seen = found[table.name] = Seen()
        for row in connection.execute(select(table)):
            seen.add(table.name, tuple(row))
    return found


def test_secrets_and_prompts_stay_where_they_belong(site_on: SiteMaker) -> None:
    seen, reprs = Seen(), Seen()
    site = site_on("postgresql", "redis")
    port = free_port(0)
    with ExitStack() as stack:
        socket = planted_site(site, stack.enter_context(serving_in_thread(provider)))
        stack.enter_context(wire_of(socket, seen))
        stack.enter_context(logs_of_this_process(seen))
        stack.enter_context(flower(site, port))
        worker = site.start_worker("small", "--loglevel", "DEBUG", OPENAI_API_KEY=KEY)
        client = stack.enter_context(Client(config=site.config))
        outcomes = work(client, reprs)
        refusals(client, site, seen)
        look_at_flower(port, seen)
        look_at_processes(seen)
        with client._store.reading() as connection:
            tables = look_at_tables(connection)
        assert worker.poll() is None
    site.stop_workers()
    seen.add("logs", site.logs())
    seen.add("Redis's log", (site.folder / "redis.log").read_text())

    assert {outcome.error.code for outcome in outcomes if outcome.error} >= {
        "invalid_request",
        "invalid_output",
        "unrecordable",
        "all_deployments_failed",
    }
    assert sum(outcome.ok for outcome in outcomes) == 4
    assert seen.leaks((*SECRETS, *THEIRS)) == []
    # A task's repr names its key, which is its owner's own word for it.
    assert reprs.leaks((*SECRETS, *PRIVATE, LABEL, INSTRUCTIONS)) == []
    assert [leak for one in tables.values() for leak in one.leaks(SECRETS)] == []
    private = {name: one for name, one in tables.items() if name not in (payloads.name, specs.name)}
    assert [leak for one in private.values() for leak in one.leaks((*PRIVATE, INSTRUCTIONS))] == []
    assert tables[payloads.name].leaks(PRIVATE), "the search finds what is there"
    assert tables[specs.name].leaks((INSTRUCTIONS,))
