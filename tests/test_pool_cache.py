"""Pools are kept for seconds and within a bound; whose they are, tests/test_shared_pools.py says."""

from __future__ import annotations

from typing import Any

import pytest

from rewriter.explore.pool_cache import PoolCache

POOL = [{"_index": "i", "_id": "x", "_score": 1.0}]


@pytest.mark.parametrize(("age_s", "expected"), [(0.0, POOL), (5.0, POOL), (5.1, None)])
def test_a_pool_serves_for_five_seconds(age_s: float, expected: Any) -> None:
    pools = PoolCache()
    pools.put("a", POOL, 100.0)
    assert pools.get("a", 100.0 + age_s) == expected
    assert pools.get("b", 100.0) is None


def test_an_empty_pool_is_an_answer_too() -> None:
    pools = PoolCache()
    pools.put("a", (), 0.0)
    assert pools.get("a", 0.0) == ()


def test_the_oldest_goes_when_the_bytes_run_out() -> None:
    pools = PoolCache(max_bytes=120)
    for key in ("a", "b", "c"):
        pools.put(key, POOL, 0.0)
    assert [pools.get(key, 0.0) for key in ("a", "b", "c")] == [None, POOL, POOL]
