"""The demo's view of purchases, on a tiny corpus of three households."""

from __future__ import annotations

import pytest

from rewriter.demo.corpus import LAST_TUNING_WEEK, Corpus, Product, Purchase
from rewriter.demo.households import Households, Visit
from rewriter.settings import PolicySettings
from rewriter.signals.affinities import signal_fields
from rewriter.signals.counters import HalfLives

NOW_S = 1_800_000_000.0
LAST_S = 1_510_000_000
"""When week 46 ends in the corpus."""
WEEK_S = 7 * 24 * 3600


def product(product_id: str, product_type: str, maker: str) -> Product:
    return Product(product_id, "GROCERY", None, product_type, maker, "National", None, None, 0)


PRODUCTS = [product("m1", "MILK", "69"), product("m2", "MILK", "70"), product("s1", "SOUP", "69")]
AFTER = LAST_TUNING_WEEK + 1


def bought(household: str, product_id: str, week: int) -> Purchase:
    return Purchase(household, f"basket {week}", product_id, week, LAST_S - (LAST_TUNING_WEEK - week) * WEEK_S)


@pytest.fixture
def households() -> Households:
    purchases = [
        *(bought("loyal", name, week) for week in (44, 45, 46) for name in ("m1", "s1", "m1")),
        *(bought("second", name, 46) for name in ("m2", "m2", "s1")),
        bought("gone", "m1", 40),
        bought("loyal", "m2", AFTER),
        bought("loyal", "s1", AFTER),
        bought("second", "s1", AFTER),
        bought("stranger", "m1", AFTER),
    ]
    policy = PolicySettings.model_validate({"index": "*", "fields": {"manufacturer": {}}})
    corpus = Corpus({one.product_id: one for one in PRODUCTS}, purchases)
    return Households(corpus, signal_fields(policy), HalfLives(WEEK_S), NOW_S)


def test_the_shop_knows_who_bought_before(households: Households) -> None:
    assert sorted(households.ids) == ["gone", "loyal", "second"]


def test_week_46_ends_now(households: Households) -> None:
    profile = households.profile("second", keep=10)
    assert (profile.landmark_s, profile.last_event_s) == (NOW_S, NOW_S)
    assert profile.weights == {
        ("item", "m2"): 2.0,
        ("manufacturer", "70"): 2.0,
        ("item", "s1"): 1.0,
        ("manufacturer", "69"): 1.0,
    }


def test_what_is_older_counts_less(households: Households) -> None:
    assert households.profile("gone", keep=10).weights[("item", "m1")] == pytest.approx(2.0**-6)


def test_only_the_heaviest_are_kept(households: Households) -> None:
    assert len(households.profile("loyal", keep=2).weights) == 2


def test_the_population_is_everybody(households: Households) -> None:
    assert households.population().events == 13


def test_the_most_loyal_ask_for_what_they_bought_most_often_and_no_type_twice(households: Households) -> None:
    assert households.most_loyal(2) == [
        Visit("loyal", "MILK", frozenset({"m2"})),
        Visit("second", "SOUP", frozenset({"s1"})),
    ]


def test_those_drawn_came_back_and_ask_for_what_they_bought_first(households: Households) -> None:
    drawn = sorted(households.drawn(10, seed=1), key=lambda visit: visit.household_id)
    assert drawn == [Visit("loyal", "MILK", frozenset({"m2"})), Visit("second", "SOUP", frozenset({"s1"}))]
    assert drawn[1].words == "soup"


def test_clicks_count_now(households: Households) -> None:
    session = households.clicks(["m1", "m1"], 2.0, half_life_s=60.0)
    assert (session.events, session.weights[("item", "m1")]) == (2.0, 4.0)


def test_how_often_something_was_bought(households: Households) -> None:
    assert households.times_bought("loyal") == {"m1": 6, "s1": 3}
