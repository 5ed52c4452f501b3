"""How clients write that a value is not there, and what counts as consent. One reading for events and for history.

A browser without a user id sends `null`, `""` or `"undefined"`; a data frame has NaN or `"nan"` there. Read as identifiers, all
visitors without one would become one person, and all events without an `event_id` one event.
"""

from __future__ import annotations

from decimal import Decimal
from math import isfinite
from typing import Any

ABSENT_IDS = frozenset(
    {"", "null", "undefined", "nan", "none", "(null)", "<null>", "<na>", "(not set)", "[object object]"}
    | {"00000000-0000-0000-0000-000000000000"}  # of phones whose owner refused to be tracked, and of unset variables
)
"""Identifiers, in lower case and without blanks around them, that stand for none."""

CONSENT = {
    **dict.fromkeys(("true", "t", "yes", "y", "on", "1", "granted"), True),
    **dict.fromkeys(("false", "f", "no", "n", "off", "0", "denied", *ABSENT_IDS), False),
}
"""Spellings of consent, in lower case. Null is none: somebody was asked and said nothing."""


def is_absent(value: Any) -> bool:
    """Whether a value of any field says that there is none: null, an empty or blank text, an empty list, a number that is none."""
    if isinstance(value, str):
        return not value or value.isspace()
    if isinstance(value, (float, Decimal)):
        return not isfinite(value)
    return value is None or value == []


def is_absent_id(value: Any) -> bool:
    """Whether the identifier of a person, a session or an event says that there is none; it may be spelled out."""
    return value.strip().lower() in ABSENT_IDS if isinstance(value, str) else value is False or is_absent(value)


def consent_of(value: Any) -> bool:
    """Read consent. Raises ValueError where it cannot be read: it then must not be guessed."""
    if is_absent(value):
        return False
    if value in (0, 1) and isinstance(value, (bool, int, float)):
        return bool(value)
    if isinstance(value, str) and (said := CONSENT.get(value.strip().lower())) is not None:
        return said
    raise ValueError("is neither consent (true, granted) nor its refusal (false, denied)")
