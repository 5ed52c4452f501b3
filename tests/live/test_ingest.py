"""Ingest from event to counters: counted events, dead letters, and their reasons."""

from __future__ import annotations

import json
import time
from typing import Any
from zlib import crc32

import pytest

from rewriter.signals.counters import Counters, HalfLives, Observation, counted
from rewriter.signals.store import SignalsQuery
from tests.live.shop import PRODUCTS, Shop, an_event, many_events


@pytest.fixture
def shop(redis_url: str, prefix: str) -> Shop:
    return Shop(redis_url, prefix)


def read(shop: Shop, user: str) -> tuple[Counters | None, Counters | None]:
    keys = shop.plan.keys
    found = shop.store.read(
        SignalsQuery(keys.session(f"s-{user}"), keys.profile(user), None, tuple(shop.plan.fields), 500)
    )
    return found.session, found.profile


def test_an_event_is_in_the_next_read(shop: Shop) -> None:
    shop.append([an_event("u1", "p8")])
    shop.drained()
    session, profile = read(shop, "u1")
    expected = {("brand", "b1"): 2.0, ("type_brand", "t3", "b1"): 2.0, ("item", "p8"): 2.0}
    for counters in (session, profile):
        assert counters is not None
        assert counters.weights == pytest.approx(expected, rel=1e-6)
        assert counters.totals == {"brand": 2.0, "type_brand": 2.0, "item": 2.0}
        assert counters.events == 1
        assert 0 <= counters.lag_s < 10


def test_the_counters_are_those_of_the_arithmetic(redis_url: str, prefix: str) -> None:
    """apply.lua against `counted`, over events that are hours out of order and move the landmark many times."""
    shop = Shop(redis_url, prefix, max_counters=500)
    events = [one for one in many_events(400, users=1, spread_s=100_000) if one["action_name"] != "remove_from_cart"]
    shop.append(events)
    shop.drained()
    _, profile = read(shop, "u0")
    assert profile is not None
    weights = shop.settings.signals.action_weights
    once = {one["event_id"]: one for one in events}.values()
    seen = []
    for one in once:
        document = PRODUCTS[one["event_attributes"]["object"]["object_id"]]
        values = (("brand", document["brand"]), ("type_brand", document["type"], document["brand"]))
        seen.append(Observation(values, weights[one["action_name"]], _at_s(one)))
    half_lives = HalfLives(86_400, {"type_brand": 43_200})
    expected = counted(seen, half_lives, profile.landmark_s)
    assert profile.landmark_s > min(one.at_s for one in seen) + 43_200 / 4
    assert profile.totals["brand"] == pytest.approx(expected.totals["brand"])
    assert profile.totals["type_brand"] == pytest.approx(expected.totals["type_brand"])
    assert profile.events == len(once)
    assert {value: weight for value, weight in profile.weights.items() if value[0] != "item"} == pytest.approx(
        expected.weights
    )


def test_a_negative_action_lowers_and_never_below_zero(shop: Shop) -> None:
    removed = an_event("u1", "p1", action_name="remove_from_cart")
    shop.append([an_event("u1", "p1", action_name="purchase"), removed])
    shop.drain(worker := shop.worker())
    _, profile = read(shop, "u1")
    assert profile is not None
    assert profile.weights[("brand", "b1")] == pytest.approx(4.0, rel=1e-3)
    shop.append([removed] * 3)
    shop.drain(worker)
    _, profile = read(shop, "u1")
    assert profile is not None
    assert profile.weights == {}
    assert profile.totals.get("brand", 0.0) == 0.0


def test_only_the_heaviest_are_kept(shop: Shop) -> None:
    shop.append([an_event("u1", item) for item in PRODUCTS])
    shop.drained()
    (kept,) = shop.store.run([("ZCARD", f"{shop.plan.keys.profile('u1')}:z")])
    assert kept == 2 * shop.settings.signals.max_counters


def test_sessions_and_profiles_expire(shop: Shop) -> None:
    shop.append([an_event("u1")])
    shop.drained()
    bases = [shop.plan.keys.session("s-u1"), shop.plan.keys.profile("u1")]
    ttls = shop.store.run([("TTL", f"{base}:{part}") for base in bases for part in "zm"])
    assert all(ttl > 0 for ttl in ttls)


def test_old_events_leave_their_session_alone(shop: Shop) -> None:
    shop.append([an_event("u1", at_s=time.time() - 2 * 86_400)])
    shop.drained()
    session, profile = read(shop, "u1")
    assert session is None
    assert profile is not None


def test_without_consent_nothing_is_written(shop: Shop) -> None:
    shop.append([an_event("u1", consent=False)])
    worker = shop.drained()
    assert shop.counters() == {}
    assert worker.counts == {"no_consent": 1}


def test_what_the_event_tells_of_its_object_is_not_looked_up(shop: Shop) -> None:
    told = {"object": {"object_id": "unknown", "attributes": {"brand": "nike", "type": "shoe"}}}
    shop.append([an_event("u1", event_attributes=told)])
    shop.drained()
    _, profile = read(shop, "u1")
    assert profile is not None
    assert profile.weights[("type_brand", "shoe", "nike")] == 2.0
    assert shop.index.asked == 0


def test_segments_are_counted_and_named(shop: Shop) -> None:
    told = {"object": {"object_id": "p1"}, "segments": ["parents"]}
    shop.append([an_event(f"u{number}", event_attributes=told) for number in range(8)])
    shop.drained()
    assert json.loads(shop.store.read_text(shop.keys.segments) or "") == ["parents"]
    bases = [shop.plan.keys.segment("parents", number) for number in range(4)]
    parts = [part for part in shop.store.read_many(bases, ("brand",), 10) if part is not None]
    assert sum(part.weights[("brand", "b1")] for part in parts) == pytest.approx(16.0, rel=1e-3)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("no json", "event:"),
        (json.dumps(an_event(action_name="yawn")), "action_name:"),
        (json.dumps(an_event(at_s=1e9)), "timestamp:"),
        (json.dumps(an_event(at_s=9e9)), "timestamp:"),
        (json.dumps(an_event(session_id="x" * 1_000_000)), "event:"),
        (json.dumps(an_event(user_id=["u1"])), "user_id:"),
        (
            json.dumps(an_event(event_attributes={"object": {"object_id": "p1", "attributes": {"sleeve": "long"}}})),
            "event_attributes.object:",
        ),
    ],
)
def test_what_cannot_be_counted_is_set_aside_and_the_stream_goes_on(
    shop: Shop, raw: str, reason: str, request: pytest.FixtureRequest
) -> None:
    if reason == "event_attributes.object:":
        shop.plan.fields.pop("item")  # type: ignore[attr-defined]  # an item always counts
    shop.append([raw, an_event("u1", "p8")])
    worker = shop.drained()
    (letter,) = shop.dead()
    assert letter["reason"].startswith(reason)
    assert len(letter["event"]) <= 65_536
    assert worker.counts == {"refused": 1, "counted": 1}


def test_a_key_of_another_kind_fails_its_own_entries(shop: Shop) -> None:
    shop.store.run([("SET", f"{shop.plan.keys.profile('u1')}:m", "text")])
    shop.append([an_event("u1"), an_event("u2")])
    shop.drained()
    (letter,) = shop.dead()
    assert letter["reason"].startswith("the profile's key")
    assert read(shop, "u2")[1] is not None


def test_an_object_that_comes_late_is_counted_after_all(redis_url: str, prefix: str) -> None:
    shop = Shop(redis_url, prefix, retry_s=0.01)
    shop.append([an_event("u1", "new", event_id="e1")])
    worker = shop.worker()
    worker.step()
    assert shop.total("waiting") == 1
    assert read(shop, "u1")[1] is None
    shop.index.documents["new"] = {"brand": "nike", "type": "shoe"}
    _until(worker, lambda: worker.counts["counted"] == 1)
    assert read(shop, "u1")[1] is not None
    assert shop.dead() == []


def test_an_object_that_never_comes_is_set_aside(redis_url: str, prefix: str) -> None:
    shop = Shop(redis_url, prefix, retry_s=0.01)
    shop.append([an_event("u1", "never")])
    worker = shop.worker()
    _until(worker, lambda: worker.counts["missing"] == 1)
    (letter,) = shop.dead()
    assert letter["reason"] == "event_attributes.object.object_id: is not in the index"


@pytest.mark.parametrize("skew_s", [0.0, 100.0, -100.0, 1e6])
def test_the_heartbeat_tells_lag_and_backlog_by_the_stores_clock(shop: Shop, skew_s: float) -> None:
    late, raw = 1, json.dumps(an_event("u1")).encode()
    long_ago = [
        ("XADD", shop.keys.stream(late), f"{int(time.time() * 1000) - 100_000}-{n}", "event", raw) for n in range(30)
    ]
    shop.store.run(long_ago)
    shop.index.away = True
    worker = shop.worker(now_s=lambda: time.time() + skew_s)
    worker.step()
    beat = json.loads(shop.store.read_text(shop.keys.heartbeat) or "")
    assert beat["backlog"] == 30
    assert 100 <= beat["lag"] < 110
    assert beat["lags"] == [beat["lag"] if number == late else 0.0 for number in range(4)]
    assert abs(beat["at"] - time.time()) < 10


@pytest.mark.parametrize("skew_s", [-40.0, 40.0])
def test_a_workers_clock_that_is_off_is_no_lag(shop: Shop, skew_s: float, caplog: pytest.LogCaptureFixture) -> None:
    worker = shop.worker(now_s=lambda: time.time() + skew_s)
    for _ in range(3):
        shop.append([an_event(f"u{number}") for number in range(8)])
        shop.drain(worker)
        worker.beat()
    beat = json.loads(shop.store.read_text(shop.keys.heartbeat) or "")
    assert 0 <= beat["lag"] < 10
    assert abs(beat["event_lag"]) < 10
    assert caplog.text.count("this machine's clock is 40 s") == 1


def test_workers_whose_clocks_differ_share_the_partitions(shop: Shop) -> None:
    crew = [shop.worker(), shop.worker(now_s=lambda: time.time() + 3_600.0)]
    for _ in range(3):
        for worker in crew:
            worker.beat()
    assert [len(worker.held) for worker in crew] == [2, 2]


def test_a_session_that_two_partitions_feed_in_one_round_counts_both(shop: Shop) -> None:
    """Ids of two streams have no order between them: the watermark of one says nothing of the other."""
    client = next(name for name in (f"c{n}" for n in range(99)) if _partition(name) == 2)
    user = next(name for name in (f"u{n}" for n in range(99)) if _partition(name) == 1)
    anonymous = an_event("x", "p1", client_id=client, session_id="s-1")
    del anonymous["user_id"]
    shop.append([anonymous] * 3)
    time.sleep(0.01)
    shop.append([an_event(user, "p2", session_id="s-1")] * 2)
    worker = shop.drained()
    (events,) = shop.store.run([("HGET", f"{shop.plan.keys.session('s-1')}:m", "events")])
    assert float(events) == 5
    assert worker.counts == {"counted": 5}


def _partition(subject: str) -> int:
    return crc32(subject.encode()) % 4


def test_streams_are_trimmed_by_age_and_never_unread(redis_url: str, prefix: str) -> None:
    shop = Shop(redis_url, prefix, retention_s=0.001, partitions=1)
    shop.append([an_event("u1") for _ in range(1_000)])
    worker = shop.worker()
    time.sleep(0.01)
    worker.step()
    (left,) = shop.store.run([("XLEN", shop.keys.stream(0))])
    assert 800 <= left < 1_000  # 200 were read; the server trims whole nodes of a hundred
    shop.drain(worker)
    assert worker.counts == {"counted": 1_000}


def _until(worker: Any, done: Any, deadline_s: float = 10.0) -> None:
    late_at = time.monotonic() + deadline_s
    while not done():
        worker.step()
        assert time.monotonic() < late_at


def _at_s(event: dict[str, Any]) -> float:
    from datetime import datetime

    return datetime.fromisoformat(event["timestamp"]).timestamp()


def test_partitions_that_are_all_full_have_equal_shares(redis_url: str, prefix: str) -> None:
    shop = Shop(redis_url, prefix, partitions=8, batch=400, lease_s=30.0)
    shop.append(an_event(f"u{number}", "p1") for number in range(1_500))
    shop.worker().step()
    assert [shop.passed(number) for number in range(8)] == [50] * 8
