"""Yardstick (b): Celery as it is mostly used. A message a task, threads, a synchronous httpx.Client, a commit a task.

The worker is `celery -A bench.one_message_a_task worker -P threads -c 200`; `publish` and `finished` are the producer's
side. `BENCH_BROKER_URL`, `BENCH_DATABASE` (a SQLite path) and `BENCH_BASE_URL` tell it where.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import httpx
from celery import Celery
from sqlalchemy import Engine, event, func
from sqlmodel import Field, Session, SQLModel, create_engine, select

from bench.workload import PlainRequests, texts

CONCURRENCY = 200

app = Celery("one_message_a_task", broker=os.environ.get("BENCH_BROKER_URL", "memory://"))
app.conf.update(task_ignore_result=True, task_acks_late=True, broker_connection_retry_on_startup=True)

_plain = PlainRequests()
_turn = threading.Lock()
"""SQLite has one writer at a time. To queue for it here is kinder to this yardstick than SQLite's own polling."""


class Ticket(SQLModel, table=True):
    """A task's row: its outcome, and when it began and was committed."""

    id: int = Field(primary_key=True)
    label: str
    began: float
    ended: float


def make_engine(path: str) -> Engine:
    """SQLite, tuned as TierQ tunes it."""
    engine = create_engine(f"sqlite:///{path}", pool_size=CONCURRENCY, connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: Any) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=30000"):
            connection.execute(f"PRAGMA {pragma}")

    return engine


class Shared:
    """What the threads of a worker share, made with the first task."""

    def __init__(self) -> None:
        self.engine = make_engine(os.environ["BENCH_DATABASE"])
        limits = httpx.Limits(max_connections=CONCURRENCY, max_keepalive_connections=CONCURRENCY)
        self.client = httpx.Client(timeout=60.0, limits=limits, headers={"authorization": "Bearer bench"})
        self.url = f"{os.environ['BENCH_BASE_URL']}/v1/chat/completions"


_shared: Shared | None = None


def shared() -> Shared:
    global _shared
    with _turn:
        _shared = _shared or Shared()
        return _shared


@app.task(name="bench.classify")
def classify(number: int, text: str) -> None:
    began, here = time.time(), shared()
    headers = {"content-type": "application/json"}
    answer = here.client.post(here.url, content=_plain.body(text), headers=headers).raise_for_status()
    with _turn, Session(here.engine) as session:
        session.add(Ticket(id=number, label=_plain.label(answer.content), began=began, ended=time.time()))
        session.commit()


def publish(broker_url: str, first: int, count: int) -> None:
    """Puts tasks on the queue."""
    with Celery(broker=broker_url) as producer, producer.producer_pool.acquire(block=True) as channel:
        for number, text in enumerate(texts(count), first):
            producer.send_task("bench.classify", (number, text), producer=channel, ignore_result=True)


def finished(engine: Engine, first: int) -> tuple[int, float]:
    """How many tasks from ``first`` on are committed, and the seconds from their first start to their last commit."""
    with Session(engine) as session:
        statement = select(func.count(), func.min(Ticket.began), func.max(Ticket.ended)).where(Ticket.id >= first)
        count, began, ended = session.exec(statement).one()
    return count, (ended or 0.0) - (began or 0.0)
