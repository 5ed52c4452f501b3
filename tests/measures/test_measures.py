"""Diversity measures against brute force and against scipy, numpy and plain definitions."""

from __future__ import annotations

import re
from itertools import combinations, product
from math import log
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rewriter.measures.ages import age_days
from rewriter.measures.bubble import page_distance, rank_biased_overlap, slope, weekly_entropies
from rewriter.measures.diversity import (
    catalogue_coverage,
    coverage_at,
    entropy,
    gini,
    intra_list_diversity,
    item_ages,
    known_share,
    normalized_entropy,
    rarefied,
)

PAGES = st.lists(st.sampled_from("abcdefg"), min_size=2, max_size=30)


@given(PAGES)
def test_entropy_is_scipy_s(page: list[str]) -> None:
    counts = [page.count(one) for one in set(page)]
    assert entropy(page) == pytest.approx(stats.entropy(counts), abs=1e-12)
    assert normalized_entropy(page) == pytest.approx(stats.entropy(counts) / log(len(page)), abs=1e-12)


def test_what_is_unknown_is_left_out_and_said() -> None:
    page = ["a", None, "b", None]
    assert normalized_entropy(page) == 1.0
    assert coverage_at(page, 2) == 1
    assert known_share(page) == 0.5
    assert (entropy([None]), normalized_entropy(["a"]), known_share([]), item_ages([None])) == (None, None, None, None)
    assert intra_list_diversity([frozenset("a"), None]) is None


@given(st.lists(st.integers(0, 50), min_size=1, max_size=12), st.integers(0, 5))
def test_gini_is_half_the_mean_difference_over_the_mean(counts: list[int], never: int) -> None:
    every = [*counts, *[0] * never]
    found = gini(counts, len(every))
    if not sum(counts):
        assert found is None
        return
    differences = sum(abs(one - other) for one, other in product(every, every)) / len(every) ** 2
    assert found == pytest.approx(differences / (2 * sum(every) / len(every)), abs=1e-12)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=4), st.data())
def test_rarefied_by_every_draw(counts: list[int], data: st.DataObject) -> None:
    impressions = [item for item, count in enumerate(counts) for _ in range(count)]
    hits = data.draw(st.integers(0, min(4, len(impressions))))
    draws = [len(set(draw)) for draw in combinations(impressions, hits)]
    assert rarefied(counts, hits) == pytest.approx(np.mean(draws), abs=1e-9)
    with pytest.raises(ValueError, match="cannot be drawn"):
        rarefied(counts, len(impressions) + 1)


def test_rarefied_of_many_impressions_is_scipy_s() -> None:
    counts = [40_000, 900, 7, 1]
    expected = sum(1.0 - stats.hypergeom.pmf(0, sum(counts), count, 5_000) for count in counts)
    assert rarefied(counts, 5_000) == pytest.approx(expected, rel=1e-6)


def test_a_catalogue_that_is_too_small_is_refused() -> None:
    assert catalogue_coverage({"a": 3, "b": 0}, 4) == 0.25
    with pytest.raises(ValueError, match="a catalogue of 1 items"):
        catalogue_coverage({"a": 1, "b": 1}, 1)
    with pytest.raises(ValueError, match="a catalogue of 1 items"):
        gini([1, 1], 1)


@given(st.lists(st.frozensets(st.integers(0, 5), max_size=4), min_size=2, max_size=8))
def test_intra_list_diversity_by_brute_force(hits: list[frozenset[int]]) -> None:
    pairs = [(one, other) for at, one in enumerate(hits) for other in hits[:at]]
    distances = [0.0 if not one | other else 1 - len(one & other) / len(one | other) for one, other in pairs]
    assert intra_list_diversity(hits) == pytest.approx(np.mean(distances))


@pytest.mark.parametrize(
    ("listed", "days"),
    [
        ("2026-09-01", 10.0), ("2026-09-01T00:00:00", 10.0), ("2026-09-01T12:00:00Z", 9.5),
        ("2026-09-01T00:00:00+02:00", 10 + 2 / 24), (1_788_220_800_000, 10.0), ("2026-09-12", -1.0),
        ("soon", None), (True, None), (None, None), ({}, None), (float("inf"), None), ("99999-12-31", None),
    ],
)  # fmt: skip
def test_an_age_is_that_of_the_server_s_date(listed: object, days: float | None) -> None:
    now_s = 1_788_220_800.0 + 10 * 86_400
    assert age_days(listed, now_s) == (None if days is None else pytest.approx(days))


@given(st.lists(st.floats(0, 4000), min_size=1, max_size=40))
def test_ages_are_numpy_s(ages: list[float]) -> None:
    found = item_ages(ages, 30)
    assert found is not None
    assert found.median_days == pytest.approx(np.median(ages))
    assert found.p90_days == pytest.approx(np.percentile(ages, 90))
    assert found.young_share == np.mean(np.array(ages) < 30)
    assert item_ages([-3.0]) == item_ages([0.0])


@given(st.dictionaries(st.integers(0, 60), st.floats(-5, 5), min_size=3, max_size=12))
def test_slope_is_scipy_s(points: dict[int, float]) -> None:
    assert slope(points) == pytest.approx(stats.linregress(list(points), list(points.values())).slope, abs=1e-9)


def test_a_slope_needs_three_weeks() -> None:
    assert slope({0: 1.0, 1: 2.0}) is None


def test_the_entropy_of_a_week_does_not_follow_its_number_of_hits() -> None:
    """The same person, searching less: the plug-in estimate narrows by itself, Miller and Madow's hardly."""
    rng = np.random.default_rng(3)
    shares = rng.dirichlet(np.ones(8))
    truth = stats.entropy(shares)

    def mean(hits: int) -> float:
        weeks = [(week, int(one)) for week in range(400) for one in rng.choice(8, hits, p=shares)]
        return float(np.mean(list(weekly_entropies(weeks).values())))

    few, many = mean(20), mean(200)
    plug_in = float(np.mean([stats.entropy(np.bincount(rng.choice(8, 20, p=shares))) for _ in range(400)]))
    assert abs(few - truth) < 0.5 * abs(plug_in - truth)
    assert many == pytest.approx(truth, abs=0.02)


def test_weeks_of_few_hits_are_left_out() -> None:
    assert list(weekly_entropies([(0, "a")] * 9 + [(1, "a")] * 10)) == [1]


LISTS = st.lists(st.integers(0, 12), min_size=1, max_size=8, unique=True)


@given(LISTS, LISTS)
def test_rank_biased_overlap_by_its_definition(one: list[int], other: list[int]) -> None:
    """Extrapolated by brute force: the overlap of the last depth goes on for ever."""
    p, depth = 0.9, min(len(one), len(other))
    overlaps = [len(set(one[:d]) & set(other[:d])) / d for d in range(1, depth + 1)]
    endless = overlaps + [overlaps[-1]] * 600
    expected = (1 - p) * sum(overlap * p**d for d, overlap in enumerate(endless))
    assert rank_biased_overlap(one[:depth], other[:depth], p) == pytest.approx(expected, abs=1e-9)


@given(LISTS, LISTS)
def test_distances_are_distances(one: list[int], other: list[int]) -> None:
    here, there = page_distance(one, other), page_distance(other, one)
    assert (here.items, here.taste) == pytest.approx((there.items, there.taste))
    assert here.ranks == pytest.approx(there.ranks)
    assert all(0.0 <= value <= 1.0 + 1e-12 for value in (here.items, here.ranks, here.taste))
    same = page_distance(one, one)
    assert (same.items, same.taste) == (0.0, 0.0)
    assert same.ranks == pytest.approx(0.0, abs=1e-12)


def test_an_empty_page_is_like_another_and_unlike_all_else() -> None:
    assert page_distance([], []) == page_distance(["a"], ["a"])
    assert page_distance([], ["a"]).taste == page_distance([], ["a"]).ranks == 1.0


def test_the_worked_examples_of_the_page_are_right() -> None:
    page = (Path(__file__).parents[2] / "docs/measures.md").read_text("utf-8")
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) >= 8
    for block in blocks:
        exec(block, names)
