"""Entries that nobody counts: each one is either counted, a dead letter, or in a counter that `rewriter status` prints."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from typer.testing import CliRunner

from rewriter.cli import app
from rewriter.signals.events import Event, parse
from rewriter.signals.ingest.contract import partition_of
from rewriter.signals.ingest.dead_letters import left_out
from rewriter.signals.ingest.health import Gap, backlog, gap
from rewriter.signals.ingest.worker import WENT_BACK, Worker
from rewriter_engines import Valkey
from tests.fakes import waited
from tests.live.shop import Shop, an_event


def beaten(worker: Worker, times: int = 4) -> None:
    for _ in range(times):
        worker.due()
        worker.step()


@pytest.mark.parametrize("read_before", [0, 30])
@pytest.mark.parametrize("deleted", [slice(0, 1), slice(3, 6), slice(9, 10), slice(0, 10)])
def test_unread_entries_that_somebody_deletes_are_counted(
    redis_url: str, prefix: str, read_before: int, deleted: slice
) -> None:
    """The entries before them are still in the stream, so that its length alone does not tell."""
    shop = Shop(redis_url, prefix, partitions=1)
    worker = shop.worker()
    beaten(worker, 1)
    shop.append([an_event() for _ in range(read_before)])
    shop.drain(worker)
    ids = shop.append([an_event() for _ in range(10)])
    shop.store.run([("XDEL", shop.keys.stream(0), *ids[deleted])])
    beaten(worker)
    lost = len(ids[deleted])
    assert (worker.counts["counted"], worker.counts["lost"]) == (read_before + 10 - lost, lost)
    assert (worker.backlog.entries, shop.total("lost")) == (0, lost)
    entries = "1 entry was" if lost == 1 else f"{lost} entries were"
    assert [one["reason"] for one in shop.dead()] == [f"{entries} trimmed or deleted before they were read"]
    assert left_out(shop.store, shop.keys) == {"lost": lost}


@pytest.mark.parametrize("anew", [20, 150])
def test_a_stream_that_was_begun_anew_lost_nothing_more(redis_url: str, prefix: str, anew: int) -> None:
    """The new stream may have more entries than were passed of the one before, and be trimmed once they were read."""
    shop = Shop(redis_url, prefix, partitions=1)
    worker = shop.worker()
    beaten(worker, 1)
    shop.append([an_event() for _ in range(100)])
    shop.drain(worker)
    shop.store.run([("DEL", shop.keys.stream(0))])
    shop.append([an_event() for _ in range(anew)])
    beaten(worker)
    shop.store.run([("XTRIM", shop.keys.stream(0), "MAXLEN", "0")])
    beaten(worker)
    assert (worker.counts["counted"], worker.counts["lost"], worker.backlog.entries) == (100 + anew, 0, 0)
    assert ["begun anew" in one["reason"] for one in shop.dead()] == [True]
    assert shop.passed(0) == shop.added(0)


@pytest.mark.parametrize(
    ("added", "length", "passed", "unread", "lost"),
    [
        (100, 100, 50, None, 0),  # nothing removed, some unread
        (100, 30, 20, None, 50),  # the stream was trimmed
        (100, 97, 97, 0, 3),  # three of the last ones were deleted
        (100, 100, 90, 10, 0),
        (0, 0, 0, 0, 0),
    ],
)
def test_an_entry_was_passed_is_unread_or_was_lost(
    added: int, length: int, passed: int, unread: int | None, lost: int
) -> None:
    found = gap(added, length, passed, unread)
    assert (found.lost if found else 0) == lost


def test_more_passed_than_added_is_another_stream() -> None:
    assert gap(150, 150, 200, 50) == Gap(
        0, -100, "the stream was deleted and begun anew; what it held unread is unknown"
    )
    assert gap(150, 150, 200, None) is None  # until the unread ones are counted


def test_dead_letters_beyond_their_number_are_counted_and_named(
    redis_url: str, prefix: str, tmp_path: Path, opensearch_url: str
) -> None:
    shop = Shop(redis_url, prefix, partitions=1, dead_letters=100, max_segments=0)
    segments = {"object": {"object_id": "p1"}, "segments": ["a", "b"]}
    shop.append(["no event"] * 1_500)
    shop.append([an_event(event_attributes=segments) for _ in range(2)])
    worker = shop.drained()
    dropped = 1_500 - len(shop.dead())
    assert dropped > 1_000
    assert worker.counts == {"refused": 1_500, "counted": 2}
    assert left_out(shop.store, shop.keys) == {"letters_dropped": dropped, "segments_refused": 4}
    toml = tmp_path / "rewriter.toml"
    toml.write_text(
        f"[opensearch]\nhosts = '{opensearch_url}'\n[store]\nurl = '{redis_url}'\nprefix = '{prefix}'\n"
        f"[policies.shop]\nindex = '{prefix}'\n"
    )
    shown = CliRunner().invoke(app, ["status", "--json", "--toml", str(toml)])
    assert json.loads(shown.stdout)["left_out"] == {"letters_dropped": dropped, "segments_refused": 4}


@pytest.mark.parametrize("ms", [2**41 + 5, 9_999_999_999_999, 10**18])
def test_events_with_ids_of_a_far_future_are_no_duplicates_of_themselves(redis_url: str, prefix: str, ms: int) -> None:
    """One producer that chooses an entry's id makes all later ids as high, beyond what a score holds exactly."""
    shop = Shop(redis_url, prefix)
    events = [an_event(f"u{number % 9}", event_id=f"e{number}") for number in range(40)]
    for number, one in enumerate([*events, *events[:10]], 1):
        raw = json.dumps(one).encode()
        found = parse(raw)
        assert isinstance(found, Event)
        shop.store.run([("XADD", shop.keys.stream(partition_of(found, 4)), f"{ms}-{number}", "event", raw)])
    worker = shop.drained()
    assert worker.counts == {"counted": 40, "duplicate": 10}


@pytest.fixture
def limited(valkey_server: Callable[..., Valkey]) -> Callable[[str], str]:
    """Return the URL of a role without one command."""
    server = valkey_server()

    def url(forbidden: str) -> str:
        with server.client() as client:
            client.acl_setuser("shop", enabled=True, passwords=["+pw"], keys=["*"], categories=["+@all"])
            client.execute_command("ACL", "SETUSER", "shop", f"-{forbidden}")
        return server.url.replace("redis://", "redis://shop:pw@")

    return url


def test_a_worker_that_may_not_work_never_says_that_it_goes_on(
    limited: Callable[[str], str], prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its rounds go well, since it has no partition; its beats fail, which are rarer."""
    shop, now_s = Shop(limited("evalsha"), prefix, lease_s=30.0), [0.0]
    worker = shop.worker(clock_s=lambda: now_s[0])
    with caplog.at_level(logging.WARNING):
        for _ in range(20):
            assert worker.step() == 0
            now_s[0] += 0.1
    assert [one.levelname for one in caplog.records] == ["ERROR"]
    assert "its role may not run evalsha (ACL SETUSER" in worker.trouble


def test_a_role_that_may_not_read_a_stream_s_state_measures_its_lag_all_the_same(
    limited: Callable[[str], str], prefix: str
) -> None:
    shop = Shop(limited("xinfo"), prefix, partitions=1)
    shop.append([an_event() for _ in range(20)])
    time.sleep(0.1)
    found = backlog(shop.store, shop.keys, 1)
    assert found.entries >= 1
    assert found.lag_s >= 0.1
    worker = shop.worker()
    beaten(worker)
    assert worker.counts == {"counted": 20}
    assert worker.backlog.entries == 0


def test_a_store_that_goes_back_under_a_worker_is_reported_once(
    redis_url: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As after the promotion of a replica that lacked the last writes, and after FLUSHALL."""
    shop = Shop(redis_url, prefix, partitions=1, lease_s=30.0)
    shop.append([an_event(item=f"p{number}") for number in range(20)])
    worker = shop.worker()
    beaten(worker)
    shop.append([an_event(item="p30")])
    worker.step()
    (first,) = shop.store.run([("XRANGE", shop.keys.stream(0), "-", "+", "COUNT", 1)])
    shop.store.run([("HSET", shop.keys.of_stream(0, "state"), "position", first[0][0])])
    shop.append([an_event(item="p31")])
    for _ in range(6):
        worker.step()
        worker.due()
    assert [one.message for one in caplog.records if "went back to an earlier state" in one.message] == [
        f"partition 0: {WENT_BACK}"
    ]
    assert [one["reason"] for one in shop.dead() if one["reason"] == WENT_BACK] == [WENT_BACK]
    assert worker.trouble == ""
    shop.store.run([("DEL", shop.keys.of_stream(0, "state"), shop.keys.of_stream(0, "lease"))])
    shop.append([an_event(item="p32")])
    for _ in range(6):
        worker.step()
        worker.due()
    assert [one.message for one in caplog.records].count(f"partition 0: {WENT_BACK}") == 2


def test_an_old_copy_is_reported_though_another_worker_takes_the_partition_and_reads_on(
    redis_url: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It knows of no later position, and later entries move its own beyond it."""
    shop = Shop(redis_url, prefix, partitions=1, lease_s=30.0)
    copied = [shop.keys.stream(0), shop.keys.of_stream(0, "state")]
    copies: list[bytes] = []
    one, other = shop.worker(), shop.worker()
    for _ in range(2):
        copies = copies or (shop.store.run([("DUMP", key) for key in copied]) if shop.added(0) else [])
        shop.append(an_event(item=f"p{number}") for number in range(5))
        beaten(one)
        one._leases.release(one.held)
    beaten(other)
    beaten(one, 1)
    assert shop.dead() == []
    shop.store.run([("RESTORE", key, 0, copy, "REPLACE") for key, copy in zip(copied, copies, strict=True)])
    assert shop.passed(0) == 5
    shop.append(an_event(item=f"p{number}") for number in range(3))
    stranger = shop.worker()
    other.close()
    beaten(stranger)
    assert (stranger.held, shop.passed(0), shop.dead()) == ([0], 8, [])
    beaten(one)
    assert [line.message for line in caplog.records if "went back" in line.message] == [f"partition 0: {WENT_BACK}"]
    assert [letter["reason"] for letter in shop.dead()] == [WENT_BACK]


def test_a_store_that_was_emptied_while_it_failed_is_reported(
    valkey_server: Callable[..., Valkey], prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As by evictions: nothing can be written, so that the worker drops its partitions meanwhile."""
    server = valkey_server()
    shop = Shop(server.url, prefix, partitions=2, lease_s=30.0)
    shop.append(an_event(f"u{number}") for number in range(20))
    shop.drain(worker := shop.worker())
    beaten(worker, 1)
    with server.client() as client:
        client.config_set("maxmemory", 1)
        client.config_set("maxmemory-policy", "allkeys-lru")
        assert waited(lambda: _is_evicted(client))
        beaten(worker, 2)
        assert worker.held == []
        client.config_set("maxmemory", 0)
    beaten(worker)
    assert sorted(one.message for one in caplog.records if "went back" in one.message) == [
        f"partition {number}: {WENT_BACK}" for number in range(2)
    ]
    assert [letter["reason"] for letter in shop.dead()] == [WENT_BACK] * 2


def _is_evicted(client: Any) -> bool:
    with suppress(redis.OutOfMemoryError):
        client.set("another", "key")
    return len(client.keys()) == 0


def test_partitions_that_move_between_workers_are_no_way_back(redis_url: str, prefix: str) -> None:
    shop = Shop(redis_url, prefix, partitions=1, lease_s=30.0)
    one, other = shop.worker(), shop.worker()
    for worker in (one, other, one, other):
        shop.append([an_event(item=f"p{number}") for number in range(5)])
        beaten(worker)
        worker._leases.release(worker.held)
    assert shop.dead() == []
