"""The report as sentences and tables, in one order for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rewriter.experiment.interleaving import Preference
from rewriter.experiment.people import Measure
from rewriter.experiment.summary import Summary
from rewriter.plural import count_of

NAMES = {
    "conversion": "people who bought",
    "clicks_per_search": "clicks per search",
    "searches_clicked": "searches with a click",
    "carts_per_person": "carts per person",
    "orders_per_person": "orders per person",
    "searches_per_person": "searches per person",
    "revenue_per_person": "revenue per person",
}


SHARES = ("young", "catalogue")
"""Measures of diversity that are shares of items."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the report: a heading, sentences, and a table (its first row names the columns)."""

    title: str
    sentences: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = field(default_factory=tuple)


def parts_of(found: Summary) -> list[Part]:
    """Return the report's parts after the verdict, in reading order."""
    parts = [_ratio(found), _guardrails(found)]
    if found.primary is not None:
        parts.append(_primary(found.primary))
    parts += [_interleaving(found)]
    if found.secondary:
        parts.append(_secondary(found))
    parts += [_filters(found), _slots(found), _diversity(found)]
    if found.segments:
        parts.append(_segments(found))
    return [one for one in parts if one.sentences or one.rows]


def _ratio(found: Summary) -> Part:
    ratio = found.ratio
    if ratio is None:
        return Part("Sample ratio", ["There are no two arms to compare."])
    verdict = "does not match" if ratio.mismatch else "matches"
    sentence = (
        f"{count_of(ratio.treated, 'person', 'are')} treated and {ratio.control:,} held out: {ratio.share:.2%} where "
        f"{ratio.expected_share:.2%} were assigned. That {verdict} (p {ratio.p_value:.2g}, valid at every look)."
    )
    return Part("Sample ratio", [sentence])


def _guardrails(found: Summary) -> Part:
    marks = {True: "ok", False: "broken", None: "unknown"}
    return Part(
        "Guardrails",
        rows=[("guardrail", "state", "what"), *((one.name, marks[one.ok], one.what) for one in found.guardrails)]
        if found.guardrails
        else (),
    )


def _primary(one: Measure) -> Part:
    name = NAMES[one.name].capitalize()
    what = f"{name}: {one.treated:.4g} treated, {one.control:.4g} held out; lift {percent(one.lift)}, {between(one)}."
    sentences = [f"{what} The interval holds at all daily looks together (asymptotic confidence sequence, 95 %)."]
    if one.explained > 0.005:
        sentences.append(f"History explains {one.explained:.0%} of the variance ({one.note}).")
    return Part("The primary measure", sentences)


def _interleaving(found: Summary) -> Part:
    rows: list[tuple[str, ...]] = [
        ("by", "preference", "95 % interval", "people", "deciding lists", "ties", "without any", "alike")
    ]
    both = (("clicks", found.clicks), ("orders", found.orders))
    for name, one in both:
        if one is not None and one.people:
            interval = f"{one.interval.low:+.3f} … {one.interval.high:+.3f}" if one.interval.known else "none yet"
            rows.append(
                (
                    name,
                    f"{one.score:+.3f}",
                    interval,
                    *(f"{n:,}" for n in (one.people, one.lists, one.ties, one.nothing, one.same)),
                )
            )
    if len(rows) == 1:
        return Part("Interleaving")
    sentence = [f"By {name}, {_preferred(one)}." for name, one in both if one is not None and one.people]
    what = (
        "A preference above 0 favors the personalized ranking; it does not show how much that is worth. A list decides if one "
        "ranking earns more credit; lists with equal credit (ties), without any, or with two rankings alike do not."
    )
    return Part("Interleaving", [" ".join([what, *sentence])], rows)


def _preferred(one: Preference) -> str:
    if one.interval.low > 0:
        return "people prefer the personalized ranking"
    return "people prefer the caller's own ranking" if one.interval.high < 0 else "no preference is known yet"


def _secondary(found: Summary) -> Part:
    rows = [("measure", "treated", "held out", "lift", "95 % interval", "adjusted p")]
    rows += [
        (
            NAMES[one.name],
            f"{one.treated:.4g}",
            f"{one.control:.4g}",
            percent(one.lift),
            between(one),
            f"{one.adjusted_p:.3g}",
        )
        for one in found.secondary
    ]
    sentences = [
        "p-values are always valid, and adjusted for the number of measures by the method of Benjamini and Hochberg."
    ]
    return Part(
        "Secondary measures",
        sentences + [f"{NAMES[one.name].capitalize()}: {one.note}." for one in found.secondary if one.note],
        rows,
    )


def _filters(found: Summary) -> Part:
    rows = [("filter", "left out", "why")] + [
        (one["name"], f"{one['count']:,} {one['what']}", one["why"]) for one in found.filters
    ]
    return Part("What was left out", [f"{one}." for one in found.findings], rows if len(rows) > 1 else ())


def _slots(found: Summary) -> Part:
    one = found.slots
    if one is None or not one.slots:
        return Part("Exploration slots")
    drawn, uniform = (
        f"{v:.2%} (± {1.96 * e:.2%})" for v, e in ((one.drawn, one.drawn_error), (one.uniform, one.uniform_error))
    )
    what = (
        f"{count_of(one.slots, 'displayed slot', 'were')} clicked in {drawn} of cases. A uniform draw from the same "
        "candidates would "
        f"have had {uniform}, by clipped inverse propensity with an effective sample of "
        f"{count_of(round(one.effective_slots), 'slot')}; "
        f"{count_of(one.clipped, 'weight', 'were')} clipped."
    )
    only = (
        "Slots are the only part of a page whose choice is random and logged, so only their value can be estimated this way. "
        "The intervals here hold for one look."
    )
    sentences = [what, only]
    if one.invalid:
        sentences.append(f"{count_of(one.invalid, 'slot')} had no propensity in (0, 1] and were left out.")
    return Part("Exploration slots", sentences)


def _diversity(found: Summary) -> Part:
    names = {
        "coverage": "categories in the first ten hits",
        "entropy": "normalized entropy of a page",
        "unlike": "intra-list diversity of the first ten hits",
        "age_median_days": "item age, median (days)",
        "age_p90_days": "item age, p90 (days)",
        "young": "items younger than 30 days",
        "catalogue": "catalogue coverage, by as many hits",
        "concentration": "Gini of impressions",
        "slope": "slope of entropy (nats a week)",
        "slope_people": "people with three weeks or more",
    }
    arms = found.diversity
    rows = [("", *arms)]
    for name, text in names.items():
        values = [getattr(one, name) for one in arms.values()]
        if any(value is not None for value in values):
            rows.append(
                (
                    text,
                    *(_of_measure(name, value) for value in values),
                )
            )
    sentences = []
    if any(one.sampled < 1.0 for one in arms.values()):
        sentences.append(
            f"Pages, ages and slopes are of {max(one.sampled for one in arms.values()):.0%} of the people, chosen by hash."
        )
    if found.narrowing is not None:
        sentences.append(found.narrowing.sentence)
    compared = {name: one for name, one in arms.items() if name != "interleaved"}
    if len(compared) == 2 and all(one.slope is not None and one.slope_error is not None for one in compared.values()):
        treated, held = arms["treatment"], arms["holdout"]
        difference = (treated.slope or 0.0) - (held.slope or 0.0)
        error = ((treated.slope_error or 0.0) ** 2 + (held.slope_error or 0.0) ** 2) ** 0.5
        comparison = (
            "is lower than"
            if difference < -1.96 * error
            else "is higher than"
            if difference > 1.96 * error
            else "is not known to differ from"
        )
        sentences.append(
            f"The treated people's slope of entropy {comparison} that of the people held out: {difference:+.4f} ± "
            f"{1.96 * error:.4f} nats a week."
        )
    return Part("Diversity and the bubble", sentences, rows if len(rows) > 1 else ())


def _of_measure(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    if name in SHARES:
        return f"{value:.2%}"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def _segments(found: Summary) -> Part:
    rows = [("of", "part", "people", "lift", "95 % interval")]
    rows += [(one.of, one.name, f"{one.people:,}", percent(one.lift), between(one)) for one in found.segments]
    return Part(
        "Parts", ["Each part by itself, not adjusted for their number: a hint where to look, not a verdict."], rows
    )


def percent(value: float | None) -> str:
    """Return a lift with its sign."""
    return "–" if value is None else f"{value:+.2%}"


def between(one: object) -> str:
    """Return an interval as text."""
    low, high = getattr(one, "low", None), getattr(one, "high", None)
    return "no interval yet" if low is None or high is None else f"{low:+.2%} … {high:+.2%}"
