"""Forward decay: positive weights only grow, updates commute, ageing composes and keeps the order."""

from __future__ import annotations

from math import inf, nan
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewriter.signals.counters import (
    MAX_MEMBER_BYTES,
    Counters,
    HalfLives,
    Observation,
    Value,
    aged,
    counted,
    growth,
    member,
    sound,
    value_of,
)

HOUR_S = 3_600.0
T0_S = 1_767_225_600.0
HALF_LIVES = HalfLives(24 * HOUR_S, {"item": 72 * HOUR_S})
NIKE, PUMA, SHOE = ("brand", "nike"), ("brand", "puma"), ("item", "B0017")

times_s = st.floats(T0_S, T0_S + 240 * HOUR_S)
values = st.sampled_from([NIKE, PUMA, SHOE, ("type×maker", "shoe", "nike")])
observations = st.builds(
    Observation, st.lists(values, min_size=1, max_size=3, unique=True).map(tuple), st.floats(0.01, 100), times_s
)


def close(one: Counters, other: Counters) -> bool:
    """Whether two counters say the same, up to rounding."""
    weights = pytest.approx(dict(other.weights), rel=1e-9, abs=0)
    totals = pytest.approx(dict(other.totals), rel=1e-9, abs=0)
    return one.landmark_s == other.landmark_s and dict(one.weights) == weights and dict(one.totals) == totals


def test_a_count_halves_in_a_half_life_of_its_field() -> None:
    bought = counted([Observation((NIKE, SHOE), 1.0, T0_S)], HALF_LIVES, T0_S)
    later = aged(bought, T0_S + 72 * HOUR_S, HALF_LIVES)
    assert later.weights == {NIKE: pytest.approx(1 / 8), SHOE: pytest.approx(1 / 2)}
    assert later.totals == {"brand": pytest.approx(1 / 8), "item": pytest.approx(1 / 2)}


def test_counts_carry_the_latest_event_and_the_number_of_events() -> None:
    found = counted([Observation((NIKE,), 1.0, T0_S + 9), Observation((PUMA,), 2.0, T0_S + 3)], HALF_LIVES, T0_S)
    assert (found.last_event_s, found.events) == (T0_S + 9, 2.0)


def test_only_the_heaviest_are_kept_but_all_are_in_the_totals() -> None:
    seen = [Observation((("brand", name),), weight, T0_S) for name, weight in (("a", 1.0), ("b", 3.0), ("c", 2.0))]
    found = counted(seen, HALF_LIVES, T0_S, keep=2)
    assert list(found.weights) == [("brand", "b"), ("brand", "c")]
    assert found.totals == {"brand": 6.0}


@given(st.lists(observations, max_size=12), st.randoms(use_true_random=False), times_s)
def test_updates_commute(seen: list[Observation], random: Random, landmark_s: float) -> None:
    shuffled = list(seen)
    random.shuffle(shuffled)
    assert close(counted(seen, HALF_LIVES, landmark_s), counted(shuffled, HALF_LIVES, landmark_s))


@given(st.lists(observations, max_size=8), times_s, times_s, times_s)
def test_aging_composes(seen: list[Observation], landmark_s: float, then_s: float, now_s: float) -> None:
    found = counted(seen, HALF_LIVES, landmark_s)
    assert close(aged(aged(found, then_s, HALF_LIVES), now_s, HALF_LIVES), aged(found, now_s, HALF_LIVES))


@given(st.lists(observations, max_size=8), times_s, times_s)
def test_it_does_not_matter_where_the_landmark_lies(seen: list[Observation], one_s: float, other_s: float) -> None:
    moved = aged(counted(seen, HALF_LIVES, one_s), other_s, HALF_LIVES)
    assert close(moved, counted(seen, HALF_LIVES, other_s))


@given(st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=20, unique=True), times_s)
def test_aging_keeps_the_order_of_a_field(weights: list[float], now_s: float) -> None:
    before = Counters({("brand", str(n)): weight for n, weight in enumerate(weights)}, {}, T0_S)
    after = aged(before, now_s, HALF_LIVES)
    ranked = sorted(before.weights, key=before.weights.__getitem__)
    assert [after.weights[value] for value in ranked] == sorted(after.weights.values())


def test_the_top_by_rank_is_the_top_by_weight_while_the_landmark_is_moved_in_time() -> None:
    quarter_s = HALF_LIVES.shortest_s / 4
    drift = growth(T0_S, T0_S + quarter_s, HALF_LIVES.of("brand")) / growth(
        T0_S, T0_S + quarter_s, HALF_LIVES.of("item")
    )
    assert 1 < drift <= 2**0.25


@pytest.mark.parametrize("years", [-3000, 3000])
def test_no_distance_in_time_leaves_what_a_double_holds(years: int) -> None:
    assert 0 < growth(T0_S, T0_S + years * 365.25 * 24 * HOUR_S, 60.0) < inf


@pytest.mark.parametrize("value", [NIKE, ("type×maker", "schuh", "ß"), ("brand", '"}{{ 7*7 }}\n\0')])
def test_a_value_survives_being_a_member(value: Value) -> None:
    raw = member(value)
    assert raw is not None
    assert value_of(raw) == value


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(("brand", "a\x1fb"), id="would come back as a combination"),
        pytest.param(("brand",), id="no value"),
        pytest.param(("brand", ""), id="an empty value"),
        pytest.param(("brand", "\ud83d"), id="half of a surrogate pair"),
        pytest.param(("brand", "x" * MAX_MEMBER_BYTES), id="too long"),
    ],
)
def test_a_value_that_would_not_come_back_is_no_member(value: Value) -> None:
    assert member(value) is None


@pytest.mark.parametrize("number", [nan, inf, -inf, -1e-9, 1e101, 10**400, "x", b"\xff", b"", None, [], "1e999"])
def test_what_is_no_weight_is_none(number: object) -> None:
    assert sound(number) is None


@pytest.mark.parametrize(("number", "weight"), [(0, 0.0), (b"1.5", 1.5), ("2e3", 2000.0), (1e100, 1e100)])
def test_weights_are_numbers_or_their_text(number: object, weight: float) -> None:
    assert sound(number) == weight
