"""The benchmark's questions are fair: nothing is known of a week before it is over."""

from __future__ import annotations

import pytest

from bench.questions import PURCHASE, PastPurchases, Question, drawn
from rewriter.cli.action_weights import chosen_weights
from rewriter.demo.corpus import Corpus, Product, Purchase
from rewriter.settings import DEFAULT_ACTION_WEIGHTS
from rewriter.signals.counters import HalfLives
from rewriter.signals.kinds.kind import SignalField
from rewriter.signals.kinds.registry import every_kind
from rewriter.signals.repeats import AGAIN, CHANCE, CONTROLS, USES

WEEK_S = 7 * 24 * 3600
ITEM = {"item": SignalField(every_kind()["item"], ("_id",), 1.0, 2.0)}
HALF_LIVES = HalfLives(1e12)  # so long that counts stay whole


def corpus(*bought: tuple[str, str, int]) -> Corpus:
    """Each household's week is one basket; "soup-1" is a product of the type "soup"."""
    products = {
        name: Product(name, "GROCERY", None, name.split("-")[0], "69", "Private", None, None, 0)
        for _, name, _ in bought
    }
    purchases = [Purchase(who, f"{who}-{week}", name, week, week * WEEK_S) for who, name, week in bought]
    return Corpus(products, sorted(purchases, key=lambda one: one.at_s))


SHOP = corpus(
    ("ann", "soup-1", 1),
    ("ann", "soup-1", 3),
    ("ann", "soup-2", 3),
    ("ann", "milk-1", 3),
    ("bob", "soup-1", 2),
    ("bob", "milk-1", 4),
)


def test_a_question_is_a_product_type_of_a_basket_of_the_weeks() -> None:
    asked = drawn(SHOP, range(3, 5), 100, seed=1)
    assert {(one.household_id, one.week, one.words) for one in asked} == {
        ("ann", 3, "soup"),
        ("ann", 3, "milk"),
        ("bob", 4, "milk"),
    }


def test_new_is_what_the_household_never_bought_before_the_basket() -> None:
    soup = next(one for one in drawn(SHOP, range(3, 4), 100, seed=1) if one.words == "soup")
    assert soup.relevant == {"soup-1", "soup-2"}
    assert soup.new == {"soup-2"}


def test_a_draw_depends_on_its_seed_alone() -> None:
    assert drawn(SHOP, range(1, 5), 3, seed=7) == drawn(SHOP, range(1, 5), 3, seed=7)


def test_a_profile_ends_where_the_questions_week_begins() -> None:
    known = PastPurchases(SHOP, range(3, 5), {"ann"}, ITEM, HALF_LIVES)
    question = Question("ann", 3, 3 * WEEK_S, "soup", frozenset(), frozenset())
    assert known.profile(question, keep=10).weights == {("item", "soup-1"): pytest.approx(1.0, rel=1e-4)}


def test_a_population_ends_where_its_week_begins() -> None:
    known = PastPurchases(SHOP, range(3, 5), set(), ITEM, HALF_LIVES)
    assert known.populations[3].totals == {"item": pytest.approx(2.0, rel=1e-4)}
    assert known.populations[4].totals == pytest.approx(
        {"item": 5.0, USES: 3.0, AGAIN: 1.0, CONTROLS: 1.0, CHANCE: 1.0}, rel=1e-4
    )


def test_a_purchase_counts_what_init_writes_for_a_history_of_purchases() -> None:
    written = chosen_weights(None, DEFAULT_ACTION_WEIGHTS["purchase"], "counted in purchases").weights
    assert written is not None
    assert written["purchase"] == PURCHASE == 1.0
