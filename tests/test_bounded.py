"""The bounded cache: it stays within its limits, and evicts the oldest first."""

from __future__ import annotations

import pytest

from rewriter.bounded import Bounded


def memory(**bounds: float) -> Bounded[str, str]:
    return Bounded(**{"max_bytes": 100, "max_age_s": 10.0} | bounds)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("bounds", "puts", "kept"),
    [
        ({}, [("a", 10, 0.0), ("b", 10, 1.0)], "ab"),
        ({"max_count": 2}, [("a", 10, 0.0), ("b", 10, 1.0), ("c", 10, 2.0)], "bc"),
        ({}, [("a", 60, 0.0), ("b", 60, 1.0)], "b"),
        ({}, [("a", 60, 0.0), ("a", 60, 1.0)], "a"),
        ({}, [("a", 10, 0.0), ("b", 10, 11.0)], "b"),
        ({}, [("a", 10, 0.0), ("a", 10, 9.0), ("b", 10, 15.0)], "ab"),
        ({}, [("a", 10, 0.0), ("b", 101, 1.0)], "a"),
        ({}, [("a", 10, 0.0), ("a", 101, 1.0)], ""),
        ({"max_count": 0}, [("a", 10, 0.0)], ""),
    ],
)
def test_a_cache_keeps_the_newest_within_its_bounds(
    bounds: dict[str, float], puts: list[tuple[str, int, float]], kept: str
) -> None:
    remembered = memory(**bounds)
    for key, size, now_s in puts:
        remembered.put(key, key.upper(), size, now_s)
    now_s = puts[-1][2]
    assert {key for key in "abc" if remembered.get(key, now_s)} == set(kept)
    assert len(remembered) == len(kept)


def test_what_is_too_old_is_not_given_even_before_it_is_gone() -> None:
    remembered = memory()
    remembered.put("a", "A", 10, now_s=0.0)
    assert remembered.get("a", now_s=10.0) == "A"
    assert remembered.get("a", now_s=10.1) is None


def test_what_is_dropped_makes_room() -> None:
    remembered = memory()
    remembered.put("a", "A", 90, 0.0)
    remembered.drop("a")
    remembered.drop("never there")
    remembered.put("b", "B", 90, 0.0)
    assert remembered.get("b", 0.0) == "B"
