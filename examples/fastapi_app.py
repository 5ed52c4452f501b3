"""FastAPI: one rewriter in each worker, and the visitor of a request from its cookies.

uvicorn fastapi_app:app --workers 2
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Cookie, Depends, FastAPI, Request

from rewriter import AsyncRewriter, Subject


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the rewriter with the worker, and close it with the worker: what `track` still holds is then sent."""
    async with AsyncRewriter.from_settings("rewriter.toml") as rewriter:
        app.state.rewriter = rewriter
        yield


app = FastAPI(lifespan=lifespan)


def visitor(
    user: Annotated[str | None, Cookie()] = None,
    session: Annotated[str | None, Cookie()] = None,
    consent: Annotated[str, Cookie()] = "no",
) -> Subject:
    """Return who searches. Without consent nothing of theirs is read or written."""
    return Subject(user_id=user, session_id=session, consent=consent == "yes")


Visitor = Annotated[Subject, Depends(visitor)]


@app.get("/search")
async def search(request: Request, q: str, subject: Visitor, start: int = 0) -> dict[str, Any]:
    """Return one page of films."""
    rewriter: AsyncRewriter = request.app.state.rewriter
    body = {"query": {"match": {"title": q}}, "from": start, "size": 7}
    response, report = await rewriter.search_details(index="films", body=body, subject=subject)
    films = [hit["_source"] | {"id": hit["_id"]} for hit in response["hits"]["hits"]]
    return {"hits": films, "reason": report.reason, "worker": os.getpid()}


@app.post("/events", status_code=202)
async def events(request: Request, event: dict[str, Any]) -> dict[str, bool]:
    """Take in one event of the page, such as a click. Never waits for the store."""
    rewriter: AsyncRewriter = request.app.state.rewriter
    return {"taken": await rewriter.track(event)}


@app.get("/health")
async def health(request: Request) -> dict[str, Any]:
    """Return how the rewriter stands. Searches work also where it does not."""
    rewriter: AsyncRewriter = request.app.state.rewriter
    return {"problems": list((await rewriter.status()).problems)}
