"""Scores of hits: which are numbers at all, and whether the personalized leg's agree with the baseline's (promise P3).

What a server answers is not believed: a plugin or a script may score NaN, a proxy may send texts, and two searches of one body may
see different copies of an index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from math import isfinite
from typing import Any

Hit = Mapping[str, Any]

ROUNDING = 1e-5
"""Relative. The server computes in 32 bits (6e-8 a step) and adds the clauses of a query in an order of its choice."""

DRIFT = 0.05
"""Relative, where the two legs may have seen different states of an index. A copy counts its deleted documents, so one matching
document more or less among four in a million moves an idf, and so a score, by 2 %."""

SMALLEST = 2.0**-148
"""Absolute: below 1e-38 the server's floats lose their digits one by one."""


def number_of(value: Any) -> float | None:
    """Return a finite number as a float; None for NaN, infinity, null, texts, booleans and what exceeds a double."""
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        return None
    try:
        number = float(value)
    except (OverflowError, ValueError):  # an integer of 400 digits; a signaling NaN
        return None
    return number if isfinite(number) else None


def score_of(hit: Hit) -> float | None:
    """Return a hit's `_score` where it is a finite number, else None."""
    return number_of(hit.get("_score"))


def identity(hit: Hit) -> tuple[str, ...]:
    """Return what makes a hit one: index, id and routing. Two routings may hold one id in one index."""
    return (str(hit.get("_index")), str(hit.get("_id")), str(hit.get("_routing") or ""))


def disagreement(baseline: Sequence[Hit], leg: Sequence[Hit], max_boost: float, *, drift: bool) -> str:
    """Return in words why the scores of the personalized leg cannot be believed, or "".

    baseline: its hits, whose scores are finite and above 0.
    leg:      hits of the same search with scores multiplied by factors in [1, max_boost].
    drift:    whether the two may have been answered by different copies or states of an index.
    """
    base = {identity(hit): score_of(hit) for hit in reversed(baseline)}
    below, above = (1.0 - ROUNDING, max_boost * (1.0 + ROUNDING))
    if drift:
        below, above = below * (1.0 - DRIFT), above * (1.0 + DRIFT)
    for hit in leg:
        score = score_of(hit)
        if score is None:
            return "a score of the personalized leg is not a finite number"
        if score < 0.0:
            return "a score of the personalized leg is negative"
        before = base.get(identity(hit))
        if before is not None and not before * below - SMALLEST <= score <= before * above + SMALLEST:
            return (
                f"a score of the personalized leg is {score / before:.3g} times the baseline's, not 1 to {max_boost:g}"
            )
    return ""
