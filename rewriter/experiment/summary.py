"""The report of an experiment: from records to a verdict, in reading order.

The sample ratio comes first: if the arms' sizes contradict the assigned share, a difference between the arms is not an effect, and
no lift is shown. Then come the guardrails, the verdict on the primary measure, and the other measures. People are the unit
throughout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import ceil, inf, isfinite
from typing import Any

import numpy as np

from rewriter.experiment.estimates import Effect, adjusted_p, mean, ratio, winsorized
from rewriter.experiment.interleaving import Preference
from rewriter.experiment.narrowing import Narrowing, narrowing_of
from rewriter.experiment.people import MEASURES, Measure, People, adjusted_effect, effect_of, measure_of
from rewriter.experiment.records import Records
from rewriter.experiment.sample_ratio import SampleRatio, sample_ratio
from rewriter.experiment.sections import (
    MAX_ADDED_P99_MS,
    Guardrail,
    Segment,
    guardrails_of,
    interleaving_of,
    segments_of,
    slots_of,
)
from rewriter.experiment.sequences import PLANNED_PEOPLE, people_needed
from rewriter.experiment.slot_value import SlotValue
from rewriter.experiment.window import Diversity, diversity_of
from rewriter.plural import count_of

EFFECT = 0.02
"""The smallest lift worth knowing: "cannot tell yet" gives the time until a lift of this size would show."""
PRIMARY = ("conversion", "clicks_per_search")
"""Candidates of the primary measure: the first one that enough people carry is used."""


@dataclass(frozen=True, slots=True)
class Look:
    """The primary measure at the end of a day."""

    day: str
    people: int
    lift: float | None
    low: float | None
    high: float | None


@dataclass(slots=True)
class Summary:
    """The whole report as plain data."""

    verdict: str = "none"
    sentence: str = ""
    reasons: list[str] = field(default_factory=list)
    first_day: str = ""
    last_day: str = ""
    people: int = 0
    searches: int = 0
    ratio: SampleRatio | None = None
    guardrails: list[Guardrail] = field(default_factory=list)
    primary: Measure | None = None
    looks: list[Look] = field(default_factory=list)
    days_needed: int | None = None
    effect: float = EFFECT
    clicks: Preference | None = None
    orders: Preference | None = None
    secondary: list[Measure] = field(default_factory=list)
    filters: list[dict[str, Any]] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    slots: SlotValue | None = None
    diversity: dict[str, Diversity] = field(default_factory=dict)
    narrowing: Narrowing | None = None
    segments: list[Segment] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON: numbers that are not finite are None."""
        plain: dict[str, Any] = _plain(asdict(self))
        if self.ratio is not None:
            plain["ratio"] |= {"share": self.ratio.share, "mismatch": self.ratio.mismatch}
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def summarize(
    records: Records,
    *,
    expected_share: float | None = None,
    effect: float = EFFECT,
    planned_people: float = PLANNED_PEOPLE,
    primary: str | None = None,
    max_added_ms: float = MAX_ADDED_P99_MS,
    catalogue_size: int = 0,
) -> Summary:
    """Return the report.

    expected_share: the treated arm's assigned share, by default from the holdout in the records.
    primary: one of MEASURES, to be chosen before the data are seen; by default the first of PRIMARY that enough people carry.
    max_added_ms: the limit of the 99th percentile of the added latency.
    catalogue_size: the number of items that coverage and Gini refer to; by default, or if more were shown, the shown ones.
    """
    found = Summary(effect=effect, filters=[asdict(one) for one in records.filters], findings=list(records.findings))
    found.searches = records.value("SELECT count(*) FROM searches") or 0
    first, last = records.rows("SELECT min(moment), max(moment) FROM searches")[0]
    found.first_day, found.last_day = (str(one)[:10] if one else "" for one in (first, last))
    people = People(records)
    found.people = people.count
    found.reasons = list(records.no_verdict)
    share = expected_share if expected_share is not None else _expected_share(records)
    if share is not None and people.both and not 0.0 < share < 1.0:
        found.reasons.append(
            f"both arms have people, although a share of {1.0 - share:.0%} was held out: give the right share by --holdout"
        )
    elif share is None and people.both:
        found.reasons.append("the records do not contain the share that was held out: give --holdout")
    elif share is not None and people.both:
        found.ratio = sample_ratio(int(people.treated.sum()), int((~people.treated).sum()), share)
        if found.ratio.mismatch:
            found.reasons.append(
                f"the sample ratio is off: {found.ratio.share:.2%} of the people are treated where {share:.2%} were assigned "
                f"(p {found.ratio.p_value:.1g}), so the arms cannot be compared; look for lost records, crashes of one arm, bots"
            )
    found.guardrails = guardrails_of(records, people, planned_people, max_added_ms)
    found.slots = slots_of(records)
    found.clicks, found.orders = interleaving_of(records, planned_people)
    found.diversity = diversity_of(records, catalogue_size)
    found.narrowing = narrowing_of(records, max((one.sampled for one in found.diversity.values()), default=1.0))
    if not found.reasons:
        _lifts(found, records, people, planned_people, primary)
    _judge(found)
    return found


def _expected_share(records: Records) -> float | None:
    """Return the assigned treated share: the mean over people of the share at each person's first search."""
    held: float | None = records.value(
        "SELECT avg(holdout) FROM (SELECT arg_min(holdout, moment) AS holdout FROM searches "
        "WHERE holdout IS NOT NULL GROUP BY unit)"
    )
    return None if held is None else 1.0 - held


def _lifts(found: Summary, records: Records, people: People, planned_people: float, chosen_primary: str | None) -> None:
    effects = {name: effect_of(people, name) for name in MEASURES}
    primary = chosen_primary or next((name for name in PRIMARY if effects[name].enough), PRIMARY[0])
    adjusted = adjusted_effect(people, primary)
    chosen, explained = adjusted.effect, adjusted.explained
    found.primary = measure_of(
        primary, chosen, planned_people, explained, "CUPED: the same people before the experiment" if explained else ""
    )
    # A measure that is 0 for all people, such as carts in a shop without carts, is left out: it must not widen other intervals.
    others = [
        measure_of(name, effect, planned_people)
        for name, effect in effects.items()
        if name != primary and (effect.treated.value > 0.0 or effect.control.value > 0.0)
    ]
    capped, cap, cut = winsorized(people.arms("revenue"))
    if cap:
        note = f"winsorized at the 95th percentile of those who paid, {cap:.2f}: {count_of(cut, 'person')} cut"
        others.append(measure_of("revenue_per_person", Effect(*map(mean, capped)), planned_people, note=note))
    p_values = adjusted_p([one.p_value for one in others])
    found.secondary = [
        Measure(**{**asdict(one), "adjusted_p": p})
        for one, p in zip(others, p_values, strict=True)
        if isfinite(one.control)
    ]
    found.looks = _looks(records, primary, planned_people)
    error = chosen.log_standard_error()
    needed = (
        people_needed(float(np.log1p(found.effect)), error, chosen.people, planned_people=planned_people)
        if isfinite(error)
        else inf
    )
    days = max(1, len(found.looks))
    if isfinite(needed):
        found.days_needed = max(0, ceil((needed - chosen.people) / (chosen.people / days)))
    found.segments = segments_of(records, people, primary, planned_people)


def _looks(records: Records, primary: str, planned_people: float) -> list[Look]:
    """Return the primary measure at the end of each day, over everything that people had done until then."""
    columns = records.columns(
        """
        SELECT dense_rank() OVER (ORDER BY unit) - 1 AS person, arm = 'treatment' AS treated, day::VARCHAR AS day,
          dense_rank() OVER (ORDER BY day) - 1 AS look, searches::DOUBLE AS searches, clicks::DOUBLE AS clicks,
            clicked::DOUBLE AS clicked,
          carts::DOUBLE AS carts, purchases::DOUBLE AS purchases FROM days ORDER BY day
        """
    )
    people = int(columns["person"].max()) + 1 if len(columns["person"]) else 0
    treated = np.zeros(people, dtype=bool)
    treated[columns["person"]] = columns["treated"]
    numerator, denominator = MEASURES[primary]
    sums = {name: np.zeros(people) for name in ("searches", "purchases", "clicks", "clicked", "carts")}
    found = []
    for at in range(int(columns["look"].max()) + 1 if people else 0):
        today = columns["look"] == at
        for name, values in sums.items():
            np.add.at(values, columns["person"][today], columns[name][today])
        came = sums["searches"] > 0
        value = (sums["purchases"] > 0).astype(np.float64) if numerator == "bought" else sums[numerator]
        arms = [(value[came & which], sums[denominator or "searches"][came & which]) for which in (treated, ~treated)]
        if min(len(one) for one, _ in arms) < 2:
            continue
        effect = Effect(*(ratio(x, y) if denominator else mean(x) for x, y in arms))
        one = measure_of("", effect, planned_people)
        found.append(Look(str(columns["day"][today][0]), effect.people, one.lift, one.low, one.high))
    return found


def _judge(found: Summary) -> None:
    """Write the verdict as a sentence. Harm is reported as soon as it is known; help only if no guardrail is broken."""
    primary = found.primary
    broken = [one for one in found.guardrails if one.ok is False]
    if found.reasons or primary is None:
        found.verdict = "none"
        found.sentence = "No verdict: " + "; ".join(found.reasons or ["there is no data to compare"]) + "."
        return
    name = primary.name.replace("_", " ")
    broken_names = f"A guardrail is broken ({', '.join(one.name for one in broken)})"
    if primary.low is None or primary.high is None:
        found.verdict = "harms" if broken else "cannot tell yet"
        too_few = f"too few people in an arm, or too few of them who contribute to {name}, for an interval"
        found.sentence = (
            f"{broken_names}; the effect is not known yet: {too_few}." if broken else f"Cannot tell yet: {too_few}."
        )
        return
    changes = f"{name} changes by {primary.lift or 0.0:+.1%}, between {primary.low:+.1%} and {primary.high:+.1%}"
    if primary.high < 0.0:
        found.verdict = "harms"
        found.sentence = f"It harms: {changes} with 95 %."
    elif broken:
        found.verdict = "harms"
        found.sentence = f"{broken_names}; {changes}."
    elif primary.low > 0.0:
        found.verdict = "helps"
        found.sentence = f"It helps: {changes} with 95 %."
    else:
        found.verdict = "cannot tell yet"
        longer = _longer(found.days_needed)
        found.sentence = f"Cannot tell yet: {changes}. To tell a lift of {found.effect:.1%} from none takes {longer}."


def _longer(days: int | None) -> str:
    if not days:
        return "no longer: a lift of this size would have shown"
    return (
        f"about {count_of(days, 'more day')} at this traffic"
        if days <= 365
        else "more than a year at this traffic: too few people search"
    )
