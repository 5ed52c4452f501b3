"""Clients through Sentinels and clusters, callers' clients, and which clients a store closes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio as aio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import ClusterError
from redis.retry import Retry

from rewriter.errors import ConfigurationError
from rewriter.signals.counters import Counters
from rewriter.signals.redis_store import AsyncRedisStore, RedisStore, open_async_store, open_store
from rewriter.signals.store import Keys, Signals, SignalsQuery
from rewriter_engines import Valkey
from rewriter_engines.process import ServerProcess, free_port
from rewriter_engines.valkey import _binary
from tests.live.scene import HOST, SlowNames

T0_S = 1_767_225_600.0
PROFILE = Counters({("brand", "nike"): 1.0}, {"brand": 1.0}, T0_S)
sync: Any = redis


def never() -> Retry:
    return Retry(NoBackoff(), 0)


@pytest.fixture
def query(prefix: str) -> SignalsQuery:
    return SignalsQuery(None, Keys(prefix).profile("U"), None, ("brand",), 64)


@pytest.fixture
def sentinel_url(valkey_server: Callable[..., Valkey], tmp_path: Path) -> Iterator[str]:
    """The URL of what one Sentinel watches."""
    server, port = valkey_server(), free_port()
    configuration = tmp_path / "sentinel.conf"
    configuration.write_text(f"bind 127.0.0.1\nport {port}\nsentinel monitor main 127.0.0.1 {server.port} 1\n")
    process = ServerProcess(
        [str(_binary()), str(configuration), "--sentinel"], log=tmp_path / "sentinel.log", cwd=tmp_path
    )

    def answers() -> bool:
        try:
            with redis.Redis(port=port, retry=never(), socket_timeout=1) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    process.wait_until(answers, 20.0)
    # The first Sentinel is not there: the next one is asked.
    yield f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{port}/main/1"
    process.end()


def test_what_sentinels_watch_is_found(sentinel_url: str, query: SignalsQuery) -> None:
    store = RedisStore(sentinel_url)
    store.write(query.profile or "", PROFILE, None)
    assert store.read(query) == Signals(profile=PROFILE)
    store.close()


async def test_what_sentinels_watch_is_found_on_the_event_loop(sentinel_url: str, query: SignalsQuery) -> None:
    store = AsyncRedisStore(sentinel_url)
    await store.write(query.profile or "", PROFILE, None)
    assert await store.read(query) == Signals(profile=PROFILE)
    await store.close()


@pytest.mark.parametrize("kind", ["plain", "cluster", "sentinel"])
async def test_names_are_looked_up_on_a_thread_of_their_own(
    kind: str, request: pytest.FixtureRequest, query: SignalsQuery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where redis-py no longer asks what `rewriter.signals.dns` overrides."""
    match kind:
        case "plain":
            url = request.getfixturevalue("redis_url")
        case "cluster":
            url = request.getfixturevalue("redis_cluster_urls")[0].replace("redis", "redis+cluster", 1)
        case _:
            url = request.getfixturevalue("sentinel_url")
    names = SlowNames(monkeypatch)
    store = AsyncRedisStore(names.under(HOST, url))
    await store.write(query.profile or "", PROFILE, None)
    assert await store.read(query) == Signals(profile=PROFILE)
    await store.close()
    assert set(names.on) == {"rewriter-names"}


@pytest.mark.parametrize("kind", ["plain", "sentinel"])
def test_threads_too_have_names_looked_up_there(
    kind: str, request: pytest.FixtureRequest, query: SignalsQuery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where redis-py no longer asks what `rewriter.signals.dns` overrides."""
    names = SlowNames(monkeypatch)
    store = RedisStore(names.under(HOST, request.getfixturevalue("redis_url" if kind == "plain" else "sentinel_url")))
    store.write(query.profile or "", PROFILE, None)
    assert store.read(query) == Signals(profile=PROFILE)
    store.close()
    assert set(names.on) == {"rewriter-names"}


def test_a_client_that_was_given_stays_its_owners(redis_url: str, query: SignalsQuery) -> None:
    with redis.Redis.from_url(redis_url, retry=never(), socket_timeout=1) as client:
        store = RedisStore(client)
        store.write(query.profile or "", PROFILE, None)
        connection = client.client_id()
        assert store.read(query) == Signals(profile=PROFILE)
        store.close()
        assert client.client_id() == connection  # still the one that it had


async def test_a_client_that_was_given_stays_its_owners_on_the_event_loop(redis_url: str, query: SignalsQuery) -> None:
    async with aio.Redis.from_url(redis_url, retry=AsyncRetry(NoBackoff(), 0), socket_timeout=1) as client:
        store = AsyncRedisStore(client)
        await store.write(query.profile or "", PROFILE, None)
        connection = await client.client_id()
        assert await store.read(query) == Signals(profile=PROFILE)
        await store.close()
        assert await client.client_id() == connection


def test_a_clusters_client_may_be_given(redis_cluster_urls: list[str], query: SignalsQuery) -> None:
    with (
        sync.RedisCluster.from_url(redis_cluster_urls[0]) as patient,
        pytest.raises(ConfigurationError, match="retries"),
    ):
        open_store(patient)
    with sync.RedisCluster.from_url(redis_cluster_urls[0], retry=never(), socket_timeout=1) as client:
        store = RedisStore(client)
        store.write(query.profile or "", PROFILE, None)
        assert store.read(query) == Signals(profile=PROFILE)


async def test_a_clusters_client_may_be_given_on_the_event_loop(
    redis_cluster_urls: list[str], query: SignalsQuery
) -> None:
    async with aio.RedisCluster.from_url(
        redis_cluster_urls[0], retry=AsyncRetry(NoBackoff(), 0), socket_timeout=1
    ) as client:
        store = open_async_store(client)
        assert store is not None
        await store.write(query.profile or "", PROFILE, None)
        assert await store.read(query) == Signals(profile=PROFILE)


def test_a_store_can_be_opened_before_its_cluster_is_there(
    valkey_server: Callable[..., Valkey], query: SignalsQuery
) -> None:
    server = valkey_server()
    server.stop()
    store = RedisStore(server.url.replace("redis", "redis+cluster", 1))
    for _ in range(2):
        with pytest.raises(ClusterError):
            store.read(query)
    store.close()
