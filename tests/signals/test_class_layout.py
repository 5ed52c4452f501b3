"""Bytes of counters by class: what is written is read again, whatever the bytes nothing is raised."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewriter.signals.class_counters import MAX_VALUES, ClassCounters
from rewriter.signals.class_layout import (
    MAX_CLASS_BYTES,
    NAMES,
    bucket_of,
    digest_of,
    first_unpacked,
    packed,
    packed_classes,
    read_classes,
    unpacked,
    wanted_fields,
)
from rewriter.signals.counters import Value
from rewriter.signals.neighbours import near_class
from rewriter.signals.strengths import number_of

PARTS = st.text(st.characters(exclude_characters="\x1f", exclude_categories=["Cs"]), min_size=1, max_size=40)
NUMBERS = st.integers(0, 10**16).map(str)
FIELDS = st.sampled_from(["item", *(f"field_{n}" for n in range(12))])
VALUES: st.SearchStrategy[Value] = st.tuples(FIELDS, st.one_of(PARTS, NUMBERS))
COUNTERS = st.builds(
    ClassCounters, st.dictionaries(VALUES, st.floats(1e-6, 1e9), max_size=MAX_VALUES), st.just(0.0), st.floats(0, 2e9)
)
MILK = ClassCounters({("item", "17"): 2.0, ("size", "1 l"): 2.0, ("item", "p1"): 1.0}, 3.5, 256e6, 256e6)
TWO = {"milk": MILK, near_class("milk"): ClassCounters({("neighbour", "9"): 0.5}, 0.0, 256e6)}
FIRST = struct.pack("<Bddd", 1, 1e9, 1e9 + 5, 2.5) + struct.pack("<dH", 2.0, 7) + b"item\x1fp1"


def read_again(classes: Mapping[str, ClassCounters]) -> dict[str, ClassCounters]:
    values = packed_classes(classes)
    return read_classes(list(classes), [values.get(name) for name in wanted_fields(list(classes))])


@given(st.dictionaries(PARTS, COUNTERS, max_size=8))
def test_what_is_packed_is_read_again(classes: dict[str, ClassCounters]) -> None:
    found = read_again(classes)
    assert found.keys() == classes.keys()
    for name, one in found.items():
        assert dict(one.weights) == pytest.approx(dict(classes[name].weights), rel=7e-4)
        assert abs(one.landmark_s - classes[name].landmark_s) <= 128
        items = sum(weight for value, weight in classes[name].weights.items() if value[0] == "item")
        assert one.total == pytest.approx(items, rel=7e-4)


def test_the_bytes_are_those_of_the_contract() -> None:
    """docs/signals.md: what another language writes. A left-out item counts in the total, and so it has no value."""
    body = (1_000_000).to_bytes(3, "little")
    body += struct.pack("<HB", 16_896 + 32_768, 2) + b"\x18\x11" + b"\x231 l"
    body += struct.pack("<H", 16_384) + b"\x02p1"
    body += struct.pack("<H", 16_384 - 512) + b"\x17"
    near = (1_000_000).to_bytes(3, "little") + struct.pack("<H", 16_384 - 512) + b"\x58\x09"
    digest = bytes.fromhex("cf5dbf0e")
    assert digest_of("milk") == digest_of(near_class("milk")) == digest
    assert packed_classes(TWO) == {
        "\x1f": b"item\x1fsize\x1fneighbour",
        "\x1f15": b"\x02" + digest + bytes((len(body),)) + body,
        "\x1fn15": b"\x02" + digest + bytes((len(near),)) + near,
    }
    found = read_again(TWO)
    assert found["milk"] == ClassCounters(MILK.weights, 3.5, 256e6)
    assert found[near_class("milk")] == ClassCounters({("neighbour", "9"): 0.5}, 0.0, 256e6)


def test_the_heaviest_are_kept_and_the_others_count_in_the_total() -> None:
    many = ClassCounters({("item", f"p{n}"): float(n) for n in range(1, 100)}, 99 * 50.0, 1e9)
    found = read_again({"a": many})["a"]
    assert set(found.weights) == {("item", f"p{n}") for n in range(36, 100)}
    assert found.total == pytest.approx(99 * 50.0, rel=1e-3)
    long = ClassCounters({("item", f"{n:1000}"): float(n) for n in range(1, 60)}, 0.0, 1e9)
    found = read_again({"a": long})["a"]
    assert min(found.weights.values()) == pytest.approx(60 - MAX_CLASS_BYTES // 1003, rel=1e-3)


def test_the_classes_used_last_come_first_and_the_others_leave_their_bucket() -> None:
    names = [name for name in map(str, range(2_000)) if bucket_of(name) == bucket_of("0")]
    classes = {name: ClassCounters({("item", name): 1.0}, 1.0, 1e9, float(at)) for at, name in enumerate(names)}
    assert list(read_again(classes)) == names[-24:]


def test_weights_are_exact_to_a_step_and_have_bounds() -> None:
    assert [number_of(weight) for weight in (1.0, 2.0, 0.5, 1e-12, 1e12)] == [16_384, 16_896, 15_872, 0, 32_767]


BUCKET, OF_MILK = packed_classes({"milk": MILK})[bucket_of("milk")], digest_of("milk")


@pytest.mark.parametrize(
    "raw",
    [
        None, b"", b"\x02", b"\x03" + BUCKET[1:], BUCKET[:-1], b"\x02" + OF_MILK + b"\x02ab",
        b"\x02" + OF_MILK + b"\xff", b"\x02" + OF_MILK + b"\xff\xff\xffab", b"\x02" + OF_MILK + b"\x04abcd",
        b"\x02" + OF_MILK + b"\x06abc\0\x40\x1e", b"\x02" + OF_MILK + b"\x08abc\0\x40\0\0\0",
        b"\x02" + OF_MILK + b"\x06abc\0\xc0\x09",
    ],
)  # fmt: skip
def test_bytes_that_are_unsound_are_no_counters(raw: bytes | None) -> None:
    wanted = wanted_fields(["milk"])
    assert read_classes(["milk"], [{NAMES: b"item", bucket_of("milk"): raw}.get(name) for name in wanted]) == {}


@given(st.binary(max_size=300))
def test_whatever_the_bytes_nothing_is_raised(raw: bytes) -> None:
    wanted = wanted_fields(["milk"])
    for value in (raw, b"\x01" + raw, b"\x02" + OF_MILK + bytes((min(254, len(raw)),)) + raw):
        read_classes(["milk"], [value] * len(wanted))
    unpacked(raw, ["item"])


def test_the_layout_before_is_read_where_no_bucket_has_the_class() -> None:
    wanted = wanted_fields(["milk", "soup"])
    values = packed_classes({"milk": MILK}) | {"milk": FIRST, "soup": FIRST}
    found = read_classes(["milk", "soup"], [values.get(name) for name in wanted])
    assert found["milk"].weights == MILK.weights
    assert found["soup"] == ClassCounters({("item", "p1"): 2.0}, 2.5, 1e9, 1e9 + 5)


@pytest.mark.parametrize(
    "raw",
    [
        None, b"", b"\x01", b"\x02" + FIRST[1:], FIRST[:-1], FIRST + b"\0", FIRST * 2,
        struct.pack("<Bddd", 1, float("nan"), 0, 0), struct.pack("<Bddd", 1, 1e9, 0, -1.0),
    ],
)  # fmt: skip
def test_bytes_of_the_layout_before_that_are_unsound_are_no_counters(raw: bytes | None) -> None:
    assert first_unpacked(raw) is None


@pytest.mark.parametrize(
    ("weight", "name"),
    [
        (float("inf"), b"item\x1fp2"), (float("nan"), b"item\x1fp2"), (-1.0, b"item\x1fp2"), (1e300, b"item\x1fp2"), (1.0, b"item"),
        (1.0, b""), (1.0, b"\x1fp2"), (1.0, b"item\x1f"), (1.0, b"item\x1f\xff\xfe"), (1.0, b"item\x1f" + b"x" * 1_024),
    ],
)  # fmt: skip
def test_an_unsound_value_of_the_layout_before_is_left_out_alone(weight: float, name: bytes) -> None:
    raw = FIRST[:25] + struct.pack("<dH", weight, len(name)) + name + FIRST[25:]
    assert first_unpacked(raw) == first_unpacked(FIRST)


def test_a_class_without_a_value_is_packed() -> None:
    assert unpacked(packed(ClassCounters({}, 0.0, 1e9), {}), []) == ClassCounters({}, 0.0, 1e9)
