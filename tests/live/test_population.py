"""The population on a real server and in a cluster: built by a worker or a searching process, and read by its version."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from threading import Event
from typing import Any

import pytest
import redis
from opensearchpy import AsyncOpenSearch, OpenSearch

from rewriter import AsyncRewriter, Rewriter, Settings, Subject
from rewriter.shell.background import population as shell
from rewriter.signals.affinities import united
from rewriter.signals.counters import SEPARATOR, Counters, HalfLives, Value
from rewriter.signals.ingest.batch import CountingRules
from rewriter.signals.ingest.population import population_made
from rewriter.signals.population_builder import PopulationBuilder
from rewriter.signals.redis_store import AsyncRedisStore, RedisStore
from rewriter.signals.store import Keys
from rewriter_engines import Valkey
from tests.fakes import waited

HALF_LIVES = HalfLives(9_676_800.0)
FIELDS = ("brand", "item")
PARTITIONS = 16
NOW_S = time.time()


def maker(store: Any, keys: Keys, role: Any = "search") -> PopulationBuilder:
    return PopulationBuilder(
        store, keys, HALF_LIVES, role=role, token="t", max_counters=128, ttl_s=3_600, now_s=time.time, wait=lambda _: False,
    )  # fmt: skip


def fill(store: RedisStore, keys: Keys, brands: int, items: int) -> None:
    draw = random.Random(5)
    store.run([("SET", f"{keys.prefix}:partitions", PARTITIONS)])
    for number in range(PARTITIONS):
        weights: dict[Value, float] = {("brand", f"brand-{n}"): 1.0 + draw.random() for n in range(brands)}
        weights |= {("item", f"SKU-{number}-{n}"): 1.0 + draw.random() for n in range(items)}
        store.write(
            keys.population(number), Counters(weights, {"brand": 900.0, "item": 9_000.0}, NOW_S, NOW_S, 500.0), 3_600
        )


@pytest.fixture(params=["single", "cluster"])
def store(request: pytest.FixtureRequest) -> Iterator[RedisStore]:
    if request.param == "cluster":
        hosts = ",".join(url.removeprefix("redis://") for url in request.getfixturevalue("redis_cluster_urls"))
        url = f"redis+cluster://{hosts}"
    else:
        url = request.getfixturevalue("redis_url")
    found = RedisStore(url, max_answer_bytes=2**20)
    yield found
    found.close()


@pytest.mark.parametrize(("brands", "items"), [(3, 2), (120, 0), (1_500, 900), (0, 50)])
def test_it_is_the_sum_of_the_parts_without_items(store: RedisStore, prefix: str, brands: int, items: int) -> None:
    keys = Keys(prefix)
    fill(store, keys, brands, items)
    one = maker(store, keys)
    one.make(one.reader.look())
    header = one.reader.look().population
    assert header is not None
    found = one.reader.population(header)
    expected = united(
        store.read_many([keys.population(n) for n in range(PARTITIONS)], FIELDS, 20_000), HALF_LIVES, NOW_S
    )
    assert expected is not None
    weights = {SEPARATOR.join(value): weight for value, weight in expected.weights.items() if value[0] == "brand"}
    assert found.weights == pytest.approx(weights, rel=1e-9)
    assert found.totals == pytest.approx({"brand": expected.totals["brand"]}, rel=1e-9)


def test_what_grows_while_it_is_read_is_in_it(redis_url: str, prefix: str) -> None:
    """Values that were there before and after are never missed, however their ranks change meanwhile."""
    store, keys = RedisStore(redis_url), Keys(prefix)
    fill(store, keys, 3_000, 0)
    stopping, draw = Event(), random.Random(7)

    def grow() -> None:
        with redis.Redis.from_url(redis_url) as raw:
            while not stopping.is_set():
                raw.zincrby(
                    f"{keys.population(draw.randrange(PARTITIONS))}:z", 50.0, f"brand\x1fbrand-{draw.randrange(3_000)}"
                )

    thread = threading.Thread(target=grow)
    thread.start()
    try:
        one = maker(store, keys)
        one.make(one.reader.look())
        header = one.reader.look().population
        assert header is not None
        found = one.reader.population(header)
    finally:
        stopping.set()
        thread.join()
        store.close()
    assert len(found.weights) == 3_000
    assert min(found.weights.values()) >= PARTITIONS


def test_a_worker_makes_it_where_one_runs_and_takes_it_from_a_search(redis_url: str, prefix: str) -> None:
    store, keys = RedisStore(redis_url), Keys(prefix)
    fill(store, keys, 3, 0)
    settings = Settings.model_validate(
        {"store": {"prefix": prefix}, "policies": {"shop": {"index": "none", "fields": {"brand": {}}}}}
    )
    search = maker(store, keys)
    assert search.leads(search.reader.look())
    with population_made(store, CountingRules.of(settings)):
        assert waited(lambda: (search.reader.look().maker or "").startswith("worker:"))
        assert waited(lambda: search.reader.look().population is not None)
        assert not search.leads(search.reader.look())
    assert waited(lambda: search.reader.look().maker is None)
    assert search.leads(search.reader.look())
    store.close()


def made_large(url: str, prefix: str) -> None:
    """Make a population of 20,000 values in 16 partitions, as a worker does."""
    with closing(RedisStore(url)) as store:
        fill(store, Keys(prefix), 20_000, 0)
        worker = maker(store, Keys(prefix), "worker")
        worker.leads(worker.reader.look())
        worker.make(worker.reader.look())


@pytest.fixture(scope="module")
def large() -> Iterator[str]:
    """The URL of a server of its own with such a population under the prefix `large`, and a worker that is there for good."""
    with Valkey() as valkey, redis.Redis.from_url(valkey.url) as raw:
        made_large(valkey.url, "large")
        raw.persist(Keys("large").maker)
        yield valkey.url


@pytest.mark.parametrize("way", [pytest.param("url", marks=pytest.mark.full), "client", "cluster"])
def test_an_event_loop_has_no_part_in_it(
    way: str,
    prefix: str,
    opensearch_url: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With 20,000 values in 16 partitions: what a refresh takes of the loop's thread, and on which thread it runs."""
    if way == "cluster":
        hosts = ",".join(one.removeprefix("redis://") for one in request.getfixturevalue("redis_cluster_urls"))
        url = f"redis+cluster://{hosts}"
        made_large(url, prefix)
    else:
        url, prefix = request.getfixturevalue("large"), "large"
    monkeypatch.setattr(shell, "LOOK_EVERY_S", 0.1)
    looks: list[str] = []
    look = shell.PopulationReader.look

    def seen(self: Any) -> None:
        self._population = ""  # as if its version were another one each time
        look(self)
        looks.append(threading.current_thread().name)

    monkeypatch.setattr(shell.PopulationReader, "look", seen)
    settings = Settings.model_validate(
        {"store": {"prefix": prefix}, "policies": {"shop": {"index": "none", "fields": {"brand": {}}}}}
    )

    async def cpu_s(given: Any, rounds: int) -> float:
        """Return the CPU time of this thread for that many looks, or for as long without a store."""
        async with AsyncOpenSearch([opensearch_url]) as client, AsyncRewriter(client, given, settings) as rewriter:
            await rewriter.status()
            if given is None:
                await asyncio.sleep(0.5)
                began_s, until_s = time.thread_time(), time.monotonic() + 1.5
                while time.monotonic() < until_s:  # noqa: ASYNC110  time passes
                    await asyncio.sleep(0.05)
                return (time.thread_time() - began_s) / 1.5
            while not looks:  # noqa: ASYNC110  a thread fills it
                await asyncio.sleep(0.05)
            assert (await rewriter.status()).population_values == 20_000
            began, began_s, wall_s = len(looks), time.thread_time(), time.monotonic()
            while len(looks) < began + rounds:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            return (time.thread_time() - began_s - (time.monotonic() - wall_s) * alone) / rounds

    alone = asyncio.run(cpu_s(None, 0))
    if way == "client":
        given = redis.asyncio.Redis.from_url(
            url, retry=redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 0), socket_timeout=1.0
        )

        async def with_client() -> float:
            async with given:
                return await cpu_s(given, 10)

        a_look_s = asyncio.run(with_client())
    else:
        a_look_s = asyncio.run(cpu_s(url, 10))
    assert a_look_s < 0.005
    assert set(looks) == {"rewriter-population"}


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_what_one_process_asks_of_the_server(
    kind: str, large: str, opensearch_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three commands and some hundred bytes a look, counted by the server; the population once."""
    with redis.Redis.from_url(large) as raw:
        monkeypatch.setattr(shell, "LOOK_EVERY_S", 0.05)
        settings = Settings.model_validate(
            {"store": {"prefix": "large"}, "policies": {"shop": {"index": "none", "fields": {"brand": {}}}}}
        )
        reader = shell.PopulationReader
        looks: list[None] = []
        look = reader.look

        def seen(self: Any) -> None:
            look(self)
            looks.append(None)

        monkeypatch.setattr(reader, "look", seen)

        def counted(wait: Callable[[Callable[[], bool]], None]) -> None:
            wait(lambda: len(looks) >= 2)
            before, commands, begun = raw.info("stats"), raw.info("commandstats"), len(looks)
            wait(lambda: len(looks) >= begun + 40)
            after, later, done = raw.info("stats"), raw.info("commandstats"), len(looks) - begun
            asked = {
                name: later[f"cmdstat_{name}"]["calls"] - commands[f"cmdstat_{name}"]["calls"]
                for name in ("getrange", "get")
            }
            assert asked["get"] <= done + 3
            assert asked["getrange"] <= 2 * (done + 3) + 40  # and the background's own: switches, heartbeat
            assert after["total_net_output_bytes"] - before["total_net_output_bytes"] < 2_000 * (done + 3) + 60_000
            assert not {"cmdstat_zscan", "cmdstat_zrange"} & {
                name for name in later if later[name]["calls"] != commands.get(name, {"calls": 0})["calls"]
            }

        if kind == "sync":
            with OpenSearch([opensearch_url]) as client, Rewriter(client, large, settings) as rewriter:
                rewriter.status()

                def wait(holds: Callable[[], bool]) -> None:
                    assert waited(holds)

                counted(wait)
        else:

            async def run() -> None:
                async with (
                    AsyncOpenSearch([opensearch_url]) as client,
                    AsyncRewriter(client, large, settings) as rewriter,
                ):
                    await rewriter.status()
                    await asyncio.to_thread(counted, lambda holds: None if waited(holds) else pytest.fail("too slow"))

            asyncio.run(run())


def test_a_segment_that_cannot_be_read_keeps_its_last_state_in_every_process(
    redis_url: str, prefix: str, opensearch: OpenSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, keys = RedisStore(redis_url), Keys(prefix)
    fill(store, keys, 3, 0)
    store.run([("SET", f"{prefix}:segments", json.dumps(["vip", "new"]))])
    for name in ("vip", "new"):
        store.write(keys.segment(name), Counters({("brand", "brand-1"): 9.0}, {"brand": 9.0}, NOW_S, NOW_S, 1.0), 3_600)
    monkeypatch.setattr(shell, "LOOK_EVERY_S", 0.2)
    monkeypatch.setattr("rewriter.signals.population_builder.MADE_EVERY_S", 0.2)
    settings = Settings.model_validate(
        {"store": {"prefix": prefix}, "policies": {"shop": {"index": "none", "fields": {"brand": {}}}}}
    )
    with Rewriter(opensearch, redis_url, settings) as first, Rewriter(opensearch, redis_url, settings) as second:
        both = (first, second)
        assert waited(lambda: all(set(one.status().segments) == {"vip", "new"} for one in both))
        store.run([("DEL", f"{keys.segment('vip', 1)}:m"), ("SET", f"{keys.segment('vip', 1)}:m", "no hash")])
        assert waited(lambda: all("segment vip: cannot be read" in " ".join(one.status().problems) for one in both))
        assert all(set(one.status().segments) == {"vip", "new"} for one in both)
        store.run([("DEL", f"{keys.segment('vip', 1)}:m")])
        assert waited(lambda: not any("segment" in " ".join(one.status().problems) for one in both))
    store.close()


def test_an_owner_that_is_dropped_takes_its_thread_along(redis_url: str, prefix: str, opensearch: OpenSearch) -> None:
    settings = Settings.model_validate({"store": {"prefix": prefix}})
    before = set(threading.enumerate())
    rewriter = Rewriter(opensearch, redis_url, settings)
    assert rewriter.search(index="none-*", body={}, subject=Subject("u")) is not None

    def ours() -> set[threading.Thread]:
        return {one for one in set(threading.enumerate()) - before if one.name == "rewriter-population"}

    assert waited(lambda: bool(ours()))
    del rewriter
    assert waited(lambda: not ours())


def test_the_async_store_gives_a_thread_a_client_of_its_own(redis_url: str) -> None:
    own = AsyncRedisStore(redis_url).on_threads()
    assert own is not None
    own.ping()
    own.close()


@pytest.mark.parametrize("key", ["whole_population", "all_segments"])
def test_a_searching_process_alone_builds_a_damaged_value_again(
    opensearch: OpenSearch, redis_url: str, prefix: str, key: str
) -> None:
    """Nothing was counted since, and no worker runs: otherwise every process would start without a population for good."""
    keys = Keys(prefix)
    with closing(RedisStore(redis_url)) as store:
        fill(store, keys, 20, 0)
        store.run([("SET", f"{prefix}:segments", '["vip"]')])
        store.write(keys.segment("vip", 1), Counters({("brand", "b"): 2.0}, {"brand": 2.0}, NOW_S, NOW_S, 1.0), 3_600)
        one = maker(store, keys)
        look = one.reader.look()
        one.leads(look)
        one.make(look)
        one.release()
        (value,) = store.run([("GET", getattr(keys, key))])
        store.run([("SET", getattr(keys, key), value[:-9])])
        settings = Settings.model_validate(
            {"store": {"prefix": prefix}, "policies": {"shop": {"index": "none", "fields": {"brand": {}}}}}
        )
        with Rewriter(opensearch, redis_url, settings) as rewriter:

            def read() -> bool:
                snapshot = rewriter._runtime.core.snapshot  # type: ignore[union-attr]
                return bool(snapshot.population.totals and snapshot.segments)

            rewriter.status()
            waited(read)
            assert "population" not in rewriter._runtime.refresh.errors  # type: ignore[union-attr]
