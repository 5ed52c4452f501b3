"""Neighbours: what is kept of them, how they become affinities, and how the dial of discovery trades them for items used before."""

from __future__ import annotations

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewriter.errors import ConfigurationError
from rewriter.settings import PolicySettings, Settings
from rewriter.signals.affinities import EMPTY_POPULATION, signal_fields, strongest
from rewriter.signals.backfill.neighbours import find_neighbours, listed_neighbours
from rewriter.signals.backfill.sums import insert
from rewriter.signals.class_affinities import class_preferences
from rewriter.signals.class_counters import ClassCounters
from rewriter.signals.class_layout import packed_classes, read_classes, wanted_fields
from rewriter.signals.counters import HalfLives
from rewriter.signals.kinds.item import KIND as ITEMS
from rewriter.signals.kinds.kind import SignalField
from rewriter.signals.kinds.neighbour import KIND as NEIGHBOURS
from rewriter.signals.kinds.neighbour import NEIGHBOUR
from rewriter.signals.neighbours import (
    MOST,
    Near,
    Table,
    class_of_near,
    counted_near,
    near_class,
    packed_near,
    slots_for,
    table_of,
    unpacked_near,
)
from rewriter.signals.repeats import RepeatGuard

DAY_S = 86_400.0
NEAR = near_class("milk")


def found_in(rows: list[tuple[str, str, str, float]]) -> dict[str, Near]:
    db = duckdb.connect()
    insert(db, "used", {"person": "VARCHAR", "class": "VARCHAR", "item": "VARCHAR", "worth": "DOUBLE"}, rows)
    find_neighbours(db, "used")
    return dict(listed_neighbours(db))


def test_strength_is_the_shrunk_cosine_of_the_users() -> None:
    """a has 4 users, b has 6, both have 4: 4 / √24 · 4 / 14, to the next sixteenth of an octave."""
    rows = [(f"p{n}", "milk", "b", 1.0) for n in range(6)] + [(f"p{n}", "milk", "a", 1.0) for n in range(4)]
    found = found_in(rows)
    ((other, strength),) = found["a"]
    assert other == "b"
    assert strength == pytest.approx(4 / 24**0.5 * 4 / 14, rel=0.03)
    assert found["b"] == (("a", strength),)


def test_only_items_of_one_class_with_enough_users_are_neighbours() -> None:
    rows = [(f"p{n}", "milk", "a", 1.0) for n in range(5)] + [(f"p{n}", "eggs", "e", 1.0) for n in range(5)]
    rows += [(f"p{n}", "milk", "rare", 1.0) for n in range(2)]
    assert found_in(rows) == {}


def test_an_item_has_at_most_five_and_a_subject_of_many_items_few_pairs() -> None:
    rows = [(f"p{n}", "milk", f"i{m:04}", 5_000.0 - m) for n in range(3) for m in range(2_000)]
    found = found_in(rows)
    assert len(found) == 64
    assert all(len(near) == MOST for near in found.values())


@given(st.lists(st.tuples(st.text(min_size=1, max_size=40), st.floats(2**-15, 1.0)), max_size=MOST))
def test_the_table_gives_back_what_was_written(near: list[tuple[str, float]]) -> None:
    sound = [one for one in near if "\x1f" not in one[0] and one[0].isprintable()]
    found = unpacked_near(packed_near(sound))
    assert [other for other, _ in found] == [other for other, _ in sound]
    assert [strength for _, strength in found] == pytest.approx([strength for _, strength in sound], rel=0.023)


@given(st.binary(max_size=200))
def test_foreign_bytes_are_read_or_are_none(raw: bytes) -> None:
    assert all(0.0 < strength <= 1.0 and other and "\x1f" not in other for other, strength in unpacked_near(raw))


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{}", b"[1]", b"junk", b'{"form": 2}', b'{"form": 1, "generation": "a:b", "slots": 1}', b"[" * 100_000,
        b'{"form": 1, "generation": "aa", "slots": 1e999, "items": 1, "made_s": 1}',
        b'{"form": 1, "generation": "aa", "slots": 1, "items": 1e999, "made_s": 1}',
        b'{"form": 1, "generation": "aa", "slots": 1, "items": 1, "made_s": 1' + b"0" * 400 + b"}",
        b'{"form": 1, "generation": 5, "slots": 1, "items": 1, "made_s": 1}',
    ],
)  # fmt: skip
def test_a_table_of_another_form_is_none(raw: bytes) -> None:
    assert table_of(raw) is None


def test_a_table_is_read_as_it_was_named() -> None:
    table = Table("00ff", slots_for(10_000_000), 10_000_000, 1_700_000_000.0)
    assert table_of(table.text().encode()) == table
    assert 0 <= table.slot("p1") < table.slots == 156_250


def test_neighbours_add_up_over_the_items_of_a_class_and_displace_none_of_its_counters() -> None:
    milk = ClassCounters({("item", "a"): 2.0, ("item", "b"): 4.0, ("type_size", "1 l"): 6.0}, 6.0, 5.0, 7.0)
    near: dict[str, Near] = {"a": (("x", 0.5), ("b", 0.25)), "b": (("x", 0.25),)}
    ((name, found),) = counted_near({"milk": milk}, near, "item")
    assert name == NEAR
    assert class_of_near(name) == "milk"
    assert class_of_near("milk") is None
    assert found.weights == {(NEIGHBOUR, "x"): 2.0, (NEIGHBOUR, "b"): 0.5}
    values = packed_classes({NEAR: found})
    read = read_classes([NEAR], [values.get(one) for one in wanted_fields([NEAR])])[NEAR]
    assert dict(read.weights) == pytest.approx(found.weights, rel=1e-3)


FIELDS = {
    "item": SignalField(ITEMS, ("_id",), 1.2, 2.0, class_field="type"),
    NEIGHBOUR: SignalField(NEIGHBOURS, ("_id",), 0.5, 0.5),
}
COUNTED = {
    "milk": ClassCounters({("item", "a"): 2.0}, 2.0, 0.0),
    NEAR: ClassCounters({(NEIGHBOUR, "a"): 0.5, (NEIGHBOUR, "x"): 0.5}, 0.0, 0.0),
}


@pytest.mark.parametrize("share", [1.0, 0.0])
def test_an_item_used_before_is_no_neighbour(share: float) -> None:
    """It has a boost of its own where people use items again; where nobody does (films), it must not come back by another way."""
    found = class_preferences(COUNTED, HalfLives(DAY_S), FIELDS, EMPTY_POPULATION, RepeatGuard({}, {}, share), 4.0, 0.0)
    assert found[NEIGHBOUR, "x"] == 0.5
    assert (NEIGHBOUR, "a") not in found
    aged = class_preferences(
        COUNTED, HalfLives(DAY_S), FIELDS, EMPTY_POPULATION, RepeatGuard({}, {}, share), 4.0, DAY_S
    )
    assert aged[NEIGHBOUR, "x"] == pytest.approx(0.25 / 0.75)


def test_a_neighbours_clause_finds_the_item() -> None:
    (affinity,) = strongest({(NEIGHBOUR, "x"): (0.5, "profile")}, FIELDS, 32)
    assert affinity.filter == {"term": {"_id": "x"}}
    assert (affinity.kind, affinity.scale) == ("neighbour", 0.5)


def test_the_dial_adds_boosts_for_neighbours_to_those_for_items() -> None:
    scales = {}
    for discovery in (0.0, 0.5, 1.0):
        policy = PolicySettings.model_validate({"index": "x", "class_field": "type", "discovery": discovery})
        fields = signal_fields(policy)
        assert fields["item"].scale == policy.item_scale
        scales[discovery] = fields[NEIGHBOUR].scale if NEIGHBOUR in fields else None
    assert scales == {0.0: None, 0.5: pytest.approx(0.225), 1.0: 0.45}


@pytest.mark.parametrize(
    ("policy", "what"),
    [
        ({"discovery": 0.5}, "class_field"),
        ({"discovery": 0.5, "class_field": "type", "item_field": ""}, "item_field"),
        ({"class_field": "type", "fields": {NEIGHBOUR: {"of": "brand"}}}, "neighbour"),
    ],
)
def test_what_the_dial_needs_is_named(policy: dict[str, object], what: str) -> None:
    with pytest.raises((ConfigurationError, ValueError), match=what):
        Settings.model_validate({"policies": {"shop": {"index": "x", **policy}}})
