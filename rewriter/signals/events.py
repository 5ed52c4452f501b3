"""What somebody did: a User Behavior Insights 1.3.0 event, and what it says about whom.

Read from UBI: `action_name`, `timestamp`, `client_id`, `user_id`, `session_id`, `query_id`, and of `event_attributes` the
`object` (`object_id`, `object_id_field`) and the `position` (`ordinal`). Ours on top, all optional: `event_id`, by which a
producer's own duplicates are known; `consent`; `event_attributes.object.attributes`, which spares the look-up of the object; and
`event_attributes.segments`. Whatever else an event holds is let be.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice, product
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from rewriter.errors import Fault
from rewriter.settings import SignalSettings
from rewriter.signals.affinities import SignalField
from rewriter.signals.counters import Value, member

MAX_EVENT_BYTES = 64 * 1024
MAX_SEGMENTS_EACH = 8
"""Of one event."""
MAX_VALUES = 16
"""Of one field of one object: a document's array, or the product of a combination's arrays."""

Identifier = Annotated[str, StringConstraints(min_length=1, max_length=256)]
SEGMENT_NAME = r"[A-Za-z0-9_.-]{1,64}"
SegmentName = Annotated[str, StringConstraints(pattern=f"^{SEGMENT_NAME}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)


class EventObject(_Part):
    """What was acted on: its id, the document field that this id is of (by default `_id`), and its document where it is known."""

    object_id: Identifier
    object_id_field: Identifier = "_id"
    attributes: Mapping[str, Any] | None = None

    @property
    def document(self) -> Mapping[str, Any] | None:
        """The object's document as the event tells it, or None where the index has to be asked."""
        return None if self.attributes is None else {**self.attributes, self.object_id_field: self.object_id}


class EventPosition(_Part):
    """Where on the page it stood, from 1."""

    ordinal: int | None = None


class EventAttributes(_Part):
    """UBI's `event_attributes`."""

    object: EventObject
    position: EventPosition = EventPosition()
    segments: Annotated[tuple[SegmentName, ...], Field(max_length=MAX_SEGMENTS_EACH)] = ()


class Event(_Part):
    """One UBI event."""

    action_name: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    timestamp: AwareDatetime
    client_id: Identifier | None = None
    user_id: Identifier | None = None
    session_id: Identifier | None = None
    query_id: Identifier | None = None
    event_id: Identifier | None = None
    consent: bool = True
    event_attributes: EventAttributes

    @property
    def user(self) -> str | None:
        """Whose profile this is of: `user_id`, else `client_id`."""
        return self.user_id or self.client_id

    @property
    def at_s(self) -> float:
        """When it happened, by the producer's clock, in seconds since the epoch."""
        return self.timestamp.timestamp()


def parse(raw: bytes | str | Mapping[str, Any]) -> Event | Fault:
    """Read an event from JSON, or from what JSON becomes. A fault names the fields, and never repeats what they hold."""
    if isinstance(raw, (bytes, str)) and len(raw) > MAX_EVENT_BYTES:
        return Fault("event", f"has {len(raw):,} bytes, and may have {MAX_EVENT_BYTES:,}")
    try:
        event = Event.model_validate(raw) if isinstance(raw, Mapping) else Event.model_validate_json(raw)
    except ValidationError as error:
        return _fault(error)
    if event.user is None and event.session_id is None:
        return Fault("user_id, client_id, session_id", "all are missing: nobody is known to have done this")
    return event


def refused(event: Event, received_s: float, settings: SignalSettings) -> Fault | None:
    """Return why an event received at `received_s` (seconds since the epoch) is not counted, or None."""
    ahead_s = event.at_s - received_s
    if event.action_name not in settings.action_weights:
        return Fault("action_name", "has no weight", "give it one in [signals] action_weights")
    if ahead_s > settings.max_skew_s:
        return Fault("timestamp", f"lies {ahead_s:.0f} s ahead, more than max_skew_s = {settings.max_skew_s:g}")
    if -ahead_s > settings.horizon_s:
        return Fault("timestamp", f"lies {-ahead_s:.0f} s back, more than horizon_s = {settings.horizon_s:g}")
    return None


def values(document: Mapping[str, Any], fields: Mapping[str, SignalField]) -> tuple[Value, ...]:
    """Return what acting on a document says: the values of each signal field whose document fields it has.

    Of an array each element is a value. The item's `_id` is a field of the document like any other.
    """
    found: list[Value] = []
    for name, field in fields.items():
        parts = [texts(leaf(document, of)) for of in field.fields]
        every = ((name, *combination) for combination in islice(product(*parts), MAX_VALUES))
        found += [value for value in dict.fromkeys(every) if member(value) is not None]
    return tuple(found)


def leaf(document: Mapping[str, Any], path: str) -> Any:
    """Return what a document has under a dotted path, be it nested or spelled out, or None."""
    if path in document:
        return document[path]
    head, dot, rest = path.partition(".")
    inner = document.get(head)
    return leaf(inner, rest) if dot and isinstance(inner, Mapping) else None


def texts(found: Any) -> list[str]:
    """Return values as a term of the index spells them; what is no value is left out."""
    return [
        ("true" if one else "false") if isinstance(one, bool) else str(one)
        for one in (found if isinstance(found, list) else [found])[:MAX_VALUES]
        if isinstance(one, (str, int, float)) and one != ""
    ]


def _fault(error: ValidationError) -> Fault:
    """Field and message of each error, without the input: that may be an identifier."""
    (where, what), *others = [
        (".".join(map(str, one["loc"])) or "event", one["msg"][:120]) for one in error.errors(include_input=False)[:5]
    ]
    return Fault(where, "; ".join([what, *(f"{field}: {message}" for field, message in others)]))
