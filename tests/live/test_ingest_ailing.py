"""Keys of one partition with a wrong type: only its own subjects wait."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from rewriter.errors import StoreError
from rewriter.signals.backfill.hold import Hold
from rewriter.signals.events import Event, parse
from rewriter.signals.ingest.contract import partition_of
from rewriter.signals.ingest.erasure import forget
from rewriter.signals.store import SignalsQuery
from tests.live.shop import Shop, an_event

AILING = 1
Commands = list[tuple[Any, ...]]


@pytest.fixture
def shop(redis_url: str, prefix: str) -> Shop:
    return Shop(redis_url, prefix, retry_s=0.01)


def a_user_of(partition: int) -> str:
    for number in range(1_000):
        found = parse(an_event(f"user{number}"))
        assert isinstance(found, Event)
        if partition_of(found, 4) == partition:
            return f"user{number}"
    raise AssertionError


USERS = {number: a_user_of(number) for number in range(4)}


def counted(shop: Shop) -> dict[int, float]:
    found = {}
    for number, user in USERS.items():
        profile = shop.store.read(SignalsQuery(None, shop.plan.keys.profile(user), None, ("item",), 500)).profile
        found[number] = 0.0 if profile is None else profile.events
    return found


def of_kind(part: str, *commands: str) -> Callable[[Shop], Commands]:
    """Return what puts something of another kind in the place of a key."""

    def wanted(shop: Shop) -> Commands:
        key = shop.keys.of_stream(AILING, part) if part else shop.keys.stream(AILING)
        return [("DEL", key), (commands[0], key, *commands[1:])]

    return wanted


def in_state(*pairs: str) -> Callable[[Shop], Commands]:
    return lambda shop: [("HSET", shop.keys.of_stream(AILING, "state"), *pairs)]


WRONG: dict[str, Callable[[Shop], Commands]] = {
    **{
        f"{part or 'stream'} is a string": of_kind(part, "SET", "x") for part in ("", "state", "dead", "waiting", "ids")
    },
    **{
        f"{part or 'stream'} is a list": of_kind(part, "RPUSH", "x") for part in ("", "state", "dead", "waiting", "ids")
    },
    "lease is a list": of_kind("lease", "RPUSH", "x"),
    "position is a text": in_state("position", "abc"),
    "position is no text": in_state("position", "\udcff"),
    "passed is a text": in_state("passed", "1e3"),
    "the last possible entry": lambda shop: [
        ("XADD", shop.keys.stream(AILING), "18446744073709551615-18446744073709551615", "event", "x")
    ],
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("is_fresh", [False, True], ids=["held", "taken later"])
def test_a_partition_with_a_key_of_another_kind_delays_its_own_people_alone(
    shop: Shop, case: str, is_fresh: bool, caplog: pytest.LogCaptureFixture
) -> None:
    worker = shop.worker()
    if not is_fresh:
        worker.step()
    wrong: Commands = [
        tuple(one.encode("utf-8", "surrogateescape") if isinstance(one, str) else one for one in command)
        for command in WRONG[case](shop)
    ]
    assert not any(isinstance(reply, Exception) for reply in shop.store.run(wrong))
    for number, user in USERS.items():
        if number != AILING:
            shop.append([an_event(user), an_event(user, event_id=f"e{number}")])
    raw = json.dumps(an_event(USERS[AILING], event_id="e")).encode()
    shop.store.run([("XADD", shop.keys.stream(AILING), "*", "event", raw)])  # which may fail
    for _ in range(6):
        worker.due()
        worker.step()
    assert {number: events for number, events in counted(shop).items() if number != AILING} == {0: 2, 2: 2, 3: 2}
    assert worker.trouble == ""
    assert sum("waits" in one.getMessage() for one in caplog.records) <= 1
    (heartbeat,) = shop.store.run([("GET", shop.keys.heartbeat)])
    assert [lag < 5 for number, lag in enumerate(json.loads(heartbeat)["lags"]) if number != AILING] == [True] * 3


@pytest.mark.parametrize("part", ["dead", "waiting", "ids"])
def test_nothing_is_lost_or_doubled_once_the_key_is_deleted(
    shop: Shop, part: str, caplog: pytest.LogCaptureFixture
) -> None:
    worker = shop.worker()
    worker.step()
    shop.store.run([("SET", shop.keys.of_stream(AILING, part), "x")])
    user = USERS[AILING]
    shop.append([an_event(user, event_id="a"), an_event(user), an_event(user, "no such object")])
    shop.store.run([("XADD", shop.keys.stream(AILING), "*", "event", "no event")])
    for _ in range(3):
        worker.due()
        worker.step()
    assert not worker.counts
    shop.store.run([("DEL", shop.keys.of_stream(AILING, part))])
    worker.due()
    shop.drain(worker)
    for _ in range(100):
        worker.due()
        worker.step()
        if worker.counts["missing"]:
            break
    assert worker.counts == {"counted": 2, "waiting": 1, "missing": 1, "refused": 1}
    assert counted(shop)[AILING] == 2
    assert len(shop.dead()) == 2
    assert "partition 1 goes on" in caplog.text


def test_a_counter_of_the_state_that_is_no_number_begins_anew(shop: Shop) -> None:
    worker = shop.worker()
    worker.step()
    shop.store.run([("HSET", shop.keys.of_stream(AILING, "state"), "counted", "many", "lag", "x", "lag_at", "y")])
    shop.append([an_event(USERS[AILING])])
    shop.drain(worker)
    assert shop.state(AILING)["counted"] == "1"
    worker.due()
    worker.step()
    assert worker.backlog.lag_s < 60


def test_what_waits_in_another_form_is_set_aside(shop: Shop) -> None:
    worker = shop.worker()
    shop.store.run([("ZADD", shop.keys.of_stream(AILING, "waiting"), 1, "no separator", 2, "", 3, "\x1f")])
    shop.append([an_event(user) for user in USERS.values()])
    worker.step()
    shop.drain(worker)
    assert worker.counts == {"counted": 4, "refused": 3}
    assert [letter["reason"] for letter in shop.dead()] == ["first: is not the id of an earlier entry"] * 3


SHARED = {
    "a string": ("SET", "x"),
    "a list": ("RPUSH", "x"),
    "a hash": ("HSET", "x", "y"),
    "a set": ("SADD", "x"),
    "a stream": ("XADD", "*", "x", "y"),
}


@pytest.mark.parametrize("kind", SHARED)
def test_the_list_of_workers_is_made_anew_where_it_is_no_list(shop: Shop, kind: str) -> None:
    verb, *rest = SHARED[kind]
    shop.store.run([(verb, shop.keys.workers, *rest)])
    shop.append([an_event(user) for user in USERS.values()])
    shop.drained()
    assert counted(shop) == dict.fromkeys(USERS, 1.0)


BROKEN = {"forgotten": "zz", "aging": "soon 1 2 3 x", "landmark": "inf", "events": "nan", "total:brand": "x", "watermark:0": "x",
          "part:1": "x", "last_event": b"\xff", "lag": "", "\x00": "\x00"}  # fmt: skip


@pytest.mark.parametrize("field", BROKEN)
@pytest.mark.parametrize("scope", ["profile", "session", "population"])
def test_a_field_of_one_key_that_holds_nonsense_delays_nobody(shop: Shop, scope: str, field: str) -> None:
    """Each user has an event before and one after; the second of some is later than a landmark's age."""
    keys, users = shop.plan.keys, list(USERS.values())
    shop.append([an_event(user) for user in users])
    shop.drain(worker := shop.worker())
    bases = {
        "profile": keys.profile(users[0]),
        "session": keys.session(f"s-{users[0]}"),
        "population": keys.population(0),
    }
    shop.store.run([("HSET", f"{bases[scope]}:m", field, BROKEN[field]), ("HDEL", f"{bases[scope]}:aged", "x")])
    shop.append([an_event(user) for user in users])
    shop.drain(worker)
    assert worker.trouble == ""
    assert worker.counts == {"counted": 8}
    assert {number: found for number, found in counted(shop).items() if number} == {1: 2.0, 2: 2.0, 3: 2.0}
    assert forget(shop.store, shop.store, shop.plan, users[0])["profiles"] == 1


def test_a_fault_of_the_worker_s_own_is_told_and_its_work_goes_on(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker that ended would leave what ended it to the next one, and that to the next."""
    shop.append([an_event(user) for user in USERS.values()])
    worker = shop.worker()

    def failing(*_: Any) -> Any:
        raise TypeError(f"secret {USERS[0]}")

    with monkeypatch.context() as patched:
        patched.setattr(worker, "_admitted", failing)
        for _ in range(3):
            assert worker.step() == 0
    assert "an error in the worker, events wait: TypeError in failing, line" in worker.trouble
    assert "secret" not in caplog.text
    shop.drain(worker)
    assert counted(shop) == dict.fromkeys(USERS, 1.0)


@pytest.mark.parametrize("seen_s", ["+inf", str(time.time() + 3_600), str(time.time() + 1e6)])
def test_workers_that_a_clock_ahead_has_seen_hold_nothing(shop: Shop, seen_s: str) -> None:
    """They would never fall silent, and their share of the partitions would be nobody's."""
    shop.store.run([("ZADD", shop.keys.workers, seen_s, f"dead{number}") for number in range(9)])
    shop.append([an_event(user) for user in USERS.values()])
    shop.drained()
    assert counted(shop) == dict.fromkeys(USERS, 1.0)


@pytest.mark.parametrize("kind", SHARED)
def test_a_pause_that_never_ends_is_none(shop: Shop, kind: str) -> None:
    verb, *rest = SHARED[kind]
    shop.store.run([(verb, shop.keys.pause, *rest)])
    shop.append([an_event(user) for user in USERS.values()])
    shop.drain(worker := shop.worker())
    assert counted(shop) == dict.fromkeys(USERS, 1.0)
    shop.store.run([("SET", shop.keys.pause, "backfill", "PX", 20_000)])
    worker.due()
    worker.step()
    assert worker.held == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("partitions", ("HSET", "x", "y")),
        ("first_partitions", ("RPUSH", "x")),
        ("first_partitions", ("SET", "many")),
        ("forgotten", ("SET", "x")),
        ("heartbeat", ("RPUSH", "x")),
        ("segments", ("HSET", "x", "y")),
        ("segments", ("SET", '[{"a": 1}, null, 5, ["x"], "a b", "\\ud800"]')),
        ("segments", ("SET", '{"a": {"b": 1}}')),
        ("segments", ("SET", "17")),
        ("segments", ("SET", b"\xff\xfe")),
    ],
)
def test_what_all_wait_for_is_named_and_nothing_else_stops_a_worker(
    shop: Shop, name: str, value: tuple[Any, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """A worker that reads the key for the first time: whatever it holds, it does not end."""
    key = getattr(shop.keys, name)
    shop.store.run([("DEL", key), (value[0], key, *value[1:])])
    worker = shop.worker()
    shop.append([an_event(user) for user in USERS.values()])
    with_segments = an_event(USERS[0])
    with_segments["event_attributes"]["segments"] = ["vip"]
    shop.append([with_segments])
    worker.step()
    if worker.trouble:
        assert key in worker.trouble
        assert name in ("partitions", "first_partitions", "forgotten")
        shop.store.run([("DEL", key)])
        worker.due()
    shop.drain(worker)
    assert counted(shop) == {**dict.fromkeys(USERS, 1.0), 0: 2.0}


def test_a_backfill_names_the_partition_whose_position_cannot_be_read(shop: Shop) -> None:
    shop.store.run([("SET", shop.keys.of_stream(AILING, "state"), "x")])
    hold = Hold(shop.store, shop.keys, 4, lasts_s=5.0)
    with pytest.raises(StoreError, match=f"partition {AILING} cannot be read"):
        hold.take(lease_s=1.0)
    assert shop.store.run([("EXISTS", shop.keys.pause)]) == [0]
