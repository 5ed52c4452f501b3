"""P1: the caller's own search is sent byte for byte, once, and its error is the caller's; a wrapped client is still a client."""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
from opensearchpy import AsyncOpenSearch, OpenSearch, Search, helpers
from opensearchpy.exceptions import NotFoundError, OpenSearchException, RequestError

from rewriter import AsyncRewriter, Reason, Rewriter, Settings, Subject
from rewriter.signals.memory_store import MemoryStore
from tests.fakes import awaited, knowing, known
from tests.live.shelf import MATCH, liking_7, settings_of

ANN = Subject("ann", "s1")
BODY = {"query": MATCH, "size": 10}
SUGGEST = {"s": {"text": "sho", "term": {"field": "title"}}}
OURS = ("cancel_after_time_interval", "/_mapping", "/_settings")


@dataclass(frozen=True)
class Sent:
    """One request as it arrived: line, headers in their order, body."""

    line: bytes
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Wire(ThreadingHTTPServer):
    """Stands between a client and the server, passes everything on, and keeps what it was sent."""

    daemon_threads = True

    def __init__(self, url: str) -> None:
        super().__init__(("127.0.0.1", 0), _Hop)
        self.upstream = urlsplit(url).netloc
        self.sent: list[Sent] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def baselines(self) -> list[Sent]:
        """What was sent since the last time, but for what is ours."""
        found, self.sent = self.sent, []
        return [one for one in found if not any(part in one.line.decode() for part in OURS)]


class _Hop(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Wire
    raw_requestline: bytes

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.sent.append(Sent(self.raw_requestline, tuple(self.headers.items()), body))
        upstream = http.client.HTTPConnection(self.server.upstream)
        upstream.request(self.command, self.path, body, dict(self.headers.items()))
        answer = upstream.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        upstream.close()

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _pass  # noqa: N815  their names are the module's

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def wire(opensearch_url: str) -> Iterator[Wire]:
    with Wire(opensearch_url) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def settings(products: str) -> Settings:
    return settings_of(products)


@pytest.fixture
def store() -> MemoryStore:
    return liking_7()


CALLS: tuple[tuple[Mapping[str, Any], bool], ...] = (
    ({"body": BODY}, True),
    ({"body": {"size": 3, "query": {"match": {"title": {"query": "red ünder\u2028 shoe", "boost": 1.10}}}}}, True),
    ({"body": BODY, "params": {"preference": "_local", "ignore_unavailable": "true"}}, True),
    ({"body": BODY, "headers": {"x-tenant": "ours"}, "opaque_id": "trace-7"}, True),
    ({"body": BODY, "request_timeout": 7, "allow_partial_search_results": True, "_source": ["title", "brand"]}, True),
    ({"body": BODY, "size": 5, "from_": 0, "track_total_hits": False, "routing": "x"}, True),
    ({"body": {**BODY, "aggs": {"b": {"terms": {"field": "brand"}}}, "suggest": SUGGEST}}, True),
    ({"body": '{ "query": {"match_all": {}} }'}, False),
    ({"body": {**BODY, "sort": ["price"]}}, False),
    ({}, False),
    ({"params": {"q": "title:shoe"}}, False),
)  # fmt: skip


@pytest.mark.parametrize(("call", "personalized"), CALLS, ids=range(len(CALLS)))
def test_the_caller_s_search_goes_out_byte_for_byte(
    wire: Wire, products: str, settings: Settings, store: MemoryStore, call: Mapping[str, Any], personalized: bool
) -> None:
    with OpenSearch(hosts=[wire.url]) as client, Rewriter(client, store, settings) as rewriter:
        known(rewriter, products)
        client.search(index=products, **call)
        plain = wire.baselines()
        _, report = rewriter.search_details(index=products, **call, subject=ANN)
        assert wire.baselines() == plain
        assert len(plain) == 1
        assert (report.reason is Reason.PERSONALIZED) is personalized, report


@pytest.mark.parametrize(("call", "personalized"), CALLS, ids=range(len(CALLS)))
async def test_the_same_awaited(
    wire: Wire, products: str, settings: Settings, store: MemoryStore, call: Mapping[str, Any], personalized: bool
) -> None:
    async with AsyncOpenSearch(hosts=[wire.url]) as client, AsyncRewriter(client, store, settings) as rewriter:
        await knowing(rewriter, products)
        await client.search(index=products, **call)
        plain = wire.baselines()
        _, report = await rewriter.search_details(index=products, **call, subject=ANN)
        assert wire.baselines() == plain
        assert len(plain) == 1
        assert (report.reason is Reason.PERSONALIZED) is personalized, report


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ({"body": {"query": {"no_such_query": {}}}}, RequestError),
        ({"body": {"query": MATCH, "size": -3}}, RequestError),
        ({"body": BODY, "index": "no-such-index"}, NotFoundError),
        ({"body": BODY, "no_such_parameter": 1}, TypeError),
    ],
)
def test_the_server_s_error_is_the_caller_s(
    wire: Wire, products: str, settings: Settings, store: MemoryStore, call: Mapping[str, Any], error: type[Exception]
) -> None:
    arguments = {"index": products, **call}
    with OpenSearch(hosts=[wire.url]) as client, Rewriter(client, store, settings) as rewriter:
        with pytest.raises(error) as plain:
            client.search(**arguments)
        sent = wire.baselines()
        with pytest.raises(error) as ours:
            rewriter.search(**arguments, subject=ANN)
        assert wire.baselines() == sent
        assert type(ours.value) is type(plain.value)
        if isinstance(ours.value, OpenSearchException):
            assert ours.value.args == plain.value.args
        assert rewriter.status().breaker["calls"] == 0


def test_no_failure_of_ours_sends_it_twice(wire: Wire, products: str, settings: Settings, store: MemoryStore) -> None:
    """Legs go to a port where nobody listens."""
    with (
        OpenSearch(hosts=[wire.url]) as client,
        OpenSearch(hosts=["http://127.0.0.1:9"], max_retries=0) as nowhere,
        Rewriter(client, store, settings, leg_client=nowhere) as rewriter,
    ):
        nowhere.indices = client.indices
        known(rewriter, products)
        wire.baselines()
        _, report = rewriter.search_details(index=products, body=BODY, subject=ANN)
        assert report.reason is Reason.SEARCH_FAILED
        assert len(wire.baselines()) == 1


# --- the wrapped client -----------------------------------------------------------------------------------------------


def test_a_wrapped_client_is_what_libraries_take_it_for(
    opensearch: OpenSearch, products: str, settings: Settings, store: MemoryStore
) -> None:
    with Rewriter(opensearch, store, settings) as rewriter, rewriter.subject(ANN):
        client = known(rewriter, products).wrap()
        assert client.count(index=products) == opensearch.count(index=products)
        assert client.indices.exists(index=products)
        assert len(list(helpers.scan(client, index=products, query={"query": MATCH}, size=20))) == 90
        found = Search(using=client, index=products).query("match", title="red shoe")[0:10].execute()
        assert found[0].meta.id == "7"
        assert found[0].meta.score > found[1].meta.score
        plain = Search(using=opensearch, index=products).query("match", title="red shoe")[0:10].execute()
        assert plain[0].meta.id != "7"
        assert found.hits.total.value == plain.hits.total.value


async def test_a_wrapped_async_client_is_one_too(
    opensearch_url: str, products: str, settings: Settings, store: MemoryStore
) -> None:
    async with AsyncOpenSearch(hosts=[opensearch_url]) as inner, AsyncRewriter(inner, store, settings) as rewriter:
        client = (await knowing(rewriter, products)).wrap()
        with rewriter.subject(ANN):
            found = await client.search(index=products, body=BODY)
            assert found["hits"]["hits"][0]["_id"] == "7"
        assert (await client.count(index=products))["count"] == 90

        async def nothing_in_flight() -> bool:
            return (await rewriter.status()).in_flight == 0

        await awaited(nothing_in_flight)
