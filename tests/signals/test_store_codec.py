"""Commands of a store and the parsing of replies, whatever the server's keys contain."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest
from redis.exceptions import ResponseError

from rewriter.errors import StoreError
from rewriter.signals.commands import (
    MAX_TEXT_BYTES,
    MEMBERS_AT_ONCE,
    WRITE,
    WRITTEN_AT_ONCE,
    commands,
    many,
    many_counters,
    put_command,
    read_counters,
    signals,
    text_in,
    write_commands,
)
from rewriter.signals.counters import Counters, Value
from rewriter.signals.store import Keys, Signals, SignalsQuery, joined, separated
from rewriter.subject import Subject, pseudonym

KEYS = Keys("rw", "salt")
FIELDS = ("brand", "item")
META = [b"1767225600.0", b"1767225700.5", b"3", b"0.25", b"9.5", None]
NIKE, NIKE_RAW = ("brand", "nike"), b"brand\x1fnike"


def found(members: list[Any], meta: list[Any] = META) -> Counters | None:
    return read_counters(members, meta, FIELDS)


# --- keys and commands ------------------------------------------------------------------------------------------------


def test_keys_of_one_subject_and_scope_share_a_hash_tag_and_hold_no_identifier() -> None:
    base = KEYS.session("session-17")
    assert base == "rw:{s:f621d27ced976cebcc35e22cada8a5e0}"
    assert KEYS.plan(Subject("user-17", "session-17"), "abc") == f"{base}:plan:abc"
    assert KEYS.plan(Subject("user-17"), "abc") == f"{KEYS.profile('user-17')}:plan:abc"
    assert KEYS.plan(Subject(segments=("new",)), "abc") is None


@pytest.mark.parametrize("other", [Keys("rw", "pepper"), Keys("rx", "salt")])
def test_another_salt_or_prefix_is_another_key(other: Keys) -> None:
    assert other.profile("user-17") != KEYS.profile("user-17")


def test_a_session_and_a_user_of_one_name_are_two() -> None:
    assert pseudonym("s", "17", "salt") != pseudonym("u", "17", "salt")


def test_one_read_asks_the_server_for_no_more_than_it_may_answer() -> None:
    query = SignalsQuery("S", "P", "L", FIELDS, 64)
    assert commands(query) == [
        ("ZRANGE", "S:z", 0, 63, "REV", "WITHSCORES"),
        ("HMGET", "S:m", "landmark", "last_event", "events", "lag", "total:brand", "total:item", "forgotten"),
        ("ZRANGE", "P:z", 0, 63, "REV", "WITHSCORES"),
        ("HMGET", "P:m", "landmark", "last_event", "events", "lag", "total:brand", "total:item", "forgotten"),
        ("GETRANGE", "L", 0, MAX_TEXT_BYTES),
    ]


def test_nothing_wanted_is_nothing_asked() -> None:
    query = SignalsQuery(None, None, None, FIELDS, 64)
    assert commands(query) == []
    assert signals(query, []) == Signals()


def test_many_are_asked_for_in_chunks() -> None:
    bases = [f"B{number}" for number in range(5)]
    chunks = list(many(bases, FIELDS, MEMBERS_AT_ONCE // 2))
    assert [list(chunk) for chunk, _ in chunks] == [["B0", "B1"], ["B2", "B3"], ["B4"]]
    assert [len(wanted) for _, wanted in chunks] == [4, 4, 2]
    assert len(list(many(bases, FIELDS, 10 * MEMBERS_AT_ONCE))) == 5


# --- replies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "members",
    [
        pytest.param([b"brand\x1fnike", b"2.5", b"item\x1f7", b"1"], id="RESP2"),
        pytest.param([[b"brand\x1fnike", 2.5], [b"item\x1f7", 1.0]], id="RESP3"),
    ],
)
def test_counters_are_read_from_both_protocols(members: list[Any]) -> None:
    assert found(members) == Counters(
        {NIKE: 2.5, ("item", "7"): 1.0}, {"brand": 9.5}, 1767225600.0, 1767225700.5, 3.0, 0.25
    )


@pytest.mark.parametrize(
    "member", [b"brand", b"", b"\xff\xfebrand\x1fnike", "brand\x1fnike".encode("utf-16"), b"brand\x1f" + b"x" * 2**20]
)
def test_a_member_that_is_no_value_is_ignored_by_itself(member: bytes) -> None:
    counters = found([member, b"9", b"brand\x1fnike", b"1"])
    assert counters is not None
    assert counters.weights == {NIKE: 1.0}


@pytest.mark.parametrize("score", [b"nan", b"inf", b"-inf", b"-1", b"1e308", b"0", b"x", nan, inf, -inf, -1.0, 1e308])
def test_a_weight_that_is_none_is_ignored_by_itself(score: Any) -> None:
    for members in ([b"brand\x1fpuma", score, b"brand\x1fnike", b"1"], [[b"brand\x1fpuma", score], [NIKE_RAW, 1.0]]):
        counters = found(members)
        assert counters is not None
        assert counters.weights == {NIKE: 1.0}


@pytest.mark.parametrize("landmark", [None, b"nan", b"inf", b"-1", b"1e308", b"yesterday", b"\xff", b""])
def test_counters_without_a_landmark_are_none(landmark: bytes | None) -> None:
    assert found([NIKE_RAW, b"1"], [landmark, *META[1:]]) is None


@pytest.mark.parametrize("broken", [b"nan", b"-5", b"1e308", b"many", b"\xff"])
def test_other_broken_parts_of_the_hash_are_ignored_by_themselves(broken: bytes) -> None:
    assert found([NIKE_RAW, b"1"], [META[0], broken, broken, broken, broken, b"2"]) == Counters(
        {NIKE: 1.0}, {"item": 2.0}, 1767225600.0
    )


QUERY = SignalsQuery("S", "P", "L", FIELDS, 64)
READ_META = [*META, None]
WHOLE = ([NIKE_RAW, b"1"], READ_META, [NIKE_RAW, b"2"], READ_META, b"plan")


@pytest.mark.parametrize(
    ("broken", "failed"), [(0, "session"), (1, "session"), (2, "profile"), (3, "profile"), (4, "plan")]
)
def test_an_error_fails_its_scope_alone(broken: int, failed: str) -> None:
    replies = [ResponseError("WRONGTYPE") if number == broken else reply for number, reply in enumerate(WHOLE)]
    read = signals(QUERY, replies)
    there = {"session": read.session, "profile": read.profile, "plan": read.plan}
    assert read.failed == {failed}
    assert {scope for scope, what in there.items() if what is None} == {failed}


@pytest.mark.parametrize(
    ("raw", "plan"), [(b"", None), (b"x" * MAX_TEXT_BYTES, b"x" * MAX_TEXT_BYTES), (b"x" * (MAX_TEXT_BYTES + 1), None)]
)
def test_a_plan_beyond_the_limit_is_none(raw: bytes, plan: bytes | None) -> None:
    assert signals(QUERY, [*WHOLE[:4], raw]).plan == plan


@pytest.mark.parametrize(
    ("raw", "text"), [(b"", None), (b"on", "on"), (b"\xff", "�"), (b"x" * (MAX_TEXT_BYTES + 1), None)]
)
def test_a_text_of_any_bytes_is_read_or_none(raw: bytes, text: str | None) -> None:
    assert text_in(raw) == text


def test_an_error_among_many_names_where() -> None:
    with pytest.raises(StoreError, match="B1 cannot be read: WRONGTYPE"):
        many_counters(["B0", "B1"], [[], META, ResponseError("WRONGTYPE"), META], FIELDS)


# --- writing ----------------------------------------------------------------------------------------------------------


def written(counters: Counters, ttl_s: int | None = None) -> tuple[list[Any], dict[str, str], tuple[Any, ...]]:
    """Return members with scores, the new hash, and the head of the last command's arguments."""
    unlink, *adds, no_classes, last = write_commands("B", counters, ttl_s)
    name, script, count, *arguments = last
    assert (name, script) == ("EVAL", WRITE)
    keys, head, meta = tuple(arguments[:count]), tuple(arguments[count : count + 3]), arguments[count + 3 :]
    beside = unlink[1]
    assert keys == ("B:z", "B:m", beside, "B:aged", "B:c", f"{beside}:c")
    assert no_classes == ("UNLINK", f"{beside}:c")
    assert all(one[:2] in (("ZADD", beside), ("EXPIRE", beside)) for one in adds)
    pairs = [part for one in adds if one[0] == "ZADD" for part in one[2:]]
    members = [part for score, raw in zip(pairs[::2], pairs[1::2], strict=True) for part in (raw, score)]
    return members, dict(zip(meta[::2], meta[1::2], strict=True)), head


def test_counters_are_written_as_they_are_read() -> None:
    counters = Counters({NIKE: 0.1, ("item", "7"): 1e-7}, {"brand": 9.5}, 1767225600.25, 1767225700.5, 3.0, 0.25)
    members, named, head = written(counters)
    wanted = ("landmark", "last_event", "events", "lag", "total:brand", "total:item")
    assert found(members, [named.get(name) for name in wanted]) == counters
    assert head == ("", "1767225700.5", 2)


def test_members_are_written_a_bounded_number_at_a_time() -> None:
    weights: dict[Value, float] = {("brand", f"b{number}"): 1.0 for number in range(2 * WRITTEN_AT_ONCE + 1)}
    members, _, head = written(Counters(weights, {}, 5.0), 60)
    assert len(members) == 2 * len(weights)
    assert head == (60, "5.0", len(weights))
    sizes = [len(one) for one in write_commands("B", Counters(weights, {}, 5.0), None) if one[0] == "ZADD"]
    assert sizes == [2 + 2 * WRITTEN_AT_ONCE] * 2 + [4]


def test_two_writers_do_not_mix_what_they_write() -> None:
    one, other = (write_commands("B", Counters({NIKE: weight}, {}, 5.0), None)[0] for weight in (1.0, 2.0))
    assert one != other


@pytest.mark.parametrize(
    "counters",
    [
        pytest.param(Counters({NIKE: nan, ("brand", "b"): -1.0, ("c", "c"): 0.0}, {"brand": inf}, 5.0), id="weights"),
        pytest.param(Counters({("a", "b\x1fc"): 1.0, ("brand", "x" * 2**20): 1.0}, {}, 5.0), id="values"),
        pytest.param(Counters({("brand", "\ud800"): 1.0}, {}, 5.0), id="half of a pair"),
    ],
)
def test_what_would_be_ignored_is_not_written(counters: Counters) -> None:
    members, named, _ = written(counters)
    assert members == []
    assert named == {"landmark": "5.0", "last_event": "0.0", "events": "0.0", "lag": "0.0"}


@pytest.mark.parametrize("landmark_s", [nan, inf, -1.0])
def test_counters_without_a_sound_landmark_cost_nothing_stored(landmark_s: float) -> None:
    with pytest.raises(StoreError, match="nothing was written"):
        write_commands("B", Counters({NIKE: 1.0}, {}, landmark_s), None)


def test_a_text_that_would_not_be_read_back_costs_nothing_stored() -> None:
    assert put_command("K", b"x" * MAX_TEXT_BYTES) == ("SET", "K", b"x" * MAX_TEXT_BYTES)
    with pytest.raises(StoreError, match="65,537 bytes exceed"):
        put_command("K", b"x" * (MAX_TEXT_BYTES + 1))


# --- two stores -------------------------------------------------------------------------------------------------------


def test_a_read_of_two_stores_is_the_read_of_one() -> None:
    to_session, to_profile = separated(QUERY)
    assert commands(to_session) + commands(to_profile) == [
        *commands(QUERY)[:2],
        commands(QUERY)[4],
        *commands(QUERY)[2:4],
    ]
    parts = (signals(to_session, [*WHOLE[:2], WHOLE[4]]), signals(to_profile, WHOLE[2:4]))
    assert joined(*parts) == signals(QUERY, WHOLE)


def test_a_store_that_says_nothing_fails_its_scope_alone() -> None:
    whole = signals(QUERY, WHOLE)
    assert joined(None, whole) == Signals(profile=whole.profile, failed=frozenset({"session", "plan"}))
    assert joined(whole, None) == Signals(whole.session, plan=whole.plan, failed=frozenset({"profile"}))
