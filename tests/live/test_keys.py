"""Bodies of any type that the client can serialize, on a real server: each search gets its own hits and its own pool."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from opensearchpy import OpenSearch

from rewriter import Reason
from tests.conftest import MakeIndex
from tests.live.test_right_answers import ANN, MAPPING, MATCH, every, key, rewriter, shoes


def test_each_search_shows_what_its_own_filter_lets_through(opensearch: OpenSearch, index: MakeIndex) -> None:
    """The filters differ only where `str` of an array leaves out: in the middle."""
    numpy, pandas = pytest.importorskip("numpy"), pytest.importorskip("pandas")
    products = index(MAPPING, documents=shoes(1_200), shards=2)
    with rewriter(opensearch, products) as made:
        for kind in (numpy.array, pandas.Series):
            for start in (20, 600, 20):
                allowed = [*range(3), *range(start, start + 500), *range(1_197, 1_200), *range(9_000, 9_600)]
                query = {"bool": {"must": [MATCH], "filter": [{"terms": {"price": kind(allowed)}}]}}
                answer, report = made.search_details(index=products, body={"query": query, "size": 20}, subject=ANN)
                assert report.reason is Reason.PERSONALIZED
                assert len(report.slots) == 2
                assert {hit["_source"]["price"] for hit in answer["hits"]["hits"]} <= set(allowed)
                time.sleep(0.1)  # a pool is put where the next search finds it


BODIES: dict[str, dict[str, Any]] = {
    "aggregations by year and by name": {
        "query": MATCH,
        "aggs": {2024: {"filter": {"term": {"price": 1}}}, "brands": {"terms": {"field": "brand"}}},
    },
    "script parameters": {
        "query": {
            "script_score": {
                "query": MATCH,
                "script": {
                    "source": "1 + _score * params.w.getOrDefault(String.valueOf(doc['price'].value % 7), 1.0)",
                    "params": {"w": {1: 2.0, 2: 3.0, "default": 1.0}},
                },
            }
        }
    },
    "dates and decimals": {
        "query": {
            "bool": {
                "must": [MATCH],
                "filter": [
                    {"range": {"listed": {"gte": date(2026, 1, 1)}}},
                    {"range": {"price": {"gte": Decimal("2.5")}}},
                ],
            }
        }
    },
    "tuples": {"query": {"bool": {"must": (MATCH, {"terms": {"brand": ("puma", "nike")}})}}},
}


@pytest.mark.parametrize("name", BODIES)
def test_what_the_client_can_write_is_personalized(opensearch: OpenSearch, index: MakeIndex, name: str) -> None:
    products = index(MAPPING, documents=shoes())
    body: Mapping[str, Any] = BODIES[name]
    with rewriter(opensearch, products) as made:
        answers = [made.search_details(index=products, body=body, subject=ANN) for _ in range(12)]
        assert {report.reason for _, report in answers} == {Reason.PERSONALIZED}, answers[0][1]
        assert made.status().breaker["state"] == "closed"
    own = every(opensearch, products, body)
    answer, _ = answers[-1]
    assert all(key(hit) in own for hit in answer["hits"]["hits"])
    assert answer.get("aggregations") == opensearch.search(index=products, body=dict(body)).get("aggregations")
