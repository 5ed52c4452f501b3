"""The age of an item, from the date that a document states."""

from __future__ import annotations

from datetime import UTC, datetime
from math import isfinite
from typing import Any

DAY_S = 86_400.0


def age_days(listed: Any, now_s: float) -> float | None:
    """Return how long ago an item was listed: a date in ISO 8601, or milliseconds since 1970. None for what is neither.

    A date without a zone is UTC, as the server reads it.
    """
    try:
        if isinstance(listed, (int, float)) and not isinstance(listed, bool) and isfinite(listed):
            return (now_s - listed / 1000.0) / DAY_S
        if isinstance(listed, str):
            at = datetime.fromisoformat(listed)
            return (now_s - (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()) / DAY_S
    except (ValueError, OverflowError, OSError):
        return None
    return None
