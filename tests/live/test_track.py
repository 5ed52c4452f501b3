"""`track`, from the call to the counters; and what it does when the store does not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from opensearchpy import AsyncOpenSearch, OpenSearch

from rewriter import AsyncRewriter, Rewriter
from rewriter.shell.outbox import Outbox
from rewriter_engines import Valkey
from tests.live.shop import Shop, an_event

NOWHERE = ["http://127.0.0.1:1"]


def rewriter_of(shop: Shop, url: str) -> Rewriter:
    return Rewriter(OpenSearch(hosts=NOWHERE), url, shop.settings)


def until(done: Callable[[], bool], deadline_s: float = 10.0) -> None:
    late_at = time.monotonic() + deadline_s
    while not done():
        assert time.monotonic() < late_at
        time.sleep(0.005)


def test_what_is_tracked_is_counted(redis_url: str, prefix: str) -> None:
    shop = Shop(redis_url, prefix)
    with rewriter_of(shop, redis_url) as rewriter:
        assert all(rewriter.track(an_event(f"u{number % 9}")) for number in range(1_200))
        until(lambda: rewriter.status().tracked["waiting"] == 0)
        assert rewriter.status().tracked == {"accepted": 1_200, "waiting": 0}
    worker = shop.drained()
    assert worker.counts == {"counted": 1_200}


async def test_what_is_tracked_on_a_loop_is_counted(redis_url: str, prefix: str) -> None:
    shop = Shop(redis_url, prefix)
    async with AsyncRewriter(AsyncOpenSearch(hosts=NOWHERE), redis_url, shop.settings) as rewriter:
        assert all([await rewriter.track(an_event(f"u{number % 9}")) for number in range(1_200)])
        assert await rewriter.track({"no": "event"}) is False
    worker = shop.worker()
    await asyncio.to_thread(shop.drain, worker)
    assert worker.counts == {"counted": 1_200}


@pytest.mark.parametrize(
    ("event", "why"),
    [
        ({"action_name": "click"}, "refused"),
        (None, "refused"),
        ("text", "refused"),
        (an_event(more="x" * 70_000), "refused"),
        (an_event(consent=False), "no_consent"),
    ],
)
def test_what_is_not_tracked_is_counted_and_never_raises(redis_url: str, prefix: str, event: Any, why: str) -> None:
    shop = Shop(redis_url, prefix)
    with rewriter_of(shop, redis_url) as rewriter:
        assert rewriter.track(event) is False
        assert rewriter.status().tracked == {why: 1, "waiting": 0}
    assert [shop.added(number) for number in range(4)] == [0] * 4


def test_without_a_redis_nothing_is_tracked(prefix: str) -> None:
    with rewriter_of(Shop("redis://127.0.0.1:1", prefix), "memory://") as rewriter:
        assert rewriter.track(an_event()) is False


def test_events_outlive_a_store_that_is_away_and_a_full_buffer_drops(
    valkey_server: Callable[..., Valkey], prefix: str
) -> None:
    server = valkey_server()
    shop = Shop(server.url, prefix, track_buffer=50)
    server.stop()
    with rewriter_of(shop, server.url) as rewriter:
        begun_s = time.monotonic()
        taken = [rewriter.track(an_event()) for _ in range(80)]
        assert time.monotonic() - begun_s < 1.0
        assert taken == [True] * 50 + [False] * 30
        server.start()
        until(lambda: rewriter.status().tracked["waiting"] == 0)
        assert rewriter.status().tracked == {"accepted": 50, "dropped": 30, "waiting": 0}
    assert sum(shop.added(number) for number in range(4)) == 50


def test_closing_waits_for_a_hung_store_no_longer_than_it_must(
    valkey_server: Callable[..., Valkey], prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = valkey_server()
    rewriter = rewriter_of(Shop(server.url, prefix), server.url)
    server.pause()
    try:
        assert rewriter.track(an_event())
        begun_s = time.monotonic()
        rewriter.close()
        assert time.monotonic() - begun_s < 6.0
    finally:
        server.resume()
    assert "1 event was dropped" in caplog.text


def test_an_event_whose_acknowledgement_was_lost_counts_once(redis_url: str, prefix: str) -> None:
    shop = Shop(redis_url, prefix)
    outbox = Outbox(shop.settings)
    outbox.put(an_event())
    for now_s, is_seen in ((0.0, True), (1.0, False), (2.0, True)):  # first the number of partitions
        shipment = outbox.take(now_s)
        assert shipment is not None
        replies = shop.store.run(shipment.commands)
        outbox.finish(shipment, replies if is_seen else None, now_s)
    assert outbox.counts["accepted"] == 1
    worker = shop.drained()
    assert worker.counts == {"counted": 1, "duplicate": 1}
