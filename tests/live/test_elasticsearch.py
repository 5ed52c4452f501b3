"""Elasticsearch by its own client: answers, errors, forms of a search and options are the client's, and pages are personalized."""

from __future__ import annotations

import copy
import json
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from elastic_transport import ObjectApiResponse
from elasticsearch import AsyncElasticsearch, BadRequestError, Elasticsearch, NotFoundError, helpers
from typer.testing import CliRunner

from rewriter import AsyncRewriter, Reason, Rewriter, Settings, Subject
from rewriter.boost.body import bounded_body, optional_leg
from rewriter.boost.functions import Boost
from rewriter.cli import app
from rewriter.cli.given_stores import objects_of
from rewriter.client.limits import LIMITS, LegLimits
from rewriter.client.registry import around
from rewriter.client.seam import LegFault, Search, leg_fault
from rewriter.signals.counters import Counters
from rewriter.signals.memory_store import MemoryStore
from rewriter.signals.store import Keys
from tests.fakes import knowing, known, waited
from tests.live.shelf import MAPPING, MATCH, shoes
from tests.pages import ROOT, blocks

ANN = Subject("ann", "s1")


@pytest.fixture(scope="module")
def elasticsearch(elasticsearch_url: str) -> Iterator[Elasticsearch]:
    with closing(Elasticsearch(elasticsearch_url, connections_per_node=8)) as client:
        yield client


@pytest.fixture(scope="module")
def shelf(elasticsearch: Elasticsearch) -> Iterator[str]:
    """Ninety shoes on three shards."""
    name = f"shelf-{uuid.uuid4().hex[:8]}"
    shards = {"number_of_shards": 3, "number_of_replicas": 0}
    elasticsearch.indices.create(index=name, settings=shards, mappings={"properties": MAPPING})
    documents = ({"_index": name, "_id": one, "_source": source} for one, source in shoes(90).items())
    helpers.bulk(elasticsearch, documents, refresh=True)
    yield name
    elasticsearch.indices.delete(index=name)


@pytest.fixture
def settings(shelf: str) -> Settings:
    return Settings.model_validate(
        {
            "experiment": {"holdout": 0},
            "budget": {"signals_ms": 5_000, "cutoff_ms": 10_000},
            "policies": {
                "shelf": {"index": shelf, "browse": True, "max_boost": 10, "item_scale": 20, "item_repeat_share": 1.0}
            },
        }
    )


@pytest.fixture
def store() -> MemoryStore:
    """Ann likes the shoe "7"."""
    made = MemoryStore()
    made.write(Keys().profile("ann"), Counters({("item", "7"): 6.0}, {"item": 6.0}, 1.8e9), None)
    return made


FORMS: tuple[dict[str, Any], ...] = (
    {"query": MATCH, "size": 10},
    {"body": {"query": MATCH, "size": 10}},
    {"body": {"query": MATCH}, "size": 10},
    {"query": MATCH, "from_": 0, "size": 10, "track_total_hits": True, "source": ["title"]},
    {"query": MATCH, "sort": "_score", "preference": "_local", "allow_partial_search_results": True},
    {"query": MATCH, "aggs": {"b": {"terms": {"field": "brand"}}}, "highlight": {"fields": {"title": {}}}},
    {"query": MATCH, "min_score": 0.01, "post_filter": {"range": {"price": {"gte": 1}}}},
    {"query": MATCH, "collapse": {"field": "price"}},
)


def without_time(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name not in ("took", "hits")}


@pytest.mark.filterwarnings("ignore:Received:DeprecationWarning")
@pytest.mark.parametrize("form", FORMS, ids=range(len(FORMS)))
def test_every_form_of_a_search_is_personalized_in_the_client_s_own_type(
    elasticsearch: Elasticsearch, shelf: str, settings: Settings, store: MemoryStore, form: dict[str, Any]
) -> None:
    with Rewriter(elasticsearch, store, settings) as rewriter:
        known(rewriter, shelf)
        plain = elasticsearch.search(index=shelf, **copy.deepcopy(form))  # the client changes a body beside keywords
        answer, report = rewriter.search_details(index=shelf, **copy.deepcopy(form), subject=ANN)
        assert report.reason is Reason.PERSONALIZED, report
        assert type(answer) is ObjectApiResponse
        assert answer.meta.status == 200
        assert answer.body["hits"]["hits"][0]["_id"] == "7"
        assert answer["hits"]["hits"] == answer.body["hits"]["hits"]
        assert without_time(answer.body) == without_time(plain.body)
        assert report.moves, "the server named what was boosted, or the scores show it"


@pytest.mark.filterwarnings("ignore:Received:DeprecationWarning")
async def test_the_same_awaited(elasticsearch_url: str, shelf: str, settings: Settings, store: MemoryStore) -> None:
    async with AsyncElasticsearch(elasticsearch_url) as client, AsyncRewriter(client, store, settings) as rewriter:
        await knowing(rewriter, shelf)
        for form in FORMS:
            answer, report = await rewriter.search_details(index=shelf, **copy.deepcopy(form), subject=ANN)
            assert report.reason is Reason.PERSONALIZED, report
            assert type(answer) is ObjectApiResponse
            assert answer.body["hits"]["hits"][0]["_id"] == "7"


ONCE = {"mode": "rewrite", "parallel_share": 0, "hedge_ms": 20_000}


def sent_once(settings: Settings) -> Settings:
    policies = {name: policy.model_copy(update=ONCE) for name, policy in settings.policies.items()}
    return settings.model_copy(update={"policies": policies})


def is_the_plain_page_in_another_order(answer: Any, plain: Any) -> None:
    assert type(answer) is ObjectApiResponse
    assert without_time(answer.body) == without_time(plain.body)
    assert answer["hits"].get("total") == plain["hits"].get("total")
    hits = answer["hits"]["hits"]
    assert (hits[0]["_id"], len(hits)) == ("7", len(plain["hits"]["hits"]))
    assert "rewriter:" not in json.dumps(answer.body)


@pytest.mark.filterwarnings("ignore:Received:DeprecationWarning")
def test_a_search_is_sent_once(
    elasticsearch: Elasticsearch, shelf: str, settings: Settings, store: MemoryStore
) -> None:
    with Rewriter(elasticsearch, store, sent_once(settings)) as rewriter:
        known(rewriter, shelf)
        for form in FORMS:
            plain = elasticsearch.search(index=shelf, **copy.deepcopy(form))
            answer, report = rewriter.search_details(index=shelf, **copy.deepcopy(form), subject=ANN)
            assert report.reason is Reason.PERSONALIZED, report
            assert report.mode == "rewrite", (form, report)
            is_the_plain_page_in_another_order(answer, plain)
        first, _ = rewriter.search_details(index=shelf, query=MATCH, size=10, from_=0, subject=ANN)
        assert waited(
            lambda: rewriter.status().in_flight == 0
        )  # the plan is saved after the answer, and replaces an older one
        second, report = rewriter.search_details(index=shelf, query=MATCH, size=10, from_=10, subject=ANN)
    assert report.reason is Reason.PERSONALIZED, report
    pages = [hit["_id"] for page in (first, second) for hit in page["hits"]["hits"]]
    assert len(set(pages)) == len(pages) == 20


async def test_a_search_is_sent_once_and_awaited(
    elasticsearch_url: str, shelf: str, settings: Settings, store: MemoryStore
) -> None:
    given = sent_once(settings)
    async with AsyncElasticsearch(elasticsearch_url) as client, AsyncRewriter(client, store, given) as rewriter:
        await knowing(rewriter, shelf)
        plain = await client.search(index=shelf, query=MATCH, size=10)
        answer, report = await rewriter.search_details(index=shelf, query=MATCH, size=10, subject=ANN)
    assert (report.reason, report.mode) == (Reason.PERSONALIZED, "rewrite")
    is_the_plain_page_in_another_order(answer, plain)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ({"query": {"no_such_query": {}}}, BadRequestError),
        ({"query": MATCH, "index": "no-such-index"}, NotFoundError),
        ({"query": MATCH, "no_such_keyword": 1}, TypeError),
        ({"body": {"query": MATCH}, "query": MATCH}, ValueError),
    ],
)
def test_the_caller_s_errors_are_the_client_s(
    elasticsearch: Elasticsearch, shelf: str, settings: Settings, store: MemoryStore, call: Any, error: type[Exception]
) -> None:
    with Rewriter(elasticsearch, store, settings) as rewriter:
        with pytest.raises(error) as plain:
            elasticsearch.search(**{"index": shelf, **call})
        with pytest.raises(error) as ours:
            rewriter.search(**{"index": shelf, **call}, subject=ANN)
        assert (type(ours.value), ours.value.args) == (type(plain.value), plain.value.args)
        assert rewriter.status().breaker["calls"] == 0


def test_a_baseline_is_the_response_itself(
    elasticsearch: Elasticsearch, shelf: str, settings: Settings, store: MemoryStore
) -> None:
    with Rewriter(elasticsearch, store, settings) as rewriter:
        known(rewriter, shelf)
        answer, report = rewriter.search_details(index=shelf, query=MATCH, sort=["price"], subject=ANN)
        assert report.reason is Reason.SORTED
        assert answer.body["hits"]["hits"][0]["sort"] == [10]
        answer, report = rewriter.search_details(index=shelf, query=MATCH, subject=None)
        assert report.reason is Reason.NO_SUBJECT


def test_options_of_a_wrapped_client_are_respected(
    elasticsearch: Elasticsearch, shelf: str, settings: Settings, store: MemoryStore
) -> None:
    with Rewriter(elasticsearch, store, settings) as rewriter, rewriter.subject(ANN):
        client = known(rewriter, shelf).wrap()
        other = client.options(opaque_id="trace-7", request_timeout=7)
        answer = other.search(index=shelf, query=MATCH)
        assert answer.body["hits"]["hits"][0]["_id"] == "7"
        assert answer.meta.headers["x-opaque-id"] == "trace-7"
        assert client.count(index=shelf)["count"] == 90
        missing = client.options(ignore_status=404).search(index="no-such-index", query=MATCH)
        assert missing.meta.status == 404
        assert len(list(helpers.scan(client, index=shelf, query={"query": MATCH}))) == 90


def test_what_names_a_boost_under_rescore_and_wrap(elasticsearch: Elasticsearch, shelf: str) -> None:
    """The server names our functions in both, so that the report can say why a hit moved."""
    boosts = (Boost({"term": {"brand": "nike"}}, 0.5),)
    for strategy in ("rescore", "wrap"):
        body = bounded_body(optional_leg({"query": MATCH}, 0, 90), boosts, 1.5, strategy, 200)
        hits = elasticsearch.search(index=shelf, body=body)["hits"]["hits"]
        named = {hit["_source"]["brand"] for hit in hits if hit.get("matched_queries") == ["rewriter:0"]}
        assert named == {"nike"}, strategy


def test_a_leg_that_the_server_refuses_is_rejected_and_one_that_takes_too_long_is_late(
    elasticsearch: Elasticsearch, shelf: str
) -> None:
    legs = around(elasticsearch, is_async=False).cloned(2)
    try:
        with pytest.raises(legs.errors) as refused:
            legs.search(Search(shelf, {"query": {"no_such": {}}}), 5.0, is_leg=True)
        assert leg_fault(legs.fault_of(refused.value)).kind == "rejected"
        token = LIMITS.set(LegLimits(0.0, 10**9))
        try:
            with pytest.raises((LegFault, *legs.errors)) as late:
                legs.search(Search(shelf, {"query": MATCH}), 0.001, is_leg=True)
        finally:
            LIMITS.reset(token)
        error = late.value
        assert isinstance(error, Exception)
        fault = error if isinstance(error, LegFault) else leg_fault(legs.fault_of(error))
        assert fault.kind == "late"
        token = LIMITS.set(LegLimits(time.monotonic() + 60.0, 100))
        try:
            with pytest.raises(LegFault, match="max_leg_bytes"):
                legs.search(Search(shelf, {"query": MATCH}), 5.0, is_leg=True)
        finally:
            LIMITS.reset(token)
    finally:
        legs.close()


def test_our_own_requests_warn_nobody(elasticsearch: Elasticsearch, shelf: str) -> None:
    legs = around(elasticsearch, is_async=False).cloned(2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            assert legs.get_mapping(shelf, {}, 5.0)[shelf]
            assert legs.get_settings(shelf, "index.number_of_replicas", {}, 5.0)[shelf]["settings"]
            assert "brand" in legs.field_caps(shelf, 5.0)["fields"]
            assert legs.validate_query(shelf, MATCH, 5.0)["valid"]
            assert [one["name"] for one in legs.resolve_index(shelf, 5.0)["indices"]] == [shelf]
            assert legs.info(5.0)["version"]["number"].startswith("9.")
            assert legs.multi_search([Search(shelf, {"query": MATCH})], 5.0)["responses"][0]["status"] == 200
        finally:
            legs.close()


def test_collapse_beside_rescore_is_accepted_here(elasticsearch: Elasticsearch, shelf: str) -> None:
    """Where the servers differ: OpenSearch refuses it. Such a search is wrapped on both."""
    rescore = {"window_size": 20, "query": {"rescore_query": {"match_all": {}}}}
    assert elasticsearch.search(index=shelf, query=MATCH, collapse={"field": "brand"}, rescore=rescore)["hits"]["hits"]


MODES = pytest.mark.parametrize("mode", ["parallel", "rewrite"])


def in_mode(settings: Settings, mode: str, *more: str) -> Settings:
    """The settings in a mode, with more indices in their policy."""
    changed = sent_once(settings) if mode == "rewrite" else settings
    given = changed.model_dump()
    given["policies"]["shelf"]["index"] = [*changed.policies["shelf"].index, *more]
    return Settings.model_validate(given)


@MODES
def test_size_decides_what_a_knn_query_without_k_matches(
    elasticsearch: Elasticsearch, settings: Settings, store: MemoryStore, mode: str
) -> None:
    name = f"vectors-{uuid.uuid4().hex[:8]}"
    vector = {"type": "dense_vector", "dims": 2, "similarity": "l2_norm"}
    elasticsearch.indices.create(index=name, mappings={"properties": {**MAPPING, "vector": vector}})
    documents = (
        {"_index": name, "_id": one, "_source": {**source, "vector": [int(one), 1]}}
        for one, source in shoes(90).items()
    )
    helpers.bulk(elasticsearch, documents, refresh=True)
    near = {"field": "vector", "query_vector": [3, 1], "num_candidates": 50}

    def matched(knn: Mapping[str, Any], size: int) -> int:
        return int(elasticsearch.search(index=name, query={"knn": knn}, size=size)["hits"]["total"]["value"])

    try:
        assert [matched(near, size) for size in (5, 20)] == [5, 20]
        assert [matched({**near, "k": 12}, size) for size in (5, 20)] == [12, 12]
        with Rewriter(elasticsearch, store, in_mode(settings, mode, name)) as rewriter:
            known(rewriter, name)
            for query in ({"knn": near}, {"bool": {"should": [MATCH, {"knn": near}]}}):
                plain = elasticsearch.search(index=name, query=query)
                answer, report = rewriter.search_details(index=name, query=query, subject=ANN)
                assert report.reason is Reason.UNSUPPORTED
                assert without_took(answer) == without_took(plain)
            query = {"knn": {**near, "k": 12}}
            every = {hit["_id"] for hit in elasticsearch.search(index=name, query=query, size=50)["hits"]["hits"]}
            answer, report = rewriter.search_details(index=name, query=query, size=10, subject=ANN)
            assert (report.reason, answer["hits"]["total"]["value"]) == (Reason.PERSONALIZED, 12)
            assert {hit["_id"] for hit in answer["hits"]["hits"]} <= every
    finally:
        elasticsearch.indices.delete(index=name)


@pytest.mark.full
@MODES
def test_a_search_of_another_cluster_is_the_plain_one(
    elasticsearch: Elasticsearch, shelf: str, settings: Settings, store: MemoryStore, mode: str
) -> None:
    """The server is its own other cluster here; a further one cannot be reached."""
    (node,) = elasticsearch.nodes.info(metric="transport")["nodes"].values()
    remotes = {"other": node["transport"]["publish_address"], "gone": "127.0.0.1:1"}
    elasticsearch.cluster.put_settings(persistent={f"cluster.remote.{one}.seeds": at for one, at in remotes.items()})
    try:
        given = in_mode(settings, mode, f"{shelf}*", f"other:{shelf}", f"gone:{shelf}", "*:*")
        with Rewriter(elasticsearch, store, given) as rewriter:
            assert rewriter.wait_ready(10)
            for index in (
                f"other:{shelf}",
                f"{shelf},other:{shelf}",
                f"*:{shelf}",
                f"{shelf},gone:{shelf}",
                f"gone:{shelf}",
            ):
                plain = elasticsearch.search(index=index, query=MATCH)
                answer, report = rewriter.search_details(index=index, query=MATCH, subject=ANN)
                assert (report.reason, report.mode) == (Reason.NO_FACTS, "plain")
                assert without_took(answer) == without_took(plain)
            named = [text for text in rewriter.status().problems if "another cluster" in text]
            assert len(named) == 2
            part: dict[str, Any] = {"index": f"{shelf}::data", "query": MATCH, "subject": ANN}
            assert waited(lambda: rewriter.search_details(**part)[1].reason is Reason.PERSONALIZED)
    finally:
        elasticsearch.cluster.put_settings(persistent={f"cluster.remote.{one}.seeds": None for one in remotes})


def without_took(answer: ObjectApiResponse[Any]) -> dict[str, Any]:
    """A response's body without the times and the state of each cluster, which differ from search to search."""
    return {key: value for key, value in answer.body.items() if key not in ("took", "_clusters")}


def test_the_page_s_example_runs(elasticsearch: Elasticsearch, elasticsearch_url: str, redis_url: str) -> None:
    name = f"products-{uuid.uuid4().hex[:8]}"
    elasticsearch.indices.create(index=name, mappings={"properties": {"title": {"type": "text"}}})
    try:
        for block in blocks(ROOT / "docs/elasticsearch.md", "python"):
            code = block.replace('"products', f'"{name}').replace("http://127.0.0.1:9200", elasticsearch_url)
            exec(compile(code.replace("redis://127.0.0.1:6379", redis_url), "elasticsearch.md", "exec"), {})
    finally:
        elasticsearch.indices.delete(index=name)


def test_the_commands_look_at_an_elasticsearch(
    elasticsearch: Elasticsearch, elasticsearch_url: str, redis_url: str, prefix: str, tmp_path: Path
) -> None:
    name = f"products-{uuid.uuid4().hex[:8]}"
    elasticsearch.indices.create(index=name, mappings={"properties": MAPPING})
    documents = ({"_index": name, "_id": one, "_source": source} for one, source in shoes(90).items())
    helpers.bulk(elasticsearch, documents, refresh=True)
    try:
        run = CliRunner()
        init = [
            "init",
            elasticsearch_url,
            name,
            "--client",
            "elasticsearch",
            "--to",
            str(tmp_path),
            "--store",
            redis_url,
        ]
        written = run.invoke(app, init)
        assert written.exit_code == 0, written.stderr
        toml = tmp_path / "rewriter.toml"
        toml.write_text(toml.read_text().replace("[store]", f'[store]\nprefix = "{prefix}"', 1))
        assert Settings.from_toml(toml).opensearch.client == "elasticsearch"
        checked = run.invoke(app, ["check", str(toml)])
        assert checked.exit_code == 0, checked.stderr
        assert name in checked.stdout
        seen = run.invoke(app, ["status", "--toml", str(toml), "--json"])
        assert json.loads(seen.stdout)["opensearch"].startswith("ok, 9."), seen.stdout
        away = run.invoke(app, ["check", str(toml), "--opensearch", "http://127.0.0.1:9"])
        assert "ConnectionError (Connection refused); no index was checked" in away.stderr
        with Rewriter.from_settings(toml) as rewriter:
            assert type(rewriter.wrap().search(index=name, query=MATCH)) is ObjectApiResponse
        found = objects_of(Settings.from_toml(toml)).find([("_id", "7"), ("brand", "nike")])
        assert found["_id", "7"]["brand"] == "puma"
        assert found["brand", "nike"]["brand"] == "nike"
    finally:
        elasticsearch.indices.delete(index=name)
