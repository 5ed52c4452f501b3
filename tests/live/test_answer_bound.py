"""A store's answer beyond the limit is cut off on receipt, on every kind of connection, and its search is not delayed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import redis

from rewriter.errors import AnswerTooLargeError
from rewriter.signals.counters import Counters
from rewriter.signals.redis_store import AsyncRedisStore, RedisStore
from rewriter.signals.store import Keys, SignalsQuery
from rewriter_engines import Valkey

MOST = 2**20
FIELDS = ("brand",)
KEYS = Keys()


def query(user: str) -> SignalsQuery:
    return SignalsQuery(None, KEYS.profile(user), None, FIELDS, 128)


def fill(raw: Any, url: str) -> dict[str, int]:
    """Profiles that are too large, each in another way, and one that is not; what each reads, in bytes."""
    store, now_s = RedisStore(url), time.time()
    for user in ("good", "members", "field", "many"):
        store.write(KEYS.profile(user), Counters({("brand", "nike"): 5.0}, {"brand": 5.0}, now_s, now_s, 1.0), None)
    store.close()
    for number in range(40):
        raw.zadd(f"{KEYS.profile('members')}:z", {b"brand\x1f%d" % number + b"x" * 1_000_000: 9.0})
    raw.hset(f"{KEYS.profile('field')}:m", "total:brand", b"9" * 60_000_000)
    raw.zadd(f"{KEYS.profile('many')}:z", {b"brand\x1f%d" % n + b"x" * 30_000: 9.0 for n in range(128)})
    return {"members": 40_000_000, "field": 60_000_000, "many": 3_800_000}


class Sync:
    def __init__(self, url: str, most: int | None) -> None:
        self.store = RedisStore(url, max_answer_bytes=most)

    def read(self, user: str) -> Any:
        return self.store.read(query(user))

    def close(self) -> None:
        self.store.close()


class Async:
    def __init__(self, url: str, most: int | None) -> None:
        self.runner = asyncio.Runner()
        self.store = AsyncRedisStore(url, max_answer_bytes=most)

    def read(self, user: str) -> Any:
        return self.runner.run(self.store.read(query(user)))

    def close(self) -> None:
        self.runner.run(self.store.close())
        self.runner.close()


SIDES = pytest.mark.parametrize("side", [Sync, Async])


@pytest.fixture(scope="module")
def single() -> Iterator[tuple[str, dict[str, int]]]:
    with Valkey() as valkey, redis.Redis.from_url(valkey.url) as raw:
        yield valkey.url, fill(raw, valkey.url)


@pytest.fixture(scope="module")
def cluster(redis_cluster_urls: list[str]) -> Iterator[tuple[str, dict[str, int]]]:
    hosts = ",".join(url.removeprefix("redis://") for url in redis_cluster_urls)
    with redis.RedisCluster.from_url(redis_cluster_urls[0]) as raw:
        yield f"redis+cluster://{hosts}", fill(raw, f"redis+cluster://{hosts}")
        for user in ("good", "members", "field", "many"):
            raw.delete(f"{KEYS.profile(user)}:z", f"{KEYS.profile(user)}:m")


@pytest.fixture(params=["single", "cluster", "protocol 3"])
def engine(request: pytest.FixtureRequest) -> tuple[str, dict[str, int]]:
    url, sizes = request.getfixturevalue("cluster" if request.param == "cluster" else "single")
    return (f"{url}?protocol=3" if request.param == "protocol 3" else url), sizes


@SIDES
def test_an_answer_beyond_the_bound_is_cut_off(
    side: type[Sync | Async], engine: tuple[str, dict[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, sizes = engine
    received = counted(monkeypatch)
    with closing(side(url, MOST)) as one:
        assert one.read("good").profile.weights == {("brand", "nike"): 5.0}
        for user, size in sizes.items():
            received.clear()
            with pytest.raises(AnswerTooLargeError):
                one.read(user)
            # Where a cluster's node cuts a pipeline off, redis-py asks for its commands once more on threads.
            assert sum(received) < 2 * MOST + 512 * 1024 < size
            assert one.read("good").profile is not None


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return what the bound sees of each answer."""
    from rewriter.signals import answer_bound

    received: list[int] = []
    count = answer_bound._Counted._count

    def seen(self: Any, size: int) -> None:
        received.append(min(size, 2 * MOST) if size < MOST else 0)  # an announced size was not received
        count(self, size)

    monkeypatch.setattr(answer_bound._Counted, "_count", seen)
    return received


@SIDES
def test_redis_py_without_hiredis_is_bounded_as_well(
    side: type[Sync | Async], single: tuple[str, dict[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import redis.asyncio.connection as on_the_loop
    import redis.connection as on_threads
    from redis._parsers import _AsyncRESP2Parser, _RESP2Parser

    monkeypatch.setattr(on_threads, "DefaultParser", _RESP2Parser)
    monkeypatch.setattr(on_the_loop, "DefaultParser", _AsyncRESP2Parser)
    url, sizes = single
    with closing(side(url, MOST)) as one:
        for user in sizes:
            with pytest.raises(AnswerTooLargeError):
                one.read(user)
            assert one.read("good").profile.weights == {("brand", "nike"): 5.0}


@SIDES
def test_without_a_bound_it_is_received_whole(side: type[Sync | Async], single: tuple[str, dict[str, int]]) -> None:
    with closing(side(single[0], None)) as one:
        assert one.read("many").profile is not None
