from __future__ import annotations

import json
from typing import Any

import pytest

from rewriter.errors import Fault
from rewriter.settings import SignalSettings
from rewriter.signals.events import Event, EventPosition, parse, refused, values
from rewriter.signals.kinds.kind import SignalField
from rewriter.signals.kinds.registry import every_kind

NOW_S = 1_767_268_800.0  # 2026-01-01T12:00:00Z


def an_event(**changes: Any) -> dict[str, Any]:
    return {
        "action_name": "click",
        "timestamp": "2026-01-01T12:00:00.000Z",
        "client_id": "c1",
        "session_id": "s1",
        "query_id": "q1",
        "application": "shop",
        "event_attributes": {"object": {"object_id": "p1"}, "position": {"ordinal": 3}},
    } | changes


def of_object(**parts: Any) -> dict[str, Any]:
    return {"event_attributes": {"object": {"object_id": "p1"} | parts}}


def parsed(**changes: Any) -> Event:
    event = parse(json.dumps(an_event(**changes)))
    assert isinstance(event, Event)
    return event


def test_an_event_is_read_as_ubi_writes_it() -> None:
    event = parsed()
    assert (event.action_name, event.at_s, event.user, event.session_id) == ("click", NOW_S, "c1", "s1")
    assert event.event_attributes.object.object_id_field == "_id"
    assert event.event_attributes.position == EventPosition(ordinal=3)
    assert event.consent
    assert parse(an_event()) == event


def test_a_user_goes_before_a_client() -> None:
    assert parsed(user_id="u1").user == "u1"


def test_a_number_may_be_an_identifier() -> None:
    assert parsed(**of_object(object_id=17)).event_attributes.object.object_id == "17"


@pytest.mark.parametrize(
    ("raw", "where"),
    [
        ("no json", "event"),
        ("[]", "event"),
        (json.dumps(an_event(session_id="x" * 1_000_000)), "event"),
        (json.dumps(an_event(session_id="x" * 1_000)), "session_id"),
        (json.dumps(an_event(action_name=None)), "action_name"),
        (json.dumps(an_event(action_name=["click"])), "action_name"),
        (json.dumps(an_event(timestamp="yesterday")), "timestamp"),
        (json.dumps(an_event(timestamp="2026-01-01T12:00:00")), "timestamp"),
        (json.dumps(an_event(consent="perhaps")), "consent"),
        (json.dumps(an_event(event_attributes={})), "event_attributes.object"),
        (json.dumps(an_event(**of_object(object_id=["p1", "p2"]))), "event_attributes.object.object_id"),
        (json.dumps(an_event(**of_object(object_id=""))), "event_attributes.object.object_id"),
        (json.dumps(an_event(**of_object(attributes=["nike"]))), "event_attributes.object.attributes"),
        (json.dumps(an_event(client_id=None, session_id=None)), "user_id, client_id, session_id"),
        (b"\xff\xfe", "event"),
    ],
)
def test_a_fault_names_the_field(raw: str | bytes, where: str) -> None:
    fault = parse(raw)
    assert isinstance(fault, Fault)
    assert fault.where == where


def test_a_fault_never_repeats_an_identifier() -> None:
    fault = parse(json.dumps(an_event(session_id=["secret-session"], user_id={"secret": "user"})))
    assert isinstance(fault, Fault)
    assert "secret" not in str(fault)
    assert {"session_id", "user_id"} <= set(str(fault).replace(":", "").split())


@pytest.mark.parametrize(
    ("changes", "received_s", "where"),
    [
        ({}, NOW_S, None),
        ({"action_name": "yawn"}, NOW_S, "action_name"),
        ({}, NOW_S - 59, None),
        ({}, NOW_S - 61, "timestamp"),
        ({}, NOW_S + 52 * 7 * 86_400 - 1, None),
        ({}, NOW_S + 52 * 7 * 86_400 + 1, "timestamp"),
    ],
)
def test_what_is_not_counted_has_a_reason(changes: dict[str, Any], received_s: float, where: str | None) -> None:
    fault = refused(parsed(**changes), received_s, SignalSettings())
    assert (fault and fault.where) == where


FIELDS = {
    "brand": SignalField(every_kind()["attribute"], ("brand",), 0.3, 100.0),
    "type_brand": SignalField(every_kind()["combination"], ("type.name", "brand"), 0.3, 5.0),
    "item": SignalField(every_kind()["item"], ("_id",), 1.2, 2.0),
}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (
            {"_id": "p1", "brand": "nike", "type": {"name": "shoe"}},
            [("brand", "nike"), ("type_brand", "shoe", "nike"), ("item", "p1")],
        ),
        ({"_id": "p1", "type.name": "shoe"}, [("item", "p1")]),
        ({"brand": ["nike", "asics", "nike"]}, [("brand", "nike"), ("brand", "asics")]),
        ({"brand": [True, 7, 1.5, None, {"no": "value"}]}, [("brand", "true"), ("brand", "7"), ("brand", "1.5")]),
        ({"brand": "a\x1fb"}, []),
        ({"brand": "x" * 2_000}, []),
        ({"brand": ["a", "b"], "type": {"name": ["x", "y"]}, "_id": 3}, 2 + 4 + 1),
        ({"brand": [str(number) for number in range(99)]}, 16),
        ({}, []),
    ],
)
def test_what_a_document_says(document: dict[str, Any], expected: list[tuple[str, ...]] | int) -> None:
    found = values(document, FIELDS)
    assert (len(found) if isinstance(expected, int) else list(found)) == expected


def test_inline_attributes_are_the_document() -> None:
    event = parsed(**of_object(attributes={"brand": "nike"}, object_id_field="sku"))
    assert event.event_attributes.object.document == {"brand": "nike", "sku": "p1"}
    assert parsed().event_attributes.object.document is None
