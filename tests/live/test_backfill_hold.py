"""A backfill beside workers: it holds its pause, reads only the needed part of the streams, and overwrites no counts."""

from __future__ import annotations

import json
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event as Flag
from typing import Any

import pytest

from rewriter.errors import StoreError
from rewriter.signals.backfill import hold as holding
from rewriter.signals.backfill import swap as swapping
from rewriter.signals.backfill.history import History
from rewriter.signals.backfill.live import Live
from rewriter.signals.backfill.swap import Swap
from rewriter.signals.counters import Counters
from rewriter.signals.ingest.contract import StreamKeys
from rewriter.signals.ingest.erasure import forget
from tests.live.shop import PRODUCTS, Shop, an_event

HOUR_S = 3_600.0
USERS = 20


@pytest.fixture
def shop(redis_url: str, prefix: str) -> Shop:
    return Shop(redis_url, prefix, max_counters=500, retry_s=0.2)


@pytest.fixture
def short_pause(monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(swapping, "PAUSE_S", 1.5)
    return 1.5


def history(shop: Shop, folder: Path, until_s: float, forgotten: Mapping[str, float] | None = None) -> History:
    """One purchase of each user, before `until_s`."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(until_s - 60))
    rows = [{"user_id": f"u{n}", "object_id": f"p{n}", "timestamp": at} for n in range(USERS)]
    (folder / "h.ndjson").write_text("\n".join(map(json.dumps, rows)))
    found = History([str(folder / "h.ndjson")], shop.plan, 4, until_s, forgotten or {})
    found.add_up(shop.objects(), lambda *_: None)
    return found


@contextmanager
def working(shop: Shop) -> Iterator[None]:
    """A worker on a thread of its own."""
    stopping = Flag()
    thread = threading.Thread(target=shop.worker().run, args=(stopping,))
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def counted(shop: Shop) -> dict[str, float]:
    """The number of events in all profiles, and in the population."""
    people = shop.store.read_many([shop.plan.keys.profile(f"u{n}") for n in range(USERS)], (), 1)
    parts = shop.store.read_many([shop.plan.keys.population(n) for n in range(4)], (), 1)
    return {
        "profiles": sum(one.events for one in people if one),
        "population": sum(one.events for one in parts if one),
    }


def clicks(count: int, at_s: float | None = None, **more: Any) -> list[dict[str, Any]]:
    return [an_event(f"u{n % USERS}", f"p{n % 200}", at_s, **more) for n in range(count)]


def until_passed(shop: Shop, count: int) -> None:
    late_at_s = time.monotonic() + 30
    while shop.total("passed") < count:
        assert time.monotonic() < late_at_s
        time.sleep(0.01)


def test_it_holds_its_pause_for_as_long_as_it_reads(
    shop: Shop, tmp_path: Path, short_pause: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading takes three times as long as the pause would last by itself, and events come in meanwhile."""
    until_s = time.time() - HOUR_S
    shop.append(clicks(1_000))
    real: Callable[..., Any] = Live.read_waiting

    def slow(self: Live, positions: Mapping[int, str]) -> None:
        real(self, positions)
        before = shop.total("passed")
        shop.append(clicks(100))
        time.sleep(3 * short_pause)
        assert shop.total("passed") == before

    monkeypatch.setattr(Live, "read_waiting", slow)
    with working(shop):
        until_passed(shop, 1_000)
        found = history(shop, tmp_path, until_s)
        swap = Swap(shop.store, shop.store, shop.plan, 4)
        swap.read_ahead(found, shop.objects(), lambda _: None)
        with swap:
            assert swap.write(found, shop.objects(), "f", lambda _: None)["written"] == USERS
        until_passed(shop, 1_100)
    assert counted(shop) == {"profiles": 1_100.0 + USERS, "population": 1_100.0 + USERS}


def test_partitions_that_are_added_meanwhile_cost_no_event(shop: Shop, tmp_path: Path) -> None:
    """What was counted from a partition that the run does not know would be lost with the profiles that it replaces."""
    worker = shop.worker()
    worker.step()
    found = history(shop, tmp_path, time.time() - HOUR_S)
    shop.store.run([("SET", shop.keys.partitions, 8)])
    shop.settings.ingest.__dict__["partitions"] = 8
    worker.due()
    shop.append(clicks(USERS))
    shop.drain(worker)
    worker.close()
    before = counted(shop)["profiles"]
    with (
        pytest.raises(StoreError, match="was changed from 4 to 8 meanwhile; nothing was written: run it again"),
        Swap(shop.store, shop.store, shop.plan, 4) as swap,
    ):
        swap.write(found, shop.objects(), "f", lambda _: None)
    assert counted(shop)["profiles"] == before == USERS
    assert not list(shop.store.keys(f"{shop.settings.store.prefix}:pause"))
    with Swap(shop.store, shop.store, shop.plan, 8) as swap:
        swap.write(found, shop.objects(), "f", lambda _: None)
    assert counted(shop)["profiles"] == 2 * USERS


def test_two_backfills_at_once_write_one_after_the_other(shop: Shop, tmp_path: Path, short_pause: float) -> None:
    """Whoever comes second waits for the first; a run that waits in vain says for whom, and leaves the first one's pause."""
    until_s = time.time() - HOUR_S
    found = history(shop, tmp_path, until_s)
    with Swap(shop.store, shop.store, shop.plan, 4) as first:
        second, failed = Swap(shop.store, shop.store, shop.plan, 4), list[str]()

        def waits() -> None:
            try:
                second.__enter__()
            except StoreError as error:
                failed.append(str(error))

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(holding, "PATIENCE_S", 0.0)
            thread = threading.Thread(target=waits)
            thread.start()
            thread.join()
        assert failed == [holding.ANOTHER]
        assert list(shop.store.keys(shop.keys.pause))
        thread = threading.Thread(target=waits)
        thread.start()
        assert first.write(found, shop.objects(), "f", lambda _: None)["written"] == USERS
    thread.join()
    second.__exit__()
    assert len(failed) == 1
    assert not list(shop.store.keys(shop.keys.pause))


def test_two_backfills_that_begin_together_do_not_wait_for_each_other(shop: Shop, short_pause: float) -> None:
    """Each has some partitions, and the pause is of one of them."""
    swaps = [Swap(shop.store, shop.store, shop.plan, 4) for _ in range(2)]
    ended: list[float] = []

    def takes(swap: Swap) -> None:
        with swap:
            ended.append(time.monotonic())

    swaps[0]._hold._renew()
    swaps[0]._hold._leases.take_all(2)
    threads = [threading.Thread(target=takes, args=(swap,)) for swap in reversed(swaps)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(ended) == 2


def test_once_the_hold_was_lost_nothing_is_written(shop: Shop, tmp_path: Path, short_pause: float) -> None:
    """The process stood still: its leases ran out, and a worker took them and counted."""
    shop.append(clicks(200))
    shop.drain(worker := shop.worker())
    worker.close()
    found = history(shop, tmp_path, time.time() - HOUR_S)
    with Swap(shop.store, shop.store, shop.plan, 4) as swap:
        swap.live(found, shop.objects())
        shop.store.run([("DEL", shop.keys.of_stream(n, "lease")) for n in range(4)])
        shop.store.run([("DEL", shop.keys.pause)])
        shop.append(clicks(200))
        shop.drain(shop.worker())
        before = counted(shop)
        time.sleep(short_pause)
        with pytest.raises(StoreError, match="lost"):
            swap._replace([swapping.Replacement(shop.plan.keys.population(0), 0, Counters({}, {}, time.time()))])
    assert counted(shop) == before == {"profiles": 400.0, "population": 400.0}


def test_a_key_that_somebody_counts_under_meanwhile_is_not_replaced(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at a key and its replacement, by a worker that believes to hold the partition."""
    shop.append(clicks(40))
    shop.drain(worker := shop.worker())
    worker.close()
    base, real = shop.plan.keys.population(0), swapping.ran  # type: ignore[attr-defined]

    def counts_after(engine: Any, wanted: Sequence[Any]) -> list[Any]:
        replies = real(engine, wanted)
        if any(command == ("HGETALL", f"{base}:m") for command in wanted):
            shop.store.run([("HSET", f"{base}:m", "watermark:0", "9999999999999-0", "events", "77")])
        return replies

    monkeypatch.setattr(swapping, "ran", counts_after)
    found = history(shop, tmp_path, time.time() - HOUR_S)
    with pytest.raises(StoreError, match="lost"), Swap(shop.store, shop.store, shop.plan, 4) as swap:
        swap.write(found, shop.objects(), "f", lambda _: None)
    (kept,) = shop.store.read_many([base], (), 1)
    assert kept is not None
    assert kept.events == 77
    assert not list(shop.store.keys(f"{shop.settings.store.prefix}:*:fresh"))


def test_watermarks_of_other_partitions_stay_up_to_where_those_are(shop: Shop, tmp_path: Path) -> None:
    """A user's events came through another partition once. What lies beyond its position there was counted, and is replaced."""
    base = shop.plan.keys.profile("u1")
    number = next(n for n in range(4) if shop.append([an_event("u1")]) and shop.added(n))
    other = (number + 1) % 4
    shop.store.run([("HSET", f"{base}:m", f"watermark:{other}", "5-0", f"part:{other}", "7-0/1", "forgotten", "3")])
    shop.store.run([("ZADD", shop.keys.forgotten, "3", shop.plan.keys.digest(base))])
    shop.drain(worker := shop.worker())
    worker.close()
    (position,) = shop.store.run([("HGET", shop.keys.of_stream(number, "state"), "position")])
    found = history(shop, tmp_path, time.time() - HOUR_S)
    with Swap(shop.store, shop.store, shop.plan, 4) as swap:
        swap.write(found, shop.objects(), "f", lambda _: None)
    marks = shop.store.run(
        [("HMGET", f"{base}:m", f"watermark:{number}", f"watermark:{other}", f"part:{other}", "forgotten")]
    )
    assert marks == [[position, b"0-0", None, b"3"]]


def test_streams_are_read_from_where_the_history_ends(shop: Shop, tmp_path: Path) -> None:
    """Less the time within which an event_id is known again: a copy that came after the end is of an event that came before."""
    until_s = time.time() - HOUR_S
    first_ms = int((until_s - 6 * HOUR_S) * 1000)
    old = [an_event(f"u{n % USERS}", at_s=first_ms / 1000 + n) for n in range(500)]
    copied = [an_event("u1", at_s=until_s + at_s, event_id="e1") for at_s in (-600, 60)]
    commands = [
        ("XADD", shop.keys.stream(0), f"{first_ms + n}-0", "event", json.dumps(one)) for n, one in enumerate(old)
    ]
    commands += [
        ("XADD", shop.keys.stream(0), f"{int((until_s + at_s) * 1000)}-0", "event", json.dumps(one))
        for at_s, one in zip((-600, 60), copied, strict=True)
    ]
    shop.store.run(commands)
    shop.drain(worker := shop.worker())
    worker.close()
    assert shop.total("duplicate") == 1
    found = history(shop, tmp_path, until_s)
    live = Live(shop.store, shop.plan, shop.objects(), found.sums, until_s)
    live.read_to({0: f"{int(time.time() * 1000)}-0"})
    assert live.entries == 2
    found.sums.add_live({})
    assert sum(counters.events for _, _, counters, _ in found.sums.profiles()) == USERS


@pytest.mark.parametrize("when", ["it still waits", "it is on its way", "it was counted"])
def test_an_entry_that_waited_for_its_object_counts_once(shop: Shop, tmp_path: Path, when: str) -> None:
    worker = shop.worker()
    shop.append([an_event("u1", "late"), an_event("u1", "p1")])
    shop.drain(worker)
    assert shop.total("waiting") == 1
    shop.index.documents["late"] = PRODUCTS["p0"]
    if when != "it still waits":
        time.sleep(0.3)
        worker.due()
        worker.beat()  # it comes again
    if when == "it was counted":
        shop.drain(worker)
    worker.close()
    found = history(shop, tmp_path, time.time() - HOUR_S)
    with Swap(shop.store, shop.store, shop.plan, 4) as swap:
        swap.write(found, shop.objects(), "f", lambda _: None)
    time.sleep(0.3)
    last = shop.worker()
    shop.drain(last)
    last.beat()
    shop.drain(last)
    assert shop.total("counted") == 2
    assert counted(shop) == {"profiles": 2.0 + USERS, "population": 2.0 + USERS}


def test_memory_does_not_grow_with_the_streams(shop: Shop, tmp_path: Path) -> None:
    until_s, peaks, read = time.time() - HOUR_S, [], 0
    for count in (4_000, 16_000):
        for _ in range(0, count, 4_000):
            shop.append(clicks(4_000))
        found = history(shop, tmp_path, until_s)
        live = Live(shop.store, shop.plan, shop.objects(), found.sums, until_s)
        tracemalloc.start()
        live.read_to(dict.fromkeys(range(4), f"{int(time.time() * 1000) + 60_000}-0"))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        read += live.entries
    assert read == 24_000
    assert peaks[1] < 1.5 * peaks[0]


def test_a_killed_backfill_holds_up_the_next_one_no_longer_than_its_pause(
    shop: Shop, tmp_path: Path, short_pause: float
) -> None:
    dead = Swap(shop.store, shop.store, shop.plan, 4)
    dead.__enter__()
    dead._hold._released.set()  # its thread is gone, what it held is not given back
    found = history(shop, tmp_path, time.time() - HOUR_S)
    with Swap(shop.store, shop.store, shop.plan, 4) as swap:
        assert swap.write(found, shop.objects(), "f", lambda _: None)["written"] == USERS


def test_who_was_forgotten_while_it_added_up_does_not_come_back(shop: Shop, tmp_path: Path) -> None:
    shop.append(clicks(40))
    shop.drain(worker := shop.worker())
    worker.close()
    found = history(shop, tmp_path, time.time() - HOUR_S)
    forget(shop.store, shop.store, shop.plan, "u1", time.time())
    with Swap(shop.store, shop.store, shop.plan, 4) as swap:
        assert swap.write(found, shop.objects(), "f", lambda _: None)["written"] == USERS - 1
    gone, kept = shop.store.read_many([shop.plan.keys.profile(one) for one in ("u1", "u2")], (), 1)
    assert gone is None
    assert isinstance(kept, Counters)


def test_a_large_population_is_replaced_without_holding_up_the_server(shop: Shop, tmp_path: Path) -> None:
    """20,000 values: each command adds few of them, and the replacement itself only renames."""
    base = StreamKeys(shop.settings.store.prefix).of_stream(0, "big")
    counters = Counters({("brand", f"b{n}"): 1.0 + n for n in range(20_000)}, {"brand": 2e8}, time.time())
    swap = Swap(shop.store, shop.store, shop.plan, 4)
    with swap:
        shop.store.run([("CONFIG", "RESETSTAT")])
        assert swap._replace([swapping.Replacement(base, 0, counters)]) == 1
        (stats,) = shop.store.run([("INFO", "commandstats")])
    assert shop.store.run([("ZCARD", f"{base}:z")]) == [20_000]
    assert "cmdstat_evalsha" in str(stats)
