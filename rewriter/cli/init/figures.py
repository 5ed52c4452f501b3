"""Figures, names and values of an index as comments show them: short, in one line, without control characters."""

from __future__ import annotations

from datetime import UTC, datetime

from rewriter.cli.init.index_profile import FieldValues
from rewriter.toml_text import quoted

MAX_CHARS = 40
SHOWN = 3


def plain(text: str) -> str:
    """Return a text as a comment shows it: unchanged if it is short and printable, else quoted and cut."""
    short = text if len(text) <= MAX_CHARS else f"{text[: MAX_CHARS - 1]}…"
    return short if short.isprintable() and short.strip() == short and short else quoted(short)


def shown_values(values: FieldValues) -> str:
    """Return the most frequent values with the share of documents that have them."""
    return ", ".join(f"{plain(value)} ({share_of(count, values.documents)})" for value, count in values.top[:SHOWN])


def share_of(part: int, whole: int) -> str:
    """Return a share in percent; no other share is rounded to 0% or 100%."""
    share = part / whole if whole else 0.0
    if 0.0 < share < 0.01:
        return "under 1%"
    return "over 99%" if 0.99 < share < 1.0 else f"{share:.0%}"


def day_of(at_s: float) -> str:
    """Return the day of a time in seconds since the epoch; years that Python's calendar does not hold are named as such."""
    try:
        return datetime.fromtimestamp(at_s, UTC).date().isoformat()
    except (OverflowError, OSError, ValueError):
        return "before year 1" if at_s < 0 else "after year 9999"
