"""Faults that lose and double nothing: after each, the counters are, bit for bit, those of a run that nothing disturbed.

The undisturbed run has its own prefix and the same entries under the same ids, so that not even the times differ.
"""

from __future__ import annotations

import json
import logging
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
import redis

from rewriter.signals.ingest.batch import CountingRules
from rewriter.signals.ingest.leases import Leases
from rewriter.signals.ingest.scripts import COMMIT
from rewriter_engines import Valkey
from tests.fakes import waited
from tests.live.shop import Shop, an_event, many_events

ROOT = Path(__file__).parents[2]
EVENTS = int(os.environ.get("SOAK_EVENTS", "10000"))
KILLS = 10


def undisturbed(shop: Shop) -> dict[str, Any]:
    """Return the counters of one worker that takes the same entries in peace."""
    other = Shop(_url(shop), shop.settings.store.prefix + "c", **shop.settings.ingest.model_dump())
    copies = []
    for number in range(shop.settings.ingest.partitions):
        (entries,) = shop.store.run([("XRANGE", shop.keys.stream(number), "-", "+")])
        for entry_id, parts in entries:
            flat = [part for pair in parts.items() for part in pair] if isinstance(parts, dict) else parts
            copies.append(("XADD", other.keys.stream(number), entry_id, *flat))
    for start in range(0, len(copies), 1_000):
        other.store.run(copies[start : start + 1_000])
    other.drain(other.worker(), deadline_s=120.0)
    return other.counters()


def held_to_be_exact(shop: Shop, events: int) -> None:
    assert shop.counters() == undisturbed(shop)
    assert shop.total("passed") == events
    assert shop.total("counted") + shop.total("duplicate") == events
    assert shop.dead() == []


def _url(shop: Shop) -> str:
    pool = shop.store._connected().connection_pool.connection_kwargs
    return f"redis://{pool['host']}:{pool['port']}/{pool.get('db', 0)}"


def append_all(shop: Shop, count: int) -> None:
    events = list(many_events(count))
    for start in range(0, count, 1_000):
        shop.append(events[start : start + 1_000])


@contextmanager
def a_process(url: str, prefix: str, ingest: dict[str, Any]) -> Iterator[subprocess.Popen[bytes]]:
    code = "import sys; from tests.live.shop import work; work(*sys.argv[1:])"
    process = subprocess.Popen([sys.executable, "-c", code, url, prefix, json.dumps(ingest)], cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_worker_is_killed_ten_times(redis_url: str, prefix: str) -> None:
    ingest: dict[str, Any] = {"lease_s": 0.3, "batch": 80, "retention_s": 86_400.0}
    shop, draw = Shop(redis_url, prefix, **ingest), random.Random(1)
    append_all(shop, EVENTS)
    for number in range(KILLS):
        target = int(EVENTS * (number + draw.random()) / (KILLS + 1))
        with a_process(redis_url, prefix, ingest) as process:
            late_at = time.monotonic() + 60
            while shop.total("passed") < target:
                assert process.poll() is None
                assert time.monotonic() < late_at
            process.kill()
        assert shop.total("passed") < EVENTS
    shop.drain(shop.worker(), deadline_s=120.0)
    held_to_be_exact(shop, EVENTS)


@pytest.mark.parametrize("workers", [2, 3])
def test_partitions_move_between_workers(redis_url: str, prefix: str, workers: int) -> None:
    """Workers come and go without a word; each clock is fast, so that leases expire and shares change all the time."""
    shop, draw = Shop(redis_url, prefix, lease_s=0.2, batch=40), random.Random(workers)
    append_all(shop, 3_000)
    crew = [shop.worker() for _ in range(workers)]
    seen = set()
    while shop.total("passed") < 3_000:
        at = draw.randrange(workers)
        if draw.random() < 0.05:
            crew[at] = shop.worker()
        for _ in range(draw.randrange(1, 6)):
            crew[at].due()
            crew[at].step()
        seen |= {(at, number) for number in crew[at].held}
    assert len(seen) > shop.settings.ingest.partitions  # they did move
    held_to_be_exact(shop, 3_000)


class Faulty:
    """An engine that now and then fails, before or after the commands were run."""

    def __init__(self, shop: Shop, seed: int) -> None:
        self._store, self._draw = shop.store, random.Random(seed)
        self.failed = 0

    def run(self, wanted: Sequence[Any], *, atomic: bool = False) -> list[Any]:
        chance = self._draw.random()
        if chance < 0.01:
            self.failed += 1
            raise redis.ConnectionError("before")
        found = self._store.run(wanted, atomic=atomic)
        if chance < 0.04:
            self.failed += 1
            raise redis.TimeoutError("the reply was lost")
        return found


@pytest.mark.parametrize("seed", range(3))
def test_commands_and_replies_are_lost(redis_url: str, prefix: str, seed: int) -> None:
    shop = Shop(redis_url, prefix, lease_s=0.2)
    append_all(shop, 2_000)
    faulty = Faulty(shop, seed)
    shop.drain(shop.worker(faulty), deadline_s=60.0)
    assert faulty.failed >= 5
    held_to_be_exact(shop, 2_000)


class BeforeSessions:
    """A store that is away once, when profiles are applied and sessions are next."""

    def __init__(self, shop: Shop) -> None:
        self._store, self.failed = shop.store, False
        self._base = CountingRules.of(shop.settings).keys.session("s-u1")

    def run(self, wanted: Sequence[Any], *, atomic: bool = False) -> list[Any]:
        if not self.failed and any(one[0] == "EVALSHA" and f"{self._base}:z" in one for one in wanted):
            self.failed = True
            raise redis.ConnectionError("before the sessions")
        return self._store.run(wanted, atomic=atomic)


def test_a_batch_that_is_read_again_with_more_entries_counts_no_use_twice(redis_url: str, prefix: str) -> None:
    shop = Shop(redis_url, prefix, partitions=1)
    shop.append([an_event("u1", f"p{number}") for number in range(1, 4)])
    worker = shop.worker(store := BeforeSessions(shop))
    worker.step()
    assert store.failed
    shop.append([an_event("u1", f"p{number}") for number in range(4, 7)])  # a visit, still the only one
    shop.drain(worker)
    held_to_be_exact(shop, 6)
    (population,) = (members for name, members in shop.counters().items() if name.endswith("{p:0}:z"))
    assert not [member for member, _ in population if member.startswith(b"$uses")]


def test_entries_are_delivered_three_times(redis_url: str, prefix: str) -> None:
    shop = Shop(redis_url, prefix)
    append_all(shop, 500)
    for _ in range(3):
        worker = shop.worker()
        shop.drain(worker)
        worker.close()
        states = [shop.keys.of_stream(number, "state") for number in range(4)]
        shop.store.run([("DEL", state) for state in states])
    shop.drained()
    held_to_be_exact(shop, 500)


def test_an_event_id_is_sent_three_times(redis_url: str, prefix: str) -> None:
    shop = Shop(redis_url, prefix, batch=40, partitions=1)
    for _ in range(3):  # within a batch and over batches
        shop.append([an_event("u1", event_id="e1")] * 2 + [an_event("u1", "p2", event_id=f"x{n}") for n in range(50)])
    worker = shop.drained()
    assert worker.counts == {"counted": 51, "duplicate": 105}


def test_the_same_event_id_long_after_is_another_event(redis_url: str, prefix: str) -> None:
    shop = Shop(redis_url, prefix, dedupe_s=1.0, partitions=1)
    worker, raw = shop.worker(), json.dumps(an_event("u1", event_id="e1")).encode()
    now_ms = int(time.time() * 1000)
    for after_ms, other in ((0, False), (900, False), (1_100, True), (1_200, False)):
        event = raw.replace(b"e1", b"e2") if other else raw
        shop.store.run([("XADD", shop.keys.stream(0), f"{now_ms + after_ms}-0", "event", event)])
        shop.drain(worker)
    assert worker.counts == {"counted": 3, "duplicate": 1}


@pytest.mark.parametrize("order", [(4, 8), (8, 4), (4, 12), (4, 8, 4, 8)])
@pytest.mark.parametrize("same_id", [False, True])
def test_an_event_that_is_sent_again_while_partitions_grow_counts_once(
    redis_url: str, prefix: str, order: tuple[int, ...], same_id: bool
) -> None:
    """Producers learn of a new number one after the other, so that both streams get the event, in any order, or at once."""
    shop = Shop(redis_url, prefix, partitions=4)
    shop.drain(worker := shop.worker())
    shop.store.run([("SET", shop.keys.partitions, max(order))])
    grown = Shop(redis_url, prefix, partitions=max(order))
    users = [f"u{number}" for number in range(12)]
    moved, base_ms = 0, int(time.time() * 1000) - 1_000
    for number, count in enumerate(order):
        sent = []
        for user in users:
            raw = json.dumps(an_event(user, event_id=f"e-{user}")).encode()
            entry_id = f"{base_ms}-{users.index(user) + 1 + 100 * (number // 2)}" if same_id else "*"
            at = crc32(user.encode()) % count
            moved += at >= 4
            sent.append(("XADD", shop.keys.stream(at), entry_id, "event", raw))
        replies = shop.store.run(sent)  # where the stream is the same one, it refuses the same id
        assert same_id or not any(isinstance(reply, Exception) for reply in replies)
        if number % 2 == 0:
            worker.due()
            grown.drain(worker)
    worker.due()
    grown.drain(worker)
    assert moved
    assert worker.counts["counted"] == len(users)
    for user in users:
        (events,) = shop.store.run([("HGET", f"{shop.plan.keys.profile(user)}:m", "events")])
        assert float(events) == 1


class Stalling:
    """An engine on which everything of a holder stops once, just before it applies its batch."""

    def __init__(self, shop: Shop, meanwhile: Callable[[], None]) -> None:
        self._store, self._meanwhile = shop.store, meanwhile
        self.stalled = False

    def run(self, wanted: Sequence[Any], *, atomic: bool = False) -> list[Any]:
        if not self.stalled and any(command[0] == "EVALSHA" and str(command[3]).endswith(":z") for command in wanted):
            self.stalled = True
            self._meanwhile()
        return self._store.run(wanted, atomic=atomic)


def test_a_lease_holder_stalls_and_comes_back(redis_url: str, prefix: str) -> None:
    shop = Shop(redis_url, prefix, batch=40)
    append_all(shop, 1_000)

    def another_takes_over() -> None:
        shop.store.run([("DEL", shop.keys.of_stream(number, "lease")) for number in range(4)])
        other = shop.worker()
        for _ in range(3):
            other.step()
        other.close()

    engine = Stalling(shop, another_takes_over)
    worker = shop.worker(engine)
    worker.step()
    assert engine.stalled
    assert worker.counts == {}  # all of its batch was another's by then
    assert worker.held == []
    shop.drained()
    held_to_be_exact(shop, 1_000)


class Slow:
    """An engine whose calls take long, as on a machine that is too busy."""

    def __init__(self, shop: Shop, each_s: float) -> None:
        self._store, self._each_s = shop.store, each_s

    def run(self, wanted: Sequence[Any], *, atomic: bool = False) -> list[Any]:
        time.sleep(self._each_s)
        return self._store.run(wanted, atomic=atomic)


@pytest.mark.parametrize("workers", [1, 2])
def test_rounds_that_outlast_their_leases_do_not_stop_ingest(
    redis_url: str, prefix: str, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Each batch would be refused, and read again, for ever."""
    shop = Shop(redis_url, prefix, lease_s=0.2, batch=100)
    append_all(shop, 100)
    crew = [shop.worker(Slow(shop, 0.03)) for _ in range(workers)]
    began_s = time.monotonic()
    with caplog.at_level(logging.WARNING, "rewriter"), ThreadPoolExecutor(workers) as pool:
        while shop.total("passed") < 100:
            assert time.monotonic() - began_s < 60.0
            assert all(pool.map(lambda one: one.step() >= 0, crew))
    held_to_be_exact(shop, 100)
    assert "leases last longer" in caplog.text


def test_leases_become_short_again(redis_url: str, prefix: str) -> None:
    shop = Shop(redis_url, prefix)
    leases = Leases(shop.store, shop.keys, "t", 1.0)
    assert [leases.note_round(0.2), leases.note_round(2.0), leases.note_round(2.0)] == [False, True, False]
    assert leases.lease_ms == 6_000
    leases.note_round(1_000.0)
    assert leases.lease_ms == 30_000
    for _ in range(100):
        leases.note_round(0.1)
    assert leases.lease_ms == 1_000


class Uncommitted:
    """An engine on which the first `fails` commits are lost, whatever was applied before them."""

    def __init__(self, shop: Shop, fails: int) -> None:
        self._store, self.left = shop.store, fails

    def run(self, wanted: Sequence[Any], *, atomic: bool = False) -> list[Any]:
        if self.left and any(command[0] == "EVALSHA" and command[1] == COMMIT for command in wanted):
            self.left -= 1
            raise redis.ConnectionError("lost")
        return self._store.run(wanted, atomic=atomic)


@pytest.mark.parametrize("smaller", [False, True], ids=["the same batch", "a smaller batch first"])
@pytest.mark.parametrize("another", [False, True], ids=["the same worker", "another worker"])
def test_an_object_comes_into_the_index_between_two_attempts_at_a_batch(
    redis_url: str, prefix: str, another: bool, smaller: bool
) -> None:
    """The keys' watermarks have passed its event, since later ones were applied: it must not be taken for applied."""
    shop = Shop(redis_url, prefix, partitions=1, retry_s=0.01, lease_s=0.3)
    ids = [f"p{number}" for number in range(40)]
    ids[3] = ids[25] = "new"
    ids[30] = "bare"  # in the index, without what is counted
    shop.index.documents["bare"] = {}
    shop.append([an_event(f"u{number % 3}", one) for number, one in enumerate(ids)])
    engine = Uncommitted(shop, fails=2 if smaller else 1)
    worker = shop.worker(engine)
    assert worker.step() == 0
    assert worker.trouble
    shop.index.documents |= {one: {"brand": "b1", "type": "t1"} for one in ("new", "bare")}
    if smaller:  # it ends before the second event
        few = Shop(redis_url, prefix, partitions=1, retry_s=0.01, lease_s=0.3, batch=10)
        few.index.documents = shop.index.documents
        worker.close()
        assert waited(lambda: few.worker(engine).step() == 0 and not engine.left)
    last = shop.worker() if another or smaller else worker
    if last is not worker:
        worker.close()
    assert waited(lambda: last.step() >= 0 and shop.total("counted") == len(ids))
    assert shop.dead() == []
    for user in range(3):
        (meta,) = shop.store.run([("HMGET", f"{shop.plan.keys.profile(f'u{user}')}:m", "events", "total:item")])
        events = len(ids[user::3])
        assert [float(one) for one in meta] == pytest.approx([events, 2.0 * events], rel=1e-3)
    (events,) = shop.store.run([("HGET", f"{shop.plan.keys.population(0)}:m", "events")])
    assert float(events) == len(ids)


@pytest.mark.parametrize("known", [True, False], ids=["users", "sessions alone"])
@pytest.mark.parametrize("comes_back", [True, False])
def test_an_object_leaves_the_index_between_two_attempts_at_a_batch(
    redis_url: str, prefix: str, known: bool, comes_back: bool
) -> None:
    """Its event is applied, and must neither be a dead letter nor count again with the object's return."""
    shop = Shop(redis_url, prefix, partitions=1, retry_s=0.01, lease_s=0.3)
    who = {} if known else {"user_id": None, "client_id": None}
    shop.append([an_event(f"u{number % 3}", f"p{number}", **who) for number in range(40)])
    late = shop.index.documents.pop("p7")  # is not there at first
    first = shop.worker(engine := Uncommitted(shop, fails=1))
    assert first.step() == 0
    assert not engine.left
    first.close()
    gone = {one: shop.index.documents.pop(one) for one in ("p3", "p25")}
    shop.index.documents["p7"] = late
    last = shop.worker()
    assert waited(lambda: last.step() >= 0 and shop.passed(0) >= 40)
    if comes_back:
        shop.index.documents |= gone
        last = shop.worker()  # which remembers no missing object
    assert waited(lambda: last.step() >= 0 and shop.total("counted") == 40 and shop.passed(0) == shop.added(0))
    assert shop.dead() == []
    for user in range(3):
        base = shop.plan.keys.profile(f"u{user}") if known else shop.plan.keys.session(f"s-u{user}")
        (events,) = shop.store.run([("HGET", f"{base}:m", "events")])
        assert float(events) == len(range(user, 40, 3))


def test_a_smaller_batch_keeps_what_a_larger_one_noted_as_not_applied(redis_url: str, prefix: str) -> None:
    shop = Shop(redis_url, prefix, partitions=1)
    leases = Leases(shop.store, shop.keys, "aaaa", 1.0)
    leases.take_all(1)
    assert leases.note_unapplied({0: {"5-0", "77-0"}})
    leases.held[0] = "4-0"
    assert leases.note_unapplied({0: {"5-0", "9-0"}})
    assert leases.unapplied[0] == {"5-0", "9-0", "77-0"}
    leases.held[0] = "50-0"
    assert leases.note_unapplied({0: {"60-0"}})
    assert shop.state(0)["unapplied"] == "60-0 77-0"


def test_the_server_crashes_and_comes_back(valkey_server: Callable[..., Valkey], prefix: str) -> None:
    server = valkey_server(appendonly=True)
    shop = Shop(server.url, prefix, lease_s=0.3, batch=40)
    append_all(shop, 1_000)
    worker = shop.worker()
    for _ in range(3):
        for _ in range(3):
            worker.step()
        server.kill()
        assert worker.step() == 0
        server.start()
    shop.drain(worker)
    held_to_be_exact(shop, 1_000)


def test_a_stream_is_trimmed_under_a_slow_worker(redis_url: str, prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    shop = Shop(redis_url, prefix, partitions=1, batch=20)
    shop.append([an_event("u1") for _ in range(100)])
    worker = shop.worker()
    assert worker.step() == 20
    shop.store.run([("XTRIM", shop.keys.stream(0), "MAXLEN", "30")])
    with caplog.at_level(logging.ERROR):
        worker.beat()
        worker.beat()  # told once
        shop.drain(worker)
    assert worker.counts == {"counted": 50, "lost": 50}
    assert shop.total("lost") == 50
    (letter,) = shop.dead()
    assert letter["reason"] == "50 entries were trimmed or deleted before they were read"
    assert caplog.text.count("50 entries were trimmed") == 1


def test_a_stream_that_is_deleted_is_told_of(redis_url: str, prefix: str) -> None:
    shop = Shop(redis_url, prefix, partitions=1)
    shop.append([an_event("u1") for _ in range(5)])
    worker = shop.worker()
    shop.drain(worker)
    shop.store.run([("DEL", shop.keys.stream(0))])
    shop.append([an_event("u1")])
    worker.beat()
    shop.drain(worker)
    assert worker.counts["counted"] == 6
    assert "begun anew" in shop.dead()[0]["reason"]


def test_no_event_is_lost_while_the_index_is_away(
    redis_url: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    shop = Shop(redis_url, prefix)
    append_all(shop, 300)
    worker = shop.worker()
    shop.index.away = True
    for _ in range(3):
        assert worker.step() == 0
    assert shop.counters() == {}
    assert caplog.text.count("cannot be looked up") == 1
    shop.index.away = False
    shop.drain(worker)
    held_to_be_exact(shop, 300)


def test_no_event_is_lost_while_the_store_is_full(
    valkey_server: Callable[..., Valkey], prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = valkey_server()
    shop = Shop(server.url, prefix, batch=40)
    append_all(shop, 1_000)
    worker = shop.worker()
    for _ in range(3):
        worker.step()
    with server.client() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", client.info("memory")["used_memory"] // 2)
        passed = shop.total("passed")
        for _ in range(3):
            assert worker.step() == 0
        with pytest.raises(redis.OutOfMemoryError):
            shop.append([an_event()])
        assert caplog.text.count("is full (maxmemory) and takes no writes (raise its maxmemory") == 1
        assert shop.total("passed") == passed
        client.config_set("maxmemory", 0)
    shop.drain(worker)
    held_to_be_exact(shop, 1_000)


def test_each_event_counts_once_in_a_cluster_of_three(redis_cluster_urls: list[str], prefix: str) -> None:
    shop = Shop("redis+cluster://" + ",".join(url.removeprefix("redis://") for url in redis_cluster_urls), prefix)
    events = list(many_events(500))
    shop.append(events)
    shop.drain(shop.worker(), shop.worker())
    distinct = len({one["event_id"] for one in events})
    assert shop.total("counted") == distinct
    profiles = [meta for key, meta in shop.counters().items() if key.startswith(":{u:") and key.endswith(":m")]
    assert sum(int(meta[b"events"]) for meta in profiles) == distinct
