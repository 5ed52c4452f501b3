"""`rewriter forget`: all data of a subject is removed, none of it is restored, and no other subject is affected."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from rewriter.errors import StoreError
from rewriter.signals.counters import Counters, Value
from rewriter.signals.events import parse
from rewriter.signals.ingest import erasure
from rewriter.signals.ingest.erasure import forget, forget_all
from rewriter.signals.ingest.worker import Worker
from rewriter.signals.redis_store import RedisStore
from rewriter.signals.store import NewPlan, SignalsQuery
from rewriter.subject import Subject
from rewriter_engines import Valkey
from tests.live.shop import Shop, an_event

USER = "somebody"


@pytest.fixture
def shop(redis_url: str, prefix: str) -> Shop:
    return Shop(redis_url, prefix, retry_s=1_000)


def forgotten(shop: Shop, user: str = USER) -> dict[str, int]:
    return dict(forget(shop.store, shop.store, shop.plan, user))


def everything(shop: Shop) -> str:
    """All that is kept under the prefix, as text."""
    client, found = shop.store._connected(), []
    for key in shop.store.keys(f"{shop.settings.store.prefix}:*"):
        found.append(key)
        match client.type(key):
            case b"stream":
                found.append(str(client.xrange(key)))
            case b"zset" if not key.endswith("forgotten"):
                found.append(str(client.zrange(key, 0, -1)))
            case b"hash":
                found.append(str(client.hgetall(key)))
    return "\n".join(found)


def removed(**counts: int) -> dict[str, int]:
    return {"users": 1, "profiles": 0, "sessions": 0, "plans": 0, "dead_letters": 0, "unknown": 0} | counts


def profile_of(shop: Shop, user: str = USER) -> Counters | None:
    keys = shop.plan.keys
    return shop.store.read(
        SignalsQuery(keys.session(f"s-{user}"), keys.profile(user), None, tuple(shop.plan.fields), 100)
    ).profile


def session_of(shop: Shop, session: str) -> Counters | None:
    return shop.store.read(
        SignalsQuery(shop.plan.keys.session(session), None, None, tuple(shop.plan.fields), 100)
    ).session


def test_nothing_is_left_but_what_retention_covers(shop: Shop) -> None:
    events = [an_event(USER), an_event(USER, session_id="another"), an_event("u2")]
    events += [an_event(USER, "not-there"), an_event(USER, action_name="yawn")]
    shop.append([*events, '{"broken": "somebody"'])
    worker = shop.worker()
    shop.drain(worker)
    keys = shop.plan.keys
    plans = [
        keys.plan(Subject(*who), "3") for who in ((USER, f"s-{USER}"), (USER, None), (USER, "another"), ("u2", "s-u2"))
    ]
    for key in plans:
        assert key is not None
        shop.store.save_plans([NewPlan(key, b"{}", 1_000)])
    assert forgotten(shop) == removed(profiles=1, sessions=2, plans=3, dead_letters=2)
    client = shop.store._connected()
    for key in client.scan_iter(match=f"{shop.settings.store.prefix}:{{stream:*}}"):
        client.delete(key)  # as retention does
    shop.store.run(
        [("DEL", shop.keys.of_stream(number, "waiting")) for number in range(4)]
    )  # which come back to the stream
    left = everything(shop)
    assert USER not in left
    assert [key for key in plans[:3] if key and key in left] == []
    assert profile_of(shop) is None
    assert [session_of(shop, one) for one in (f"s-{USER}", "another")] == [None, None]
    assert profile_of(shop, "u2") is not None
    assert str(plans[3]) in left
    assert forgotten(shop) == removed()


def test_what_was_before_does_not_come_back_and_what_comes_after_counts(shop: Shop) -> None:
    before = an_event(USER)
    assert forgotten(shop)["unknown"] == 1
    time.sleep(0.01)
    after = an_event(USER, "p2", at_s=time.time() + 1)
    shop.append([before, after])
    worker = shop.drained()
    assert worker.counts == {"forgotten": 1, "counted": 1}
    counters = profile_of(shop)
    assert counters is not None
    assert counters.events == 1


def test_every_session_of_a_user_of_many_is_removed(shop: Shop) -> None:
    """As many as a visitor has whose client makes one for each page."""
    shop.append(an_event(USER, session_id=f"s-{number}") for number in range(150))
    shop.drained()
    assert forgotten(shop) == removed(profiles=1, sessions=150)
    assert [number for number in range(150) if session_of(shop, f"s-{number}") is not None] == []


def test_no_session_outlives_a_user_of_more_than_a_profile_lists(shop: Shop) -> None:
    """The oldest sessions leave the list, and so they must not be read any more."""
    shop.append([an_event(USER, session_id="s-first")])
    shop.drain(worker := shop.worker())
    assert session_of(shop, "s-first") is not None
    base = shop.plan.keys.profile(USER)
    listed = [part for number in range(999) for part in (time.time(), f"{number:032x}")]
    shop.store.run([("ZADD", f"{base}:sessions", *listed)])
    shop.append(an_event(USER, session_id=one) for one in ("s-next", "s-last"))
    shop.drain(worker)
    worker.close()
    found = [session_of(shop, one) is not None for one in ("s-first", "s-next", "s-last")]
    assert found == [False, True, True]
    assert forgotten(shop) == removed(profiles=1, sessions=2)
    assert [one for one in ("s-first", "s-next", "s-last") if session_of(shop, one) is not None] == []


def test_sessions_that_ended_leave_a_profile(shop: Shop) -> None:
    (base,) = {shop.plan.keys.profile(USER)}
    old_s, now_s = time.time() - 2.1 * shop.settings.signals.session_ttl_s, time.time()
    (_, added) = shop.store.run([("DEL", f"{base}:sessions"), ("ZADD", f"{base}:sessions", old_s, "old", now_s, "own")])
    assert added == 2
    shop.append([an_event(USER)])
    shop.drained()
    (left,) = shop.store.run([("ZRANGE", f"{base}:sessions", 0, -1)])
    assert left == [b"own", shop.plan.keys.digest(shop.plan.keys.session(f"s-{USER}")).encode()]


@pytest.mark.parametrize("with_profile", [True, False])
def test_what_a_killed_backfill_staged_is_removed(shop: Shop, with_profile: bool) -> None:
    base = shop.plan.keys.profile(USER)
    if with_profile:
        shop.append([an_event(USER)])
        shop.drained()
    shop.store.run([("ZADD", f"{base}:fresh", 1.0, "brand\x1fb3"), ("HSET", f"{base}:fresh:c", "shoes", "b3")])
    forgotten(shop)
    assert [key.removeprefix(base) for key in shop.store.keys(f"{base}:*")] == [":m"]


def test_unread_and_waiting_entries_are_dropped_and_are_no_loss(redis_url: str, prefix: str) -> None:
    shop = Shop(redis_url, prefix, retry_s=0.2)
    shop.append([an_event(USER, "not-there")])
    worker = shop.worker()
    shop.drain(worker)
    assert shop.total("waiting") == 1
    shop.append([an_event(USER), an_event("u2"), an_event(USER)])
    forgotten(shop)
    until_s = time.monotonic() + 30
    while worker.counts["forgotten"] < 3:
        worker.due()
        worker.step()
        assert time.monotonic() < until_s
    assert worker.counts == {"waiting": 1, "forgotten": 3, "counted": 1}
    assert profile_of(shop) is None


@pytest.mark.parametrize("stalls_before", ["profile", "session"])
@pytest.mark.parametrize("was_known", [True, False])
@pytest.mark.parametrize("who", [{}, {"user_id": None}])
def test_a_worker_that_stalls_with_a_batch_brings_nothing_back(
    shop: Shop, stalls_before: str, was_known: bool, who: dict[str, Any]
) -> None:
    user = f"c-{USER}" if who else USER
    events = [{key: value for key, value in (an_event(USER) | who).items() if value is not None} for _ in range(5)]
    if was_known:
        shop.append(events)
        shop.drained()
    base = shop.plan.keys.profile(user) if stalls_before == "profile" else shop.plan.keys.session(f"s-{USER}")

    class Stalling:
        stalled = False

        def run(self, wanted: Sequence[Any], *, atomic: bool = False) -> list[Any]:
            if not self.stalled and any(one[0] == "EVALSHA" and one[3] == f"{base}:z" for one in wanted):
                self.stalled = True
                forgotten(shop, user)
            return shop.store.run(wanted, atomic=atomic)

    engine = Stalling()
    shop.append(events)
    worker = shop.drained(engine)
    assert engine.stalled
    assert session_of(shop, f"s-{USER}") is None
    assert profile_of(shop, user) is None
    assert worker.counts in ({"forgotten": 5}, {"counted": 5})
    assert worker.counts == {"counted" if stalls_before == "session" else "forgotten": 5}


def test_a_batch_that_is_sent_again_after_all_brings_nothing_back(shop: Shop) -> None:
    """The watermarks outlive the counters."""
    shop.append([an_event(USER) for _ in range(3)])
    worker = shop.worker()
    shop.drain(worker)
    worker.close()
    forgotten(shop)
    shop.store.run([("DEL", shop.keys.forgotten)])  # even so
    shop.store.run([("DEL", shop.keys.of_stream(number, "state")) for number in range(4)])
    shop.drained()
    assert profile_of(shop) is None
    assert session_of(shop, f"s-{USER}") is None


def test_a_job_that_writes_a_profile_brings_nothing_back(shop: Shop) -> None:
    now_s, base = time.time(), shop.plan.keys.profile(USER)
    counters = Counters({("brand", "b1"): 3.0}, {"brand": 3.0}, now_s + 100, now_s - 100, 3.0)
    assert shop.store.write(base, counters, 60) is True
    forgotten(shop)
    assert shop.store.write(base, counters, 60) is False
    assert shop.store.write(base, replace(counters, landmark_s=now_s - 50, last_event_s=0.0), None) is False
    assert profile_of(shop) is None
    assert shop.store.write(base, replace(counters, last_event_s=now_s + 100), 60) is True
    assert profile_of(shop) is not None


IDENTIFIERS = ["17", "u-1", "a", "Ü ñ", 'q"uote', "back\\slash", "42.0", "017", "1e5", "*", "user_id"]


@pytest.mark.parametrize("user", IDENTIFIERS)
def test_dead_letters_are_told_apart_by_exact_identifiers(shop: Shop, user: str) -> None:
    others = [f"{user}0", f"0{user}", user * 2, f" {user}", user.upper() + "x", "other"]
    own = [
        an_event(user, action_name="yawn"),
        an_event("other", client_id=user, action_name="yawn"),
        {"user_id": user},
        {"client_id": user, "x": []},
    ]
    theirs = [an_event(one, client_id=f"c-{one}", action_name="yawn") for one in others]
    theirs += [
        an_event("other", user, session_id=user, query_id=user, event_id=f"{user}-{n}", action_name="yawn")
        for n in range(2)
    ]
    theirs += [{"user_id": "other", "price": user, "nested": {"user_id": user}}]
    raw = [
        json.dumps(one)[:-1] for one in ({"user_id": user}, {"user_id": f"{user}0", "price": user})
    ]  # cut off at the end
    escaped = json.dumps(an_event(user, action_name="yawn"), ensure_ascii=False)
    shop.append([*map(json.dumps, own), escaped, raw[0], *map(json.dumps, theirs), raw[1]])
    shop.drained()
    before = len(shop.dead())
    assert forgotten(shop, user)["dead_letters"] == 6
    assert len(shop.dead()) == before - 6 == len(theirs) + 1


def test_a_number_is_the_identifier_that_it_is_counted_under(shop: Shop) -> None:
    shop.append([an_event("x", user_id=number, client_id=None, action_name="yawn") for number in (17, 170, 1.7)])
    shop.drained()
    assert forgotten(shop, "17")["dead_letters"] == 1
    assert forgotten(shop, "1.7")["dead_letters"] == 1


@pytest.mark.parametrize(
    ("user", "spelled"),
    [
        ("10.0", "1e1"),
        ("10", "10"),
        ("10", '"10"'),
        ("0", "-0"),
        ("-7", "-7"),
        ("10.0", "10.00"),
        ("Müller", '"M\\u00fcller"'),
        ("Müller", '"Müller"'),
        ("a/b", '"a\\/b"'),
        ('a"b', '"a\\"b"'),
        ("\U0001f600", '"\\ud83d\\ude00"'),
    ],
)
def test_an_identifier_is_found_however_its_letter_spells_it(shop: Shop, user: str, spelled: str) -> None:
    raw = json.dumps(an_event("x", user_id="@", action_name="yawn"), ensure_ascii=False).replace('"@"', spelled)
    shop.append([raw, json.dumps(an_event("y", action_name="yawn"))])
    shop.drained()
    assert forgotten(shop, user)["dead_letters"] == 1


def test_letters_of_others_are_not_read_for_one_user(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading takes 6 µs each, and there may be 160,000."""
    shop.append([an_event(f"u{number}", action_name="yawn") for number in range(300)])
    shop.drained()
    read: list[bytes] = []

    def noted(raw: bytes) -> Any:
        read.append(raw)
        return parse(raw)

    monkeypatch.setattr(erasure, "parse", noted)
    assert forgotten(shop, "u17")["dead_letters"] == 1
    assert 1 <= len(read) <= 12  # u17, u170 to u179


@pytest.mark.parametrize("value", ["", "x", "1e400", "7"])
def test_processes_are_told_whatever_they_were_told_before(shop: Shop, value: str) -> None:
    shop.append([an_event(USER)])
    shop.drained()
    shop.store.run([("SET", shop.keys.forgets, value)])
    assert forgotten(shop)["profiles"] == 1
    assert shop.store.run([("GET", shop.keys.forgets)]) != [value.encode()]


def test_a_client_without_a_user_is_a_user(shop: Shop) -> None:
    event = an_event("x")
    del event["user_id"]
    shop.append([event])
    shop.drained()
    assert forgotten(shop, "c-x") == removed(profiles=1, sessions=1)


def test_nobody_without_a_user_is_forgotten_with_the_empty_one(shop: Shop) -> None:
    """`forget_all` may be called with anything; sessions without a user are nobody's, and are not dropped."""
    event = an_event("x", session_id="s9")
    del event["user_id"], event["client_id"]
    shop.append([event])
    forgotten(shop, "")
    worker = shop.drained()
    assert worker.counts == {"counted": 1}


def test_an_unknown_user_is_reported_by_their_place(shop: Shop) -> None:
    shop.append([an_event("u1"), an_event("u3", action_name="yawn")])
    shop.drained()
    done, unknown = forget_all(shop.store, shop.store, shop.plan, ["u1", "typo", "u3", "u4"])
    assert unknown == [1, 3]
    assert done == removed(users=4, profiles=1, sessions=1, dead_letters=1, unknown=2)
    assert forget_all(shop.store, shop.store, shop.plan, ["typo", "u1"])[1] == []  # they were forgotten before


def test_many_users_are_forgotten_at_once_and_no_other(shop: Shop) -> None:
    users = [f"u{number}" for number in range(250)]
    shop.append([an_event(user) for user in [*users, "stays"]])
    shop.drained()
    done, unknown = forget_all(shop.store, shop.store, shop.plan, users)
    assert unknown == []
    assert done == removed(users=250, profiles=250, sessions=250)
    assert all(profile_of(shop, user) is None for user in users)
    assert profile_of(shop, "stays") is not None


def test_profiles_and_sessions_in_stores_of_their_own(shop: Shop, valkey_server: Callable[..., Valkey]) -> None:
    profiles = RedisStore(valkey_server().url)
    worker = Worker(shop.store, profiles, shop.objects(), shop.plan, clock_s=time.monotonic, now_s=time.time)
    shop.append([an_event(USER)])
    shop.drain(worker)
    keys = shop.plan.keys
    for subject in (Subject(USER, f"s-{USER}"), Subject(USER)):
        shop.store.save_plans([NewPlan(keys.plan(subject, "3") or "", b"{}", 100)])
    assert dict(forget(shop.store, profiles, shop.plan, USER)) == removed(profiles=1, sessions=1, plans=2)
    query = SignalsQuery(None, keys.profile(USER), None, ("brand",), 10)
    assert profiles.read(query).profile is None
    assert profiles.read(query).forgotten_s > 0
    profiles.close()


def test_a_plan_from_before_is_not_written_afterwards(shop: Shop) -> None:
    """Plans wait for others, so that the user may be erased between a page and the writing of its plan."""
    shop.append([an_event(USER), an_event("u2")])
    shop.drained()
    profile = shop.plan.keys.profile(USER)
    forget(shop.store, shop.store, shop.plan, USER)
    forgotten_s = shop.store.read(SignalsQuery(None, profile, None, ("brand",), 10)).forgotten_s
    assert forgotten_s > 0
    one, other, new = (
        shop.plan.keys.plan(Subject(who), slot) or "" for who, slot in ((USER, "1"), ("u2", "1"), (USER, "2"))
    )
    plans = [NewPlan(one, b"old", 100), NewPlan(other, b"other", 100), NewPlan(new, b"new", 100, forgotten_s)]
    assert shop.store.save_plans(plans).refused == 1
    assert shop.store.run([("GET", key) for key in (one, other, new)]) == [None, b"other", b"new"]


def test_a_user_is_forgotten_in_a_cluster(redis_cluster_urls: list[str], prefix: str) -> None:
    shop = Shop("redis+cluster://" + ",".join(url.removeprefix("redis://") for url in redis_cluster_urls), prefix)
    shop.append([an_event(USER), an_event("u2")])
    shop.drained()
    shop.store.save_plans([NewPlan(shop.plan.keys.plan(Subject(USER, f"s-{USER}"), "3") or "", b"{}", 100)])
    assert forgotten(shop) == removed(profiles=1, sessions=1, plans=1)
    assert profile_of(shop, "u2") is not None
    big: dict[Value, float] = {("brand", f"b{number}"): 1.0 for number in range(1_200)}
    assert shop.store.write(shop.plan.keys.population(3), Counters(big, {"brand": 1_200.0}, time.time()), None)


def test_forgetting_does_not_read_the_streams(shop: Shop) -> None:
    """Its commands, and what they bring back, are the same however long the streams are."""
    shop.append([an_event(f"u{number}") for number in range(400)])
    shop.drained()

    class Counting(RedisStore):
        def run(self, wanted: Sequence[Any], *, atomic: bool = False) -> list[Any]:
            assert not any(one[0] in ("SCAN", "KEYS") for one in wanted)
            assert not any(one[0] == "XRANGE" and not str(one[1]).endswith(":dead") for one in wanted)
            return super().run(wanted, atomic=atomic)

    store = Counting(shop.url)
    assert dict(forget(store, store, shop.plan, "u7")) == removed(profiles=1, sessions=1)
    store.close()


@pytest.mark.parametrize("part", ["dead", "state", ""])
def test_one_partition_s_broken_key_keeps_no_other_partition_s_letters(shop: Shop, part: str) -> None:
    shop.store.run([("SET", shop.keys.partitions, 4)])
    broken = shop.keys.of_stream(0, part) if part else shop.keys.stream(0)
    shop.store.run([("DEL", broken), ("SET", broken, "something else")])
    for number in range(1, 4):
        raw = json.dumps(an_event(USER, "p1") | {"action_name": "scroll"})
        shop.store.run(
            [("XADD", shop.keys.of_stream(number, "dead"), "*", "entry", "1-1", "reason", "r", "event", raw)]
        )
    if part == "dead":
        with pytest.raises(
            StoreError, match=f"all was erased but the dead letters of 1 partition: WRONGTYPE {broken} "
        ):
            forget(shop.store, shop.store, shop.plan, USER)
    else:
        assert forgotten(shop)["dead_letters"] == 3
    lengths = shop.store.run([("XLEN", shop.keys.of_stream(number, "dead")) for number in range(1, 4)])
    assert lengths == [0, 0, 0]
