"""Statistics against independent implementations and by simulation: 100 A/A seasons here, 1,000 under the marker `full`."""

from __future__ import annotations

from math import exp, sqrt

import numpy as np
import pytest
import tea_tasting as tt
import ville
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from rewriter.experiment.estimates import (
    Effect,
    adjusted_p,
    cuped,
    cuped_ratio,
    linearized,
    mean,
    ratio,
    winsorized,
)
from rewriter.experiment.interleaving import ListCredit, preference
from rewriter.experiment.sample_ratio import ALPHA as RATIO_ALPHA
from rewriter.experiment.sample_ratio import sample_ratio
from rewriter.experiment.sequences import (
    PLANNED_PEOPLE,
    UNKNOWN,
    always_valid_p,
    people_needed,
    sequence,
    widening,
)
from rewriter.experiment.slot_value import DrawnSlot, slot_value
from tests.seasons import Season, season


def conversion(found: Season, day: int) -> Effect:
    return Effect(*map(mean, found.arms(found.bought, day)))


def clicks_per_search(found: Season, day: int) -> Effect:
    numerators, denominators = found.arms(found.clicks, day), found.arms(found.searches, day)
    return Effect(*(ratio(x, y) for x, y in zip(numerators, denominators, strict=True)))


def revenue(found: Season, day: int) -> Effect:
    capped, _, _ = winsorized(found.arms(found.revenue, day))
    return Effect(*map(mean, capped))


def with_history(found: Season, day: int) -> Effect:
    came = found.came[day]
    before = found.before[came & found.treated], found.before[came & ~found.treated]
    return cuped(*found.arms(found.clicks, day), *before).effect


def ratio_with_history(found: Season, day: int) -> Effect:
    """Clicks per search, adjusted by the clicks per search before: the primary measure of a report with history."""
    came = found.came[day]
    columns = found.clicks[day], found.searches[day], found.before, found.searched_before
    arms = [tuple(one[came & which] for one in columns) for which in (found.treated, ~found.treated)]
    return cuped_ratio(*arms).effect


MEASURES = {
    "conversion": conversion,
    "clicks": clicks_per_search,
    "revenue": revenue,
    "cuped": with_history,
    "cuped ratio": ratio_with_history,
}


def alarms(seasons: int, share: float, planned: float, without: str = "") -> dict[str, int]:
    """How many A/A seasons have, at any of 28 daily looks, an interval that excludes no effect."""
    found = dict.fromkeys([*MEASURES, "lift", "z-test"], 0)
    measures = {name: measure for name, measure in MEASURES.items() if name != without}
    for seed in range(seasons):
        one = season(seed, share=share)
        for name, measure in measures.items():
            looks = [measure(one, day) for day in range(28)]
            found[name] += any(look.interval(planned).excludes(0.0) for look in looks)
            if name == "cuped ratio":  # as a verdict is made of it
                found["lift"] += any(look.lift_interval(planned).excludes(0.0) for look in looks)
            if name == "clicks":
                found["z-test"] += any(abs(look.difference) > 1.96 * look.standard_error for look in looks)
    return found


def at_most(seasons: int, rate: float = 0.05) -> float:
    return seasons * rate + 2 * sqrt(seasons * rate * (1 - rate))


@pytest.mark.parametrize(("share", "planned", "without"), [(0.5, PLANNED_PEOPLE, "cuped ratio"), (0.9, 2_000, "cuped")])
def test_100_seasons_without_an_effect_raise_no_more_alarms_than_promised(
    share: float, planned: float, without: str
) -> None:
    found = alarms(100, share, planned, without)
    assert max(found[name] for name in (*MEASURES, "lift")) <= at_most(100), found
    assert found["z-test"] > at_most(100), "the seasons must be able to fool a test that is looked at daily"


@pytest.mark.full
@pytest.mark.parametrize(
    ("share", "planned"), [(0.5, PLANNED_PEOPLE), (0.5, 2_000), (0.9, 2_000), (0.95, PLANNED_PEOPLE)]
)
def test_1000_seasons_without_an_effect(share: float, planned: float) -> None:
    found = alarms(1_000, share, planned)
    assert max(found[name] for name in (*MEASURES, "lift")) <= at_most(1_000), found


@pytest.mark.parametrize("lift", [0.3, -0.3])
def test_planted_lift_and_planted_harm_are_found(lift: float) -> None:
    """30 % on 2,000 people: a single look would have a power above 99 %; the sequence must find at least 80 % by the last day."""
    found = [clicks_per_search(season(seed, click_lift=lift), 27).lift_interval() for seed in range(40)]
    right = sum((one.low > 0.0) if lift > 0 else (one.high < 0.0) for one in found)
    covered = sum(one.low <= lift <= one.high for one in found)
    assert right >= 32
    assert covered >= 36


def test_the_sequence_is_ville_s() -> None:
    values = np.random.default_rng(1).normal(0.3, 2.0, 6_000)
    theirs = ville.AsymptoticCS(alpha=0.05, t_opt=3_000, min_samples=100)
    low, high = theirs.update(values).interval()
    error = float(values.std(ddof=1)) / sqrt(len(values))
    ours = sequence(float(values.mean()), error, len(values), planned_people=3_000)
    assert (ours.low, ours.high) == pytest.approx((low, high), rel=2e-3)


def test_a_sequence_is_tightest_where_it_was_planned() -> None:
    """Its reach, for a standard error that falls with √t, is least there: no other plan does better at that number of people."""
    reach = widening(5_000, 5_000)
    assert 2.5 < reach < 3.1
    assert all(widening(5_000, planned) >= reach - 1e-4 for planned in (500, 2_500, 4_000, 6_000, 20_000, 10**6))


def test_the_p_value_is_the_sequence_turned_round() -> None:
    reach = widening(4_000)
    assert always_valid_p(reach, 1.0, 4_000) == pytest.approx(0.05, rel=1e-9)
    assert always_valid_p(0.0, 1.0, 4_000) == 1.0
    assert always_valid_p(5.0, 0.0, 4_000) == always_valid_p(50.0, 1.0, 199) == 1.0
    assert sequence(0.1, 0.0, 4_000) == sequence(0.1, 0.1, 199) == UNKNOWN


def test_people_needed_make_the_interval_as_narrow_as_asked() -> None:
    needed = people_needed(0.01, 0.02, 1_000)
    assert 0.02 * sqrt(1_000 / needed) * widening(needed) == pytest.approx(0.01, rel=1e-6)
    assert people_needed(0.0, 0.02, 1_000) == people_needed(0.01, 0.0, 1_000) == float("inf")


def test_means_and_ratios_are_tea_tasting_s_and_statsmodels() -> None:
    one = season(5, click_lift=0.2)
    data = {
        "variant": one.treated.astype(int),
        "clicks": one.clicks[27],
        "searches": one.searches[27],
        "before": np.nan_to_num(one.before),
    }
    import pandas as pd

    frame = pd.DataFrame(data)
    experiment = tt.Experiment(per_search=tt.RatioOfMeans("clicks", "searches"), per_person=tt.Mean("clicks"))
    theirs = experiment.analyze(frame)
    ours = clicks_per_search(one, 27)
    low, high = theirs["per_search"].effect_size_ci_lower, theirs["per_search"].effect_size_ci_upper
    assert ours.difference == pytest.approx(theirs["per_search"].effect_size, rel=1e-9)
    assert 2 * stats.norm.ppf(0.975) * ours.standard_error == pytest.approx(high - low, rel=3e-3)
    treated, control = one.arms(one.clicks, 27)
    plain = Effect(mean(treated), mean(control))
    welch = CompareMeans(DescrStatsW(treated), DescrStatsW(control))
    assert plain.standard_error == pytest.approx(
        max(welch.std_meandiff_separatevar, welch.std_meandiff_pooledvar), rel=1e-9
    )
    assert plain.difference == pytest.approx(theirs["per_person"].effect_size, rel=1e-9)


def test_a_ratio_s_error_is_the_bootstrap_s() -> None:
    one = season(6)
    numerator, denominator = one.clicks[27][one.treated], one.searches[27][one.treated]
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(numerator), (800, len(numerator)))
    spread = (numerator[draws].sum(axis=1) / denominator[draws].sum(axis=1)).std()
    found = ratio(numerator, denominator)
    assert found.standard_error == pytest.approx(spread, rel=0.1)
    linear = linearized(numerator, denominator, found.value, float(denominator.mean()))
    assert float(linear.mean()) == pytest.approx(found.value)


def test_history_narrows_the_interval_and_moves_nothing_on_average() -> None:
    plain, adjusted, explained = [], [], []
    for seed in range(60):
        one = season(seed, click_lift=0.1)
        treated, control = one.arms(one.clicks, 27)
        found = cuped(treated, control, one.before[one.treated], one.before[~one.treated])
        plain.append(Effect(mean(treated), mean(control)))
        adjusted.append(found.effect)
        explained.append(found.explained)
    differences = np.array([[one.difference for one in which] for which in (plain, adjusted)])
    assert abs(float((differences[1] - differences[0]).mean())) < 2 * float(
        (differences[1] - differences[0]).std()
    ) / sqrt(60)
    assert differences[1].std() < 0.9 * differences[0].std()
    errors = [float(np.mean([one.standard_error for one in which])) for which in (plain, adjusted)]
    assert errors[1] == pytest.approx(errors[0] * sqrt(1 - float(np.mean(explained))), rel=0.02)
    assert errors[1] == pytest.approx(differences[1].std(), rel=0.3)


def test_history_narrows_a_ratio_s_interval_too() -> None:
    plain, adjusted, explained = [], [], []
    for seed in range(60):
        one = season(seed, click_lift=0.1)
        plain.append(clicks_per_search(one, 27))
        columns = one.clicks[27], one.searches[27], one.before, one.searched_before
        arms = [tuple(column[which] for column in columns) for which in (one.treated, ~one.treated)]
        found = cuped_ratio(*arms)  # type: ignore[arg-type]
        adjusted.append(found.effect)
        explained.append(found.explained)
        assert found.effect.treated.carriers == plain[-1].treated.carriers
    differences = np.array([[one.difference for one in which] for which in (plain, adjusted)])
    moved = differences[1] - differences[0]
    assert abs(float(moved.mean())) < 2.5 * float(moved.std()) / sqrt(60)
    errors = [float(np.mean([one.standard_error for one in which])) for which in (plain, adjusted)]
    assert errors[1] == pytest.approx(errors[0] * sqrt(1 - float(np.mean(explained))), rel=0.02)
    assert errors[1] < 0.95 * errors[0]
    assert errors[1] == pytest.approx(differences[1].std(), rel=0.3)


def test_without_history_nothing_is_adjusted() -> None:
    treated, control = np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0, 4.0])
    none = np.full(3, np.nan)
    assert cuped(treated, control, none, none).effect == Effect(mean(treated), mean(control))
    assert cuped(control * 0, control * 0, control, treated).explained == 0.0
    ones = np.ones(3)
    plain = Effect(ratio(treated, ones), ratio(control, ones))
    assert cuped_ratio((treated, ones, none, none), (control, ones, none, none)).effect == plain


def test_winsorising_cuts_both_arms_at_one_quantile_of_those_who_paid() -> None:
    arms, cap, cut = winsorized([np.array([0.0] * 90 + list(range(1, 11))), np.array([0.0] * 90 + [5.0] * 9 + [500.0])])
    assert cap == pytest.approx(np.quantile([*range(1, 11), *[5.0] * 9, 500.0], 0.95))
    assert cut == 1
    assert max(arms[1]) == cap
    assert winsorized([np.zeros(3), np.zeros(2)])[1:] == (0.0, 0)


def test_adjusted_p_values_are_statsmodels() -> None:
    p_values = [0.001, 0.04, 0.03, 0.2, 0.9, 0.012]
    assert adjusted_p(p_values) == pytest.approx(list(multipletests(p_values, method="fdr_bh")[1]))
    assert adjusted_p([]) == []


def test_the_sample_ratio_by_brute_force() -> None:
    """The mixture, integrated numerically; and never above its level over 400 daily looks."""
    grid = np.linspace(1e-6, 1 - 1e-6, 200_001)
    density = stats.beta.pdf(grid, 900, 100) * grid**47 * (1 - grid) ** 9
    mixed = float(np.trapezoid(density, grid))
    assert sample_ratio(47, 9, 0.9).p_value == pytest.approx(min(1.0, 0.9**47 * 0.1**9 / mixed), rel=1e-4)
    rng = np.random.default_rng(2)
    false = 0
    for _ in range(400):
        treated = np.cumsum(rng.binomial(100, 0.95, 60))
        false += any(sample_ratio(int(n), 100 * day - int(n), 0.95).mismatch for day, n in enumerate(treated, 1))
    assert false <= 400 * RATIO_ALPHA + 2 * sqrt(400 * RATIO_ALPHA)


def test_a_lost_twentieth_of_one_arm_is_noticed() -> None:
    found = sample_ratio(47_500, 50_000, 0.5)
    assert found.mismatch
    low, high = proportion_confint(47_500, 97_500, 0.001, method="wilson")
    assert not low <= 0.5 <= high
    assert not sample_ratio(10_050, 9_950, 0.5).mismatch
    with pytest.raises(ValueError, match="is invalid"):
        sample_ratio(1, 1, 1.0)


def test_preference_by_hand() -> None:
    found = preference(
        [
            ListCredit("a", 2, 1), ListCredit("a", 0, 1), ListCredit("a", 3, 0), ListCredit("b", 1, 0), ListCredit("b", 1, 1),
            ListCredit("c", 0, 0), ListCredit("c", 1, 0, competing=False), ListCredit("d", 0, 2),
        ]
    )  # fmt: skip
    assert found.score == pytest.approx((1 + 1 - 1) / 5)
    assert (found.people, found.lists, found.ties, found.nothing, found.same) == (3, 5, 1, 1, 1)
    assert found.interval == UNKNOWN, "three people are no interval"
    orders = preference([ListCredit("a", 1, 0), ListCredit("a", 0, 1), ListCredit("b", 2, 0)], per_person=True)
    assert (orders.score, orders.people, orders.ties) == (1.0, 1, 1)
    assert preference([]).people == 0


def interleaved(seed: int, liking: float, people: int = 600) -> list[ListCredit]:
    """Lists of which the personalized half is clicked `liking` times as often; people search once to eight times."""
    rng = np.random.default_rng(seed)
    found = []
    for person in range(people):
        base = rng.beta(2, 8)
        found += [
            ListCredit(str(person), rng.binomial(5, min(1, base * liking)), rng.binomial(5, base))
            for _ in range(rng.integers(1, 9))
        ]
    return found


def test_a_preference_without_a_difference_is_nobody_s_and_a_real_one_is_found() -> None:
    false = found = 0
    for seed in range(40):
        false += preference(interleaved(seed, 1.0)).interval.excludes(0.0)
        found += preference(interleaved(seed, 1.4)).interval.low > 0.0
    assert false <= at_most(40)
    assert found >= 32


def test_slots_are_weighed_as_an_independent_sum_and_hit_the_uniform_value() -> None:
    """A drawing rule that favours what is clicked: the unweighted mean is the rule's, the weighted one a uniform draw's."""
    rng = np.random.default_rng(4)
    clicked = np.array([0.02, 0.05, 0.05, 0.1, 0.3])
    rule = clicked / clicked.sum()
    drawn = rng.choice(5, 40_000, p=rule)
    rewards = rng.random(40_000) < clicked[drawn]
    found = slot_value(
        [
            DrawnSlot(str(at % 900), float(rule[one]), float(reward))
            for at, (one, reward) in enumerate(zip(drawn, rewards, strict=True))
        ]
    )
    assert found.drawn == pytest.approx(float((rule * clicked).sum()), abs=4 * found.drawn_error)
    assert found.uniform == pytest.approx(float(clicked.mean()), abs=4 * found.uniform_error)
    assert abs(found.drawn - found.uniform) > 10 * found.uniform_error
    weights = 1 / rule[drawn]
    assert found.effective_slots == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
    assert found.uniform == pytest.approx(np.average(rewards, weights=weights))
    assert found.clipped == 0


def test_improbable_draws_are_clipped_and_impossible_ones_left_out() -> None:
    slots = [DrawnSlot("a", 0.5, 0.0)] * 50 + [
        DrawnSlot("b", 1e-6, 1.0),
        DrawnSlot("b", 0.0, 1.0),
        DrawnSlot("b", 1.5, 1.0),
    ]
    found = slot_value(slots)
    assert (found.slots, found.clipped, found.invalid) == (51, 1, 2)
    assert found.uniform == pytest.approx(40 / 140)
    assert slot_value([]).slots == 0


def test_a_lift_s_interval_is_that_of_the_logarithm() -> None:
    effect = Effect(mean(np.array([1.0, 3.0] * 200)), mean(np.array([1.0, 2.0] * 200)))
    found = effect.lift_interval()
    middle = sqrt((1 + found.low) * (1 + found.high))
    assert middle == pytest.approx(1 + effect.lift)
    assert (1 + found.high) / middle == pytest.approx(exp(widening(800) * effect.log_standard_error()))
    assert Effect(mean(np.ones(400)), mean(np.zeros(400))).lift_interval() == UNKNOWN


def test_few_buyers_make_no_interval_and_a_template_that_ends_all_buying_does() -> None:
    few = np.array([1.0] * 15 + [0.0] * 985)
    assert Effect(mean(few), mean(few)).interval() == UNKNOWN
    assert Effect(mean(few), mean(few)).p_value() == 1.0
    one_pays_all = np.array([1e6] + [1.0] * 999)
    assert Effect(mean(one_pays_all), mean(one_pays_all)).interval() == UNKNOWN
    many = np.array([1.0] * 100 + [0.0] * 900)
    assert Effect(mean(many * 0), mean(many)).interval().high < 0.0
