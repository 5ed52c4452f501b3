"""Counters by class: their bytes, and which values belong to which class."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewriter.signals.class_counters import (
    MAX_CLASSES,
    MAX_VALUES,
    ClassCounters,
    counted_by_class,
    of_class,
    packed,
    unpacked,
    with_class,
)
from rewriter.signals.counters import HalfLives, Observation, Value

PARTS = st.text(st.characters(exclude_characters="\x1f", exclude_categories=["Cs"]), min_size=1, max_size=20)
VALUES: st.SearchStrategy[Value] = st.lists(PARTS, min_size=2, max_size=3).map(tuple)
COUNTERS = st.builds(
    ClassCounters,
    st.dictionaries(VALUES, st.floats(1e-6, 1e90), max_size=MAX_VALUES),
    st.floats(0, 1e90),
    st.floats(0, 2e9),
    st.floats(0, 2e9),
)
MILK = ClassCounters({("item", "p1"): 2.0, ("size", "1 l"): 0.5}, 2.5, 1e9, 1e9 + 5)


@given(COUNTERS)
def test_what_is_packed_is_read_again(counters: ClassCounters) -> None:
    assert unpacked(packed(counters)) == counters


def test_the_bytes_are_those_of_the_contract() -> None:
    """docs/signals.md: what another language writes."""
    head = struct.pack("<Bddd", 1, 1e9, 1e9 + 5, 2.5)
    wanted = head + struct.pack("<dH", 2.0, 7) + b"item\x1fp1" + struct.pack("<dH", 0.5, 8) + b"size\x1f1 l"
    assert packed(MILK) == wanted


def test_the_heaviest_are_kept() -> None:
    many = ClassCounters({("item", f"p{n}"): float(n) for n in range(1, 100)}, 1.0, 1e9)
    found = unpacked(packed(many))
    assert found is not None
    assert min(found.weights.values()) == 100 - MAX_VALUES


@pytest.mark.parametrize(
    "raw",
    [
        None, b"", b"\x01", b"\x02" + packed(MILK)[1:], packed(MILK)[:-1], packed(MILK) + b"\0", packed(MILK) * 2,
        struct.pack("<Bddd", 1, float("nan"), 0, 0), struct.pack("<Bddd", 1, 1e9, 0, -1.0),
    ],
)  # fmt: skip
def test_bytes_that_are_unsound_are_no_counters(raw: bytes | None) -> None:
    assert unpacked(raw) is None


@pytest.mark.parametrize(
    ("weight", "name"),
    [
        (float("inf"), b"item\x1fp2"), (float("nan"), b"item\x1fp2"), (-1.0, b"item\x1fp2"), (1e300, b"item\x1fp2"), (1.0, b"item"),
        (1.0, b""), (1.0, b"\x1fp2"), (1.0, b"item\x1f"), (1.0, b"item\x1f\xff\xfe"), (1.0, b"item\x1f" + b"x" * 1_024),
    ],
)  # fmt: skip
def test_an_unsound_value_is_left_out_alone(weight: float, name: bytes) -> None:
    raw = packed(MILK)
    assert unpacked(raw[:25] + struct.pack("<dH", weight, len(name)) + name + raw[25:]) == MILK


@given(st.binary(max_size=300))
def test_whatever_the_bytes_nothing_is_raised(raw: bytes) -> None:
    unpacked(raw)
    unpacked(b"\x01" + raw)


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
