"""The builder of the population: its lease, its input, its intervals; an unreadable segment keeps its last counters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from threading import Event
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewriter.encodings import in_utf8
from rewriter.errors import StoreError
from rewriter.signals.affinities import united
from rewriter.signals.commands import Command
from rewriter.signals.counters import SEPARATOR, Counters, HalfLives, Value
from rewriter.signals.ingest import population as ingest
from rewriter.signals.memory_store import MemoryStore
from rewriter.signals.packed import HEADER_BYTES, PackedPopulation, PackedSegments
from rewriter.signals.partial_sums import gather_population
from rewriter.signals.partitions import MAX_PARTITIONS
from rewriter.signals.population_builder import MADE_EVERY_S, SEGMENTS_AT_ONCE, PopulationBuilder
from rewriter.signals.population_reader import PackedReader, Stopped
from rewriter.signals.store import Keys

HALF_LIVES = HalfLives(86_400.0, {"color": 3_600.0})
KEYS = Keys("rw")
NAMES = st.sampled_from([f"b{number}" for number in range(6)])
VALUE = st.one_of(
    NAMES.map(lambda one: ("brand", one)), NAMES.map(lambda one: ("color", one)), NAMES.map(lambda one: ("item", one)),
    st.tuples(st.just("type_brand"), NAMES, NAMES),
)  # fmt: skip
PART = st.builds(
    Counters,
    st.dictionaries(VALUE, st.floats(1e-6, 1e6), min_size=1, max_size=12),
    st.just({"brand": 10.0, "color": 20.0, "item": 30.0, "type_brand": 40.0}),
    st.floats(1e9, 1e9 + 1e6),
    st.just(1e9),
    st.integers(1, 100).map(float),
)


class Rig:
    """A store, a time, and makers of it. `broken` keys answer with an error; `asked` is every command that was run."""

    def __init__(self, partitions: int = 4) -> None:
        self.now_s = 1e9 + 2e6
        self.store = MemoryStore(lambda: self.now_s)
        self.asked: list[Command] = []
        self.broken: set[str] = set()
        self.stopped = False
        self.store.run([("SET", "rw:partitions", str(partitions).encode())])

    def run(self, wanted: Sequence[Command], *, atomic: bool = False) -> list[Any]:
        self.asked += wanted
        found = self.store.run(wanted, atomic=atomic)
        return [
            StoreError("WRONGTYPE") if command[1] in self.broken else reply
            for command, reply in zip(wanted, found, strict=True)
        ]

    def maker(self, token: str = "a", role: Any = "search") -> PopulationBuilder:
        return PopulationBuilder(
            self, KEYS, HALF_LIVES, role=role, token=token, max_counters=8, ttl_s=1e7, now_s=lambda: self.now_s,
            wait=lambda _: self.stopped,
        )  # fmt: skip

    def look(self, maker: PopulationBuilder) -> bool:
        look = maker.reader.look()
        leads = maker.leads(look)
        if leads:
            maker.make(look)
        return leads

    def population(self) -> PackedPopulation | None:
        reader = self.maker().reader
        header = reader.look().population
        return None if header is None else reader.population(header)

    def segments(self) -> PackedSegments:
        reader = self.maker().reader
        header = reader.look().segments
        assert header is not None
        return reader.segments(header)

    def write(
        self, number: int, brand: str = "nike", weight: float = 5.0, events: float = 1.0, at_s: float = 1e9
    ) -> None:
        counters = Counters(
            {("brand", brand): weight, ("item", "p1"): 3.0}, {"brand": weight, "item": 3.0}, at_s, at_s, events
        )
        self.store.write(KEYS.population(number), counters, None)

    def write_segment(self, name: str, number: int = 0, weight: float = 2.0) -> None:
        counters = Counters(
            {("brand", "puma"): weight, ("item", "p2"): 1.0}, {"brand": weight, "item": 1.0}, 1e9, 1e9, 1.0
        )
        self.store.write(KEYS.segment(name, number), counters, None)

    def name(self, *names: str) -> None:
        self.store.run([("SET", "rw:segments", json.dumps(names).encode())])


@given(st.lists(st.none() | PART, min_size=1, max_size=5))
def test_the_population_is_the_sum_of_its_parts_without_items(parts: list[Counters | None]) -> None:
    rig = Rig(len(parts))
    for number, part in enumerate(parts):
        if part is not None:
            rig.store.write(KEYS.population(number), part, None)
    rig.look(rig.maker())
    found = rig.population()
    at_s = max((part.landmark_s for part in parts if part), default=0.0)
    expected = united(parts, HALF_LIVES, at_s)
    assert (found is None) == (expected is None)
    if found and expected:
        weights = {SEPARATOR.join(value): weight for value, weight in expected.weights.items() if value[0] != "item"}
        assert found.weights == pytest.approx(weights, rel=1e-9)
        assert found.totals == pytest.approx(
            {name: one for name, one in expected.totals.items() if name != "item"}, rel=1e-9
        )
        assert (found.floor, found.left_out) == (0.0, 0)


@given(st.lists(st.floats(1e-3, 1e12), min_size=5, max_size=60, unique=True), st.integers(1, 30))
def test_the_heaviest_are_kept_and_the_floor_is_above_all_others(weights: list[float], kept: int) -> None:
    rig = Rig(1)
    values: dict[Value, float] = {("brand", f"b{number}"): weight for number, weight in enumerate(weights)}
    rig.store.write(KEYS.population(0), Counters(values, {"brand": sum(weights)}, 1e9, 1e9, 1.0), None)
    found = rig.maker()._driven(gather_population(KEYS, 1, 1e9, HALF_LIVES, kept))
    assert len(found.weights) == min(kept, len(weights))
    assert found.left_out == len(weights) - len(found.weights)
    left = sorted(set(weights) - set(found.weights.values()))
    if left:
        assert left[-1] <= found.floor <= 1.126 * min(found.weights.values())
        assert left[-1] <= 1.126 * min(found.weights.values())
    else:
        assert found.floor == 0.0


def test_long_members_are_bounded_in_bytes() -> None:
    rig = Rig(1)
    values: dict[Value, float] = {("brand", f"{number:05d}" + "é" * 400): 1.0 + number for number in range(5_000)}
    rig.store.write(KEYS.population(0), Counters(values, {"brand": 1e6}, 1e9, 1e9, 1.0), None)
    rig.look(rig.maker())
    found = rig.population()
    assert found is not None
    assert 1_500 < len(found.weights) < 2_600
    assert found.left_out == 5_000 - len(found.weights)
    assert found.floor > 0.0


def test_members_of_no_sense_are_left_out_by_themselves() -> None:
    rig = Rig(1)
    rig.write(0)
    base = KEYS.population(0)
    rig.store.run(
        [
            (
                "ZADD",
                f"{base}:z",
                "1",
                b"\xff\xfe",
                "1",
                b"brand",
                "1",
                b"\x1fx",
                "nan",
                b"brand\x1fx",
                "7",
                b"other\x1fx",
            )
        ]
    )
    rig.look(rig.maker())
    found = rig.population()
    assert found is not None
    assert found.weights == {"brand\x1fnike": 5.0}


def test_a_part_that_cannot_be_read_keeps_the_whole_as_it_was() -> None:
    rig = Rig(2)
    rig.write(0)
    rig.look(rig.maker())
    before = rig.population()
    rig.write(1, "puma", events=50.0)
    rig.broken = {f"{KEYS.population(1)}:z"}
    with pytest.raises(StoreError):
        rig.look(rig.maker())
    assert rig.population() == before


def test_nothing_is_made_of_what_did_not_change() -> None:
    rig = Rig(4)
    for number in range(4):
        rig.write(number)
    maker = rig.maker()
    rig.look(maker)
    for _ in range(30):
        rig.now_s += 60
        rig.asked.clear()
        rig.look(maker)
        assert not [one for one in rig.asked if one[0] in ("ZSCAN", "HGETALL")]
        assert not [one for one in rig.asked if one[0] == "SET" and one[1] != KEYS.maker]


@pytest.mark.parametrize(
    ("events", "later_s", "at_s", "made"),
    [
        (1001.0, 10, 1e9, False),
        (1001.0, MADE_EVERY_S, 1e9, True),
        (1200.0, 10, 1e9, True),
        (100.0, 10, 1e9, True),
        (1001.0, 10, 1e9 + 5, True),  # a landmark moved: a batch wrote everything anew, or counters were aged
        (1000.0, 1e5, 1e9, False),
        (1001.0, -500, 1e9, True),  # a clock was set back
    ],
)
def test_when_the_population_is_made_anew(events: float, later_s: float, at_s: float, made: bool) -> None:
    rig = Rig(1)
    rig.write(0, events=1000.0)
    rig.look(rig.maker())
    rig.write(0, "puma", events=events, at_s=at_s)
    rig.now_s += later_s
    rig.look(rig.maker("b", "worker"))
    found = rig.population()
    assert found is not None
    assert ("brand\x1fpuma" in found.weights) == made


def test_one_process_makes_the_population_and_a_worker_goes_first() -> None:
    rig = Rig()
    rig.write(0)
    first, second = rig.maker("1"), rig.maker("2")
    worker, other = rig.maker("w", "worker"), rig.maker("v", "worker")
    assert [rig.look(one) for one in (first, second, first)] == [True, False, True]
    assert [rig.look(one) for one in (worker, first, other, worker)] == [True, False, False, True]
    worker.release()
    assert [rig.look(one) for one in (second, first)] == [True, False]
    rig.now_s += 31
    assert rig.look(first)  # the second has not looked for as long as a lease lasts
    second.release()  # which is not the second's to give back
    assert not rig.look(second)
    rig.now_s += 31
    assert rig.look(other)


def test_a_reader_asks_for_the_rest_only_when_the_version_is_another() -> None:
    """What one process costs: three commands a look and a few dozen bytes each."""
    rig = Rig(16)
    for number in range(16):
        rig.write(number)
    rig.look(rig.maker("w", "worker"))
    reader = rig.maker("r").reader
    header = reader.look().population
    assert header is not None
    rig.asked.clear()
    for _ in range(100):
        assert reader.look().population == header
    assert [one[0] for one in rig.asked] == ["GETRANGE", "GETRANGE", "GET"] * 100
    assert {one[2:] for one in rig.asked if one[0] == "GETRANGE"} == {(0, 63)}


def test_segments_are_summed_and_a_name_that_goes_takes_its_segment_along() -> None:
    rig = Rig(3)
    rig.name("vip", "empty", "vip")
    for number in range(3):
        rig.write_segment("vip", number)
    maker = rig.maker()
    rig.look(maker)
    found = rig.segments()
    assert found.failed == {}
    assert list(found.counters) == ["vip"]
    assert dict(found.counters["vip"].weights) == {("brand", "puma"): 6.0, ("item", "p2"): 3.0}
    assert found.counters["vip"].totals == {"brand": 6.0, "item": 3.0}
    rig.name()
    rig.look(maker)
    assert rig.segments().counters == {}


@pytest.mark.parametrize("again", [True, False], ids=["the same maker", "another maker"])
def test_a_segment_that_cannot_be_read_keeps_its_last_state_and_is_named(again: bool) -> None:
    rig = Rig(2)
    rig.name("a", "vip", "z")
    for name in ("a", "vip", "z"):
        rig.write_segment(name)
    maker = rig.maker()
    rig.look(maker)
    for name in ("a", "vip", "z"):
        rig.write_segment(name, weight=9.0)
    rig.broken = {f"{KEYS.segment('vip', 1)}:m"}
    rig.now_s += MADE_EVERY_S
    maker = maker if again else rig.maker()
    rig.look(maker)
    found = rig.segments()
    assert found.failed == {"vip": "StoreError"}
    assert {name: one.weights[("brand", "puma")] for name, one in found.counters.items()} == {
        "a": 9.0,
        "vip": 2.0,
        "z": 9.0,
    }
    rig.broken = set()
    rig.now_s += MADE_EVERY_S
    rig.look(maker)
    assert rig.segments().failed == {}
    assert rig.segments().counters["vip"].weights[("brand", "puma")] == 9.0


def test_one_look_reads_a_bounded_number_of_segments_and_all_get_their_turn() -> None:
    rig = Rig(2)
    names = [f"s{number:04d}" for number in range(1_100)]
    rig.name(*names)
    for name in names:
        rig.write_segment(name)
    maker = rig.maker()
    for _ in range(1_000 // SEGMENTS_AT_ONCE):
        rig.asked.clear()
        rig.look(maker)
        assert len(rig.asked) <= 10 + 4 * SEGMENTS_AT_ONCE
        rig.now_s += 1
    found = rig.segments()
    assert list(found.counters) == names[:1_000]
    assert found.left_out == 100


@pytest.mark.parametrize("text", ["0", "4097", "-1", " 4", "1_0", "x", "4.0"])
def test_what_is_no_number_of_partitions_is_refused_as_by_workers(text: str) -> None:
    rig = Rig()
    rig.store.run([("SET", "rw:partitions", text.encode())])
    with pytest.raises(StoreError, match="rw:partitions holds"):
        rig.look(rig.maker())


def test_a_list_of_segments_of_no_sense_costs_the_segments_alone() -> None:
    rig = Rig()
    rig.write(0)
    rig.store.run([("SET", "rw:segments", b"{}")])
    with pytest.raises(StoreError, match="segments"):
        rig.look(rig.maker())
    assert rig.population() is not None


def test_a_value_of_no_sense_is_made_anew() -> None:
    rig = Rig()
    rig.write(0)
    rig.store.run([("SET", KEYS.whole_population, b"garbage"), ("SET", KEYS.all_segments, b"\xff" * 100)])
    rig.look(rig.maker())
    assert rig.population() is not None


def test_a_process_that_ends_stops_in_the_middle() -> None:
    rig = Rig()
    rig.write(0)
    maker = rig.maker()
    look = maker.reader.look()
    rig.stopped = True
    with pytest.raises(Stopped):
        maker.make(look)
    assert rig.population() is None


def damaged(value: bytes, at: int, change: int) -> bytes:
    """Return a value whose header is sound and whose body is not."""
    at = HEADER_BYTES + at % (len(value) - HEADER_BYTES)
    return value[:at] + bytes([value[at] ^ change]) + value[at + 1 :]


@given(st.integers(0, 10_000), st.integers(1, 255), st.sampled_from(["search", "worker"]), st.booleans())
def test_a_value_that_cannot_be_read_is_built_again_though_nothing_changed(
    at: int, change: int, role: Any, is_cut: bool
) -> None:
    rig = Rig()
    rig.write(0)
    rig.name("vip")
    rig.write_segment("vip")
    rig.look(rig.maker())
    built = [rig.store.run([("GET", key)])[0] for key in (KEYS.whole_population, KEYS.all_segments)]
    for key, value in zip((KEYS.whole_population, KEYS.all_segments), built, strict=True):
        broken = value[: HEADER_BYTES + at % (len(value) - HEADER_BYTES)] if is_cut else damaged(value, at, change)
        rig.store.run([("SET", key, broken)])
    rig.store.run([("DEL", KEYS.maker)])
    assert rig.look(rig.maker("another", role))
    population = rig.population()
    assert population is not None
    assert population.totals == {"brand": 5.0}
    assert rig.segments().counters["vip"].events == 1.0


def test_a_value_that_can_be_read_is_read_once_by_the_process_that_builds_it() -> None:
    rig = Rig()
    rig.write(0)
    rig.look(rig.maker())
    rig.store.run([("DEL", KEYS.maker)])
    another = rig.maker("another")
    rig.asked.clear()
    for _ in range(5):
        rig.look(another)
    body = [one for one in rig.asked if one[:2] == ("GETRANGE", KEYS.whole_population) and one[2] == HEADER_BYTES]
    assert len(body) == 1


def test_segments_are_built_though_a_part_of_the_population_cannot_be_read() -> None:
    rig = Rig()
    for number in range(4):
        rig.write(number)
    rig.name("vip")
    rig.write_segment("vip", 3)
    rig.broken = {f"{KEYS.population(2)}:z"}
    with pytest.raises(StoreError):
        rig.look(rig.maker())
    assert rig.segments().counters["vip"].events == 1.0
    assert rig.population() is None


@pytest.mark.parametrize("name", ["\ud83d", "vip\udfff", "\udc00\ud800"])
def test_a_segment_whose_name_can_be_no_key_harms_no_other(name: str) -> None:
    """Redis's clients raise UnicodeEncodeError for it before anything is sent."""
    rig = Rig()
    run = rig.run

    def encoding(wanted: Sequence[Command], *, atomic: bool = False) -> list[Any]:
        for command in wanted:
            for part in command:
                if isinstance(part, str):
                    part.encode()
        return run(wanted, atomic=atomic)

    rig.run = encoding  # type: ignore[method-assign]
    rig.write(0)
    rig.name("first", name, "last")
    rig.write_segment("first")
    rig.write_segment("last")
    rig.look(rig.maker())
    assert set(rig.segments().counters) == {"first", "last"}
    assert rig.segments().failed == {name: "UnicodeEncodeError"}
    assert in_utf8(name).isprintable()


def test_an_error_that_nobody_expects_does_not_end_the_worker_s_building(monkeypatch: pytest.MonkeyPatch) -> None:
    rig, stopping = Rig(), Event()
    rig.write(0)
    looks: list[int] = []

    def look(self: PackedReader, look: Any = PackedReader.look) -> Any:
        looks.append(1)
        if len(looks) == 1:
            raise RecursionError
        if len(looks) == 3:
            stopping.set()
        return look(self)

    monkeypatch.setattr(PackedReader, "look", look)
    monkeypatch.setattr(ingest, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(ingest, "UNMADE_EVERY_S", 0.01)
    ingest._make(rig.maker("w", "worker"), stopping)
    assert rig.population() is not None


@pytest.mark.parametrize("partitions", [1, 1_025, MAX_PARTITIONS])
def test_as_many_partitions_are_added_up_as_events_may_have(partitions: int) -> None:
    rig = Rig(partitions)
    last = KEYS.population(partitions - 1)
    rig.store.write(last, Counters({("brand", "b1"): 2.0}, {"brand": 2.0}, 1e9, 1e9, 1.0), None)
    assert rig.look(rig.maker())
    found = rig.population()
    assert found is not None
    assert found.weights == {f"brand{SEPARATOR}b1": 2.0}
