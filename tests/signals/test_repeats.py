"""The repeat guard's arithmetic: shares of classes, shrunk, and what becomes of item boosts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewriter.signals.counters import Value
from rewriter.signals.repeats import (
    AGAIN,
    CHANCE,
    CONTROLS,
    FULL_AT,
    MIN_CONTROLS,
    MIN_USES,
    MIXED_FULL_AT,
    MIXED_NONE_AT,
    NONE_AT,
    SHRUNK_BY,
    USES,
    RepeatGuard,
    described,
    in_words,
    largest_classes,
    strength_at,
    suits_shop,
)
from rewriter.signals.uses import Controls, Use, judged, observed_uses, totals_of


def guard(classes: dict[str, tuple[float, float]], stated: float | None = None) -> RepeatGuard:
    """A guard over classes: name → uses, share."""
    weights: dict[Value, float] = {(USES, name): uses for name, (uses, _) in classes.items()}
    weights |= {(AGAIN, name): uses * share for name, (uses, share) in classes.items() if share}
    totals = {
        USES: sum(uses for uses, _ in classes.values()),
        AGAIN: sum(uses * share for uses, share in classes.values()),
    }
    return RepeatGuard(weights, totals, stated)


@pytest.mark.parametrize(
    ("share", "strength"),
    [(0.0, 0.0), (NONE_AT, 0.0), (0.125, 0.25), (0.15, 0.5), (FULL_AT, 1.0), (0.4, 1.0), (1.0, 1.0)],
)
def test_item_boosts_act_smoothly_above_a_tenth(share: float, strength: float) -> None:
    assert strength_at(share) == pytest.approx(strength)


@pytest.mark.parametrize(
    ("share", "mixed", "of_class"),
    [(0.1, 0.0, 0.0), (0.15, 0.0, 0.5), (MIXED_NONE_AT, 0.0, 1.0), (0.275, 0.5, 1.0), (MIXED_FULL_AT, 1.0, 1.0), (0.8, 1.0, 1.0)],
)  # fmt: skip
def test_a_share_of_all_classes_together_must_be_higher(share: float, mixed: float, of_class: float) -> None:
    """It may stand for half a shop of milk and half a shop of books; a share that the team states is no such mixture."""
    found = guard({"milk": (100_000, share)})
    assert found.strength(None) == pytest.approx(mixed, abs=1e-9)
    assert found.strength("milk") == pytest.approx(of_class, abs=1e-9)
    assert guard({}, stated=share).strength(None) == pytest.approx(of_class, abs=1e-9)


def test_no_item_boosts_where_nobody_can_tell() -> None:
    for unknown in (guard({}), guard({"milk": (MIN_USES - 1, 0.9)})):
        assert unknown.catalogue is None
        assert unknown.of("milk") is None
        assert unknown.strength("milk") == unknown.strength(None) == 0.0
    assert guard({"milk": (MIN_USES, 0.9)}).strength("milk") == 1.0


def test_one_shop_sells_milk_and_books() -> None:
    shop = guard({"milk": (10_000, 0.8), "books": (10_000, 0.0)})
    assert shop.catalogue is not None
    assert shop.catalogue.share == pytest.approx(0.4)
    assert shop.strength("milk") == 1.0
    assert shop.strength("books") == 0.0
    assert shop.strength(None) == shop.strength("never seen") == 1.0  # the catalogue's


def test_a_class_of_few_uses_is_judged_by_the_catalogue() -> None:
    shop = guard({"milk": (10_000, 0.8), "books": (SHRUNK_BY, 0.0)})
    books = shop.of("books")
    assert books is not None
    assert shop.catalogue is not None
    assert books.share == pytest.approx(shop.catalogue.share / 2)


def test_what_the_team_states_counts_alone() -> None:
    assert guard({}, stated=0.4).strength("milk") == 1.0
    assert guard({"milk": (10_000, 0.9)}, stated=0.0).strength("milk") == 0.0


def test_the_classes_with_the_most_uses() -> None:
    members = {
        "$uses\x1fmilk": 9.0,
        "$again\x1fmilk": 8.0,
        "$uses\x1fpens": 1.0,
        "$uses\x1fbooks": 5.0,
        "brand\x1fnike": 99.0,
    }
    assert largest_classes(members, 2) == ("milk", "books")


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e6))
def test_shares_and_strengths_lie_in_the_unit_interval(
    uses: float, again: float, all_uses: float, all_again: float
) -> None:
    """Whatever a store holds."""
    anybodys = RepeatGuard({(USES, "x"): uses, (AGAIN, "x"): again}, {USES: all_uses, AGAIN: all_again})
    found = anybodys.of("x")
    assert found is None or 0.0 <= found.share <= 1.0
    assert 0.0 <= anybodys.strength("x") <= 1.0


def test_an_item_counts_once_a_visit_and_the_first_visit_for_nothing() -> None:
    done = [
        Use("ann", "1", "milk", "food", 0.0),
        Use("ann", "1", "milk", "food", 1.0),  # nothing to use again yet
        Use("ann", "2", "milk", "food", 2.0),  # again
        Use("ann", "2", "milk", "food", 3.0),  # the same visit: viewed, then bought
        Use("ann", "2", "book", "books", 4.0),
        Use("ann", "3", "book", "books", 5.0),  # again
        Use("bob", "3", "milk", "food", 6.0),  # another subject's first visit
    ]
    found = list(observed_uses(done))
    assert [one.at_s for one in found] == [2.0, 4.0, 5.0]
    assert Counter(value for one in found for value in one.values if value[0] in (USES, AGAIN)) == {
        (USES, "food", "1"): 1,
        (AGAIN, "food", "1"): 1,
        (USES, "books", "1"): 2,
        (AGAIN, "books", "1"): 1,
    }


def compared(share: float, chance: float, controls: float = 10_000.0) -> RepeatGuard:
    """A guard over one class, which alone makes the catalogue."""
    weights = {USES: 10_000.0, AGAIN: 10_000.0 * share, CONTROLS: controls, CHANCE: controls * chance}
    return RepeatGuard({(mark, "milk"): weight for mark, weight in weights.items()}, weights)


@pytest.mark.parametrize(
    ("share", "chance", "again", "once"),
    [
        (0.4, 0.1, 1.0, 0.0),  # groceries
        (0.89, 0.87, 0.0, 0.0),  # bananas: there is one kind
        (0.3, 0.2, 0.46, 0.0),
        (0.14, 0.23, 0.0, 0.89),  # everybody uses the same few: fewer come back than by chance
        (0.0, 0.1, 0.0, 1.0),  # films
        (0.0, 0.0, 0.0, 1.0),
        (0.03, 0.02, 0.0, 0.0),  # many classes: people seldom come back to one, but then to what they know
        (0.03, 0.027, 0.0, 0.47),
        (0.3, 0.0, 1.0, 0.0),
        (1.0, 0.5, 1.0, 0.0),
        (1.0, 1.0, 1.0, 0.0),
    ],
)
def test_items_that_are_used_again_by_chance_alone_are_not_boosted(
    share: float, chance: float, again: float, once: float
) -> None:
    found = compared(share, chance)
    assert found.strength("milk") == pytest.approx(again, abs=0.01)
    assert found.strength_once("milk") == pytest.approx(once, abs=0.02)


def test_where_too_little_was_compared_the_share_alone_decides() -> None:
    """Counters of an older version, and a history of one person, have no comparison."""
    assert compared(0.3, 0.9, controls=MIN_CONTROLS - 1).strength("milk") == 1.0
    assert compared(0.3, 0.9, controls=MIN_CONTROLS).strength("milk") == 0.0


def test_a_use_is_compared_with_the_latest_one_of_its_class_by_another_subject() -> None:
    done = [
        Use("ann", "1", "milk", "food", 0.0),
        Use("bob", "1", "milk", "food", 1.0),
        Use("bob", "1", "eggs", "food", 2.0),
        Use("ann", "2", "book", "books", 3.0),  # nobody used a book yet
        Use("ann", "2", "tea", "food", 4.0),  # with bob's eggs, which ann had not used
        Use("ann", "2", "milk", "food", 5.0),  # with bob's eggs again: the latest use, of tea, is ann's own
        Use("bob", "2", "rice", "food", 6.0),  # with ann's milk, which bob had used: by chance
        Use("ann", "2", "rice", "food", 7.0),
        Use("ann", "3", "rice", "food", 8.0),  # with bob's rice, used in an earlier visit
        Use("bob", "2", "salt", "food", 9.0),  # with ann's rice, which bob used in this visit: no comparison
    ]
    compared_at = {one.at_s: {mark for mark, *_ in one.values} & {CONTROLS, CHANCE} for one in observed_uses(done)}
    assert compared_at == {
        3.0: set(), 4.0: {CONTROLS}, 5.0: {CONTROLS}, 6.0: {CONTROLS, CHANCE}, 7.0: {CONTROLS}, 8.0: {CONTROLS, CHANCE}, 9.0: set(),
    }  # fmt: skip


def test_the_latest_uses_are_kept_of_so_many_classes() -> None:
    known = Controls[int](max_classes=2)
    for class_name in (1, 2, 1, 3):
        known.note(class_name, 7, 70)
    assert [known.other(class_name, 8) for class_name in (1, 2, 3)] == [70, None, 70]


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (guard({}), "items are not boosted: 0 of 500 uses that tell whether people use items again"),
        (guard({"milk": (10_000, 0.0)}), "people use items again in 0.0% of 10,000 uses: no item boosts"),
        (guard({}, stated=0.15), "people use items again in 15.0% as stated: 50% of item boosts"),
        (
            guard({"milk": (10_000, 0.8), "books": (10_000, 0.0)}),
            "people use items again in 40.0% of 20,000 uses: item boosts; but books 0.4%: no item boosts",
        ),
        (
            compared(0.89, 0.87),
            "people use items again in 89.0% of 10,000 uses, by chance 87.0%: no item boosts",
        ),
    ],
)
def test_what_follows_is_told_in_words(found: RepeatGuard, text: str) -> None:
    assert in_words(described(found, ("milk", "books"))) == text


@pytest.mark.parametrize(
    ("share", "scale", "use", "text"),
    [
        (0.02, 0.0, "again", "2.0% of 1,000 uses: no item boosts, since item_scale is 0"),
        (0.4, 0.0, "again", "40.0% of 1,000 uses: no item boosts, since item_scale is 0; the template set `shop` would suit"),
        (0.02, 0.5, "once", "2.0% of 1,000 uses: what is unused is boosted"),
        (0.08, 0.5, "once", "8.0% of 1,000 uses: 40% of boosts of what is unused"),
        (0.4, 0.5, "once", "40.0% of 1,000 uses: no boosts of what is unused; the template set `shop` would suit"),
    ],
)  # fmt: skip
def test_what_follows_is_that_of_the_policy(share: float, scale: float, use: str, text: str) -> None:
    found = described(RepeatGuard({}, {USES: 1_000.0, AGAIN: share * 1_000.0}))
    assert in_words(found, scale, use) == f"people use items again in {text}"


def guard_of(done: Iterable[Use]) -> RepeatGuard:
    found = judged(
        Counter(value for one in observed_uses(sorted(done, key=lambda one: one.at_s)) for value in one.values)
    )
    return RepeatGuard(found, totals_of(found))


def with_a_bot(people: int, of_bot: Callable[[int], tuple[str, str]]) -> RepeatGuard:
    """A shop of films, which people use once, and a bot with as many uses as all of them; of_bot: item and class of its n-th."""
    done = [
        Use(f"u{n % people}", f"{n // (2 * people)}", f"film{n // people} {n % 7}", f"genre{n % 3}", float(n))
        for n in range(30 * people)
    ]
    done += [Use("bot", f"{n}", *of_bot(n), n + 0.5) for n in range(len(done))]
    return guard_of(done)


@pytest.mark.parametrize(
    "of_bot",
    [
        lambda n: (f"film{n % 3}", f"genre{n % 3}"),
        lambda n: (f"film{n % 2}", "genre1"),
        lambda n: (f"film{n % 40} {n % 7}", f"genre{n % 3}"),
        lambda n: ("film", f"genre{n}"),
    ],
    ids=["a basket", "one class", "crawler", "a class each"],
)
def test_one_subject_with_half_of_all_uses_decides_nothing(of_bot: Callable[[int], tuple[str, str]]) -> None:
    """Before, a bot that loads ten films again and again made a shop of films one where people use things again."""
    found = with_a_bot(100, of_bot)
    assert found.catalogue is not None
    assert found.catalogue.share < NONE_AT
    assert max(found.strength(f"genre{n}") for n in range(3)) == 0.0
    assert found.strength(None) == 0.0
    assert not suits_shop(found.catalogue.share, found.catalogue.strength_once)


def test_the_numbers_of_subjects_are_bounded() -> None:
    """What one subject adds keeps its bound, however many others come between."""
    known, added = Controls[int](max_numbers=2_000), 0
    for number in range(20_000):
        known.add(1, number + 10)
        for _ in range(3):
            if known.has_room(1, 2):
                known.add(1, 2)
                added += 1
    assert 500 < added < 0.08 * 20_000
    assert known.has_room(1, 20_009)
