"""Checks of scores: whether each is a finite number, and whether the personalized leg's agree with the baseline's (promise P3).

Scores are checked because a plugin or script may return NaN, a proxy may send texts, and two searches of one body may be answered
by different copies of an index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from math import isfinite
from typing import Any

Hit = Mapping[str, Any]

ROUNDING = 1e-5
"""Relative tolerance. The server computes in 32 bits (6e-8 a step) and sums the clauses of a query in any order."""

DRIFT = 0.05
"""Relative tolerance if the two legs may have read different states of an index. A copy counts its deleted documents, so one
matching document more or less among four in a million changes an idf, and so a score, by 2 %."""

SMALLEST = 2.0**-148
"""Absolute tolerance: below 1e-38 the server's floats lose precision."""


def number_of(value: Any) -> float | None:
    """Return a finite number as a float; None for NaN, infinity, null, texts, booleans and numbers beyond a double."""
    if type(value) is float:
        return value if isfinite(value) else None
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        return None
    try:
        number = float(value)
    except (OverflowError, ValueError):  # an integer of 400 digits; a signaling NaN
        return None
    return number if isfinite(number) else None


def score_of(hit: Hit) -> float | None:
    """Return a hit's `_score` if it is a finite number, else None."""
    score = hit.get("_score")
    return score if type(score) is float and isfinite(score) else number_of(score)


def all_equal(hits: Sequence[Hit]) -> bool:
    """Whether all hits have one score; False without hits."""
    first = score_of(hits[0]) if hits else None
    return bool(hits) and all(score_of(hit) == first for hit in hits)


def identity(hit: Hit) -> tuple[str, ...]:
    """Return a hit's identity: index, id and routing. One index may hold the same id under two routings."""
    return (str(hit.get("_index")), str(hit.get("_id")), str(hit.get("_routing") or ""))


def disagreement(baseline: Sequence[Hit], leg: Sequence[Hit], max_boost: float, *, drift: bool) -> str:
    """Return, in words, why the personalized leg's scores violate the bound on the factor, or "".

    baseline: the baseline's hits, with finite scores above 0.
    leg:      the personalized leg's hits, whose factors should lie in [1, max_boost].
    drift:    whether different copies or states of an index may have answered the two.
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
