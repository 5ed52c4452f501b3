"""Flask under gunicorn with --preload: the module is loaded once, and each worker that is forked from it opens its own connections.

gunicorn --preload --workers 2 flask_app:app
"""

from __future__ import annotations

import os
from typing import Any

from flask import Flask, request

from rewriter import Rewriter, Subject

rewriter = Rewriter.from_settings("rewriter.toml")
client = rewriter.wrap()
app = Flask(__name__)


def visitor() -> Subject:
    """Return who searches. Without consent nothing of theirs is read or written."""
    cookies = request.cookies
    return Subject(
        user_id=cookies.get("user"), session_id=cookies.get("session"), consent=cookies.get("consent") == "yes"
    )


@app.get("/search")
def search() -> dict[str, Any]:
    """Return one page of films, by the client that the application has."""
    body = {"query": {"match": {"title": request.args["q"]}}, "size": 7}
    with rewriter.subject(visitor()):
        response = client.search(index="films", body=body)
    return {"hits": [hit["_source"] | {"id": hit["_id"]} for hit in response["hits"]["hits"]], "worker": os.getpid()}


@app.post("/events")
def events() -> tuple[dict[str, bool], int]:
    """Take in one event of the page, such as a click. Never waits for the store."""
    return {"taken": rewriter.track(request.get_json())}, 202
