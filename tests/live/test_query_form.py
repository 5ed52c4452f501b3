"""Queries whose form predicts their scores score as predicted."""

from __future__ import annotations

from typing import Any

import pytest
from opensearchpy import OpenSearch

from rewriter.boost.body import bounded_body
from rewriter.boost.functions import Boost
from rewriter.query_form import relevance
from tests.live.shelf import MATCH, scores, search


@pytest.mark.parametrize(
    "query",
    [
        {"bool": {"filter": [MATCH]}},
        {"bool": {"must_not": [{"term": {"brand": "puma"}}]}},
        {"bool": {"must": [{"bool": {"filter": [MATCH]}}]}},
    ],
)
def test_filters_alone_score_nothing(opensearch: OpenSearch, products: str, query: dict[str, Any]) -> None:
    boosted = bounded_body({"query": query}, [Boost({"term": {"brand": "nike"}}, 0.3)], 1.5, "wrap", 200)
    assert relevance(query) == "none"
    assert set(scores(search(opensearch, products, boosted)).values()) == {0.0}


@pytest.mark.parametrize(
    "query",
    [
        {"match_all": {}},
        {"constant_score": {"filter": MATCH}},
        {"terms": {"brand": ["nike", "puma"]}},
        {"range": {"price": {"gt": 20}}},
        {"exists": {"field": "brand"}},
        {"prefix": {"title": "sh"}},
        {"wildcard": {"title": "sh*"}},
        {"regexp": {"title": "sh.*"}},
        {"script": {"script": "doc['price'].value > 20"}},
        {"query_string": {"query": "*"}},
        {"query_string": {"query": "*:*"}},
        {"simple_query_string": {"query": "*"}},
        {"bool": {}},
        {"bool": {"must": [{"match_all": {}}], "filter": [MATCH]}},
        {"bool": {"should": [{"exists": {"field": "brand"}}]}},
    ],
)
def test_queries_that_are_flat_by_their_form_are_flat(
    opensearch: OpenSearch, products: str, query: dict[str, Any]
) -> None:
    assert relevance(query) == "flat"
    found = scores(search(opensearch, products, {"query": query}))
    assert len(found) > 10
    assert len(set(found.values())) == 1
