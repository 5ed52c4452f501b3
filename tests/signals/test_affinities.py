"""Affinities: lift against the population, levels, the blend, and hostile counters."""

from __future__ import annotations

from math import log
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewriter.index_facts import TermRule
from rewriter.settings import FieldSettings, PolicySettings, SignalSettings
from rewriter.signals.affinities import (
    EMPTY_POPULATION,
    Population,
    blended,
    clause,
    guard_of,
    preferences,
    profile_half_lives,
    session_part,
    signal_fields,
    strongest,
    united,
)
from rewriter.signals.counters import Counters, HalfLives, Value
from rewriter.signals.kinds.kind import LEVELS, SignalField, levels
from rewriter.signals.kinds.registry import every_kind
from rewriter.signals.repeats import AGAIN, USES, RepeatGuard

DAY_S = 86_400.0
BRAND = SignalField(every_kind()["attribute"], ("brand",), scale=0.3, pseudo_count=10.0)
TYPE_BRAND = SignalField(every_kind()["combination"], ("type", "brand"), scale=0.5, pseudo_count=5.0)
ITEM = SignalField(every_kind()["item"], ("_id",), scale=1.2, pseudo_count=2.0)
FIELDS = {"brand": BRAND, "type_brand": TYPE_BRAND, "item": ITEM}
AGAIN_AND_AGAIN = RepeatGuard({}, {}, stated=1.0)
EVERYBODY = Population({("brand", "nike"): 100.0, ("brand", "puma"): 900.0}, {"brand": 1000.0, "type_brand": 1000.0})


def counters(
    weights: dict[Value, float], *, totals: dict[str, float] | None = None, landmark_s: float = 0.0
) -> Counters:
    summed: dict[str, float] = {}
    for value, weight in weights.items():
        summed[value[0]] = summed.get(value[0], 0.0) + weight
    return Counters(weights, summed if totals is None else totals, landmark_s)


def liked(
    weights: dict[Value, float], population: Population = EVERYBODY, now_s: float = 0.0, **more: Any
) -> dict[Value, float]:
    return preferences(counters(weights, **more), HalfLives(DAY_S), FIELDS, population, AGAIN_AND_AGAIN, 4.0, now_s)


# --- lift -------------------------------------------------------------------------------------------------------------


def test_an_attribute_s_affinity_is_the_log_of_its_shrunk_lift() -> None:
    """8 of 10 purchases, where everybody's share is 10 %: (8 / 0.1 + 10) / (10 + 10) = 4.5."""
    found = liked({("brand", "nike"): 8.0, ("brand", "puma"): 2.0})
    assert found == {("brand", "nike"): pytest.approx(log(4.5) / 4.0)}


def test_what_everybody_likes_as_much_is_no_preference() -> None:
    assert liked({("brand", "nike"): 1.0, ("brand", "puma"): 9.0}) == {}


def test_one_purchase_says_less_than_ten() -> None:
    one, ten = (liked({("brand", "nike"): count})[("brand", "nike")] for count in (1.0, 10.0))
    assert 0.0 < one < ten


def test_totals_count_what_was_pruned_since() -> None:
    known, pruned = (liked({("brand", "nike"): 8.0}, totals={"brand": total}) for total in (8.0, 16.0))
    assert pruned[("brand", "nike")] < known[("brand", "nike")]


def test_an_affinity_saturates_at_one() -> None:
    assert liked({("type_brand", "shoe", "rare"): 1e9}) == {("type_brand", "shoe", "rare"): 1.0}


def test_an_item_needs_nobody_to_be_compared_with() -> None:
    assert liked({("item", "b1"): 2.0, ("brand", "nike"): 9.0}, EMPTY_POPULATION) == {("item", "b1"): 0.5}


def test_counts_decay_before_they_are_compared() -> None:
    assert liked({("item", "b1"): 4.0}, now_s=DAY_S) == {("item", "b1"): 0.5}


def test_a_value_that_nobody_was_seen_with_counts_as_seen_once() -> None:
    found = liked({("brand", "new"): 1.0}, Population({}, {"brand": 100.0}))
    assert found == {("brand", "new"): pytest.approx(log((1.0 / 0.01 + 10.0) / 11.0) / 4.0)}


@pytest.mark.parametrize(
    "value", [("colour", "red"), ("brand",), ("brand", "nike", "shoe"), ("type_brand", "shoe"), ("item", "a", "b", "c")]
)
def test_values_that_do_not_fit_their_field_are_ignored(value: Value) -> None:
    assert liked({value: 5.0, ("item", "b1"): 2.0}) == {("item", "b1"): 0.5}


def test_values_that_the_server_would_refuse_are_ignored_one_by_one() -> None:
    policy = PolicySettings.model_validate(
        {"index": "*", "item_field": "sku", "fields": {"fit": {"of": ["type", "size"]}}}
    )
    fields = signal_fields(
        policy, rules={name: TermRule(((kind, None),), False) for name, kind in (("sku", "integer"), ("size", "byte"))}
    )
    weights: dict[Value, float] = {
        ("item", "7"): 2.0,
        ("item", "seven"): 2.0,
        ("fit", "shoe", "42"): 2.0,
        ("fit", "shoe", "4200"): 2.0,
    }
    population = Population({}, {"fit": 100.0})
    found = preferences(counters(weights), HalfLives(DAY_S), fields, population, AGAIN_AND_AGAIN, 4.0, 0.0)
    assert found.keys() == {("item", "7"), ("fit", "shoe", "42")}


def test_the_repeat_guard_multiplies_items_by_their_class_and_nothing_else() -> None:
    """Milk is bought again and again, books never, cards now and then; a class that few used is judged as the catalogue."""
    shares = {"milk": 0.8, "books": 0.0, "cards": 0.15}
    weights: dict[Value, float] = {(USES, name): 1e6 for name in shares}
    weights |= {(AGAIN, name): 1e6 * share for name, share in shares.items()}
    guard = RepeatGuard(weights, {USES: 3e6, AGAIN: 0.9e6})
    items: dict[Value, float] = {("item", name[0], name): 2.0 for name in (*shares, "new")}
    seen = counters(items | {("item", "old layout"): 2.0, ("brand", "nike"): 8.0, ("brand", "puma"): 2.0})
    found = preferences(seen, HalfLives(DAY_S), FIELDS, EVERYBODY, guard, 4.0, 0.0)
    assert found == {
        ("brand", "nike"): pytest.approx(log(4.5) / 4.0),
        ("item", "m", "milk"): 0.5,
        ("item", "c", "cards"): pytest.approx(0.25, rel=1e-3),
        ("item", "n", "new"): 0.5,
        ("item", "old layout"): pytest.approx(0.5 * 2 / 3),  # 0.3 over all classes together
    }


WEIGHTS = st.floats(min_value=0.0, max_value=1e100)
NAMES = st.text(max_size=3)
VALUES = st.one_of(
    st.tuples(st.just("brand"), NAMES),
    st.tuples(st.just("item"), NAMES),
    st.tuples(st.just("type_brand"), NAMES, NAMES),
)
HOSTILE = st.dictionaries(VALUES, WEIGHTS, max_size=20)


@given(
    HOSTILE,
    st.dictionaries(st.sampled_from(["brand", "item", "type_brand"]), WEIGHTS),
    st.builds(Population, HOSTILE, st.fixed_dictionaries({"brand": WEIGHTS, "type_brand": WEIGHTS})),
    st.floats(min_value=-1e12, max_value=1e12),
)
def test_whatever_a_store_holds_an_affinity_lies_in_0_to_1(
    weights: dict[Value, float], totals: dict[str, float], population: Population, landmark_s: float
) -> None:
    found = liked(weights, population, totals=totals, landmark_s=landmark_s)
    assert all(0.0 < affinity <= 1.0 for affinity in found.values())
    assert found.keys() <= weights.keys()


@given(st.integers(1, 50), st.integers(1, 50), st.integers(0, 50))
def test_more_of_a_value_is_never_a_smaller_affinity(count: int, more: int, other: int) -> None:
    rest: dict[Value, float] = {("brand", "puma"): float(other)} if other else {}
    before, after = (
        liked({("brand", "nike"): float(n)} | rest).get(("brand", "nike"), 0.0) for n in (count, count + more)
    )
    assert after >= before


# --- blend ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("events", "alpha"), [(0.0, 0.0), (5.0, 0.25), (1e9, 0.5)])
def test_a_session_s_part_grows_with_its_events(events: float, alpha: float) -> None:
    assert session_part(events, SignalSettings(blend_max=0.5, blend_half_events=5.0)) == pytest.approx(alpha)


NIKE, PUMA = ("brand", "nike"), ("brand", "puma")


@pytest.mark.parametrize(
    ("session", "profile", "alpha", "expected"),
    [
        ({}, {NIKE: 0.8}, 0.0, {NIKE: (0.8, "profile")}),
        ({NIKE: 0.8}, {}, 0.25, {NIKE: (0.2, "session")}),
        ({NIKE: 0.8}, {NIKE: 0.4}, 0.25, {NIKE: (0.5, "blend")}),
        ({PUMA: 0.8}, {NIKE: 0.4}, 0.5, {PUMA: (0.4, "session"), NIKE: (0.2, "profile")}),
        ({PUMA: 0.8}, {NIKE: 0.4}, 0.0, {NIKE: (0.4, "profile")}),
    ],
)
def test_session_and_profile_are_blended_by_alpha(
    session: dict[Value, float], profile: dict[Value, float], alpha: float, expected: dict[Value, Any]
) -> None:
    found = blended(session, profile, alpha)
    assert {value: (round(weight, 9), source) for value, (weight, source) in found.items()} == expected


# --- what goes into the body ------------------------------------------------------------------------------------------


def strongest_of(weights: dict[Value, float], limit: int = 32, source: Any = "profile") -> list[tuple[Any, ...]]:
    found = strongest({value: (weight, source) for value, weight in weights.items()}, FIELDS, limit)
    return [(one.number, one.field, one.values, round(one.weight, 9)) for one in found]


def test_the_strongest_boost_comes_first() -> None:
    """Weight times scale: 0.2 · 1.2 is more than 0.5 · 0.3."""
    found = strongest_of({("brand", "nike"): 0.5, ("item", "b1"): 0.2, ("type_brand", "shoe", "nike"): 0.4})
    assert found == [(0, "item", ("b1",), 0.2), (1, "type_brand", ("shoe", "nike"), 0.4), (2, "brand", ("nike",), 0.5)]


def test_values_of_one_field_go_in_levels_each_with_its_mean() -> None:
    found = strongest_of({("brand", name): weight for name, weight in zip("abcdefgh", range(8, 0, -1), strict=True)})
    assert [(values, weight) for _, _, values, weight in found] == [
        (("a", "b"), 7.5),
        (("c", "d"), 5.5),
        (("e", "f"), 3.5),
        (("g", "h"), 1.5),
    ]


def test_the_limit_keeps_the_strongest() -> None:
    found = strongest_of({("type_brand", "shoe", f"b{n}"): n / 10 for n in range(1, 6)}, limit=2)
    assert [values for _, _, values, _ in found] == [("shoe", "b5"), ("shoe", "b4")]


def test_a_field_without_scale_boosts_nothing() -> None:
    assert (
        strongest({NIKE: (1.0, "profile")}, {"brand": SignalField(every_kind()["attribute"], ("brand",), 0.0, 1.0)}, 32)
        == ()
    )


def test_a_level_of_several_sources_is_a_blend() -> None:
    weights: dict[Value, Any] = {
        ("item", "a"): (0.9, "session"),
        ("item", "b"): (0.8, "session"),
        ("item", "c"): (0.7, "session"),
        ("item", "d"): (0.6, "profile"),
        ("item", "e"): (0.5, "profile"),
    }
    assert [(one.values, one.source) for one in strongest(weights, FIELDS, 32)] == [
        (("a",), "session"),
        (("b",), "session"),
        (("c", "d"), "blend"),
        (("e",), "profile"),
    ]


@given(st.lists(st.integers(), max_size=100))
def test_levels_are_runs_of_nearly_equal_length(ranked: list[int]) -> None:
    runs = levels(ranked)
    assert [one for run in runs for one in run] == ranked
    assert len(runs) == min(LEVELS, len(ranked))
    assert not runs or max(map(len, runs)) - min(map(len, runs)) <= 1


@pytest.mark.parametrize(
    ("kind", "fields", "values", "expected"),
    [
        ("item", ("_id",), ("b1",), {"term": {"_id": "b1"}}),
        ("attribute", ("brand",), ("nike", "puma"), {"terms": {"brand": ["nike", "puma"]}}),
        (
            "combination",
            ("type", "brand"),
            ("shoe", "nike"),
            {"bool": {"filter": [{"term": {"type": "shoe"}}, {"term": {"brand": "nike"}}]}},
        ),
    ],
)
def test_the_clause_that_finds_what_is_liked(
    kind: Any, fields: tuple[str, ...], values: tuple[str, ...], expected: dict[str, Any]
) -> None:
    assert clause(kind, fields, values, 3) == expected
    assert clause(kind, fields, values, 3).text == '{"$affinity": 3}'


# --- what a policy says -----------------------------------------------------------------------------------------------

POLICY = PolicySettings(
    index=("*",),
    fields={
        "brand": FieldSettings(half_life_s=DAY_S),
        "type_brand": FieldSettings(of=("type", "brand"), pseudo_count=7.0),
    },
    item_half_life_s=2 * DAY_S,
)


@pytest.mark.parametrize(
    ("dead", "left"),
    [
        (set(), {"brand", "type_brand", "item"}),
        ({"type"}, {"brand", "item"}),
        ({"brand"}, {"item"}),
        ({"_id"}, {"brand", "type_brand"}),
    ],
)
def test_a_field_of_which_a_document_field_is_dead_is_left_out(dead: set[str], left: set[str]) -> None:
    assert signal_fields(POLICY, frozenset(dead)).keys() == left


def test_a_field_s_own_constants_and_those_of_its_kind() -> None:
    found = signal_fields(POLICY)
    assert {name: (field.kind.name, field.pseudo_count) for name, field in found.items()} == {
        "brand": ("attribute", 100.0),
        "type_brand": ("combination", 7.0),
        "item": ("item", 2.0),
    }


def test_half_lives_are_the_fields_own_else_the_profile_s() -> None:
    half_lives = profile_half_lives([POLICY], SignalSettings(profile_half_life_s=9 * DAY_S))
    assert [half_lives.of(name) / DAY_S for name in ("brand", "item", "type_brand")] == [1.0, 2.0, 9.0]


# --- partials ---------------------------------------------------------------------------------------------------------


def test_partials_of_several_partitions_add_up_at_one_time() -> None:
    old = Counters({NIKE: 4.0}, {"brand": 4.0}, landmark_s=0.0, last_event_s=5.0, events=2.0)
    new = Counters({NIKE: 1.0, PUMA: 1.0}, {"brand": 2.0}, landmark_s=DAY_S, last_event_s=9.0, events=1.0)
    whole = united([old, None, new], HalfLives(DAY_S), now_s=DAY_S)
    assert whole == Counters({NIKE: 3.0, PUMA: 1.0}, {"brand": 4.0}, DAY_S, 9.0, 3.0)


@pytest.mark.parametrize("partials", [[], [None, None]])
def test_no_partials_are_no_counters(partials: list[None]) -> None:
    assert united(partials, HalfLives(DAY_S), 0.0) is None


def test_searches_of_one_population_share_a_guard() -> None:
    """Each population has guards of its own, and a policy that states a share has another than one that does not."""
    weights: dict[Value, float] = {(USES, "milk"): 9e3, (AGAIN, "milk"): 6e3, (USES, "pans"): 9e3}
    known = Population(weights, {USES: 1.8e4, AGAIN: 6e3})
    policy, stating = PolicySettings(index=("shop",)), PolicySettings(index=("shop",), item_repeat_share=0.9)
    guard = guard_of(known, policy)
    assert guard.strength("milk") > guard.strength("pans")
    assert guard_of(known, policy) is guard
    assert guard_of(known, stating).strength("pans") == 1.0
    newer = Population({**weights, (AGAIN, "pans"): 9e3}, {USES: 1.8e4, AGAIN: 1.5e4})
    assert guard_of(newer, policy).strength("pans") > guard.strength("pans")
