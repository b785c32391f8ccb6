"""The examples, as a user runs them: against a real store, broker, simulator and workers."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import func, select

from conftest import SiteMaker
from support.servers import Site
from support.waiting import eventually
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import tasks

EXAMPLES = Path(__file__).parents[2] / "examples"
LABELS = ("billing", "bug", "praise")
PATIENCE_S = 60.0

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def configured(site_on: SiteMaker, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site that `Client()` finds, with a worker for what the examples do."""
    site = site_on(getattr(request, "param", "sqlite"))
    monkeypatch.setenv("TIERQ_CONFIG", str(site.config))
    site.start_worker("small")
    return site


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tierq_examples_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Django and dataclasses look a class's module up by its name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def count_tasks(site: Site) -> int:
    with closing(Store(site.database_url)) as store, store.reading() as connection:
        return connection.execute(select(func.count()).select_from(tasks)).scalar_one()


def run_script(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLES / "script.py"), *arguments],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_the_script_classifies_a_file_and_pays_once(configured: Site) -> None:
    tickets = str(EXAMPLES / "data" / "tickets.csv")

    first = run_script(tickets, "30")

    assert first.returncode == 0, first.stderr
    assert "30 of 30 succeeded" in first.stdout
    known = json.loads((EXAMPLES / "data" / "tickets.labels.json").read_text())
    counts = {label: int(count) for count, label in map(str.split, first.stdout.splitlines()[:-1])}
    assert set(counts) <= set(known)
    assert sum(counts.values()) == 30

    assert run_script(tickets, "30").stdout == first.stdout
    assert len(configured.simulator.served()) == 30


@pytest.fixture
def web(configured: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The FastAPI app, over a session of its own lifespan."""
    from fastapi.testclient import TestClient

    monkeypatch.setenv("DATABASE_URL", configured.database_url)
    with TestClient(load("fastapi_app").app) as client:
        yield client


def test_fastapi_answers_while_somebody_waits(web: Any) -> None:
    answered = web.post("/classify", json={"text": "I was charged twice on my invoice"})
    assert answered.status_code == 200, answered.text
    assert answered.json()["label"] in LABELS
    assert answered.json()["model"] == "gpt-4o-mini"

    refused = web.post("/classify", json={"text": "  "})
    assert refused.status_code == 422
    assert "field 'text'" in refused.json()["detail"]


@pytest.mark.parametrize("configured", ["sqlite", "postgresql"], indirect=True)
def test_fastapi_submits_in_its_own_transaction(web: Any, configured: Site) -> None:
    texts = [f"the app crashes, case {number}" for number in range(120)]

    started = web.post("/imports", json={"name": "may", "texts": texts})

    assert started.status_code == 202, started.text
    batch = started.json()["batch"]
    assert web.get("/imports").json() == [{"name": "may", "batch": batch}]
    state = eventually(lambda: _over(web, batch), PATIENCE_S)
    assert (state["total"], state["done"], state["failed"], state["state"]) == (120, 120, 0, "finished")
    rows = web.get(f"/batches/{batch}/results").json()
    assert [row["key"] for row in rows] == [str(number) for number in range(1, 121)]
    assert all(row["label"] in LABELS and row["error"] is None for row in rows)

    refused = web.post("/imports", json={"name": "june", "texts": ["fine", ""]})

    assert refused.status_code == 422
    assert "field 'text'" in refused.json()["detail"]
    assert len(web.get("/imports").json()) == 1
    assert count_tasks(configured) == 120


def _over(web: Any, batch: str) -> dict[str, Any] | None:
    state: dict[str, Any] = web.get(f"/batches/{batch}").json()
    return state if state["is_over"] else None


def test_fastapi_tells_what_is_not_there_and_what_is_not_done(web: Any, configured: Site) -> None:
    assert web.get("/batches/0198f3a2").status_code == 404
    assert web.get("/batches/0198f3a2/results").status_code == 404
    configured.simulator.configure({"models": {"*": {"latency_ms": 3_000}}})
    batch = web.post("/imports", json={"name": "may", "texts": ["slow"]}).json()["batch"]
    waiting = web.get(f"/batches/{batch}/results")
    assert waiting.status_code == 409
    assert batch in waiting.json()["detail"]


@pytest.fixture(scope="session")
def django_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The Django app; Django can be configured once in a process."""
    folder = tmp_path_factory.mktemp("django")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_DB", str(folder / "tickets.db"))
        module = load("django_app")
    module.migrate_tickets()
    yield module
    module.connection.close()


@pytest.fixture
def shop(django_app: ModuleType, configured: Site) -> Iterator[ModuleType]:
    """The Django app with an empty table, and a TierQ client of this test's own."""
    django_app.Ticket.objects.all().delete()
    django_app.tierq.cache_clear()
    yield django_app
    if django_app.tierq.cache_info().currsize:
        django_app.tierq().close()


def post(body: str) -> Any:
    from django.test import Client

    return Client().post("/tickets", json.dumps({"body": body}), content_type="application/json")


def read(pk: int) -> dict[str, Any]:
    from django.test import Client

    return dict(Client().get(f"/tickets/{pk}").json())


def test_django_submits_on_commit_and_reads_the_label_back(shop: ModuleType) -> None:
    created = post("I was charged twice on my invoice")

    assert created.status_code == 202
    pk = created.json()["id"]
    shown = eventually(lambda: _done(pk), PATIENCE_S)
    assert shown["label"] in LABELS
    assert shop.Ticket.objects.get(pk=pk).label == shown["label"]
    assert read(pk + 1) == {"error": "there is no such ticket"}


def _done(pk: int) -> dict[str, Any] | None:
    shown = read(pk)
    assert not shown["state"].startswith("failed"), shown
    return shown if shown["state"] == "done" else None


def test_django_submits_later_what_was_not_submitted_and_never_twice(shop: ModuleType, configured: Site) -> None:
    ticket = shop.Ticket.objects.create(body="the till crashes")
    assert read(ticket.pk)["state"] == "saved"

    assert shop.submit_missing() == 1
    assert shop.submit_missing() == 0
    ticket.refresh_from_db()
    first = ticket.batch
    shop.submit_ticket(ticket)

    assert ticket.batch == first
    assert count_tasks(configured) == 1
    assert eventually(lambda: _done(ticket.pk), PATIENCE_S)["label"] in LABELS


def test_django_saves_the_ticket_where_tierq_cannot_be_used(
    shop: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TIERQ_DATABASE_URL", f"sqlite:///{tmp_path}/no-tables.db")
    created = post("the till crashes")
    assert created.status_code == 202
    assert read(created.json()["id"])["state"] == "saved"
    assert "was not submitted; submit_missing will" in caplog.text
