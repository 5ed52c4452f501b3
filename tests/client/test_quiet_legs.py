"""A leg that fails leaves the log of the client's library alone: at a steady 5 % of late legs, it would fill the caller's log."""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable, Iterator
from functools import partial
from inspect import isawaitable
from typing import Any

import pytest
from elasticsearch import AsyncElasticsearch, Elasticsearch
from opensearchpy import AsyncHttpConnection, AsyncOpenSearch, OpenSearch, RequestsHttpConnection, Urllib3HttpConnection

from rewriter.client.limits import LIMITS, LegLimits
from rewriter.client.registry import around
from rewriter.client.seam import LegFault, Search
from tests.wire import Wire, byte_by_byte, without_end

LEG_S = 0.05
CLIENTS: dict[str, Callable[[str], Any]] = {
    "opensearch-py": lambda url: OpenSearch([url], connection_class=Urllib3HttpConnection),
    "opensearch-py, requests": lambda url: OpenSearch([url], connection_class=RequestsHttpConnection),
    "opensearch-py, aiohttp": lambda url: AsyncOpenSearch([url]),
    "opensearch-py, AsyncHttpConnection": lambda url: AsyncOpenSearch([url], connection_class=AsyncHttpConnection),
    "elasticsearch-py": lambda url: Elasticsearch([url]),
    "elasticsearch-py, aiohttp": lambda url: AsyncElasticsearch([url]),
}


def refused(_: Any) -> list[bytes]:
    text = b'{"error": {"type": "x", "reason": "y"}, "status": 400}'
    head = f"HTTP/1.1 400 Bad\r\ncontent-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n"
    return [head.encode() + text]


ANSWERS: dict[str, Callable[[Any], list[bytes]]] = {
    "late": lambda _: [b""] * 10,
    "dripping": lambda _: byte_by_byte({"hits": {"hits": []}}),
    "cut": lambda _: without_end({"hits": {"hits": []}}),
    "refused": refused,
}


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Wire(pause_s=0.02) as opened:  # a late answer takes longer than LEG_S
        yield opened


async def leg(client: Any) -> None:
    """Send a leg that fails, as a shell does."""
    LIMITS.set(LegLimits(time.monotonic() + LEG_S, 10**6))
    try:
        found = client.search(Search("i", {"query": {"match_all": {}}}, {}, {}), LEG_S, is_leg=True)
        if isawaitable(found):
            await found
    except (LegFault, *client.errors):
        return
    raise AssertionError("it answered")


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("kind", CLIENTS)
async def test_a_leg_that_fails_logs_nothing(
    wire: Wire, kind: str, answer: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING")
    wire.reply = ANSWERS[answer]
    raw = CLIENTS[kind](wire.url)
    legs = around(raw, is_async="Async" in type(raw).__name__).cloned(2)
    for _ in range(2):
        await contextvars.copy_context().run(partial(leg, legs))
    for one in (legs.close(), raw.close()):
        if isawaitable(one):
            await one
    assert caplog.messages == []


async def test_at_level_debug_a_leg_that_fails_is_logged(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "opensearch")
    wire.reply = ANSWERS["late"]
    with CLIENTS["opensearch-py"](wire.url) as raw:
        legs = around(raw, is_async=False).cloned(1)
        await leg(legs)
        legs.close()
    assert sum("_search" in one.getMessage() for one in caplog.records) == 1
