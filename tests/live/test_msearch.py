"""`msearch` on the real servers: the caller's own request unchanged, each search personalized in its place, bounded as ever."""

from __future__ import annotations

import copy
from contextlib import closing
from typing import Any

import pytest
from opensearchpy import OpenSearch

from rewriter import AsyncRewriter, Reason, Rewriter, Settings, Subject
from rewriter.signals.memory_store import MemoryStore
from tests.fakes import knowing, known
from tests.live.engine import async_search_client, search_client
from tests.live.shelf import MATCH, liking_7, scores, search, settings_of

ANN = Subject("ann", "s1")


@pytest.fixture
def settings(products: str) -> Settings:
    return settings_of(products)


@pytest.fixture
def store() -> MemoryStore:
    return liking_7()


def lines(index: str) -> list[Any]:
    bodies: list[dict[str, Any]] = [
        {"query": MATCH, "size": 10, "aggs": {"b": {"terms": {"field": "brand"}}}},
        {"query": MATCH, "size": 10, "sort": ["price"]},
        {"query": MATCH, "size": 20, "highlight": {"fields": {"title": {}}}},
        {"query": MATCH, "size": 10, "collapse": {"field": "price"}},
        {"query": MATCH, "size": 0},
    ]
    found = [line for body in bodies for line in ({"index": index, "preference": "_local"}, body)]
    return [*found, {"index": "no-such-index"}, {"query": MATCH}]


EXPECTED = [
    Reason.PERSONALIZED, Reason.SORTED, Reason.PERSONALIZED, Reason.PERSONALIZED, Reason.NO_HITS, Reason.BASELINE_PARTIAL,
]  # fmt: skip


def held(plain: Any, answer: Any, reports: Any) -> None:
    reasons = [report.reason for report in reports]
    assert reasons[:5] == EXPECTED[:5], reports
    assert reasons[5] in (Reason.BASELINE_PARTIAL, Reason.NO_POLICY)
    for own, one, reason in zip(plain["responses"], answer["responses"], reasons, strict=True):
        assert {k: v for k, v in one.items() if k not in ("took", "hits")} == {
            k: v for k, v in own.items() if k not in ("took", "hits")
        }
        if reason is Reason.PERSONALIZED:
            assert one["hits"]["hits"][0]["_id"] == "7"
            assert one["hits"]["total"] == own["hits"]["total"]
        else:
            assert one.get("hits") == own.get("hits")


def test_a_batch_is_personalized_in_its_places(
    opensearch_url: str, products: str, settings: Settings, store: MemoryStore
) -> None:
    with closing(search_client(opensearch_url)) as client, Rewriter(client, store, settings) as rewriter:
        known(rewriter, products)
        plain = client.msearch(body=lines(products))
        given = lines(products)
        answer, reports = rewriter.msearch_details(body=given, subject=ANN)
        assert given == lines(products)
        assert type(answer) is type(plain)
        held(plain, answer, reports)


async def test_the_same_awaited(opensearch_url: str, products: str, settings: Settings, store: MemoryStore) -> None:
    client = async_search_client(opensearch_url)
    async with client, AsyncRewriter(client, store, settings) as rewriter:
        await knowing(rewriter, products)
        plain = await client.msearch(body=lines(products))
        answer, reports = await rewriter.msearch_details(body=lines(products), subject=ANN)
        assert type(answer) is type(plain)
        held(plain, answer, reports)


def test_scores_of_a_batch_are_bounded(
    opensearch: OpenSearch, opensearch_url: str, products: str, settings: Settings, store: MemoryStore
) -> None:
    base = scores(search(opensearch, products, {"query": MATCH}))
    with closing(search_client(opensearch_url)) as client, Rewriter(client, store, settings) as rewriter:
        known(rewriter, products)
        body = {"query": MATCH, "size": 30}
        answer, _ = rewriter.msearch_details(body=[{"index": products}, body] * 3, subject=ANN)
        for one in answer["responses"]:
            ratios = [hit["_score"] / base[hit["_id"]] for hit in one["hits"]["hits"]]
            assert min(ratios) >= 1 - 1e-6
            assert 2.0 < max(ratios) <= 10 * (1 + 1e-6)


def test_a_batch_that_the_server_refuses_is_the_caller_s_error(
    opensearch_url: str, products: str, settings: Settings, store: MemoryStore
) -> None:
    broken = [{"index": products}, {"query": {"no_such": {}}}, {"index": products}, {"query": MATCH}]
    with closing(search_client(opensearch_url)) as client, Rewriter(client, store, settings) as rewriter:
        known(rewriter, products)
        with pytest.raises(Exception, match=r"no_such|parsing") as plain:
            client.msearch(body=copy.deepcopy(broken))
        with pytest.raises(type(plain.value)) as ours:
            rewriter.msearch(body=broken, subject=ANN)
        assert ours.value.args == plain.value.args
        assert rewriter.status().breaker["calls"] == 0
