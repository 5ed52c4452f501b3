"""Arguments of a rewriter: wrong objects are refused in a sentence; a wrapped client and a report behave as Python expects."""

from __future__ import annotations

import copy
import pickle
from functools import partial, partialmethod
from pathlib import Path
from types import MappingProxyType
from typing import Any

import elastic_transport
import pytest
from elasticsearch import AsyncElasticsearch, Elasticsearch
from opensearchpy import AsyncOpenSearch, AsyncTransport, OpenSearch, Transport, Urllib3HttpConnection

from rewriter import AsyncRewriter, BoostUsed, ConfigurationError, Reason, Report, Rewriter, Settings, Slot
from rewriter.client.opensearch import cloned
from rewriter.client.registry import around
from rewriter.client.seam import Search
from rewriter.errors import Fault
from rewriter.report import Move, PageFacts
from rewriter.shell.given import Shell, checked_hooks
from tests.fakes import Client, FakeEngine

HOST = ["http://127.0.0.1:9"]


class Shop(OpenSearch):
    """A client with a constructor of its own, as teams write them."""

    def __init__(self, *, tenant: str) -> None:
        super().__init__(hosts=HOST)
        self.tenant = tenant


class AsyncShop(AsyncOpenSearch):
    def __init__(self, tenant: str) -> None:
        super().__init__(hosts=HOST)
        self.tenant = tenant


class Proxy:
    """A stand-in, as tracing libraries make them."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


REFUSED: list[tuple[Shell, Any, str]] = [
    ("Rewriter", "http://127.0.0.1:9200", "client: a str is not an OpenSearch (give client=opensearchpy.OpenSearch(hosts=…))"),
    ("Rewriter", None, "client: a NoneType is not an OpenSearch"),
    ("Rewriter", {"hosts": HOST}, "client: a dict is not an OpenSearch"),
    ("Rewriter", OpenSearch, "client: the class opensearchpy.client.OpenSearch is not an OpenSearch"),
    ("Rewriter", AsyncShop("t"), "give it to AsyncRewriter, or make it an opensearchpy.OpenSearch"),
    ("AsyncRewriter", Shop(tenant="t"), "give it to Rewriter, or make it an opensearchpy.AsyncOpenSearch"),
    ("Rewriter", AsyncElasticsearch(HOST), "is not an Elasticsearch (give it to AsyncRewriter, or"),
    ("AsyncRewriter", Elasticsearch(HOST), "give it to Rewriter, or make it an elasticsearch.AsyncElasticsearch"),
    ("Rewriter", Proxy(Elasticsearch(HOST)), "give leg_client=opensearchpy.OpenSearch(…)"),
    ("Rewriter", Proxy(Shop(tenant="t")), "give leg_client=opensearchpy.OpenSearch(…)"),
    ("AsyncRewriter", Proxy(AsyncShop("t")), "give leg_client=opensearchpy.AsyncOpenSearch(…)"),
]  # fmt: skip


def refusal(shell: Shell, client: Any, **others: Any) -> tuple[Fault, ...]:
    arguments = {"leg_client": None, "settings": None, "hooks": (), **others}
    with pytest.raises(ConfigurationError) as refused:
        checked_hooks(shell, client, **arguments)
    return refused.value.faults


@pytest.mark.parametrize(("shell", "client", "said"), REFUSED)
def test_a_wrong_client_is_refused_in_a_sentence(shell: Shell, client: Any, said: str) -> None:
    (fault,) = refusal(shell, client)
    assert said in str(fault)


@pytest.mark.parametrize("make", [Rewriter, AsyncRewriter])
def test_both_shells_refuse_what_they_are_given_before_they_begin(make: Any) -> None:
    with pytest.raises(ConfigurationError) as refused:
        make("http://user:hunter2@h", settings={"policies": {}}, hooks=[1], leg_client=5)
    wrong = [fault.where for fault in refused.value.faults]
    assert wrong == ["client", "leg_client", "settings", "hooks"]
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ({"settings": {"policies": {}}}, "settings: a dict is no Settings (give Settings.from_toml(path)"),
        ({"settings": "rewriter.toml"}, "settings: a str is no Settings"),
        ({"settings": Path("rewriter.toml")}, "is no Settings"),
        ({"settings": Settings}, "settings: the class rewriter.settings.Settings is no Settings"),
        ({"hooks": print}, "hooks: a builtin_function_or_method is not a list of hooks (give hooks=[function])"),
        ({"hooks": "log"}, "hooks: a str is not a list of hooks"),
        ({"hooks": [print, "log"]}, "hooks: a str cannot be called"),
        ({"leg_client": HOST[0]}, "leg_client: a str is not an OpenSearch"),
        (
            {"leg_client": Elasticsearch(HOST)},
            "Elasticsearch is of another client library (give leg_client=opensearchpy.OpenSearch(…))",
        ),
    ],
)
def test_other_wrong_arguments_are_refused_in_a_sentence(others: dict[str, Any], said: str) -> None:
    (fault,) = refusal("Rewriter", Shop(tenant="t"), **others)
    assert said in str(fault)


async def an_async_hook(_: Any) -> None: ...


async def one_that_yields(_: Any) -> Any:
    yield


class CalledAsync:
    async def __call__(self, _: Any) -> None: ...

    async def note(self, _: Any) -> None: ...


@pytest.mark.parametrize("shell", ["Rewriter", "AsyncRewriter"])
@pytest.mark.parametrize(
    "hook", [an_async_hook, one_that_yields, CalledAsync(), CalledAsync().note, partial(partial(an_async_hook), _=1)]
)
def test_an_async_hook_is_refused_since_nobody_would_await_it(shell: Shell, hook: Any) -> None:
    client = Shop(tenant="t") if shell == "Rewriter" else AsyncShop("t")
    (fault,) = refusal(shell, client, hooks=[print, hook])
    assert "is async, and hooks are called, not awaited (give a plain function" in str(fault)


def test_hooks_may_come_from_a_generator() -> None:
    hooks = checked_hooks("Rewriter", Shop(tenant="t"), None, None, (hook for hook in (print,)))
    assert hooks == (print,)


class Tracing(Transport):
    def __init__(self, hosts: Any, *arguments: Any, tracer: Any, **others: Any) -> None:
        super().__init__(hosts, *arguments, **others)
        self.tracer = tracer


class AsyncTracing(AsyncTransport):
    def __init__(self, hosts: Any, *arguments: Any, tracer: Any, **others: Any) -> None:
        super().__init__(hosts, *arguments, **others)
        self.tracer = tracer


class Choosy(Urllib3HttpConnection):
    def __init__(self, *arguments: Any, **others: Any) -> None:
        if "headers" not in others:
            raise ValueError("http://user:hunter2@h")
        super().__init__(*arguments, **others)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_client_whose_transport_asks_for_more_is_refused_in_a_sentence(kind: str) -> None:
    if kind == "sync":
        make: Any = Rewriter
        client: Any = OpenSearch(HOST, transport_class=Tracing, tracer=[])
    else:
        make = AsyncRewriter
        client = AsyncOpenSearch(HOST, transport_class=AsyncTracing, tracer=[])
    with pytest.raises(ConfigurationError) as refused:
        make(client)
    (fault,) = refused.value.faults
    assert fault.where == "client"
    assert "missing 1 required keyword-only argument: 'tracer'" in fault.what
    assert f"leg_client=opensearchpy.{'OpenSearch' if kind == 'sync' else 'AsyncOpenSearch'}" in str(fault)


class Filtering(OpenSearch):
    """A client that restricts each search, as those of tenants do."""

    def __init__(self, *, tenant: str) -> None:
        super().__init__(hosts=HOST, max_retries=3)
        self.tenant = tenant

    def search(self, **arguments: Any) -> Any:
        return super().search(**{**arguments, "params": {**arguments.get("params", {}), "routing": self.tenant}})


class AsyncFiltering(AsyncOpenSearch):
    def __init__(self, tenant: str) -> None:
        super().__init__(hosts=HOST)
        self.tenant = tenant

    async def search(self, **arguments: Any) -> Any:
        return await super().search(**{**arguments, "params": {**arguments.get("params", {}), "routing": self.tenant}})

    async def msearch(self, **arguments: Any) -> Any:
        return await super().msearch(**{**arguments, "params": {"routing": self.tenant}})


class Mixin:
    def search(self, **_: Any) -> Any: ...


class Mixed(Mixin, Elasticsearch):
    pass


class Sending(AsyncElasticsearch):
    async def perform_request(self, *arguments: Any, **named: Any) -> Any:
        return await super().perform_request(*arguments, **named)


def patched(client: Any) -> Any:
    client.search = partial(client.search, routing="tenant")
    return client


@pytest.mark.parametrize(
    ("shell", "client", "said"),
    [
        ("Rewriter", Mixed(HOST), "Mixed has its own `search`, which optional legs do not go through (give leg_client="),
        ("AsyncRewriter", Sending(HOST), "has its own `perform_request`"),
    ],
)  # fmt: skip
def test_a_client_that_changes_searches_by_itself_is_refused(shell: Shell, client: Any, said: str) -> None:
    """A clone would send the legs without the filter of a tenant, and their hits would be on the page."""
    (fault,) = refusal(shell, client)
    assert said in str(fault)
    assert fault.where == "client"
    assert "must restrict them as this client does" in fault.remedy


def test_an_elasticsearch_leg_client_must_restrict_by_its_transport() -> None:
    (fault,) = refusal("AsyncRewriter", Sending(HOST), leg_client=Sending(HOST))
    assert (fault.where, fault.remedy) == (
        "leg_client",
        "give an elasticsearch.AsyncElasticsearch whose transport does the same",
    )


def sent_by(client: Any) -> tuple[list[Any], Any]:
    """Return the parameters of what a client's transport sends, and the transport."""
    sent: list[Any] = []

    def perform_request(*_: Any, params: Any = None, **__: Any) -> Any:
        sent.append(dict(params or {}))
        return {"hits": {"hits": []}}

    async def perform_request_async(*arguments: Any, **named: Any) -> Any:
        return perform_request(*arguments, **named)

    is_async = isinstance(client, AsyncOpenSearch)
    client.transport.perform_request = perform_request_async if is_async else perform_request
    return sent, client.transport


def test_legs_go_through_the_search_that_a_client_s_class_overrides() -> None:
    """Without it the legs would find what a tenant's filter hides from the baseline."""
    client = Filtering(tenant="acme")
    assert checked_hooks("Rewriter", client, None, None, ()) == ()
    clone = around(client, None, is_async=False).cloned(4)
    of_client, _ = sent_by(client)
    of_legs, transport = sent_by(clone.raw)
    clone.search(Search("shop", {"query": {"match_all": {}}}), 1.0, is_leg=True)
    assert [one["routing"] for one in of_legs] == ["acme"]
    assert (of_client, transport.max_retries, client.transport.max_retries) == ([], 0, 3)
    assert clone.raw.indices.client.transport is transport


async def test_legs_of_the_async_shell_go_through_it_too() -> None:
    client = AsyncFiltering("acme")
    assert checked_hooks("AsyncRewriter", client, None, None, ()) == ()
    clone = around(client, None, is_async=True).cloned(4)
    of_client, _ = sent_by(client)
    of_legs, _ = sent_by(clone.raw)
    search = Search("shop", {"query": {"match_all": {}}})
    await clone.search(search, 1.0, is_leg=True)
    await clone.multi_search([search], 1.0)
    assert [one["routing"] for one in of_legs] == ["acme", "acme"]
    assert of_client == []


def test_legs_do_not_go_through_a_search_that_is_set_on_the_object_which_the_log_says(
    caplog: pytest.LogCaptureFixture,
) -> None:
    Rewriter(OpenSearch(HOST)).close()
    assert not caplog.records
    Rewriter(patched(OpenSearch(HOST))).close()
    assert [one.levelname for one in caplog.records] == ["WARNING"]
    assert "`search` is set on the object, and optional legs do not go through it" in caplog.text


def test_a_method_that_a_tracing_library_replaces_in_the_library_is_not_the_caller_s_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(OpenSearch, "search", partialmethod(OpenSearch.search))
    assert checked_hooks("Rewriter", Shop(tenant="t"), None, None, ()) == ()


class Named(Transport):
    """A transport with an argument that may be left out: its clone would fall back to another tenant in silence."""

    def __init__(self, *arguments: Any, tenant: str = "default", shards: int = 0, **others: Any) -> None:
        super().__init__(*arguments, **others)
        self._tenant, self.shards, self.requests = tenant, shards, 0


class Popping(AsyncTransport):
    def __init__(self, *arguments: Any, **others: Any) -> None:
        self.tenant = others.pop("tenant", "default")
        super().__init__(*arguments, **others)


class NamedToo(elastic_transport.Transport):
    def __init__(self, *arguments: Any, tenant: Any = None, **others: Any) -> None:
        super().__init__(*arguments, **others)
        self.tenant = tenant


def with_own_transport(tenant: Any) -> Elasticsearch:
    client = Elasticsearch(HOST)
    client._transport = NamedToo([elastic_transport.NodeConfig("http", "h", 9)], tenant=tenant)
    client._transport.serializers = Elasticsearch(HOST).transport.serializers
    return client


def signing(client: OpenSearch) -> OpenSearch:
    client.transport.perform_request = partial(client.transport.perform_request, headers={"x-tenant": "acme"})  # type: ignore[method-assign]
    return client


@pytest.mark.parametrize(
    ("make", "client", "lacks"),
    [
        (Rewriter, lambda: OpenSearch(HOST, transport_class=Named, tenant="acme"), "Named would lack its `_tenant`"),
        (Rewriter, lambda: OpenSearch(HOST, transport_class=Named, shards=3), "Named would lack its `shards`"),
        (AsyncRewriter, lambda: AsyncOpenSearch(HOST, transport_class=Popping, tenant="acme"), "Popping would lack its `tenant`"),
        (Rewriter, lambda: with_own_transport(object()), "NamedToo would lack its `tenant`"),
        (Rewriter, lambda: signing(OpenSearch(HOST)), "Transport would lack its `perform_request`"),
    ],
)  # fmt: skip
def test_a_client_whose_clone_would_lack_what_its_transport_was_given_is_refused(
    make: Any, client: Any, lacks: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        make(client())
    (fault,) = refused.value.faults
    assert f"can be made from it (the clone's {lacks})" in fault.what
    assert "acme" not in str(refused.value)


@pytest.mark.parametrize("client", [lambda: OpenSearch(HOST, transport_class=Named), lambda: with_own_transport(None)])
def test_state_that_a_transport_makes_by_itself_is_no_reason(client: Any) -> None:
    made = client()
    made.transport.requests = 7  # a counter that went on
    Rewriter(made).close()


def test_what_else_a_clone_fails_with_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    client = OpenSearch(HOST, connection_class=Choosy, headers={"x": "y"})
    monkeypatch.delitem(client.transport.kwargs, "headers")
    with pytest.raises(ConfigurationError, match=r"client: no client .* can be made from it \(ValueError\)") as refused:
        Rewriter(client)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("client", [Shop(tenant="t"), AsyncShop("t")], ids=["sync", "async"])
def test_a_client_with_a_constructor_of_its_own_gets_a_leg_client_of_the_library(client: Any) -> None:
    legs = cloned(client, 4)
    assert type(legs) in (OpenSearch, AsyncOpenSearch)
    assert legs.transport.hosts == client.transport.hosts


def test_a_proxy_serves_where_a_leg_client_is_given() -> None:
    with Rewriter(Proxy(Client(FakeEngine(), "baseline")), leg_client=Client(FakeEngine())) as rewriter:
        assert rewriter.search(index="i", body={"query": {"match": {"t": "x"}}})["hits"]["hits"]


def test_from_settings_takes_a_client(tmp_path: Path) -> None:
    toml = tmp_path / "rewriter.toml"
    toml.write_text('[policies.shop]\nindex = "shop"\n')
    client = Shop(tenant="t")
    with Rewriter.from_settings(toml, client=client) as rewriter:
        assert rewriter.wrap().tenant == "t"
        assert list(rewriter.settings.policies) == ["shop"]


# --- the wrapped client -----------------------------------------------------------------------------------------------


@pytest.fixture
def client() -> Client:
    return Client(FakeEngine(), "baseline")


def test_a_wrapped_client_is_entered_left_copied_set_and_listed_as_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = Shop(tenant="t")
    closed: list[bool] = []
    monkeypatch.setattr(inner, "close", lambda: closed.append(True))
    with Rewriter(inner, leg_client=Client(FakeEngine())) as rewriter:
        with rewriter.wrap() as shop:
            assert shop.tenant == "t"
        assert closed == [True]
        twin = copy.copy(shop)
        assert (twin.tenant, twin.indices) == ("t", twin._seam.raw.indices)
        twin.tenant = "other"
        assert (twin.tenant, inner.tenant) == ("other", "t")
        shop.note = "set on the client"
        assert inner.note == "set on the client"  # type: ignore[attr-defined]
        del shop.note
        assert not hasattr(inner, "note")
        assert {"search", "indices", "tenant"} <= set(dir(shop))
        with pytest.raises(AttributeError):
            object.__new__(type(shop)).anything  # noqa: B018  as copy and pickle make one


async def test_an_async_wrapped_client_is_entered_and_left() -> None:
    inner = AsyncShop("t")
    async with AsyncRewriter(inner, leg_client=Client(FakeEngine())) as rewriter, rewriter.wrap() as shop:
        assert shop.tenant == "t"


def test_the_repr_of_a_wrapped_client_shows_no_credentials() -> None:
    with Rewriter(OpenSearch(["http://search:hunter2@127.0.0.1:9"])) as rewriter:
        assert repr(rewriter.wrap()) == "<rewriter around opensearchpy.client.OpenSearch>"


# --- the report -------------------------------------------------------------------------------------------------------


def test_a_report_is_pickled_copied_and_shown() -> None:
    move = Move("p1", 3, 0, 1.2, (0,), "names")
    report = Report(
        Reason.PERSONALIZED,
        policy="shop",
        source="profile",
        boosts=(BoostUsed("brand", "nike", 0.2, "profile"),),
        slots=(Slot(6, "p9", 0.25),),
        timings_ms=MappingProxyType({"added": 3.21}),  # not even a dict
        explain=lambda: (move,),  # pickle refuses a function like this one
        weigh_page=lambda: PageFacts(10, 9, 1, 0, 1, 1),
    )
    for twin in (pickle.loads(pickle.dumps(report)), copy.deepcopy(report), copy.copy(report)):
        assert twin == report
        assert twin.moves == (move,)
        assert twin.page_facts == report.page_facts
    assert repr(report) == "<Report: personalized, policy shop, profile, 1 boost, 1 exploration hit, 3.2 ms added>"
    assert "brand = nike: + 0.20 (profile)" in report._repr_html_()


def test_the_table_of_a_report_escapes_what_it_shows() -> None:
    assert "<script>" not in Report(Reason.UNSUPPORTED, "<script>")._repr_html_()


def test_a_search_after_close_reaches_the_hooks(client: Client) -> None:
    seen: list[Any] = []
    rewriter = Rewriter(client, leg_client=Client(FakeEngine()), hooks=[seen.append])
    rewriter.close()
    rewriter.search(index="i", body={})
    assert [(one.indices, one.report.reason) for one in seen] == [(("i",), "switched_off")]
