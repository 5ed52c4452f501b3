"""A partition that refuses delays only itself, on a real store and a cluster; whatever `rw:partitions` holds ends nothing."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import pytest
from opensearchpy import AsyncOpenSearch, OpenSearch

from rewriter import AsyncRewriter, Rewriter
from rewriter.errors import StoreError
from rewriter.signals.events import Event, parse
from rewriter.signals.ingest.contract import partition_of
from rewriter_engines.valkey import Valkey
from rewriter_engines.valkey_cluster import ValkeyCluster
from tests.fakes import waited
from tests.live.shop import Shop, an_event

NOWHERE = ["http://127.0.0.1:1"]


def rewriter_of(shop: Shop, url: str) -> Rewriter:
    return Rewriter(OpenSearch(hosts=NOWHERE), url, shop.settings)


def events(count: int, batch: int = 0) -> tuple[list[dict[str, Any]], Counter[int]]:
    """Events of many users, and how many of them go to each of four partitions."""
    made = [an_event(f"u{batch}-{number}") for number in range(count)]
    found = [parse(event) for event in made]
    return made, Counter(partition_of(one, 4) for one in found if isinstance(one, Event))


def test_a_key_of_another_type_holds_up_its_own_partition_alone(redis_url: str, prefix: str) -> None:
    shop = Shop(redis_url, prefix, track_buffer=1_000)
    shop.store.run([("SET", shop.keys.stream(0), "no stream")])
    wanted: Counter[int] = Counter()
    with rewriter_of(shop, redis_url) as rewriter:
        for batch in range(12):
            burst, of_partition = events(300, batch)
            wanted.update(of_partition)
            for event in burst:
                rewriter.track(event)
            assert waited(lambda: all(shop.added(number) == wanted[number] for number in (1, 2, 3)))
        tracked = rewriter.status().tracked
        assert tracked["accepted"] == sum(wanted[number] for number in (1, 2, 3))
        assert 400 <= tracked["waiting"] <= 500  # half of the buffer is left to the others
        assert tracked["waiting"] + tracked["dropped"] == wanted[0]
        shop.store.run([("UNLINK", shop.keys.stream(0))])
        assert waited(lambda: rewriter.status().tracked["waiting"] == 0)
        assert shop.added(0) == tracked["waiting"]


async def test_on_an_event_loop_too(redis_url: str, prefix: str) -> None:
    shop = Shop(redis_url, prefix)
    shop.store.run([("SET", shop.keys.stream(0), "no stream")])
    made, wanted = events(400)
    async with AsyncRewriter(AsyncOpenSearch(hosts=NOWHERE), redis_url, shop.settings) as rewriter:
        assert all([await rewriter.track(event) for event in made])
        late_at = time.monotonic() + 20
        while (tracked := (await rewriter.status()).tracked)["waiting"] > wanted[0]:
            assert time.monotonic() < late_at
            await asyncio.sleep(0.01)
        assert tracked == {"accepted": 400 - wanted[0], "waiting": wanted[0]}
        assert await rewriter.track(an_event() | {"action_name": "scroll"}) is False
        shop.store.run([("UNLINK", shop.keys.stream(0))])  # closing sends what waits
    assert [shop.added(number) for number in range(4)] == [wanted[number] for number in range(4)]


@contextmanager
def stopped(node: Valkey) -> Iterator[None]:
    node.kill()
    try:
        yield
    finally:
        node.start()


@contextmanager
def paused(node: Valkey) -> Iterator[None]:
    node.pause()
    try:
        yield
    finally:
        node.resume()


@pytest.mark.parametrize("away", [stopped, paused])
def test_a_node_of_a_cluster_that_is_away_holds_up_its_own_partitions_alone(
    prefix: str, away: Callable[[Valkey], Any]
) -> None:
    with ValkeyCluster() as cluster:
        for node in cluster.nodes:
            with node.client() as client:
                client.config_set("cluster-require-full-coverage", "no")
        url = "redis+cluster://" + ",".join(one.removeprefix("redis://") for one in cluster.urls)
        shop = Shop(url, prefix)
        with rewriter_of(shop, url) as rewriter:
            first, wanted = events(200)
            assert all(map(rewriter.track, first))
            assert waited(lambda: rewriter.status().tracked["waiting"] == 0)
            slots: Any = shop.store._connected()
            port_of = {number: slots.get_node_from_key(shop.keys.stream(number)).port for number in range(4)}
            count_port = slots.get_node_from_key(shop.keys.partitions).port
            gone = next(port for port in port_of.values() if port != count_port)
            healthy = [number for number, port in port_of.items() if port != gone]
            (node,) = [one for one in cluster.nodes if one.port == gone]
            process = rewriter._runtime
            assert process is not None
            assert process.tracker is not None
            tracker_client: Any = process.tracker._store._connected()
            tracker_client.set_default_node(
                tracker_client.get_node(host="127.0.0.1", port=gone)
            )  # scripts must not need it

            def all_accepted() -> bool:
                return rewriter.status().tracked["waiting"] == 0

            with away(node):
                for batch in range(1, 4):
                    burst, of_partition = events(500, batch)
                    wanted.update(of_partition)
                    began_s = time.monotonic()
                    assert all(map(rewriter.track, burst))
                    assert waited(
                        lambda: all(_added(cluster, port_of, shop, number) == wanted[number] for number in healthy)
                    ), rewriter.status().tracked
                    assert time.monotonic() - began_s < 20
            # A try of two seconds is followed by a pause of four times as long, and the node may return at its beginning.
            assert waited(all_accepted) or waited(all_accepted), rewriter.status().tracked
            assert rewriter.status().tracked["accepted"] == wanted.total()


def _added(cluster: ValkeyCluster, port_of: dict[int, int], shop: Shop, number: int) -> int:
    """How many entries a stream has, asked of its node alone."""
    (node,) = [one for one in cluster.nodes if one.port == port_of[number]]
    with node.client() as client:
        return int(client.xlen(shop.keys.stream(number)))


@pytest.mark.parametrize("text", ["0", "-3", "many", "", "1e3", "99999", "1" * 500, "４", "4 ", "\xff"])
def test_what_is_no_number_of_partitions_ends_nothing(redis_url: str, prefix: str, text: str) -> None:
    shop = Shop(redis_url, prefix)
    shop.store.run([("SET", shop.keys.partitions, text.encode("latin-1" if text == "\xff" else "utf-8"))])
    with rewriter_of(shop, redis_url) as rewriter:
        assert rewriter.track(an_event())
        worker = shop.worker()
        assert worker.step() == 0
        assert f"{shop.keys.partitions} holds " in worker.trouble
        assert rewriter.status().tracked == {"waiting": 1}
        shop.store.run([("SET", shop.keys.partitions, 4)])
        assert waited(lambda: rewriter.status().tracked == {"accepted": 1, "waiting": 0})
        shop.drain(worker)
        assert worker.counts == {"counted": 1}


def test_a_number_that_was_good_stays_in_use(redis_url: str, prefix: str) -> None:
    shop = Shop(redis_url, prefix)
    with rewriter_of(shop, redis_url) as rewriter:
        rewriter.track(an_event())
        assert waited(lambda: rewriter.status().tracked["waiting"] == 0)
        shop.store.run([("SET", shop.keys.partitions, "none")])
        process = rewriter._runtime
        assert process is not None
        assert process.tracker is not None
        process.tracker._outbox._partition_count_read.due_s = 0.0
        rewriter.track(an_event())
        assert waited(lambda: rewriter.status().tracked == {"accepted": 2, "waiting": 0})


def test_at_the_limit_of_threads_nothing_is_raised_and_nothing_lost(
    redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop(redis_url, prefix)
    with rewriter_of(shop, redis_url) as rewriter:
        start = Thread.start

        def refuse(thread: Thread) -> None:
            if thread.name == "rewriter-track":
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(Thread, "start", refuse)
        assert [rewriter.track(an_event()) for _ in range(3)] == [True] * 3
        assert rewriter.status().tracked == {"waiting": 3}
    assert sum(shop.added(number) for number in range(4)) == 3  # closing sent them


def test_an_event_whose_action_has_no_weight_is_refused_and_counted(
    redis_url: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    shop = Shop(redis_url, prefix)
    with rewriter_of(shop, redis_url) as rewriter:
        assert rewriter.track(an_event() | {"action_name": "scroll"}) is False
        assert rewriter.track(an_event() | {"action_name": "View"}) is False
        assert rewriter.status().tracked == {"no_weight": 2, "waiting": 0}
    assert "action_name: has no weight (give it one in [signals] action_weights)" in caplog.text


class Odd(dict[str, Any]):
    """A mapping that raises what it likes."""

    def __getitem__(self, key: str) -> Any:
        raise StoreError("odd")

    def keys(self) -> Any:
        raise RuntimeError("odd")


class Unprintable:
    def __str__(self) -> str:
        raise ValueError("odd")


@pytest.mark.parametrize(
    "event", [Odd(an_event()), an_event(more=Unprintable()), an_event(more={1: [{}] * 3, None: 2}), 7]
)
def test_whatever_is_tracked_nothing_is_raised(redis_url: str, prefix: str, event: Any) -> None:
    shop = Shop(redis_url, prefix)
    with rewriter_of(shop, redis_url) as rewriter:
        rewriter.track(event)
        counts = rewriter.status().tracked
        assert sum(counts.values()) == 1
