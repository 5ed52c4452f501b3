"""Pools: shared by everyone who sends the same search, and by nobody who sends another."""

from __future__ import annotations

from typing import Any

import pytest

from rewriter.explore.pool_cache import PoolCache, pool_key

POOL = [{"_index": "i", "_id": "x", "_score": 1.0}]
SEARCH: dict[str, Any] = {"query": {"match": {"title": "shoe"}}, "min_score": 1}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([("i",), SEARCH], [("i",), {"min_score": 1, "query": {"match": {"title": "shoe"}}}]),
        ([("i",), {"a": (1, 2)}], [["i"], {"a": [1, 2]}]),
    ],
)
def test_the_same_search_has_the_same_key(one: list[Any], other: list[Any]) -> None:
    assert pool_key(*one) == pool_key(*other)


@pytest.mark.parametrize(
    "other",
    [
        [("i", "j"), SEARCH, 10],
        [("i",), SEARCH | {"min_score": 2}, 10],
        [("i",), SEARCH, 20],
        [("i",), {"query": {"match": {"title": "shoe\ud800"}}}, 10],
        [("i",), SEARCH, 10, {"authorization": "somebody else"}],
    ],
)
def test_another_search_has_another_key(other: list[Any]) -> None:
    assert pool_key(("i",), SEARCH, 10) != pool_key(*other)


@pytest.mark.parametrize(("age_s", "expected"), [(0.0, POOL), (5.0, POOL), (5.1, None)])
def test_a_pool_serves_for_five_seconds(age_s: float, expected: Any) -> None:
    pools = PoolCache()
    pools.put(b"a", POOL, 100.0)
    assert pools.get(b"a", 100.0 + age_s) == expected
    assert pools.get(b"b", 100.0) is None


def test_an_empty_pool_is_an_answer_too() -> None:
    pools = PoolCache()
    pools.put(b"a", (), 0.0)
    assert pools.get(b"a", 0.0) == ()


def test_the_oldest_goes_when_the_bytes_run_out() -> None:
    pools = PoolCache(max_bytes=120)
    for key in (b"a", b"b", b"c"):
        pools.put(key, POOL, 0.0)
    assert [pools.get(key, 0.0) for key in (b"a", b"b", b"c")] == [None, POOL, POOL]
