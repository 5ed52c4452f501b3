"""Events of User Behavior Insights 1.3.0: parsing, validation, and the signal values of an event's object.

Fields read from UBI: `action_name`, `timestamp`, `client_id`, `user_id`, `session_id`, `query_id`, and of `event_attributes` the
`object` (`object_id`, `object_id_field`) and the `position` (`ordinal`). Optional fields of our own: `event_id`, by which a
producer's duplicates are recognized; `consent`; `event_attributes.object.attributes`, which saves the look-up of the object; and
`event_attributes.segments`. Other fields are ignored in any form. Spellings of missing values (`absent.py`) are read as missing.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from decimal import Decimal
from itertools import islice, product
from math import isfinite
from typing import Annotated, Any

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from rewriter.errors import Fault
from rewriter.settings import SignalSettings
from rewriter.signals.absent import consent_of, is_absent, is_absent_id
from rewriter.signals.counters import MAX_MEMBER_BYTES, Value, member
from rewriter.signals.kinds.kind import SignalField

MAX_EVENT_BYTES = 64 * 1024
MAX_DIGITS = 4_000
"""Digits of an integer; Python refuses to convert longer ones."""
MAX_SEGMENTS_EACH = 8
"""Segments of one event."""
MAX_VALUES = 16
"""Values of one field of one object: of a document's array, or of the product of a combination's arrays."""

SEGMENT_NAME = r"[A-Za-z0-9_.-]{1,64}"
SegmentName = Annotated[str, StringConstraints(pattern=f"^{SEGMENT_NAME}$")]
Identifier = Annotated[str, StringConstraints(min_length=1, max_length=256)]
OptionalIdentifier = Annotated[Identifier | None, BeforeValidator(lambda value: None if is_absent_id(value) else value)]


def _named(value: Any) -> Any:
    """Return an object's id. One that everybody's events without an id would share is none, as in a history."""
    if is_absent_id(value):
        raise PydanticCustomError("names_no_object", "names no object")
    return value


def _or_none(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    """Read a field that does not affect counting; an invalid value is read as None, and the event still counts."""
    try:
        return read(value)
    except ValidationError:
        return None


def _names(value: Any) -> Any:
    """Read a list of names, a text of comma-separated names as in a history file, or a number. True and false are no names."""
    listed = value.split(",") if isinstance(value, str) else value
    if isinstance(value, (int, float, Decimal)) or value is None:
        listed = [value]
    if not isinstance(listed, (list, tuple)):
        return () if is_absent(value) else value
    return tuple(
        one.strip() if isinstance(one, str) else one
        for one in listed
        if not is_absent(one) and not isinstance(one, bool)
    )


def _is_empty(value: Any) -> bool:
    if type(value) is str:  # the check for a mapping of any class takes as long as the rest of the parsing
        return not value or value.isspace()
    return not value if isinstance(value, (dict, Mapping)) else is_absent(value)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)

    @model_validator(mode="before")
    @classmethod
    def _without_absent(cls, given: Any) -> Any:
        """Remove missing values, so that the default applies or the fault is that of a missing field.

        `consent` stays, since a null consent means no consent.
        """
        if not isinstance(given, (dict, Mapping)):
            return given
        return {name: value for name, value in given.items() if name == "consent" or not _is_empty(value)}


class EventObject(_Part):
    """The object of an event: its id, the document field that holds the id (by default `_id`), and optionally its attributes."""

    object_id: Annotated[Identifier, BeforeValidator(_named)]
    object_id_field: Identifier = "_id"
    attributes: Mapping[str, Any] | None = None

    @property
    def document(self) -> Mapping[str, Any] | None:
        """The object's document from the event's attributes, or None if the index must be searched for it."""
        return None if self.attributes is None else {**self.attributes, self.object_id_field: self.object_id}


class EventPosition(_Part):
    """The object's position on the page, from 1."""

    ordinal: Annotated[int | None, WrapValidator(_or_none)] = None


class EventAttributes(_Part):
    """UBI's `event_attributes`."""

    object: EventObject
    position: Annotated[EventPosition | None, WrapValidator(_or_none)] = None
    segments: Annotated[tuple[SegmentName, ...], BeforeValidator(_names), Field(max_length=MAX_SEGMENTS_EACH)] = ()


class Event(_Part):
    """One UBI event."""

    action_name: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    timestamp: AwareDatetime
    client_id: OptionalIdentifier = None
    user_id: OptionalIdentifier = None
    session_id: OptionalIdentifier = None
    query_id: Annotated[OptionalIdentifier, WrapValidator(_or_none)] = None
    event_id: OptionalIdentifier = None
    consent: Annotated[bool, BeforeValidator(consent_of)] = True
    event_attributes: Annotated[EventAttributes, Field(validate_default=True)] = {}  # type: ignore[assignment]  # one fault: no object

    @property
    def user(self) -> str | None:
        """The id of the profile that the event counts in: `user_id`, else `client_id`."""
        return self.user_id or self.client_id

    @property
    def at_s(self) -> float:
        """The event's time by the producer's clock (seconds since the epoch)."""
        return self.timestamp.timestamp()

    def keeping(self, fields: Collection[str]) -> Event:
        """Return this event with only those attributes of its object that `kept_fields` returns for `fields`."""
        acted_on = self.event_attributes.object
        if acted_on.attributes is None:
            return self
        cut = acted_on.model_copy(update={"attributes": kept_fields(acted_on.attributes, fields)})
        return self.model_copy(update={"event_attributes": self.event_attributes.model_copy(update={"object": cut})})


def parse(raw: bytes | str | Mapping[str, Any]) -> Event | Fault:
    """Parse an event from JSON, or from parsed JSON. A fault names the fields and never quotes their values."""
    if isinstance(raw, (bytes, str)) and len(raw) > MAX_EVENT_BYTES:
        return Fault("event", f"has more than {MAX_EVENT_BYTES:,} bytes")
    try:
        event = Event.model_validate(raw) if isinstance(raw, Mapping) else Event.model_validate_json(raw)
    except ValidationError as error:
        return _parsed_anyhow(raw, error)
    if event.user is None and event.session_id is None:
        return Fault("user_id, client_id, session_id", "all are missing: the event has no subject")
    return event


def read_json(raw: bytes | str) -> Any:
    """Parse JSON leniently. Raises ValueError for anything that is no JSON.

    A fault inside one value affects only that value. Invalid UTF-8 (a text cut inside a character, another encoding) becomes lone
    surrogates, control characters are accepted, and an integer that is too long becomes an infinity. A byte order mark is ignored.
    """
    text = raw if isinstance(raw, str) else raw.decode("utf-8", "surrogateescape")
    try:
        return json.loads(text.removeprefix("\ufeff"), strict=False, parse_int=_integer)
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= MAX_DIGITS else float(digits)


def _parsed_anyhow(raw: bytes | str | Mapping[str, Any], error: ValidationError) -> Event | Fault:
    """Parse an event again if the fast parser took it for no JSON: an invalid value of an ignored field must not cost the event."""
    if isinstance(raw, Mapping) or error.errors(include_input=False, include_url=False)[0]["type"] != "json_invalid":
        return _fault(error)
    try:
        read = read_json(raw)
    except ValueError:
        return _fault(error)
    return parse(read) if isinstance(read, Mapping) else _fault(error)


def refused(event: Event, received_s: float, settings: SignalSettings) -> Fault | None:
    """Return the fault for which an event received at `received_s` (seconds since the epoch) is not counted, or None."""
    ahead_s = event.at_s - received_s
    if event.action_name not in settings.action_weights:
        return Fault("action_name", "has no weight", "give it one in [signals] action_weights")
    if ahead_s > settings.max_skew_s:
        return Fault("timestamp", f"is {ahead_s:.0f} s in the future, more than max_skew_s = {settings.max_skew_s:g}")
    if -ahead_s > settings.horizon_s:
        return Fault("timestamp", f"is {-ahead_s:.0f} s old, more than horizon_s = {settings.horizon_s:.0f}")
    return None


def values(document: Mapping[str, Any], fields: Mapping[str, SignalField]) -> tuple[Value, ...]:
    """Return the values of each signal field whose document fields a document has.

    Of an array each element is a value. The item's `_id` is a field of the document like any other.
    """
    found: list[Value] = []
    for name, field in fields.items():
        parts = field.kind.parts(field, lambda path: texts(leaf(document, path)))
        every = ((name, *combination) for combination in islice(product(*parts), MAX_VALUES))
        found += [value for value in dict.fromkeys(every) if member(value) is not None]
    return tuple(found)


def leaf(document: Mapping[str, Any], path: str) -> Any:
    """Return a document's value at a dotted path, whether nested or a dotted key, or None."""
    if path in document:
        return document[path]
    head, dot, rest = path.partition(".")
    inner = document.get(head)
    return leaf(inner, rest) if dot and isinstance(inner, Mapping) else None


def texts(found: Any) -> list[str]:
    """Return values as texts, spelled as in the index's terms. Non-values, and texts longer than MAX_MEMBER_BYTES, are left out."""
    if type(found) is str:
        return [found] if 0 < len(found) <= MAX_MEMBER_BYTES else []
    return [
        ("true" if one else "false") if isinstance(one, bool) else str(one)
        for one in (found if isinstance(found, list) else [found])[:MAX_VALUES]
        if (isinstance(one, str) and 0 < len(one) <= MAX_MEMBER_BYTES)
        or isinstance(one, int)
        or (isinstance(one, float) and isfinite(one))
    ]


def kept_fields(document: Mapping[str, Any], fields: Collection[str]) -> dict[str, str | list[str]]:
    """Return a document reduced to `fields` (dotted paths); `values` returns the same for it as for the whole document.

    Its size is bounded: 16 texts of at most 1,024 characters for each field.
    """
    found = {}
    for path in fields:
        if listed := texts(leaf(document, path)):
            found[path] = listed if len(listed) > 1 else listed[0]
    return found


def _fault(error: ValidationError) -> Fault:
    """Return field and message of each error, without the input, which may be an identifier."""
    (where, what), *others = [
        (_where(one["loc"]), one["msg"][:120]) for one in error.errors(include_input=False, include_url=False)[:5]
    ]
    return Fault(where, "; ".join([what, *(f"{field}: {message}" for field, message in others)]))


def _where(path: tuple[int | str, ...]) -> str:
    """Return the name of a field; names below `attributes` are left out, since they are the sender's own."""
    names = [str(part) for part in path]
    if "attributes" in names:
        names = names[: names.index("attributes") + 1]
    return ".".join(names) or "event"
