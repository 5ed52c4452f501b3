"""The DSLs of both clients on a wrapped client: `Search`, `AsyncSearch` and `MultiSearch` are personalized."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import opensearchpy
import pytest
from elasticsearch import AsyncElasticsearch, Elasticsearch, dsl, helpers
from opensearchpy import AsyncOpenSearch, OpenSearch
from opensearchpy._async.helpers.search import AsyncMultiSearch, AsyncSearch

from rewriter import AsyncRewriter, Reason, Rewriter, SearchDetails, Settings, Subject
from rewriter.signals.counters import Counters
from rewriter.signals.memory_store import MemoryStore
from rewriter.signals.store import Keys
from tests.conftest import MakeIndex
from tests.fakes import knowing, known
from tests.live.shelf import MAPPING, shoes
from tests.pages import ROOT, blocks

ANN = Subject("ann", "s1")
PAGE = ROOT / "docs/dsl.md"


def settings(index: str) -> Settings:
    return Settings.model_validate(
        {
            "experiment": {"holdout": 0},
            "budget": {"signals_ms": 5_000, "cutoff_ms": 10_000},
            "policies": {
                "shelf": {"index": index, "browse": True, "max_boost": 10, "item_scale": 20, "item_repeat_share": 1.0}
            },
        }
    )


@pytest.fixture
def store() -> MemoryStore:
    """Ann likes the shoe "7"."""
    made = MemoryStore()
    made.write(Keys().profile("ann"), Counters({("item", "7"): 6.0}, {"item": 6.0}, 1.8e9), None)
    return made


@pytest.fixture(scope="module")
def shelf(elasticsearch_url: str) -> Iterator[str]:
    """Ninety shoes on Elasticsearch."""
    name = f"shelf-{uuid.uuid4().hex[:8]}"
    with closing(Elasticsearch(elasticsearch_url)) as client:
        client.indices.create(index=name, mappings={"properties": MAPPING})
        helpers.bulk(
            client, ({"_index": name, "_id": one, "_source": made} for one, made in shoes(90).items()), refresh=True
        )
        yield name
        client.indices.delete(index=name)


def ids(response: Any) -> list[str]:
    return [hit.meta.id for hit in response]


def test_opensearch_dsl(opensearch: OpenSearch, products: str, store: MemoryStore) -> None:
    seen: list[SearchDetails] = []
    with Rewriter(opensearch, store, settings(products), hooks=[seen.append]) as rewriter, rewriter.subject(ANN):
        client = known(rewriter, products).wrap()
        plain = opensearchpy.Search(using=opensearch, index=products).query("match", title="red shoe")[0:10]
        ours = opensearchpy.Search(using=client, index=products).query("match", title="red shoe")[0:10]
        assert ids(ours.execute())[0] == "7" != ids(plain.execute())[0]
        assert ours.count() == plain.count()
        assert len(list(ours.scan())) == 90
        seen.clear()
        many = opensearchpy.MultiSearch(using=client, index=products).add(ours[0:5]).add(ours.sort("price"))
        first, second = many.execute()
        assert (ids(first)[0], ids(second)[0]) == ("7", "0")
        assert [one.report.reason for one in seen] == [Reason.PERSONALIZED, Reason.SORTED]


async def test_opensearch_dsl_awaited(opensearch_url: str, products: str, store: MemoryStore) -> None:
    async with AsyncOpenSearch([opensearch_url]) as inner, AsyncRewriter(inner, store, settings(products)) as rewriter:
        client = (await knowing(rewriter, products)).wrap()
        with rewriter.subject(ANN):
            search = AsyncSearch(using=client, index=products).query("match", title="red shoe")[0:10]
            assert ids(await search.execute())[0] == "7"
            first, second = (
                await AsyncMultiSearch(using=client, index=products).add(search).add(search.sort("price")).execute()
            )
            assert (ids(first)[0], ids(second)[0]) == ("7", "0")


def test_elasticsearch_dsl(elasticsearch_url: str, shelf: str, store: MemoryStore) -> None:
    with (
        closing(Elasticsearch(elasticsearch_url)) as inner,
        Rewriter(inner, store, settings(shelf)) as rewriter,
        rewriter.subject(ANN),
    ):
        client = known(rewriter, shelf).wrap()
        plain: Any = dsl.Search(using=inner, index=shelf).query("match", title="red shoe")[0:10]
        ours: Any = dsl.Search(using=client, index=shelf).query("match", title="red shoe")[0:10]
        assert ids(ours.execute())[0] == "7" != ids(plain.execute())[0]
        assert ours.count() == plain.count()
        assert len(list(ours.scan())) == 90
        many: Any = dsl.MultiSearch(using=client, index=shelf).add(ours[0:5]).add(ours.sort("price"))
        first, second = many.execute()
        assert (ids(first)[0], ids(second)[0]) == ("7", "0")


async def test_elasticsearch_dsl_awaited(elasticsearch_url: str, shelf: str, store: MemoryStore) -> None:
    async with AsyncElasticsearch(elasticsearch_url) as inner, AsyncRewriter(inner, store, settings(shelf)) as rewriter:
        client = (await knowing(rewriter, shelf)).wrap()
        with rewriter.subject(ANN):
            search: Any = dsl.AsyncSearch(using=client, index=shelf).query("match", title="red shoe")[0:10]
            assert ids(await search.execute())[0] == "7"
            many: Any = dsl.AsyncMultiSearch(using=client, index=shelf).add(search).add(search.sort("price"))
            first, second = await many.execute()
            assert (ids(first)[0], ids(second)[0]) == ("7", "0")


def test_the_page_s_examples_run(opensearch_url: str, elasticsearch_url: str, redis_url: str, index: MakeIndex) -> None:
    name = index({"title": {"type": "text"}, "price": {"type": "integer"}}, documents=shoes(5))
    with closing(Elasticsearch(elasticsearch_url)) as client:
        client.indices.create(index=name, mappings={"properties": {"title": {"type": "text"}}})
        try:
            for block in blocks(PAGE, "python"):
                url = elasticsearch_url if "elasticsearch" in block else opensearch_url
                code = block.replace('"products', f'"{name}').replace("http://127.0.0.1:9200", url)
                exec(compile(code.replace("redis://127.0.0.1:6379", redis_url), "dsl.md", "exec"), {})
        finally:
            client.indices.delete(index=name)
