"""Counters by class: which values belong to which class, and which classes are kept."""

from __future__ import annotations

import pytest

from rewriter.signals.class_counters import (
    MAX_CLASSES,
    ClassCounters,
    counted_by_class,
    of_class,
    with_class,
)
from rewriter.signals.counters import HalfLives, Observation, Value


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (("item", "p1", "milk"), ("milk", ("item", "p1"))),
        (("item", "p1"), None),
        (("type_size", "milk", "1 l"), ("milk", ("type_size", "1 l"))),
        (("brand", "nike"), None),
        (("other", "milk", "1 l"), None),
    ],
)
def test_the_class_of_a_value(value: Value, found: tuple[str, Value] | None) -> None:
    assert of_class(value, "item", {"type_size"}) == found
    if found is not None:
        assert with_class(found[1], "item", found[0]) == value


def test_counters_of_each_class_and_the_classes_used_last() -> None:
    seen = [
        Observation((("item", "p1", "milk"), ("type_size", "milk", "1 l"), ("brand", "x")), 2.0, 0.0),
        Observation((("item", "p1", "milk"),), 1.0, 10.0),
        *(Observation((("item", "p", f"class {n}"),), 1.0, 20.0 + n) for n in range(MAX_CLASSES)),
    ]
    found = counted_by_class(seen, HalfLives(10.0), 10.0, "item", {"type_size"})
    assert len(found) == MAX_CLASSES
    assert "milk" not in found
    milk = counted_by_class(seen[:2], HalfLives(10.0), 10.0, "item", {"type_size"})["milk"]
    assert milk == ClassCounters({("item", "p1"): 2.0, ("type_size", "1 l"): 1.0}, 2.0, 10.0, 10.0)
