"""A page plan is read back as saved; all other bytes under its key are no plan."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewriter import Settings
from rewriter.boost.functions import Boost
from rewriter.core import Core
from rewriter.explore.plan import COMMON, Drawn, PagePlan, as_text, decode, encode, shown_by, united
from rewriter.explore.plan_memory import PlanKey
from rewriter.explore.shown import with_page
from rewriter.flow.steps import SavePlan
from rewriter.shell.plans import PlanSaver
from rewriter.signals.affinities import clause
from rewriter.signals.memory_store import MemoryStore
from rewriter.signals.store import NewPlan, SavedPlans

PLAN = PagePlan(
    search="0123456789abcdef" * 2,
    boosts=(
        Boost(clause("attribute", ("brand",), ("nike", "ü\u2028"), 0), 0.2, None, "brand", "nike", "profile"),
        Boost(clause("combination", ("type", "brand"), ("shoe", "nike"), 1), 0.5, None, "type_brand", "shoe", "blend"),
        Boost(None, 0.1, {"exp": {"listed": {"origin": "now", "scale": "30d"}}}),
    ),
    max_boost=1.5,
    strategy="rescore",
    template_version="abc",
    source="blend",
    seed=2**53 - 1,
    block=7,
    preference="rewriter1f",
    slots=(Drawn(6, ("i", "x"), 0.25), Drawn(13, None)),
)


@pytest.mark.parametrize("plan", [PLAN, replace(PLAN, boosts=(), slots=(), preference=None, strategy="wrap", block=0)])
def test_a_plan_is_read_back_as_it_was_saved(plan: PagePlan) -> None:
    assert decode(encode(plan)) == plan


def test_a_plan_of_fifty_positions_fits_where_it_is_kept() -> None:
    slots = tuple(
        Drawn(position, ("products-2017", f"product-{position}"), 0.123456789) for position in range(4, 50, 5)
    )
    assert len(encode(replace(PLAN, boosts=PLAN.boosts * 11, slots=slots))) < 16_384


def packed(text: bytes) -> bytes:
    packing = zlib.compressobj(9, zdict=COMMON)
    return packing.compress(text) + packing.flush()


def unpacked(raw: bytes) -> bytes:
    return zlib.decompressobj(zdict=COMMON).decompress(raw)


def written(**changes: Any) -> bytes:
    return packed(json.dumps(json.loads(unpacked(encode(PLAN))) | changes).encode())


def test_a_plan_of_32_boosts_takes_half_a_kilobyte() -> None:
    items = tuple(
        Boost(
            clause("attribute", ("_id",), (f"SKU-{n:08d}",), 0),
            0.25123 * n / 21,
            None,
            "item",
            f"SKU-{n:08d}",
            "profile",
        )
        for n in range(32)
    )
    slots = (Drawn(6, ("products-2026", "SKU-00000099", ""), 0.0625),)
    shown = as_text(with_page(b"", 0, 10, [("products-2026", f"SKU-{n:08d}", "") for n in range(10)]))
    assert len(encode(replace(PLAN, boosts=items, slots=slots, shown=shown))) < 700


def boost(**changes: Any) -> bytes:
    fields = {
        "filter": {"term": {"a": 1}},
        "weight": 0.1,
        "decay": None,
        "field": "",
        "value": "",
        "source": "template",
    }
    return written(boosts=[fields | changes])


def test_a_sound_plan_of_somebody_else_s_is_a_plan() -> None:
    found = decode(boost())
    assert found is not None
    assert found.boosts == (Boost({"term": {"a": 1}}, 0.1),)


@pytest.mark.parametrize(
    "raw",
    [
        None,
        b"",
        b"garbage",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        *(packed(text) for text in (b"", b"garbage", b"\xff\xfe", b"null", b"[]", b"{}", b"[" * 30_000)),
        written(form=1),
        written(search=None),
        written(shown="no base 64!"),
        written(shown="AAA"),
        unpacked(encode(PLAN)),
        packed(b" " * 10_000_000 + b"{}"),
        encode(PLAN)[:-1],
        written(max_boost=10.1),
        written(max_boost=0.9),
        written(max_boost=float("nan")),
        written(max_boost=float("inf")),
        written(strategy="function"),
        written(source="hearsay"),
        written(seed=float("inf")),
        written(seed="x"),
        written(block=-1),
        written(preference={"a": 1}),
        written(slots=[{"position": -1, "key": None}]),
        written(slots=[{"position": 6, "key": ["i"], "propensity": 1.5}]),
        written(slots=[{"position": 6, "key": [1, 2]}]),
        written(slots=5),
        boost(weight=0.51),
        boost(weight=-0.1),
        boost(weight=float("nan")),
        boost(weight="lots"),
        boost(weight=None),
        boost(filter={"script": {"script": "true"}}),
        boost(filter={"bool": {"filter": [{"script": {}}]}}),
        boost(filter={"$affinity": 0}),
        boost(filter="brand"),
        boost(filter=None, decay={"script_score": {"script": "1"}}),
        boost(filter=None, decay={"random_score": {}}),
    ],
)
def test_whatever_is_no_sound_plan_is_no_plan(raw: bytes | None) -> None:
    assert decode(raw) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_a_plan_or_none(raw: bytes) -> None:
    assert decode(raw) is None


@given(st.integers(0, 600), st.integers(0, 255))
def test_a_plan_with_a_wrong_byte_is_sound_or_none(at: int, byte: int) -> None:
    raw = bytearray(encode(PLAN))
    raw[at % len(raw)] = byte
    found = decode(bytes(raw))
    assert found is None or all(0.0 <= one.weight <= found.max_boost - 1.0 <= 9.0 for one in found.boosts)


def on_page(plan: PagePlan, from_: int, letter: str, at_s: float, *slots: Drawn) -> bytes:
    """Return the plan after a page of three hits."""
    shown = with_page(shown_by(plan), from_, 3, [("i", f"{letter}{n}") for n in range(3)])
    return encode(replace(plan, shown=as_text(shown), slots=slots, ranks=((from_ + 3, from_ + 2),), at_s=at_s))


def test_two_pages_of_one_list_are_united() -> None:
    first = decode(on_page(PLAN, 0, "a", 1.0))
    assert first is not None
    two = on_page(first, 3, "b", 2.0, Drawn(5, ("i", "b2"), 0.5))
    three = on_page(first, 6, "c", 2.5, Drawn(5, None), Drawn(8, ("i", "c2"), 0.5))
    both = [decode(united(one, other)) for one, other in ((two, three), (three, two))]
    assert both[0] == both[1]
    assert both[0] is not None
    keys = [("i", f"{letter}{n}") for letter in "abc" for n in range(3)]
    assert shown_by(both[0]) == with_page(b"", 0, 9, keys)
    assert both[0].slots == (Drawn(5, ("i", "b2"), 0.5), Drawn(8, ("i", "c2"), 0.5))
    assert both[0].ranks == ((6, 5), (9, 8))
    assert united(united(two, three), three) == united(two, three)


@pytest.mark.parametrize("part", [{"seed": 1}, {"search": "f" * 32}])
def test_of_two_lists_the_newer_one_remains(part: dict[str, Any]) -> None:
    one, other = on_page(PLAN, 0, "a", 1.0), on_page(replace(PLAN, **part), 0, "b", 2.0)
    assert united(one, other) == united(other, one) == other
    assert united(one, b"no plan") == one


class Contended(MemoryStore):
    """A store in which another process writes a page of the list before each of the first `pages` attempts."""

    def __init__(self, *pages: bytes) -> None:
        super().__init__()
        self._pages = list(pages)

    def save_plans(self, plans: Any) -> SavedPlans:
        if self._pages:
            super().save_plans([NewPlan(plans[0].key, self._pages.pop(0), 60)])
        return super().save_plans(plans)


def test_a_plan_that_another_process_changes_all_the_time_is_kept_in_memory_and_counted() -> None:
    first = decode(on_page(PLAN, 0, "a", 1.0))
    assert first is not None
    key, ours = PlanKey("k", PLAN.search), on_page(first, 3, "b", 2.0)
    theirs = [on_page(first, at, letter, 2.0 + at) for at, letter in ((6, "c"), (9, "d"))]
    for busy, dropped in ((theirs[:1], 0), (theirs, 1)):
        core, store = Core(Settings(), {}), Contended(*busy)
        saver = PlanSaver(core, store, lambda: True)
        saver.save(SavePlan(key, lambda: ours, True, 0.0, encode(first)))
        saver._save()
        assert saver.dropped == dropped
        kept = core.plans.get(key, 0.0)
        assert kept == united(ours, theirs[0])
        assert core.plans.unstored(key, 0.0) == (kept if dropped else None)
        assert store._found("k", b"") == (theirs[1] if dropped else kept)


def test_a_list_that_has_the_key_s_turn_keeps_it_unless_it_is_older() -> None:
    """Lists of one subject share few keys of a store."""
    for at_s, has_its_turn in ((1.0, True), (3.0, False)):
        first = on_page(PLAN, 0, "a", 1.0)
        other, ours = on_page(replace(PLAN, search="e" * 32), 0, "b", at_s), on_page(PLAN, 3, "a", 2.0)
        core, store = Core(Settings(), {}), Contended(other)
        saver = PlanSaver(core, store, lambda: True)
        saver.save(SavePlan(PlanKey("k", PLAN.search), lambda ours=ours: ours, True, 0.0, first))  # type: ignore[misc]
        saver._save()
        assert store._found("k", b"") == (ours if has_its_turn else other)
        assert core.plans.get(PlanKey("k", PLAN.search), 0.0) == ours
