"""Spellings of missing values and of consent, shared by events and history.

A browser without a user id sends `null`, `""` or `"undefined"`; a data frame holds NaN or `"nan"`. If these were read as
identifiers, all visitors without an id would be one person, and all events without an `event_id` one event.
"""

from __future__ import annotations

from decimal import Decimal
from math import isfinite
from typing import Any

ABSENT_IDS = frozenset(
    {"", "null", "undefined", "nan", "none", "(null)", "<null>", "<na>", "(not set)", "[object object]"}
    | {"\\n"}  # as databases write null into text files
    | {"00000000-0000-0000-0000-000000000000"}  # sent by phones that refuse tracking, and by unset variables
)
"""Spellings of a missing identifier, in lower case and stripped."""
BLANKS = "".join(chr(one) for one in range(0x3001) if chr(one).isspace())
"""What `str.strip` removes, for readers that are not Python's."""

CONSENT = {
    **dict.fromkeys(("true", "t", "yes", "y", "on", "1", "1.0", "granted"), True),
    **dict.fromkeys(("false", "f", "no", "n", "off", "0", "0.0", "denied", *ABSENT_IDS), False),
}
"""Spellings of consent, in lower case; a data frame writes 1.0 where some are missing. Null means no consent: the visitor was
asked and did not answer."""


def is_absent(value: Any) -> bool:
    """Whether a field's value is missing: null, an empty or blank text, an empty list, NaN or infinity."""
    if isinstance(value, str):
        return not value or value.isspace()
    if isinstance(value, (float, Decimal)):
        return not isfinite(value)
    return value is None or value == []


def is_absent_id(value: Any) -> bool:
    """Whether the identifier of a person, a session, an object or an event is missing: by value, true and false included, or by
    spelling (`ABSENT_IDS`).
    """
    return (
        value.strip().lower() in ABSENT_IDS if isinstance(value, str) else isinstance(value, bool) or is_absent(value)
    )


def consent_of(value: Any) -> bool:
    """Return a consent. Raises ValueError for an unknown spelling, since consent must not be guessed."""
    if is_absent(value):
        return False
    if value in (0, 1) and isinstance(value, (bool, int, float)):
        return bool(value)
    if isinstance(value, str) and (consent := CONSENT.get(value.strip().lower())) is not None:
        return consent
    raise ValueError("is neither consent (true, granted) nor its refusal (false, denied)")
