"""The engines that the other live tests stand on are real ones, and what tests make in them stays apart."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis
from opensearchpy import OpenSearch

from rewriter_engines import Valkey
from tests.conftest import MakeIndex


def test_opensearch_scores_as_the_real_one_does(opensearch: OpenSearch, index: MakeIndex) -> None:
    name = index({"brand": {"type": "keyword"}}, documents={"1": {"brand": "acme"}, "2": {"brand": "other"}}, shards=2)
    functions = [{"weight": 1}, {"filter": {"term": {"brand": "acme"}}, "weight": 0.9}]
    query = {"functions": functions, "score_mode": "sum", "boost_mode": "multiply", "max_boost": 1.5}
    answer = opensearch.search(index=name, body={"query": {"function_score": {"query": {"match_all": {}}, **query}}})
    scores = {hit["_id"]: hit["_score"] for hit in answer["hits"]["hits"]}
    assert scores == {"1": pytest.approx(1.5), "2": pytest.approx(1.0)}


def test_indices_are_apart(index: MakeIndex) -> None:
    assert index() != index()


def test_redis_answers(redis_url: str, prefix: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set(f"{prefix}:greeting", "hello")
        assert client.get(f"{prefix}:greeting") == b"hello"


def test_servers_of_a_tests_own_are_apart(valkey_server: Callable[..., Valkey]) -> None:
    one, other = valkey_server(), valkey_server(appendonly=True)
    with one.client() as client:
        client.set("k", "v")
    with other.client() as client:
        assert client.get("k") is None


def test_the_cluster_has_three_nodes(redis_cluster_urls: list[str]) -> None:
    assert len(set(redis_cluster_urls)) == 3
