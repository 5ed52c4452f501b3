"""No optional leg follows a redirect: its headers, and what it may answer, are the hosts' that the client was given."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from opensearchpy import AsyncHttpConnection, AsyncOpenSearch, OpenSearch, RequestsHttpConnection, Urllib3HttpConnection
from opensearchpy.exceptions import TransportError

from rewriter.client.opensearch import cloned
from rewriter.client.registry import around
from rewriter.client.seam import leg_fault

ANSWER = json.dumps({"hits": {"hits": []}}).encode()


@contextmanager
def server(status: int, location: str = "") -> Iterator[tuple[str, list[Any]]]:
    """A server that answers each search with a status; the URL, and the headers of all that it was asked."""
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.do_GET()

        def do_GET(self) -> None:
            asked.append(dict(self.headers))
            self.send_response(status)
            if location:
                self.send_header("location", location + self.path)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(ANSWER)))
            self.end_headers()
            self.wfile.write(ANSWER)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=listening.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.server_address[1]}", asked
    finally:
        listening.shutdown()
        listening.server_close()


STATUSES = [301, 302, 303, 307, 308]
SEARCH: dict[str, Any] = {"index": "i", "body": {"query": {"match_all": {}}}, "headers": {"authorization": "Bearer t"}}


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("connection", [Urllib3HttpConnection, RequestsHttpConnection])
def test_a_sync_leg_follows_no_redirect(connection: Any, status: int) -> None:
    with server(200) as (target, there), server(status, target) as (url, here):
        with OpenSearch([url], connection_class=connection, max_retries=0) as client:
            leg = cloned(client, 2)
            for _ in range(2):
                with pytest.raises(TransportError) as raised:
                    leg.search(**SEARCH)
                assert raised.value.status_code == status
                assert leg_fault(around(leg, is_async=False).fault_of(raised.value)).kind == "failed"
            leg.close()
        assert len(here) == 2
        assert there == []


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("connection", [None, AsyncHttpConnection])
async def test_an_async_leg_follows_no_redirect(connection: Any, status: int) -> None:
    more = {"connection_class": connection} if connection else {}
    with server(200) as (target, there), server(status, target) as (url, here):
        async with AsyncOpenSearch([url], max_retries=0, **more) as client, cloned(client, 2) as leg:
            for _ in range(2):
                with pytest.raises(TransportError) as raised:
                    await leg.search(**SEARCH)
                assert raised.value.status_code == status
        assert len(here) == 2
        assert there == []


def test_the_caller_s_own_client_follows_what_it_always_did() -> None:
    with server(200) as (target, there), server(307, target) as (url, _):
        with OpenSearch([url], connection_class=RequestsHttpConnection) as client:
            cloned(client, 2).close()
            assert client.search(**SEARCH) == json.loads(ANSWER)
        assert len(there) == 1
