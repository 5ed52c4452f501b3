"""Which uses a class is judged by, and the strengths that tell what was done with an item before."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewriter.signals.class_counters import ClassCounters
from rewriter.signals.class_layout import NAMES, bucket_of, held_items, packed_classes, read_classes, wanted_fields
from rewriter.signals.counters import SEPARATOR, Value
from rewriter.signals.ingest.reuse import Visits
from rewriter.signals.repeats import AGAIN, CHANCE, CONTROLS, USES
from rewriter.signals.strengths import marked, number_of, strength_in
from rewriter.signals.uses import NAMED_ONLY, judge_members, judged

WEIGHTS = st.floats(1e-8, 1e12)
NUMBERS = st.integers(1, 32_767)


@given(WEIGHTS, NUMBERS)
def test_a_counter_holds_a_strength_and_hardly_changes(counter: float, number: int) -> None:
    found = marked(counter, number)
    assert strength_in(found) == number
    assert found == pytest.approx(counter, rel=1.5e-8)
    assert marked(found, number) == found


@given(st.lists(st.tuples(WEIGHTS, NUMBERS), min_size=2, max_size=2))
def test_a_strength_changes_the_order_of_no_counters_that_differ(pair: list[tuple[float, int]]) -> None:
    (one, first), (other, second) = pair
    if abs(one - other) > 1e-7 * max(one, other):
        assert (marked(one, first) < marked(other, second)) == (one < other)


@pytest.mark.parametrize("counter", [0.0, 1.0, 8.0, 12.5, 0.1, 1e-9, 7.3e11])
def test_a_counter_of_another_program_has_none(counter: float) -> None:
    assert strength_in(counter) == 0
    assert marked(counter, 0) == counter


VALUES: dict[Value, float] = {("item", "17"): 9.0, ("item", "a b"): 9.0, ("item", "old"): 3.0, ("size", "1 l"): 9.0}
STRENGTHS: dict[Value, float] = {("item", "17"): 8.0, ("item", "a b"): 1.0}
MILK = ClassCounters(VALUES, 21.0, 1e9, strengths=STRENGTHS)
IDS = {"milk": ["17", "a b", "old", "none"]}


def read_of(classes: dict[str, ClassCounters]) -> list[bytes | None]:
    values = packed_classes(classes)
    return [values.get(name) for name in wanted_fields(["milk"])]


def test_a_class_holds_the_strengths_of_its_items() -> None:
    expected = {("milk", "17"): number_of(8.0), ("milk", "a b"): number_of(1.0), ("milk", "old"): 0}
    assert held_items(IDS, read_of({"milk": MILK})) == expected


def test_a_reader_of_counters_needs_no_strengths() -> None:
    """A search, and a program that knows of none, read the same weights; three bytes more for each action."""
    without = ClassCounters(VALUES, 21.0, 1e9)
    found = read_classes(["milk"], read_of({"milk": MILK}))
    assert found["milk"].weights == read_classes(["milk"], read_of({"milk": without}))["milk"].weights
    bought = ClassCounters(VALUES, 21.0, 1e9, strengths=dict.fromkeys(VALUES, 8.0))
    sizes = [len(packed_classes({"milk": one})[bucket_of("milk")]) for one in (without, bought)]
    assert sizes[1] - sizes[0] == 3


def test_what_a_program_without_strengths_wrote_is_held_with_an_unknown_one() -> None:
    first = struct.pack("<Bddd", 1, 1e9, 1e9, 1.0) + struct.pack("<dH", 2.0, 7) + b"item\x1f17"
    layouts = [read_of({"milk": ClassCounters(VALUES, 21.0, 1e9)}), [None, None, first]]
    assert [held_items({"milk": ["17", "none"]}, one) for one in layouts] == [{("milk", "17"): 0}] * 2


@given(st.binary(max_size=200))
def test_whatever_the_bytes_nothing_is_raised(raw: bytes) -> None:
    bucket = b"\x02" + packed_classes({"milk": MILK})[bucket_of("milk")][1:5] + bytes((len(raw),)) + raw
    held_items(IDS, [{NAMES: b"item", bucket_of("milk"): bucket}.get(name) for name in wanted_fields(["milk"])])


def counts(**of_class: dict[str, tuple[float, float]]) -> dict[Value, float]:
    """By class and weight, the uses and how many of them were again; "" stands for no weight."""
    found: dict[Value, float] = {}
    for name, levels in of_class.items():
        for level, (uses, again) in levels.items():
            rest = (level,) if level else ()
            found |= {(USES, name, *rest): uses} if uses else {}
            found |= {(AGAIN, name, *rest): again} if again else {}
    return found


@pytest.mark.parametrize(
    ("levels", "uses", "again"),
    [
        ({"1": (1_000.0, 600.0), "8": (100.0, 5.0)}, 100.0, 5.0),  # people buy things
        ({"1": (1_000.0, 600.0), "8": (2.0, 0.0)}, 1_002.0, 600.0),  # hardly anybody does
        ({"1": (1_000.0, 600.0), "4": (40.0, 8.0), "8": (1.0, 0.0)}, 41.0, 8.0),
        ({"": (900.0, 400.0), "1": (1_000.0, 600.0), "8": (100.0, 5.0)}, 100.0, 5.0),  # counted before by another program
        ({"": (900.0, 400.0), "8": (100.0, 5.0), "8?": (0.0, 50.0)}, 1_000.0, 455.0),  # nothing but purchases
        ({"1": (1_000.0, 600.0), "8": (100.0, 5.0), "8?": (0.0, 20.0)}, 100.0, 5.0),  # these may have been views
        ({"1": (1_000.0, 600.0), "8": (100.0, 5.0), "8?": (0.0, 50.0)}, NAMED_ONLY, 0.0),  # nobody can tell
        ({"": (900.0, 400.0), "1": (100.0, 9.0), "8": (99.0, 1.0), "8?": (0.0, 70.0)}, NAMED_ONLY, 0.0),
        ({"1": (1_000.0, 1.0), "1?": (0.0, 900.0), "8": (100.0, 50.0)}, 100.0, 50.0),  # views decide nothing
        ({"": (900.0, 400.0)}, 900.0, 400.0),
        ({"1": (0.0, 3.0), "x": (7.0, 0.0)}, 7.0, 3.0),  # no weight is none
    ],
)  # fmt: skip
def test_a_class_is_judged_by_the_strongest_action_that_people_come_for(
    levels: dict[str, tuple[float, float]], uses: float, again: float
) -> None:
    found = judged(counts(milk=levels))
    assert found[USES, "milk"] == pytest.approx(uses)
    assert found.get((AGAIN, "milk"), 0.0) == pytest.approx(again)


def test_a_class_of_few_uses_goes_by_the_catalogue() -> None:
    """Twenty views of films tell nothing about people who come to buy; 5,000 of trailers do."""
    found = judged(
        counts(
            film={"1": (1_000.0, 700.0), "8": (200.0, 0.0)},
            opera={"1": (20.0, 15.0)},
            trailer={"1": (5_000.0, 2_000.0)},
        )
    )
    assert found[USES, "opera"] == NAMED_ONLY, "its name is known all the same"
    assert (AGAIN, "opera") not in found
    assert found[AGAIN, "trailer"] == 2_000.0


def test_the_totals_are_those_of_what_is_judged_and_judging_again_changes_nothing() -> None:
    uses = counts(film={"1": (1_000.0, 700.0), "8": (200.0, 0.0)}) | {(CONTROLS, "film", "8"): 50.0}
    members = {SEPARATOR.join(value): weight for value, weight in uses.items()} | {"brand\x1fb1": 3.0}
    totals = {"brand": 3.0, USES: 1_200.0, AGAIN: 700.0, CONTROLS: 50.0, CHANCE: 9.0}
    judge_members(members, totals)
    first = dict(members), dict(totals)
    assert first == (
        {"brand\x1fb1": 3.0, f"{USES}\x1ffilm": 200.0, f"{CONTROLS}\x1ffilm": 50.0},
        {"brand": 3.0, USES: 200.0, CONTROLS: 50.0},
    )
    judge_members(members, totals)
    assert (members, totals) == first


def test_what_is_remembered_of_visits_is_bounded() -> None:
    known = Visits(max_subjects=2)
    for name in "abc":
        known.begin(name)[b"item"] = 1
    known.keep_round()
    assert [known.of(name) for name in "abc"] == [None, {b"item": 1}, {b"item": 1}]
    known.begin("b")[b"other"] = 1
    known.forget_round()
    assert known.of("b") == {b"item": 1}
    known.begin("c").update({f"{n}".encode(): 1 for n in range(1_000)})
    known.keep_round()
    assert known.of("c") is None
