"""The pool cache: limits of age and bytes. tests/explore/test_shared_pools.py tests who shares a pool."""

from __future__ import annotations

import copy
import tracemalloc
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from rewriter.explore.merge import candidates_of
from rewriter.explore.pool_cache import BYTES_OF_A_HIT, BYTES_OF_AN_ENTRY, PoolCache
from rewriter.explore.slots import Candidate

POOL = [{"_index": "i", "_id": "x", "_score": 1.0}]


def of(hits: Sequence[Any]) -> tuple[Candidate, ...]:
    return candidates_of(hits, None, None)


@pytest.mark.parametrize(("age_s", "expected"), [(0.0, POOL), (5.0, POOL), (5.1, None)])
def test_a_pool_serves_for_five_seconds(age_s: float, expected: Any) -> None:
    pools = PoolCache()
    pools.put("a", of(POOL), 100.0)
    assert pools.get("a", 100.0 + age_s) == expected
    assert pools.get("b", 100.0) is None


def test_an_empty_pool_is_an_answer_too() -> None:
    pools = PoolCache()
    pools.put("a", (), 0.0)
    assert pools.get("a", 0.0) == []


def test_the_oldest_goes_when_the_bytes_run_out() -> None:
    pools = PoolCache(max_bytes=2 * (BYTES_OF_AN_ENTRY + BYTES_OF_A_HIT + 60))
    for key in ("a", "b", "c"):
        pools.put(key, of(POOL), 0.0)
    assert [pools.get(key, 0.0) for key in ("a", "b", "c")] == [None, POOL, POOL]


def nested(depth: int) -> dict[str, Any]:
    return {"in": nested(depth - 1)} if depth else {}


class Odd(dict[str, Any]):
    """A hit of a deserializer of the caller's own."""


class Unwritable:
    def __reduce__(self) -> Any:
        raise TypeError("not to be copied")


@pytest.mark.parametrize(
    "hits",
    [
        [],
        [{"_id": "1", "_score": 1.5, "_source": {"a": [1, 2.5, None, True, "é\ud800", {"b": {}}], "n": 2**80}}],
        [{"_id": "1", "_score": Decimal("1.50"), "_source": {"price": Decimal("0.1")}}],
        [{"_id": "1", "_source": {"at": datetime(2026, 1, 1, tzinfo=UTC), "tags": {"x", "y"}, "k": {(1, 2): b"z"}}}],
        [Odd({"_id": "1", "_source": Odd({"n": 1})})],
        [{"_id": "1", "_source": {"deep": nested(100)}}],
    ],
    ids=["none", "json", "decimals", "objects", "subclasses", "deep"],
)
def test_each_gets_hits_of_their_own_equal_to_those_that_came(hits: list[Any]) -> None:
    pools = PoolCache()
    before = copy.deepcopy(hits)
    pools.put("a", of(hits), 0.0)
    for hit in hits:
        hit["_source"]["mine"] = 1  # whoever sent the leg may change what it brought
    first, second = pools.get("a", 0.0), pools.get("a", 0.0)
    assert first == second == before
    assert [type(one) for one in first or ()] == [type(one) for one in before]
    for hit in first or ():
        hit["_source"]["changed"] = True
    assert pools.get("a", 0.0) == before


def test_what_cannot_be_written_as_bytes_is_not_kept() -> None:
    pools = PoolCache()
    pools.put("a", of(POOL), 0.0)
    pools.put("a", of([{"_id": "1", "_source": Unwritable()}]), 0.0)
    assert pools.get("a", 0.0) is None


class Unreadable(dict[str, Any]):
    def __setstate__(self, _: Any) -> None:
        raise TypeError("not to be made again")


def test_what_cannot_be_read_again_is_no_pool() -> None:
    pools = PoolCache()
    hit = Unreadable(_id="1")
    hit.of = "mine"  # type: ignore[attr-defined]
    pools.put("a", of([hit]), 0.0)
    assert pools.get("a", 0.0) is None
    pools.put("a", of(POOL), 0.0)
    assert pools.get("a", 0.0) == POOL


def of_many_values(n: int) -> dict[str, Any]:
    return {"specs": [{"n": f"s{n}{j}", "v": j * 1.5 + n, "ok": True} for j in range(60)]}


@pytest.mark.parametrize(
    "source",
    [
        of_many_values,
        lambda n: {"text": f"{n} " * 2_000},
        lambda n: {"n": n},
        lambda n: {f"k{n}-{j}": None for j in range(90)},
    ],
    ids=["many values", "long texts", "next to nothing", "keys of their own"],
)
@pytest.mark.parametrize("hits", [1, 20])
def test_the_bound_is_what_the_process_holds(source: Callable[[int], dict[str, Any]], hits: int) -> None:
    max_bytes = 2**18
    pools = PoolCache(max_bytes=max_bytes)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = 0
        for n in range(2_000 // hits):
            made = [
                {"_index": "p", "_id": f"{n}-{i}", "_score": 1.5, "_source": source(n * 20 + i)} for i in range(hits)
            ]
            pools.put(f"{n:016}", of(made), 0.0)
            kept += pools.get(f"{n:016}", 0.0) == made
            del made
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert held <= 1.25 * max_bytes
    assert kept == n + 1
