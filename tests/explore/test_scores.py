"""Scores of a leg are compared with the baseline's: a page that breaks the bound is never served."""

from __future__ import annotations

import struct
from decimal import Decimal
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewriter.explore.merge import with_hits
from rewriter.explore.scores import DRIFT, ROUNDING, disagreement, number_of

SCORES = st.floats(1e-30, 1e30)
LIMITS = st.floats(1.01, 10.0)


def float32(value: float) -> float:
    """As the server computes."""
    found: float = struct.unpack("f", struct.pack("f", value))[0]
    return found


def hits(*scores: Any, routing: str | None = None) -> list[dict[str, Any]]:
    more = {} if routing is None else {"_routing": routing}
    return [{"_index": "i", "_id": str(number), "_score": score} | more for number, score in enumerate(scores)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 1.0), (1.5, 1.5), (0, 0.0), (-2, -2.0), (Decimal("1.25"), 1.25), (nan, None), (inf, None), (-inf, None), (None, None),
        (True, None), ("1.5", None), ("", None), ([], None), (10**400, None), (Decimal("NaN"), None), (Decimal("sNaN"), None),
        (Decimal("Infinity"), None), (Decimal("1e999"), None), (1j, None),
    ],
)  # fmt: skip
def test_a_finite_number_is_a_score_and_nothing_else(value: Any, expected: float | None) -> None:
    assert number_of(value) == expected


@given(st.lists(st.tuples(SCORES, st.floats(0.0, 1.0)), min_size=1, max_size=20), LIMITS)
def test_factors_within_the_bound_agree_whatever_the_server_rounds(
    drawn: list[tuple[float, float]], limit: float
) -> None:
    base = [float32(score) for score, _ in drawn]
    boosted = [
        float32(score * float32(1.0 + (limit - 1.0) * part)) for score, (_, part) in zip(base, drawn, strict=True)
    ]
    assert disagreement(hits(*base), hits(*boosted), limit, drift=False) == ""


@given(SCORES, LIMITS, st.floats(1e-3, 100.0), st.booleans())
def test_a_factor_outside_the_bound_is_seen(score: float, limit: float, beyond: float, drift: bool) -> None:
    allowed = 1.0 + ROUNDING + (DRIFT * 1.1 if drift else 0.0)
    for wrong in (score / allowed / (1.0 + beyond), score * limit * allowed * (1.0 + beyond)):
        assert "times the baseline's" in disagreement(hits(1.0, score), hits(1.0, wrong), limit, drift=drift)


@given(SCORES, st.floats(-0.9, 0.9))
def test_a_small_drift_agrees_where_copies_may_differ_and_only_there(score: float, part: float) -> None:
    drifted = hits(score * (1.0 + DRIFT * part))
    assert disagreement(hits(score), drifted, 1.0, drift=True) == ""
    if abs(part) > 1e-2:
        assert disagreement(hits(score), drifted, 1.0, drift=False)


@pytest.mark.parametrize("score", [nan, inf, -inf, None, "2.0", True, -1.0, 10**400, [2.0]])
@pytest.mark.parametrize("shared", [True, False])
def test_what_is_no_score_is_seen_wherever_it_stands(score: Any, shared: bool) -> None:
    leg = hits(2.0, 2.0, score)
    assert disagreement(hits(2.0, 2.0, 2.0) if shared else hits(2.0), leg, 1.5, drift=True)


def test_hits_are_compared_by_index_id_and_routing() -> None:
    berlin, paris = hits(1.0, routing="berlin"), hits(3.0, routing="paris")
    assert disagreement(berlin + paris, paris + berlin, 1.5, drift=False) == ""
    assert disagreement(berlin, paris, 1.5, drift=False) == ""
    other = [{**hits(9.0)[0], "_index": "j"}]
    assert disagreement(hits(1.0), other, 1.5, drift=False) == ""


@pytest.mark.parametrize(
    ("scores", "leg", "expected"),
    [
        ((3.0, 2.0), 9.0, 9.0),
        ((3.0, 2.0), 1.0, 3.0),
        ((3.0, 2.0), None, 3.0),
        ((3.0, 2.0), nan, 3.0),
        ((Decimal("3.5"), Decimal(2)), Decimal("4.5"), Decimal("4.5")),
        ((Decimal("3.5"), 2.0), None, Decimal("3.5")),
        ((), 4.0, 4.0),
    ],
)
def test_max_score_is_that_of_the_whole_list(scores: tuple[Any, ...], leg: Any, expected: Any) -> None:
    answer = {"hits": {"total": {"value": 9}, "max_score": 1.0, "hits": hits(1.0)}}
    assert with_hits(answer, hits(*scores), leg)["hits"]["max_score"] == expected
