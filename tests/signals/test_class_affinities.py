"""Affinities within the classes of a query, and how the classes become known."""

from __future__ import annotations

from math import log
from typing import Any

import pytest

from rewriter.signals.affinities import Population, strongest
from rewriter.signals.class_affinities import class_preferences, class_totals, of_classes
from rewriter.signals.class_counters import MAX_READ, ClassCounters
from rewriter.signals.counters import HalfLives, Value
from rewriter.signals.kinds.kind import SignalField
from rewriter.signals.kinds.registry import every_kind
from rewriter.signals.query_classes import FIRST_HITS, QueryClasses, classes_in
from rewriter.signals.repeats import AGAIN, USES, RepeatGuard

DAY_S = 86_400.0
FIELDS = {
    "item": SignalField(every_kind()["item"], ("_id",), 1.2, 2.0, class_field="type"),
    "type_size": SignalField(every_kind()["combination"], ("type", "size"), 0.5, 5.0),
    "brand": SignalField(every_kind()["attribute"], ("brand",), 0.3, 100.0),
}
EVERYBODY = Population(
    {("type_size", "milk", "1 l"): 100.0, ("type_size", "milk", "2 l"): 300.0, ("type_size", "eggs", "6"): 600.0},
    {"type_size": 1_000.0},
    class_totals={("type_size", "milk"): 400.0, ("type_size", "eggs"): 600.0},
)
ALWAYS = RepeatGuard({}, {}, 1.0)
MILK = ClassCounters({("item", "p1"): 2.0, ("type_size", "1 l"): 6.0, ("type_size", "2 l"): 2.0}, 8.0, 0.0)


def preferred(guard: RepeatGuard = ALWAYS, now_s: float = 0.0, **classes: ClassCounters) -> dict[Value, float]:
    return class_preferences(classes, HalfLives(DAY_S), FIELDS, EVERYBODY, guard, 4.0, now_s)


def test_an_attribute_is_compared_with_its_class_alone() -> None:
    """6 of 8 purchases of milk are of 1 l, where a quarter of all milk is: (6 / 0.25 + 5) / (8 + 5)."""
    assert preferred(milk=MILK) == {
        ("item", "p1", "milk"): 0.5,
        ("type_size", "milk", "1 l"): pytest.approx(log(29 / 13) / 4.0),
    }


def test_counters_of_a_class_age_from_its_own_landmark() -> None:
    found = preferred(now_s=DAY_S, milk=MILK, eggs=ClassCounters({("item", "p2"): 2.0}, 2.0, DAY_S))
    assert found["item", "p1", "milk"] == pytest.approx(1 / 3)
    assert found["item", "p2", "eggs"] == 0.5


def test_the_repeat_guard_is_asked_for_the_class() -> None:
    weights: dict[Value, float] = {(USES, "milk"): 1e6, (USES, "books"): 1e6, (AGAIN, "milk"): 5e5}
    found = preferred(RepeatGuard(weights, {USES: 2e6, AGAIN: 5e5}), milk=MILK, books=MILK)
    assert [value for value in found if value[0] == "item"] == [("item", "p1", "milk")]


def test_values_of_other_forms_and_unknown_classes_are_ignored() -> None:
    odd: dict[Value, float] = {
        ("item", "a", "b"): 1.0,
        ("brand", "x"): 9.0,
        ("type_size", "1", "2"): 9.0,
        ("gone", "x"): 9.0,
    }
    assert preferred(milk=ClassCounters(odd, 9.0, 0.0)) == {}
    assert preferred(soup=ClassCounters({("type_size", "1 l"): 9.0}, 9.0, 0.0)) == {}  # nobody to compare with


def test_what_the_population_weighs_in_each_class() -> None:
    members = {
        "type_size\x1fmilk\x1f1 l": 1.0,
        "type_size\x1fmilk\x1f2 l": 2.0,
        "brand\x1fx": 9.0,
        "type_size\x1feggs\x1f6": 4.0,
    }
    assert class_totals(members, {"type_size"}) == {("type_size", "milk"): 3.0, ("type_size", "eggs"): 4.0}


def test_items_of_other_classes_are_left_out_and_those_of_an_older_layout_stay() -> None:
    liked: dict[Value, float] = {
        ("item", "p1", "milk"): 0.5,
        ("item", "p2", "eggs"): 0.4,
        ("item", "p3"): 0.3,
        ("brand", "x"): 0.2,
    }
    assert of_classes(liked, ("milk",)).keys() == liked.keys() - {("item", "p2", "eggs")}


def test_values_of_one_class_share_functions() -> None:
    """Eight sizes of milk and one of eggs: four functions and one, each with its class."""
    liked: dict[Value, tuple[float, Any]] = {
        ("type_size", "milk", f"{n} l"): ((n + 1) / 10, "profile") for n in range(8)
    }
    liked["type_size", "eggs", "6"] = 0.5, "profile"
    found = strongest(liked, FIELDS, 32, {"type_size"})
    assert [one.values for one in found] == [
        ("milk", "7 l", "6 l"), ("milk", "5 l", "4 l"), ("eggs", "6"), ("milk", "3 l", "2 l"), ("milk", "1 l", "0 l"),
    ]  # fmt: skip
    assert found[0].weight == pytest.approx(0.75)
    assert found[0].filter == {"bool": {"filter": [{"term": {"type": "milk"}}, {"terms": {"size": ["7 l", "6 l"]}}]}}
    assert found[2].filter == {"bool": {"filter": [{"term": {"type": "eggs"}}, {"term": {"size": "6"}}]}}


# --- the classes of a query -------------------------------------------------------------------------------------------


def hit(value: Any) -> dict[str, Any]:
    return {"_id": "1", "fields": {"type": value}}


def test_the_classes_of_the_first_hits_by_their_scores() -> None:
    hits = [
        hit(["milk"]),
        hit(["eggs"]),
        hit(["milk"]),
        {"_id": "2"},
        hit([]),
        hit("text"),
        hit([None]),
        hit([7]),
        hit([True]),
    ]
    assert classes_in(hits, "type", [2.0, 3.0, 2.0, 9.0, 9.0, 9.0, 9.0, 1.0, 0.5]) == ("milk", "eggs", "7", "true")


def test_a_hit_is_of_all_its_classes() -> None:
    """An index shows them sorted; by which of them the document's item counts, its first one, it does not show."""
    hits = [hit(["boots", "shoes"]), hit(["shoes", "sport"]), hit(["gifts"])]
    assert classes_in(hits, "type", [3.0, 2.0, 4.0]) == ("shoes", "gifts", "boots", "sport")
    many = [hit([f"class {n}" for n in range(10_000)])]
    assert len(classes_in(many, "type", [1.0])) == MAX_READ


def test_classes_are_bounded() -> None:
    hits = [hit([f"class {n}"]) for n in range(100)]
    found = classes_in(hits, "type", [float(100 - n) for n in range(100)])
    assert found == tuple(f"class {n}" for n in range(MAX_READ))
    late = [hit(["milk"])] * FIRST_HITS + [hit(["eggs"])]
    assert classes_in(late, "type", [1.0] * len(late)) == ("milk",)


def test_classes_are_forgotten_after_a_while() -> None:
    known = QueryClasses(ttl_s=10.0)
    known.put("a", ("milk",), 0.0)
    known.put("b", (), 0.0)
    assert known.get("a", 9.0) == ("milk",)
    assert known.get("a", 11.0) == known.get("b", 0.0) == ()
