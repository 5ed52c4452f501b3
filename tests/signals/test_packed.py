"""The two packed values: what is written is read back, and all other bytes are refused."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewriter.signals.counters import SEPARATOR, Counters
from rewriter.signals.packed import (
    HEADER_BYTES,
    MAX_BODY_BYTES,
    MAX_POPULATION,
    Header,
    PackedPopulation,
    PackedSegments,
    PackedWeights,
    header_of,
    population_body,
    read_population,
    read_segments,
    segments_body,
)

PART = st.text(st.characters(exclude_characters=SEPARATOR, exclude_categories=["Cs"]), min_size=1, max_size=12)
VALUE = st.lists(PART, min_size=2, max_size=4).map(tuple)
WEIGHT = st.floats(1e-9, 1e100, allow_nan=False)
TOTALS = st.dictionaries(PART, WEIGHT, max_size=4)
WEIGHTS = st.dictionaries(VALUE, WEIGHT, max_size=30)
TIME = st.floats(0.0, 4e9)


def read_all(body: bytes) -> PackedPopulation:
    return read_population(body, lambda: None)


@given(WEIGHTS, TOTALS, st.floats(0.0, 1e9), st.integers(0, 10**9))
def test_a_population_is_read_back(
    weights: dict[tuple[str, ...], float], totals: dict[str, float], floor: float, left_out: int
) -> None:
    by_member = {SEPARATOR.join(value): weight for value, weight in weights.items()}
    found = read_all(population_body(PackedPopulation(by_member, totals, floor, left_out)))
    assert found == PackedPopulation(by_member, totals, floor, left_out)
    assert dict(PackedWeights(found.weights)) == weights
    assert all(PackedWeights(found.weights).get(value) == weight for value, weight in weights.items())
    assert PackedWeights(found.weights).get(("no", "such"), 7.0) == weights.get(("no", "such"), 7.0)


@given(
    st.dictionaries(PART, st.builds(Counters, WEIGHTS, TOTALS, TIME, TIME, TIME), max_size=5),
    st.dictionaries(PART, PART),
)
def test_segments_are_read_back(counters: dict[str, Counters], failed: dict[str, str]) -> None:
    found = read_segments(segments_body(PackedSegments(counters, failed, 3)), lambda: None)
    assert found.failed == failed
    assert found.left_out == 3
    assert found.counters.keys() == counters.keys()
    for name, one in counters.items():
        assert dict(found.counters[name].weights) == one.weights
        for part in ("totals", "landmark_s", "last_event_s", "events"):
            assert getattr(found.counters[name], part) == getattr(one, part)


@given(
    st.text("0123456789abcdef", min_size=16, max_size=16), TIME, st.floats(0.0, 1e100), st.integers(1, MAX_BODY_BYTES)
)
def test_a_header_is_64_bytes_and_is_read_back(version: str, made_s: float, events: float, size: int) -> None:
    raw = Header(version, made_s, events, size).bytes()
    assert len(raw) == HEADER_BYTES
    assert raw.endswith(b"\n")
    assert header_of(raw + b"\xff\x00 a body") == Header(version, int(made_s), float(f"{min(events, 1e15):.0f}"), size)


def test_no_value_has_no_header() -> None:
    assert header_of(b"") is None
    assert header_of(None) is None


@pytest.mark.parametrize(
    "raw",
    [
        b"x", b"\xff" * 64, b"rw1", b"rw2 0123456789abcdef 1 1 10".ljust(64), b"rw1 0123456789abcdef 1 1 0".ljust(64),
        b"rw1 0123456789abcdef 1 1 -5".ljust(64), b"rw1 0123456789abcdef x 1 10".ljust(64),
        f"rw1 0123456789abcdef 1 1 {MAX_BODY_BYTES + 1}".encode().ljust(64), b"{}".ljust(64),
    ],
)  # fmt: skip
def test_another_header_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  its texts are of many kinds
        header_of(raw)


def body(meta: Any, text: bytes = b"a\x1fb", numbers: tuple[float, ...] = (1.0,), **more: Any) -> bytes:
    meta = {"totals": {}, "floor": 0, "left_out": 0, "values": len(numbers), "text": len(text)} | meta | more
    return zlib.compress(json.dumps(meta).encode() + b"\n" + text + struct.pack(f"<{len(numbers)}d", *numbers))


GOOD = body({})


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"no zlib", GOOD[:-8], zlib.compress(b""), zlib.compress(b"[]\n"), zlib.compress(b"{}\n"),
        zlib.compress(b"no json\n"),
        body({"values": 2}), body({"values": -1}), body({"text": 1}), body({"text": -3}),
        body({"text": None}), body({"values": "x"}),
        body({"totals": None}), body({"totals": []}), body({"left_out": None}), body({}, b"\xff\xfe"),
        body({}, b"a\x1fb\x1f\x1fc\x1fd"),  # two members, one weight
        body({}, b"a\x1fb", (1.0, 2.0)),
        body({"values": MAX_POPULATION + 1}, b"a\x1fb", (1.0,) * (MAX_POPULATION + 1)),
    ],
)  # fmt: skip
def test_another_body_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  its texts are of many kinds
        read_all(raw)
    with pytest.raises(ValueError):  # noqa: PT011  its texts are of many kinds
        read_segments(raw, lambda: None)


def test_a_body_that_expands_without_end_is_not_expanded() -> None:
    with pytest.raises(ValueError):  # noqa: PT011  its texts are of many kinds
        read_all(zlib.compress(b" " * (200 * 2**20), 9))


def test_a_weight_that_is_none_is_ignored_by_itself() -> None:
    text = b"\x1f\x1f".join(f"brand\x1fb{number}".encode() for number in range(6))
    found = read_all(
        body(
            {"totals": {"brand": 9, "odd": "x", "none": -1}}, text, (1.0, float("nan"), float("inf"), -1.0, 1e200, 2.0)
        )
    )
    assert found.weights == {"brand\x1fb0": 1.0, "brand\x1fb5": 2.0}
    assert found.totals == {"brand": 9.0}


@pytest.mark.parametrize("text", ["brand", "\x1fbrand", "brand\x1f", "x" * 2000 + "\x1fb"])
def test_a_segment_s_member_that_is_no_value_is_left_out(text: str) -> None:
    meta = {
        "segments": {"vip": {"landmark": 5, "last_event": 5, "events": 1, "totals": {"brand": 3}, "values": 1}},
        "failed": {},
    }
    found = read_segments(body(meta, text.encode()), lambda: None)
    assert dict(found.counters["vip"].weights) == {}


def test_the_reader_pauses_within_the_work() -> None:
    weights = {f"brand\x1fb{number}": 1.0 for number in range(MAX_POPULATION)}
    pauses: list[None] = []
    read_population(population_body(PackedPopulation(weights, {"brand": 1.0})), lambda: pauses.append(None))
    assert len(pauses) >= 10


def test_twenty_thousand_values_take_half_a_megabyte() -> None:
    weights = {
        f"type_and_brand\x1fshoe-{number % 90}\x1fbrand-{number:05d}": number + 0.125
        for number in range(MAX_POPULATION)
    }
    assert len(population_body(PackedPopulation(weights, {"type_and_brand": 1.0}))) < 512 * 1024
