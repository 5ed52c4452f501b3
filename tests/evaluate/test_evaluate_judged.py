from __future__ import annotations

from math import nan

import pytest

from rewriter import Subject
from rewriter.evaluate.judged import JudgedSearch, only, wrong_grades


def test_positive_are_the_documents_with_a_grade_above_zero() -> None:
    search = JudgedSearch("1", Subject("ann"), "milk", {"a": 2.0, "b": 0.0, "c": 1.0})
    assert search.positive == {"a", "c"}
    assert only(search, {"a", "b", "z"}) == {"a": 2.0, "b": 0.0}
    assert "ann" not in repr(search)


@pytest.mark.parametrize(
    ("relevant", "fault"),
    [
        ({"a": -1}, "1 grade is not in [0, 100]"),
        ({"a": nan, "b": True, "c": "2"}, "3 grades are not in [0, 100]"),
        ({"a": 0}, "no document is relevant"),
        ({}, "no document is relevant"),
        ({"": 1}, "an id is empty"),
    ],
)
def test_wrong_grades_are_named(relevant: dict[str, object], fault: str) -> None:
    assert any(fault in one for one in wrong_grades(relevant))
    assert wrong_grades({"a": 1, "b": 0.5}) == []
