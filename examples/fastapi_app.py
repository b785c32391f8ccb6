"""A FastAPI app: one answer while somebody waits, a batch in the app's own transaction, and its progress.

    TIERQ_DATABASE_URL=postgresql://localhost/app tierq migrate
    DATABASE_URL=postgresql://localhost/app uvicorn --app-dir examples fastapi_app:app

It needs an asynchronous driver: `psycopg` for PostgreSQL (with tierq[postgres]), `aiosqlite` for SQLite.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tierq import AsyncClient, BatchNotFound, Classify, InvalidTask, WaitTimeout

DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+psycopg"}

intent = Classify.spec("intent", labels=["billing", "bug", "praise"], instructions="What is the customer's matter?")


class Base(DeclarativeBase):
    pass


class Import(Base):
    """The app's own table, beside TierQ's in one database."""

    __tablename__ = "import"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    tierq_batch: Mapped[str]


class Text(BaseModel):
    text: str


class Texts(BaseModel):
    name: str
    texts: list[str]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    url = make_url(os.environ["DATABASE_URL"])
    engine = create_async_engine(url.set(drivername=DRIVERS[url.get_backend_name()]))
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncClient(database_url=os.environ["DATABASE_URL"]) as client:
        app.state.client = client
        app.state.sessions = async_sessionmaker(engine)
        yield
    await engine.dispose()


app = FastAPI(title="TierQ example", lifespan=lifespan)


async def get_client(request: Request) -> AsyncClient:
    client: AsyncClient = request.app.state.client
    return client


async def get_session(request: Request) -> AsyncIterator[AsyncSession]:
    """A session whose transaction is committed when the endpoint is done, and rolled back where it raised."""
    async with request.app.state.sessions.begin() as session:
        yield session


Tierq = Annotated[AsyncClient, Depends(get_client)]
# scope="function": the commit comes before the answer, so whoever has the answer finds the batch.
Session = Annotated[AsyncSession, Depends(get_session, scope="function")]


@app.post("/classify")
async def classify(body: Text, client: Tierq) -> dict[str, Any]:
    """One text, while somebody waits for it."""
    try:
        handle = await client.submit(intent(body.text, urgency="interactive"))
        outcome = await handle.wait(timeout=20)
    except InvalidTask as error:
        raise HTTPException(422, str(error)) from None
    except WaitTimeout:
        raise HTTPException(504, f"not done yet: ask for /batches/{handle.id}") from None
    if outcome.error:
        raise HTTPException(502, outcome.error.message)
    return {"label": outcome.output, "model": outcome.model, "cost_usd": outcome.cost_usd}


@app.post("/imports", status_code=202)
async def start_import(body: Texts, client: Tierq, session: Session) -> dict[str, Any]:
    """Many texts: the app's row and the tasks are one transaction, so there is never one without the other."""
    try:
        tasks = [intent(text, key=number) for number, text in enumerate(body.texts, 1)]
        batch = await client.submit_many(tasks, tags={"import": body.name}, session=session)
    except InvalidTask as error:
        raise HTTPException(422, str(error)) from None
    session.add(Import(name=body.name, tierq_batch=batch.id))
    return {"batch": batch.id}


@app.get("/imports")
async def list_imports(session: Session) -> list[dict[str, Any]]:
    rows = (await session.scalars(select(Import).order_by(Import.id))).all()
    return [{"name": row.name, "batch": row.tierq_batch} for row in rows]


@app.get("/batches/{batch_id}")
async def progress(batch_id: str, client: Tierq) -> dict[str, Any]:
    """How far a batch is; any process of the app can tell."""
    try:
        now = await (await client.batch(batch_id)).progress()
    except BatchNotFound as error:
        raise HTTPException(404, str(error)) from None
    return {"state": now.state, "total": now.total, "done": now.done, "failed": now.failed, "is_over": now.is_over}


@app.get("/batches/{batch_id}/results")
async def results(batch_id: str, client: Tierq) -> list[dict[str, Any]]:
    """The outcomes of a batch that is over; 409 while it is not."""
    try:
        batch = await client.batch(batch_id)
        outcomes = [outcome async for outcome in batch.results(timeout=0)]
    except BatchNotFound as error:
        raise HTTPException(404, str(error)) from None
    except WaitTimeout as error:
        raise HTTPException(409, str(error)) from None
    return [{"key": one.key, "label": one.output, "error": one.error and one.error.code} for one in outcomes]
