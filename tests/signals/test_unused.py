"""Unused items: boosted all alike where people use items once, by as much as the repeat guard leaves of boosts for used ones."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from rewriter.boost.functions import read_functions
from rewriter.settings import PolicySettings, Settings
from rewriter.signals.affinities import Affinity, Population, guard_of, preferences, signal_fields, strongest
from rewriter.signals.class_affinities import class_preferences
from rewriter.signals.class_counters import ClassCounters
from rewriter.signals.counters import Counters, HalfLives, Value
from rewriter.signals.ingest.batch import CountingRules
from rewriter.signals.item_use import acting_fields
from rewriter.signals.kinds.unused import MAX_LISTED
from rewriter.signals.repeats import AGAIN, USES, described, in_words

ONCE = PolicySettings(index=("films",), item_use="once", item_scale=0.5, class_field="genre")
WEEK = HalfLives(7 * 86_400.0)
USED: Mapping[Value, float] = {("item", "a", "drama"): 9.0, ("item", "b", "drama"): 0.1, ("item", "c", "series"): 3.0}


def population(share: float = 0.0, series: float = 0.0, uses: float = 10_000.0) -> Population:
    weights: dict[Value, float] = {
        (USES, "drama"): uses,
        (AGAIN, "drama"): share * uses,
        (USES, "series"): uses,
        (AGAIN, "series"): series * uses,
    }
    return Population(weights, {USES: 2 * uses, AGAIN: (share + series) * uses})


def affinities(
    known: Population, used: Mapping[Value, float] = USED, policy: PolicySettings = ONCE
) -> tuple[Affinity, ...]:
    fields = signal_fields(policy)
    liked = preferences(Counters(used, {}, 0.0), WEEK, fields, known, guard_of(known, policy), 4.0, 0.0)
    return strongest({value: (weight, "profile") for value, weight in liked.items()}, fields, 32)


def test_all_but_what_was_used_is_boosted_alike() -> None:
    (one,) = affinities(population())
    assert (one.kind, one.field, one.weight, one.scale) == ("unused", "item", 1.0, 0.5)
    assert one.filter == {"bool": {"must_not": [{"terms": {"_id": ["c", "b", "a"]}}]}}
    (boost,) = read_functions([{"filter": {"$affinity": 0}, "weight": 0.5}], 2.0, [one])
    assert (boost.field, boost.value) == ("item", "all but c, b, a")


@pytest.mark.parametrize(("share", "weight"), [(0.0, 1.0), (0.05, 1.0), (0.075, 0.5)])
def test_it_fades_as_people_use_items_again(share: float, weight: float) -> None:
    (one,) = affinities(population(share, share))
    assert one.weight == pytest.approx(weight, abs=0.02)


def test_where_people_use_items_again_and_where_nobody_can_tell_nothing_is_boosted() -> None:
    assert affinities(population(0.4, 0.4)) == ()
    assert affinities(population(uses=100.0)) == ()
    assert affinities(population(), {}) == ()


def test_items_of_a_class_that_is_used_again_are_boosted_with_the_unused() -> None:
    (one,) = affinities(population(0.0, 0.6))
    assert one.values == ("b", "a")


def test_counters_of_classes_tell_it_too() -> None:
    fields, known = signal_fields(ONCE), population()
    drama = ClassCounters({("item", "a"): 1.0}, 1.0, 0.0)
    assert class_preferences({"drama": drama}, WEEK, fields, known, guard_of(known, ONCE), 4.0, 0.0) == {
        ("item", "a", "drama"): 1.0
    }


def test_one_function_lists_a_bounded_number_of_items() -> None:
    (one,) = affinities(population(), {("item", f"i{n}", "drama"): float(n + 1) for n in range(1_000)})
    assert len(one.values) == MAX_LISTED


def test_what_is_counted_is_the_same_for_both_uses_of_items() -> None:
    """One policy boosts items used again, another unused ones: they share the counters."""
    policies = {name: PolicySettings(index=(name,), item_use=name) for name in ("again", "once")}
    plan = CountingRules.of(Settings(policies=policies))
    assert set(plan.fields) == {"item"}
    assert plan.values({"_id": "a"}) == (("item", "a"),)


def decided(known: Population, *classes: str, **policy: float) -> tuple[str, float]:
    """Return the kind and scale of items under "auto"."""
    own = PolicySettings.model_validate({"index": ["films"], "item_use": "auto", "class_field": "genre", **policy})
    field = acting_fields(signal_fields(own), own, guard_of(known, own), classes)["item"]
    return field.kind.name, field.scale


def test_auto_boosts_used_or_unused_items_by_what_was_counted() -> None:
    assert decided(population(0.4, 0.4)) == ("item", 1.2)
    assert decided(population(0.0, 0.0)) == ("unused", 0.25)
    assert decided(population(0.0, 0.0), max_boost=2.0) == ("unused", 0.5)
    assert decided(population(0.0, 0.0), item_scale=0.1) == ("unused", 0.1)
    assert decided(population(uses=100.0)) == ("item", 1.2), "nobody can tell: the guard lets no item act"


def test_auto_judges_by_the_classes_of_the_query() -> None:
    milk_and_films = population(0.0, 0.6)
    assert decided(milk_and_films, "drama")[0] == "unused"
    assert decided(milk_and_films, "series")[0] == "item"
    assert decided(milk_and_films, "drama", "series")[0] == "item"
    assert decided(milk_and_films)[0] == "item"


def test_fields_of_a_policy_with_an_item_use_of_its_own_stay() -> None:
    for use in ("again", "once"):
        own = PolicySettings(index=("films",), item_use=use)
        fields = signal_fields(own)
        assert acting_fields(fields, own, guard_of(population(0.0), own), ()) is fields


def test_what_auto_does_is_told_in_words() -> None:
    own = PolicySettings(index=("films",), item_use="auto", class_field="genre")
    told = in_words(described(guard_of(population(0.0, 0.6), own), ("drama", "series")), item_use="auto")
    assert "67% of item boosts; but drama 0.3%: what is unused is boosted" in told
    assert guard_of(population(0.0, 0.6), own).mean_strength("auto") == pytest.approx(1.0, abs=0.01)
