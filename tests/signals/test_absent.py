"""Missing values: their spellings in every field of an event, and entries of any form."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewriter.errors import Fault
from rewriter.settings import PolicySettings, Settings
from rewriter.signals.events import MAX_EVENT_BYTES, Event, kept_fields, parse, values
from rewriter.signals.ingest.batch import CountingRules, entry_of
from rewriter.signals.kinds.kind import SignalField
from rewriter.signals.kinds.registry import every_kind

NAN = float("nan")
ABSENT: list[Any] = [None, "", " ", "\t\n", NAN, float("inf"), -float("inf"), []]
SPELLED = ["null", "undefined", "NaN", "nan", "None", "NULL", " Undefined "]
SPELLED += ["(null)", "<NA>", "(not set)", "[object Object]", "00000000-0000-0000-0000-000000000000"]
PLAN = CountingRules.of(
    Settings(policies={"shop": PolicySettings.model_validate({"index": "products", "fields": {"brand": {}}})})
)
NOW_MS = 1_767_268_800_000  # 2026-01-01T12:00:00Z


def an_event(**changes: Any) -> dict[str, Any]:
    return {
        "action_name": "click",
        "timestamp": "2026-01-01T12:00:00.000Z",
        "user_id": "u1",
        "event_attributes": {"object": {"object_id": "p1"}},
    } | changes


def of_object(**parts: Any) -> dict[str, Any]:
    return {"event_attributes": {"object": {"object_id": "p1"} | parts}}


def read(event: dict[str, Any]) -> Event:
    """Read an event as a stream has it, and as `track` is given it: both read the same."""
    found = parse(json.dumps(event))
    assert isinstance(found, Event), found
    assert parse(event) == found
    return found


@pytest.mark.parametrize("value", [*ABSENT, *SPELLED, False], ids=repr)
@pytest.mark.parametrize("name", ["user_id", "client_id", "session_id", "query_id", "event_id"])
def test_an_identifier_that_stands_for_none_is_none(name: str, value: Any) -> None:
    found = read(an_event(**({"user_id": "u1", "client_id": "c1"} | {name: value})))
    assert getattr(found, name) is None
    if name == "client_id":
        fault = parse(json.dumps(an_event(user_id=value, client_id=value, session_id=value)))
        assert isinstance(fault, Fault)
        assert fault.where == "user_id, client_id, session_id"


@pytest.mark.parametrize(
    "attributes",
    [
        *({"position": value} for value in [*ABSENT, {}, "third", 3, {"ordinal": None}, {"ordinal": "x"}]),
        *({"position": {"ordinal": value}} for value in [NAN, "", 2.5, [], {}, True]),
        *({"segments": value} for value in [*ABSENT, [None, ""], ","]),
        *({"unknown": value} for value in ABSENT),
    ],
    ids=repr,
)
def test_a_part_that_nothing_is_counted_by_costs_no_event(attributes: dict[str, Any]) -> None:
    found = read(an_event(event_attributes=an_event()["event_attributes"] | attributes)).event_attributes
    assert found.segments == ()
    assert found.position is None or found.position.ordinal in (None, 1)


@pytest.mark.parametrize("value", [*ABSENT, {"of": "another form"}, 17, "x" * 1_000, True], ids=repr)
def test_a_query_id_of_any_form_costs_no_event(value: Any) -> None:
    assert read(an_event(query_id=value)).user == "u1"


@pytest.mark.parametrize("value", SPELLED, ids=repr)
def test_an_object_without_an_id_is_refused_whatever_is_told_of_it(value: Any) -> None:
    """With attributes it would be counted: one item that everybody uses. A history leaves such rows out (test_row_counts)."""
    fault = parse(json.dumps(an_event(**of_object(object_id=value, attributes={"brand": "nike"}))))
    assert isinstance(fault, Fault)
    assert fault.where == "event_attributes.object.object_id"


@pytest.mark.parametrize("value", ABSENT, ids=repr)
def test_an_object_says_what_it_needs(value: Any) -> None:
    found = read(an_event(**of_object(object_id_field=value, attributes=value))).event_attributes.object
    assert (found.object_id_field, found.document) == ("_id", None)
    for changes in (of_object(object_id=value), {"event_attributes": value}, {"event_attributes": {"object": value}}):
        fault = parse(json.dumps(an_event(**changes)))
        assert isinstance(fault, Fault)
        assert fault.where.startswith("event_attributes.object")
    for name in ("action_name", "timestamp"):
        fault = parse(json.dumps(an_event(**{name: value})))
        assert isinstance(fault, Fault)
        assert fault.where == name


@pytest.mark.parametrize(
    ("value", "consent"),
    [
        *((value, False) for value in ABSENT),
        *((value, False) for value in (False, 0, 0.0, "false", "no", "DENIED", "off", "0", "n", "null", "undefined")),
        *((value, True) for value in (True, 1, 1.0, "true", "Yes", "granted", "on", "1", "y", " granted ")),
    ],
    ids=repr,
)
def test_consent_is_read_as_clients_write_it_and_null_is_none(value: Any, consent: bool) -> None:
    assert read(an_event(consent=value)).consent is consent
    assert read(an_event()).consent


@pytest.mark.parametrize("value", ["perhaps", 2, -1, {}, [True], "granted, denied"], ids=repr)
def test_consent_is_never_guessed(value: Any) -> None:
    fault = parse(json.dumps(an_event(consent=value)))
    assert isinstance(fault, Fault)
    assert fault.where == "consent"


@pytest.mark.parametrize(
    ("timestamp", "at_s"),
    [
        (1_717_527_762_100, 1_717_527_762.1),
        ("1717527762100", 1_717_527_762.1),
        (1_717_527_762_100.0, 1_717_527_762.1),
        (1_717_527_762, 1_717_527_762.0),
        ("2024-12-11T08:12:00.000Z", 1_733_904_720.0),
        ("2024-12-11T08:12:00Z", 1_733_904_720.0),
        ("2024-12-11T08:12:00.000+0000", 1_733_904_720.0),
        ("2024-12-11T10:12:00.5+0200", 1_733_904_720.5),
        ("2024-12-11T08:12:00.123456789Z", 1_733_904_720.123456),
        ("2024-12-11 08:12:00+00:00", 1_733_904_720.0),
    ],
)
def test_a_time_is_read_in_the_dialects_of_ubi(timestamp: Any, at_s: float) -> None:
    assert read(an_event(timestamp=timestamp)).at_s == pytest.approx(at_s, abs=1e-6)


def test_names_below_attributes_are_the_senders_and_are_not_repeated() -> None:
    fault = parse(an_event(**of_object(attributes={("secret",): "x", "brand": object()})))
    assert "secret" not in str(fault)


# --- what a document says ---------------------------------------------------------------------------------------------

FIELDS = {
    "brand": SignalField(every_kind()["attribute"], ("brand",), 0.3, 100.0),
    "type_brand": SignalField(every_kind()["combination"], ("type.name", "brand"), 0.3, 5.0),
}


@pytest.mark.parametrize("value", [NAN, float("inf"), -float("inf"), None, "", {}, [], [NAN, None, ""], [[NAN]]])
def test_a_number_that_is_none_is_no_value(value: Any) -> None:
    assert values({"brand": value, "type": {"name": "shoe"}}, FIELDS) == ()
    assert values(json.loads(json.dumps({"brand": value})), FIELDS) == ()


documents = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just("x" * 1_025)),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.sampled_from(["name", "other"]), inner, max_size=2),
    max_leaves=40,
)


@given(st.dictionaries(st.sampled_from(["brand", "type", "type.name", "price"]), documents))
def test_what_is_kept_of_a_document_says_the_same(document: dict[str, Any]) -> None:
    kept = kept_fields(document, ["brand", "type.name"])
    assert values(kept, FIELDS) == values(document, FIELDS)
    assert kept_fields(kept, ["brand", "type.name"]) == kept
    assert len(json.dumps(kept)) <= 2 * 16 * 12 * 1_030


def test_an_entry_keeps_no_more_of_its_document_than_is_counted() -> None:
    told = an_event(**of_object(attributes={"brand": ["nike"] * 500, "specs": [{"k": "v"}] * 1_000}))
    entry = entry_of(b"%d-0" % NOW_MS, {b"event": json.dumps(told).encode()}, PLAN)
    assert entry.counted_event.event_attributes.object.document == {"brand": ["nike"] * 16, "_id": "p1"}


# --- entries ----------------------------------------------------------------------------------------------------------

RAW = json.dumps(an_event()).encode()


@pytest.mark.parametrize(
    ("parts", "where"),
    [
        ({}, "event"),
        ({b"data": RAW}, "event"),
        ({b"event": b""}, "event"),
        ({b"event": b"\xff\xfe\x00"}, "event"),
        ({b"event": b"null"}, "event"),
        ({b"event": b"[]"}, "event"),
        ({b"event": b'"text"'}, "event"),
        ({b"event": b"[" * 60_000}, "event"),
        ({b"event": b'{"a":' * 10_000}, "event"),
        ({b"event": RAW + b" " * MAX_EVENT_BYTES}, "event"),
        ({b"event": RAW[:-1]}, "event"),
        ({b"event": RAW.replace(b"u1", b"\\ud800")}, "user_id"),
        ({b"event": RAW.replace(b"u1", b"\xe4")}, "user_id"),
        ({b"event": RAW.replace(b"p1", b"\xe4")}, "event_attributes.object.object_id"),
        *(
            ({b"event": RAW, b"first": first}, "first")
            for first in (
                b"",
                b"x",
                b"\xff",
                b"1",
                b"1-",
                b"-1",
                b"1-1-1",
                b"1" * 99 + b"-0",
                "１-１".encode(),
                b"1-1\n",
            )
        ),
    ],
)
def test_an_entry_of_another_form_has_a_fault(parts: dict[bytes, bytes], where: str) -> None:
    entry = entry_of(b"%d-0" % NOW_MS, parts, PLAN)
    assert entry.event is None
    assert entry.fault is not None
    assert entry.fault.where == where
    assert len(entry.raw) <= MAX_EVENT_BYTES
    assert entry.dedupe_key >= 0


anything = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from([*SPELLED, "u1", "p1"]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = [*an_event(), "client_id", "session_id", "query_id", "event_id", "consent", "unknown"]
OBJECT = ["object_id", "object_id_field", "attributes"]


@settings(max_examples=300)
@given(
    st.dictionaries(st.sampled_from(NAMES), anything, max_size=4),
    st.dictionaries(st.sampled_from(OBJECT), anything, max_size=2),
    st.dictionaries(st.sampled_from(["position", "segments", "unknown"]), anything, max_size=2),
    st.dictionaries(st.sampled_from([b"first", b"data", b"event"]), st.binary(max_size=20)),
    st.tuples(st.integers(0, 2**63), st.integers(0, 2**63)),
)
def test_an_entry_of_any_form_raises_nothing(
    top: Any, of_the_object: Any, attributes: Any, parts: dict[bytes, bytes], entry_id: tuple[int, int]
) -> None:
    told = an_event() | {"event_attributes": {"object": {"object_id": "p1"} | of_the_object} | attributes} | top
    raw = json.dumps(told).encode()
    entry = entry_of(b"%d-%d" % entry_id, {b"event": raw} | parts, PLAN)
    assert (entry.event is None) is (entry.fault is not None)
    if entry.event is not None:
        assert entry.event.user is not None or entry.event.session_id is not None
        assert entry.at_s <= entry.received_s
        PLAN.values(entry.event.event_attributes.object.document or {})


@given(st.dictionaries(st.sampled_from(NAMES), anything | st.decimals() | st.binary() | st.dates(), max_size=4))
def test_nothing_that_track_is_given_raises(top: Any) -> None:
    assert isinstance(parse(an_event() | top), (Event, Fault))


def test_a_decimal_that_is_no_number_is_none() -> None:
    found = parse(an_event(client_id=Decimal("NaN")))
    assert isinstance(found, Event)
    assert found.client_id is None


WITHIN_A_VALUE = {
    "cut inside a character": b'"shoe \\ud83d"',
    "the other half": b'"\\ude00"',
    "another encoding": b'"Schuhgr\xf6\xdfe"',
    "cut inside its bytes": b'"shoe \xf0\x9f"',
    "control characters": b'"a\x00b\x1f\n"',
    "a number that is too long": b"9" * 5_000,
    "a negative one": b"-" + b"9" * 5_000,
    "1e400": b"1e400",
    "-0": b"-0",
    "no number": b"NaN",
    "none below zero": b"-Infinity",
    "nested": b"[" * 500 + b"]" * 500,
    "named twice": b'{"a": 1, "a": [2]}',
    "an empty name": b'{"": {"": ""}}',
}


@pytest.mark.parametrize("value", WITHIN_A_VALUE.values(), ids=WITHIN_A_VALUE.keys())
@pytest.mark.parametrize("name", ["message", "query_attributes", "position", "query_id"])
def test_a_value_that_nothing_is_counted_by_costs_no_event_whatever_it_is(name: str, value: bytes) -> None:
    told = RAW[:-1] + b', "%s": %s}' % (name.encode(), value)
    for raw in (told, b"\xef\xbb\xbf" + told):
        entry = entry_of(b"%d-0" % NOW_MS, {b"event": raw}, PLAN)
        assert entry.fault is None
        assert entry.counted_event.user == "u1"
        assert entry.counted_event.model_copy(update={"query_id": None}) == parse(RAW)


@pytest.mark.parametrize("value", WITHIN_A_VALUE.values(), ids=WITHIN_A_VALUE.keys())
def test_a_value_of_a_document_costs_its_neighbours_nothing(value: bytes) -> None:
    object_ = b'{"object_id": "p1", "attributes": {"title": %s, "brand": "nike"}}' % value
    raw = RAW.replace(b'{"object_id": "p1"}', object_)
    entry = entry_of(b"%d-0" % NOW_MS, {b"event": raw}, PLAN)
    document = entry.counted_event.event_attributes.object.document
    assert document is not None
    assert PLAN.values(document) == (("brand", "nike"), ("item", "p1"))
    entry = entry_of(b"%d-0" % NOW_MS, {b"event": raw.replace(b"title", b"brand", 1)}, PLAN)
    assert PLAN.values(entry.counted_event.event_attributes.object.document or {}) == (
        ("brand", "nike"),
        ("item", "p1"),
    )


@pytest.mark.parametrize("value", [{}, [], None, "", " "], ids=repr)
@pytest.mark.parametrize("name", ["attributes", "segments", "position"])
def test_an_empty_part_is_none(name: str, value: Any) -> None:
    """A PHP array and a Lua table are `{}` or `[]` when they are empty, by chance."""
    parts = {"object": {"object_id": "p1"}}
    (parts["object"] if name == "attributes" else parts)[name] = value
    assert read(an_event(event_attributes=parts)) == read(an_event())
    assert read(an_event()).event_attributes.object.document is None
