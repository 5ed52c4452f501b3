"""Slots: their positions, and that a draw's recorded propensity is its frequency."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewriter.explore.slots import Candidate, block_size, draws, slot_positions, uniform

SHARES = st.floats(0.1, 0.2)


@pytest.mark.parametrize(("share", "block"), [(0.0, 0), (0.1, 10), (0.125, 8), (0.15, 7), (0.2, 5)])
def test_one_slot_per_block(share: float, block: int) -> None:
    assert block_size(share) == block


@pytest.mark.parametrize(
    ("from_", "to", "block", "positions"),
    [
        (0, 10, 7, [6]),
        (0, 20, 7, [6, 13]),
        (0, 6, 7, []),
        (6, 7, 7, [6]),
        (7, 13, 7, []),
        (10, 20, 7, [13]),
        (0, 50, 10, [9, 19, 29, 39, 49]),
        (0, 10, 5, [4, 9]),
        (0, 10, 0, []),
    ],
)
def test_a_block_s_last_position_is_its_slot(from_: int, to: int, block: int, positions: list[int]) -> None:
    assert list(slot_positions(from_, to, block)) == positions


@given(SHARES, st.integers(0, 200))
def test_any_ten_positions_hold_one_or_two_slots(share: float, start: int) -> None:
    assert len(slot_positions(start, start + 10, block_size(share))) in (1, 2)


@given(SHARES, st.lists(st.integers(1, 30), min_size=1, max_size=20))
def test_pages_of_any_size_have_the_slots_of_the_whole_list(share: float, sizes: list[int]) -> None:
    found: list[int] = []
    start = 0
    for size in sizes:
        found += slot_positions(start, start + size, block_size(share))
        start += size
    assert found == list(slot_positions(0, start, block_size(share)))


# --- draws ------------------------------------------------------------------------------------------------------------

POOL = [Candidate("a", 4.0), Candidate("b", 2.0), Candidate("c", 1.0), Candidate("d", 1.0)]
MIXED = [Candidate("a", 2.0, "shoe"), Candidate("b", 2.0, "hat"), Candidate("c", 2.0, "shoe"), Candidate("d", 2.0)]
SEEDS = range(20_000)


@pytest.mark.parametrize(
    ("pool", "shown", "expected"),
    [
        (POOL, [], {"a": 0.5, "b": 0.25, "c": 0.125, "d": 0.125}),
        (MIXED, [], {"a": 0.25, "b": 0.25, "c": 0.25, "d": 0.25}),
        (MIXED, ["shoe"], {"a": 1 / 6, "b": 1 / 3, "c": 1 / 6, "d": 1 / 3}),
        (MIXED, ["shoe", "shoe", "hat", None], {"a": 0.2, "b": 0.3, "c": 0.2, "d": 0.6}),
        ([Candidate("a", 2.0, ""), Candidate("b", 2.0)], ["", None], {"a": 1 / 3, "b": 2 / 3}),
    ],
    ids=[
        "by score",
        "alike",
        "what the page lacks comes first",
        "the more of it, the less",
        "an empty category is one",
    ],
)
def test_propensities_are_frequencies(pool: list[Candidate], shown: list[str], expected: dict[str, float]) -> None:
    found = [draw for seed in SEEDS for draw in draws([6], pool, shown, seed)]
    frequency = {key: count / len(SEEDS) for key, count in Counter(draw.key for draw in found).items()}
    recorded = {draw.key: draw.propensity for draw in found}
    assert frequency == pytest.approx(recorded, abs=0.012)
    total = sum(expected.values())
    assert recorded == pytest.approx({key: share / total for key, share in expected.items()})


def test_the_second_draw_s_propensity_is_given_the_first() -> None:
    pairs = [draws([6, 13], POOL, [], seed) for seed in SEEDS]
    of = Counter((first.key, second.key) for first, second in pairs)
    firsts = Counter(first.key for first, _ in pairs)
    given_first = {(first.key, second.key): second.propensity for first, second in pairs}
    assert {pair: of[pair] / firsts[pair[0]] for pair in of} == pytest.approx(given_first, abs=0.025)
    assert given_first["a", "b"] == 0.5


def test_a_drawn_category_counts_as_shown() -> None:
    for first, second in (draws([6, 13], MIXED, [], seed) for seed in range(100)):
        if first.key == "a":
            assert second.propensity == pytest.approx(0.2 if second.key == "c" else 0.4)


@given(
    st.lists(st.floats(0.0, 1e30), max_size=12),
    st.lists(st.integers(0, 200), unique=True, max_size=12),
    st.integers(0, 2**53 - 1),
)
def test_whatever_the_pool_no_hit_is_drawn_twice_and_none_without_a_score(
    scores: list[float], positions: list[int], seed: int
) -> None:
    pool = [Candidate(number, score) for number, score in enumerate(scores)]
    found = draws(sorted(positions), pool, [], seed)
    keys = [draw.key for draw in found]
    assert len(set(keys)) == len(keys) == min(len(positions), sum(score > 0.0 for score in scores))
    assert all(scores[int(str(key))] > 0.0 for key in keys)
    assert [draw.position for draw in found] == sorted(positions)[: len(found)]
    assert all(0.0 <= draw.propensity <= 1.0 for draw in found)


def test_a_draw_can_be_repeated_from_its_seed() -> None:
    assert draws([6, 13], POOL, [], 7) == draws([6, 13], POOL, [], 7)
    assert uniform(7, 6) == 0.34490795549403896


def test_the_last_of_the_pool_is_certain() -> None:
    (draw,) = draws([6, 13, 20], [Candidate("a", 0.1)], [], 3)
    assert (draw.position, draw.propensity) == (6, 1.0)
