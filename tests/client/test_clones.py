"""The legs' client: it reads and writes as the caller's does, on connections of its own, and gives a leg up in total time."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import certifi
import pytest
from elastic_transport import AiohttpHttpNode
from elasticsearch import AsyncElasticsearch
from opensearchpy import (
    AIOHttpConnection,
    AsyncOpenSearch,
    AsyncTransport,
    Connection,
    OpenSearch,
    RequestsHttpConnection,
    Transport,
    Urllib3HttpConnection,
)
from opensearchpy.connection_pool import ConnectionPool
from opensearchpy.serializer import JSONSerializer, Serializer

from rewriter import Rewriter, Settings, Subject
from rewriter.client.limits import LIMITS, LegLimits
from rewriter.client.opensearch import OpenSearchClient, cloned
from rewriter.client.registry import around
from rewriter.client.seam import LegFault, Search
from tests.fakes import FakeStore, waited
from tests.wire import ANSWER, Wire, byte_by_byte, chunk_by_chunk, header_by_header, whole, without_end

LEG: dict[str, Any] = {"index": "i", "body": {"query": {"match_all": {}}}}


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Wire() as opened:
        yield opened


# --- the same client --------------------------------------------------------------------------------------------------


class Decimals(JSONSerializer):
    def loads(self, s: str) -> Any:
        return json.loads(s, parse_float=Decimal)


class Marked(JSONSerializer):
    mimetype = "application/json"

    def dumps(self, data: Any) -> Any:
        return json.dumps({"marked": data})


class Yaml(Serializer):
    mimetype = "application/yaml"

    def loads(self, s: str) -> Any:
        return {"hits": {"hits": [s]}}

    def dumps(self, data: Any) -> Any:
        return json.dumps(data)


class OwnTransport(Transport):
    pass


class OwnPool(ConnectionPool):
    pass


class OwnConnection(Urllib3HttpConnection):
    def perform_request(self, *arguments: Any, **named: Any) -> Any:
        named["headers"] = {**(named.get("headers") or {}), "x-own": "yes"}
        return super().perform_request(*arguments, **named)


class OwnAsyncConnection(AIOHttpConnection):
    async def perform_request(self, *arguments: Any, **named: Any) -> Any:
        named["headers"] = {**(named.get("headers") or {}), "x-own": "yes"}
        return await super().perform_request(*arguments, **named)


def signed(method: str, url: str, body: Any) -> dict[str, str]:
    """Sign a request as a signer of AWS does."""
    return {"x-signed": f"{method} {url.rsplit('/', 1)[-1].partition('?')[0]} {len(body or b'')}"}


def prepared(clone: Any) -> Any:
    OpenSearchClient(clone, is_async=True).prepare()
    return clone


CLIENTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "decimals by serializer": {"serializer": Decimals()},
    "decimals by serializers": {"serializers": {"application/json": Decimals()}},
    "another writes": {"serializer": Marked(), "serializers": {"application/json": Decimals()}},
    "another mimetype": {"serializers": {"application/yaml": Yaml()}},
    "another default": {"serializers": {"application/yaml": Yaml()}, "default_mimetype": "application/yaml"},
    "headers": {"headers": {"X-Tenant": "one"}},
    "opaque id": {"opaque_id": "shop"},
    "basic auth": {"http_auth": ("user", "pa:ss")},
    "basic auth as text": {"http_auth": "user:pass"},
    "compression": {"http_compress": True},
    "send body as POST": {"send_get_body_as": "POST"},
    "url prefix": {"url_prefix": "cluster/one"},
}
SYNC_ONLY: dict[str, dict[str, Any]] = {
    "signer": {"http_auth": signed},
    "own connection": {"connection_class": OwnConnection},
    "own transport": {"transport_class": OwnTransport},
    "requests": {"connection_class": RequestsHttpConnection, "http_auth": ("user", "pass")},
}
ANSWERS: list[Callable[[dict[str, str]], list[bytes]]] = [
    lambda head: whole({**ANSWER, "price": 1.10}, compressed="gzip" in head.get("accept-encoding", "")),
    lambda _: whole(b'{"a": 1.50}', "application/json; charset=UTF-8"),
    lambda _: whole(b"a: 1", "application/yaml"),
    lambda _: whole(b'{"a": 0.1}', ""),
]


def received(wire: Wire) -> list[Any]:
    """Return the requests without the second of their compression, which a gzip header holds."""
    gzip = b"\x1f\x8b"
    return [
        (line, head, body[:4] + bytes(4) + body[8:] if body.startswith(gzip) else body)
        for line, head, body in wire.requests
    ]


def asked(wire: Wire, client: Any) -> list[Any]:
    """Return what a client sends, and what it makes of each answer."""
    wire.requests.clear()
    made: list[Any] = []
    for reply in ANSWERS:
        wire.reply = reply
        try:
            made.append(client.search(**LEG, request_timeout=5))
        except Exception as error:  # noqa: BLE001  what one raises, the other has to raise
            made.append((type(error), str(error)))
    return [made, received(wire)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("options", [*CLIENTS.values(), *SYNC_ONLY.values()], ids=[*CLIENTS, *SYNC_ONLY])
def test_a_clone_sends_and_reads_as_the_caller_s_client(wire: Wire, options: dict[str, Any]) -> None:
    if options.get("connection_class") is RequestsHttpConnection:
        pytest.importorskip("requests")
    client = OpenSearch([wire.url], max_retries=0, **options)
    clone = cloned(client, 4)
    assert asked(wire, clone) == asked(wire, client)
    assert isinstance(clone.transport, type(client.transport))
    client.close()
    clone.close()


@pytest.mark.parametrize(
    "options", [*CLIENTS.values(), {"connection_class": OwnAsyncConnection}], ids=[*CLIENTS, "own connection"]
)
@pytest.mark.parametrize("ready", [prepared, lambda clone: clone], ids=["prepared", "as made"])
async def test_an_async_clone_does_as_well(wire: Wire, options: dict[str, Any], ready: Callable[[Any], Any]) -> None:
    async def of(client: Any) -> list[Any]:
        wire.requests.clear()
        made: list[Any] = []
        for reply in ANSWERS:
            wire.reply = reply
            try:
                made.append(await client.search(**LEG, request_timeout=5))
            except Exception as error:  # noqa: BLE001  as above
                made.append((type(error), str(error)))
        return [made, received(wire)]

    client = AsyncOpenSearch([wire.url], max_retries=0, **options)
    clone = await asyncio.get_running_loop().run_in_executor(None, lambda: ready(cloned(client, 4)))
    assert await of(clone) == await of(client)
    assert isinstance(clone.transport, AsyncTransport)
    await client.close()
    await clone.close()


@pytest.mark.parametrize("kind", [OpenSearch, AsyncOpenSearch])
def test_a_clone_has_the_same_certificates_and_no_retries(kind: Any, tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_bytes(Path(certifi.where()).read_bytes())
    context = ssl.create_default_context()
    hosts = [{"host": f"node{n}", "port": 9200} for n in range(3)]
    for options in (
        {"use_ssl": True, "ca_certs": str(bundle)},
        {"use_ssl": True, "ssl_context": context},
        {"use_ssl": True, "verify_certs": False, "ssl_show_warn": False},
    ):
        client = kind(hosts, timeout=7, sniff_timeout=3, **options, connection_pool_class=OwnPool, dead_timeout=5)
        clone = cloned(client, 9)
        assert {name: clone.transport.kwargs[name] for name in options} == options
        assert clone.transport.kwargs["timeout"] == 7
        assert clone.transport.connection_pool_class is OwnPool
        assert clone.transport.sniff_timeout == 3
        assert (clone.transport.max_retries, clone.transport.retry_on_timeout) == (0, False)
        assert clone.transport.hosts == client.transport.hosts
        made: list[Connection] = prepared(clone).transport.connection_pool.connections
        assert [one.use_ssl for one in made] == [True] * 3
        assert issubclass(clone.transport.connection_class, client.transport.connection_class)


# --- total time -------------------------------------------------------------------------------------------------------

DRIPS = {"body": byte_by_byte, "chunks": chunk_by_chunk, "headers": header_by_header, "no end": without_end}


@pytest.mark.parametrize("connection", [Urllib3HttpConnection, OwnConnection, RequestsHttpConnection])
@pytest.mark.parametrize("drip", DRIPS.values(), ids=DRIPS)
@pytest.mark.parametrize("used_before", [False, True], ids=["a new connection", "one that is used again"])
def test_a_leg_that_drips_is_given_up_in_total_time(wire: Wire, connection: Any, drip: Any, used_before: bool) -> None:
    if connection is RequestsHttpConnection:
        pytest.importorskip("requests")
    clone = cloned(OpenSearch([wire.url], connection_class=connection), 4)
    if used_before:
        clone.search(**LEG)
    wire.reply, wire.pause_s = drip, 0.05
    began_s = time.monotonic()
    LIMITS.set(LegLimits(began_s + 0.3, 2**20))
    try:
        with pytest.raises(LegFault) as raised:
            clone.search(**LEG, request_timeout=0.3)
    finally:
        LIMITS.set(None)
    assert raised.value.kind == "late"
    assert 0.2 < time.monotonic() - began_s < 2.0
    wire.reply, wire.pause_s = lambda _: whole(ANSWER), 0.0
    assert clone.search(**LEG, request_timeout=5) == ANSWER
    clone.close()


class Patient(AIOHttpConnection):
    """A connection that keeps no time limit in total, as one of httpx does not while an answer drips."""

    async def perform_request(self, *arguments: Any, **named: Any) -> Any:
        await asyncio.sleep(0.0 if LIMITS.get() is None else 60.0)
        return await super().perform_request(*arguments, **named)


class PatientNode(AiohttpHttpNode):
    async def perform_request(self, *_: Any, **__: Any) -> Any:  # type: ignore[override]
        await asyncio.sleep(60.0)


@pytest.mark.parametrize(
    "made",
    [
        lambda url: AsyncOpenSearch([url], connection_class=Patient),
        lambda url: AsyncElasticsearch([url], node_class=PatientNode),
    ],
    ids=["opensearch-py", "elasticsearch-py"],
)
async def test_an_async_leg_is_given_up_in_total_time_whatever_its_connection_does(wire: Wire, made: Any) -> None:
    raw = made(wire.url)
    legs = around(raw, is_async=True).cloned(2)
    LIMITS.set(LegLimits(time.monotonic() + 0.1, 2**20))
    async with asyncio.timeout(5):
        with pytest.raises(LegFault) as raised:
            await legs.search(Search("i", LEG["body"]), 0.1, is_leg=True)
    assert raised.value.kind == "late"
    LIMITS.set(None)
    for one in (raw, legs):
        await one.close()


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_an_answer_in_time_is_read_whole_and_weighed(wire: Wire, compressed: bool) -> None:
    text = {**ANSWER, "text": "shoe ä " * 50_000}
    wire.reply = lambda _: whole(text, compressed=compressed)
    clone = cloned(OpenSearch([wire.url], http_compress=compressed), 4)
    size = len(json.dumps(text))
    for _ in range(3):
        limits = LegLimits(time.monotonic() + 5, size)
        LIMITS.set(limits)
        assert clone.search(**LEG, request_timeout=5) == text
        assert limits.size == size
    LIMITS.set(LegLimits(time.monotonic() + 5, size - 1))
    with pytest.raises(LegFault, match="max_leg_bytes") as raised:
        clone.search(**LEG, request_timeout=5)
    assert raised.value.kind == "too_large"
    LIMITS.set(None)
    clone.close()


async def test_a_large_answer_is_refused_on_a_loop_too(wire: Wire) -> None:
    wire.reply = lambda _: whole({**ANSWER, "text": "x" * 2_000})
    clone = cloned(AsyncOpenSearch([wire.url]), 4)
    limits = LegLimits(time.monotonic() + 5, 1_000)
    LIMITS.set(limits)
    with pytest.raises(LegFault, match="max_leg_bytes"):
        await clone.search(**LEG, request_timeout=5)
    assert limits.size > 2_000
    await clone.close()


# --- what drips holds up nobody ---------------------------------------------------------------------------------------

BUDGET = {"signals_ms": 2000, "cutoff_ms": 20, "max_in_flight": 4}
SETTINGS = Settings.model_validate(
    {"experiment": {"holdout": 0}, "budget": BUDGET, "policies": {"p": {"index": "*", "item_repeat_share": 1.0}}}
)


def dripping(wire: Wire) -> Rewriter:
    """Return a rewriter whose baseline answers, and whose legs drip for minutes."""
    from rewriter.signals.counters import Counters
    from rewriter.signals.store import Keys

    store = FakeStore()
    store.write(Keys().profile("ann"), Counters({("item", "1"): 6.0}, {"item": 6.0}, time.time()), None)
    answer = {**ANSWER, "padding": "x" * 2_000}
    facts: dict[str, Any] = {"/_settings": {"i": {"settings": {}}}, "/_mapping": {}}

    def reply(head: Any) -> Any:
        for path, found in facts.items():
            if path in head[":path"]:
                return whole(found)
        return byte_by_byte(answer) if "x-legs" in head else whole(ANSWER)

    wire.reply = reply
    legs = cloned(OpenSearch([wire.url], headers={"x-legs": "1"}), 4)
    return Rewriter(OpenSearch([wire.url], pool_maxsize=8), store, SETTINGS, leg_client=legs)


BODY: dict[str, Any] = {"query": {"match": {"title": "shoe"}}, "size": 1}


def test_places_come_back_and_close_is_bounded_behind_a_dripping_leg(wire: Wire) -> None:
    rewriter = dripping(wire)
    rewriter.search(index="i", body=BODY)  # the baseline's connection, without a pause
    assert waited(lambda: "i" in rewriter.status().indices)
    wire.pause_s = 0.05  # a leg of 2,000 bytes would take 100 s, and each `recv` is in time
    for _ in range(12):
        rewriter.search(index="i", body=BODY, subject=Subject("ann"))
    assert rewriter.status().in_flight > 0
    assert waited(lambda: rewriter.status().in_flight == 0)
    rewriter.search(index="i", body=BODY, subject=Subject("ann"))
    began_s = time.monotonic()
    rewriter.close()
    assert time.monotonic() - began_s < 4.0


EXITS = """
    import time
    from rewriter import Subject
    from tests.client.test_clones import BODY, Wire, dripping, waited
    wire = Wire()
    rewriter = dripping(wire)
    rewriter.search(index="i", body=BODY)
    assert waited(lambda: "i" in rewriter.status().indices)
    wire.pause_s = 0.5
    for _ in range(3):
        rewriter.search(index="i", body=BODY, subject=Subject("ann"))
    print("through", flush=True)
"""


def test_the_interpreter_s_exit_is_bounded_behind_a_dripping_leg() -> None:
    began_s = time.monotonic()
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(EXITS)],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (ran.stdout, ran.returncode) == ("through\n", 0), ran.stderr
    assert time.monotonic() - began_s < 60  # a leg would drip for minutes
