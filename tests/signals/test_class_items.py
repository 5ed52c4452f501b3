"""Items of all classes: what a first search reads of counters by class, whatever bytes another program wrote."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from rewriter.signals.class_counters import ClassCounters
from rewriter.signals.class_items import HASH_FIELDS, MAX_SEEN, EveryClass, class_names, with_items
from rewriter.signals.class_layout import NAMES, digest_of, packed_classes
from rewriter.signals.counters import Counters
from rewriter.signals.repeats import USES
from tests.signals.test_class_layout import COUNTERS, MILK, PARTS, read_again

DAY_S = 86_400.0
KNOWN = EveryClass(DAY_S, class_names([f"{USES}\x1fmilk", f"{USES}\x1ftea", "brand\x1fb1"]))


def read(classes: dict[str, ClassCounters], every: EveryClass = KNOWN, limit: int = 256, **more: float) -> Counters:
    values = packed_classes(classes)
    own = Counters({("brand", "b1"): 5.0}, {"brand": 5.0}, more.get("landmark_s", 256e6))
    return with_items(own, [values.get(name) for name in HASH_FIELDS], every, limit)


@given(st.dictionaries(PARTS, COUNTERS, max_size=8))
def test_the_items_are_those_that_each_class_has(classes: dict[str, ClassCounters]) -> None:
    every = EveryClass(1e12, {digest_of(name): name for name in classes})
    found = read(classes, every, limit=10_000)
    wanted = {
        (*value, name)
        for name, own in read_again(classes).items()
        for value in own.weights
        if value[0] == "item" and len(value) == 2
    }
    assert {value for value in found.weights if value[0] == "item"} == wanted


def test_the_heaviest_of_all_classes_join_the_counters_as_of_their_landmark() -> None:
    tea = ClassCounters({("item", "t1"): 8.0, ("size", "s"): 9.0}, 8.0, 256e6 - 2 * DAY_S)
    found = read({"milk": MILK, "tea": tea, "rare": ClassCounters({("item", "r"): 1.5}, 1.5, 256e6)}, limit=4)
    order = [("brand", "b1"), ("item", "17", "milk"), ("item", "t1", "tea"), ("item", "r")]
    assert sorted(found.weights) == sorted(order)
    assert list(found.weights.values()) == sorted(found.weights.values(), reverse=True)
    assert abs(found.weights["item", "t1", "tea"] - 2.0) < 0.02


def test_of_a_weight_in_both_layouts_the_larger_counts() -> None:
    own = Counters({("item", "17", "milk"): 1.0, ("item", "p1", "milk"): 4.0}, {}, 256e6)
    values = packed_classes({"milk": MILK})
    found = with_items(own, [values.get(name) for name in HASH_FIELDS], KNOWN, 9).weights
    assert (round(found["item", "17", "milk"], 1), found["item", "p1", "milk"]) == (2.0, 4.0)


def test_a_search_looks_at_a_bounded_number_of_counters() -> None:
    many = {
        f"c{n}": ClassCounters({("item", f"{n}-{i}"): 1.0 + i for i in range(60)}, 1.0, 256e6, float(n))
        for n in range(300)
    }
    found = [value for value in read(many, limit=100_000).weights if value[0] == "item"]
    assert MAX_SEEN - 60 <= len(found) <= MAX_SEEN + 60


def test_no_bytes_raise() -> None:
    draw = random.Random(1)
    values = packed_classes({"milk": MILK, "tea": MILK})
    for _ in range(3_000):
        changed = []
        for name in HASH_FIELDS:
            raw = bytearray(values.get(name) or b"")
            if raw and name != NAMES:
                for _ in range(draw.randrange(4)):
                    raw[draw.randrange(1, len(raw))] = draw.randrange(256)
                del raw[draw.randrange(1, len(raw) + 1) :]
            changed.append(bytes(raw) or None)
        found = with_items(Counters({}, {}, 256e6), changed, KNOWN, 256)
        assert all(part and "\x1f" not in part for value in found.weights for part in value)
    assert with_items(Counters({}, {}, 0.0), (), KNOWN, 9).weights == {}
