"""The generator of visits and the click model: seeded, position-biased, with the shares that the parameters promise."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import date, timedelta
from random import Random

import pytest

from rewriter.demo.corpus import Corpus, Product, Purchase
from season import parameters
from season.clicks import clicks_on
from season.shelf import Shelf, shelf_of
from season.visits import Need, Visit, accounts_of, shuffled, visits_of

GIVEN = parameters.read()
DAY_S = 86_400


def made_corpus() -> Corpus:
    """Six product types of five manufacturers, 40 households that buy four types twice a week; each prefers a manufacturer."""
    draw = Random(1)
    products = {
        f"p{kind}{maker}{n}": Product(f"p{kind}{maker}{n}", "GROCERY", None, f"TYPE{kind}", f"m{maker}", "National", None,
                                      date(2017, 1, 2) + timedelta(days=40 * maker + n), 100 - n)
        for kind in range(6) for maker in range(5) for n in range(4)
    }  # fmt: skip
    purchases = []
    for week in range(1, 47):
        for household in range(40):
            for visit in range(2):
                at_s = 1_483_315_200 + (7 * week + 3 * visit) * DAY_S + 60 * household
                purchases += [
                    Purchase(f"{household}", f"b{week}-{household}-{visit}", f"p{kind}{household % 5}{draw.randrange(4)}",
                             week, at_s)
                    for kind in draw.sample(range(6), 4)
                ]  # fmt: skip
    return Corpus(products, sorted(purchases, key=lambda one: one.at_s))


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    return shelf_of(made_corpus(), GIVEN.catalogue)


@pytest.fixture(scope="module")
def visits(shelf: Shelf) -> list[Visit]:
    return visits_of(shelf, GIVEN.visits, 400, 7)


def test_the_parameters_are_dated_and_tune_on_no_later_week() -> None:
    assert GIVEN.dated <= date(2026, 11, 26)
    assert GIVEN.catalogue.weeks.stop - 1 <= 46


def test_a_seed_makes_the_same_visits_and_another_seed_others(shelf: Shelf, visits: list[Visit]) -> None:
    assert visits_of(shelf, GIVEN.visits, 400, 7) == visits
    assert visits_of(shelf, GIVEN.visits, 400, 8) != visits
    assert [one.at_s for one in visits] == sorted(one.at_s for one in visits)


def test_what_is_wanted_follows_the_intent(shelf: Shelf, visits: list[Visit]) -> None:
    baskets = dict(enumerate(shelf.baskets))
    for visit in visits:
        for step in visit.steps:
            need = step.need
            assert need.wanted <= need.alike <= set(shelf.by_type[need.product_type])
            makers = {shelf.corpus.products[one].manufacturer for one in need.wanted}
            if step.intent == "habit":
                assert need.wanted == baskets[visit.number].bought[need.product_type]
            elif step.intent == "theme":
                assert len(makers) == 1
                assert len(need.wanted) == GIVEN.visits.theme_wanted


def test_kinds_come_in_the_shares_that_were_asked_for(shelf: Shelf) -> None:
    steady = replace(GIVEN.visits, drift=0.0, again=0.0, shared=0.0)
    found = visits_of(shelf, steady, 480, 3)
    kinds = Counter(one.kind for one in found)
    assert set(kinds) == {"habit", "gift", "theme"}
    assert kinds["theme"] / len(found) == pytest.approx(steady.theme, abs=0.07)
    assert kinds["gift"] / len(found) == pytest.approx(steady.gift, abs=0.05)
    assert all(len({step.need.words for step in one.steps}) == len(one.steps) for one in found)
    drifting = Counter(one.kind for one in visits_of(shelf, replace(steady, drift=1.0), 480, 3))
    assert drifting["drifted"] == 480


def test_needs_are_searched_for_again(shelf: Shelf) -> None:
    again = visits_of(shelf, replace(GIVEN.visits, again=1.0, drift=0.0), 100, 3)
    assert all(count == 3 for one in again for count in Counter(step.need for step in one.steps).values())


def test_two_households_share_an_account(shelf: Shelf) -> None:
    accounts = accounts_of([str(n) for n in range(1_000)], 0.25, 1)
    sizes = Counter(Counter(accounts.values()).values())
    assert set(sizes) == {1, 2}
    assert sizes[2] / (sizes[1] + sizes[2]) == pytest.approx(0.25, abs=0.01)
    assert any(one.kind == "member" for one in visits_of(shelf, replace(GIVEN.visits, shared=1.0), 400, 7))


def test_clicks_fall_with_the_position_and_rise_with_what_is_wanted() -> None:
    page = [f"x{n}" for n in range(10)]
    need = Need("", "", frozenset(page), frozenset(page))
    counts: Counter[int] = Counter()
    for mood in range(4_000):
        counts.update(one.position for one in clicks_on(page, need, GIVEN.clicks, str(mood)))
    for position in (1, 2, 5, 10):
        expected = GIVEN.clicks.wanted * position**-GIVEN.clicks.examination
        assert counts[position] / 4_000 == pytest.approx(expected, abs=0.03)
    nothing = Need("", "", frozenset(), frozenset())
    unwanted = sum(len(clicks_on(page, nothing, GIVEN.clicks, str(mood))) for mood in range(4_000))
    assert unwanted / counts.total() == pytest.approx(GIVEN.clicks.other / GIVEN.clicks.wanted, abs=0.02)


def test_two_rankings_meet_the_same_person() -> None:
    """A product that stays where it is is clicked on both pages or on neither."""
    page = [f"x{n}" for n in range(10)]
    need = Need("", "", frozenset(page[:2]), frozenset(page[:5]))
    for mood in map(str, range(300)):
        both = [
            {one.product_id for one in clicks_on(ids, need, GIVEN.clicks, mood)} for ids in (page, [*page[:5], "y"])
        ]
        assert both[0] & set(page[:5]) == both[1] & set(page[:5])


def test_the_placebo_loses_nothing_and_leaves_nobody_their_own() -> None:
    clicks = {n: f"of {n}" for n in range(50)}
    moved = shuffled(clicks, 1)
    assert sorted(moved.values()) == sorted(clicks.values())
    assert all(moved[n] != clicks[n] for n in clicks)
