"""The figures of an evaluation for JSON: measures by slice with intervals, diversity, displacement, query classes. Pure.

Slices:
    all           every search
    new           only those relevant documents count that the person had not used before the search
    cold          searches of people with fewer than COLD_EVENTS earlier events
    first search  the first search for its words, when a policy with a `class_field` does not know their classes yet
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewriter.evaluate.arrays import Numbers
from rewriter.evaluate.intervals import Paired, paired
from rewriter.evaluate.judged import only
from rewriter.evaluate.outcome import COLD_EVENTS, Outcome, Result
from rewriter.evaluate.scores import measure_names, scored
from rewriter.evaluate.variants import Variant
from rewriter.evaluate.verdict import class_effect, verdict
from rewriter.measures.bubble import rank_biased_overlap
from rewriter.measures.diversity import coverage_at, item_ages, normalized_entropy
from rewriter.plural import agreeing, count_of
from rewriter.report import Reason

SLICES = ("all", "new", "cold", "first search")
DIGITS = 6
MIN_CLASS_PEOPLE = 10
MAX_CLASSES = 40
YOUNG_DAYS = 30.0
MUCH = 0.5
"""Share of the searches by one person from which on a warning is given."""

Scores = Mapping[str, Mapping[str, Numbers]]
"""By slice and measure: a number for each search, nan outside the slice."""


def figures(
    outcome: Outcome, variants: Sequence[Variant], k: int, seed: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the figures of a run, and one record for each search. Neither holds an identifier of a person, nor a duration."""
    done = outcome.done
    people = np.array([outcome.prepared[at].person for at in done], np.int64)
    base = _scores(outcome, outcome.baseline, done, k)
    known = {one.name: _scores(outcome, outcome.variants[one.name], done, k) for one in variants}
    names = measure_names(k)
    policies = []
    for one in variants:
        compared = known[one.of] if one.explores else base
        compared_result = outcome.variants[one.of] if one.explores else outcome.baseline
        policies.append(
            _variant(outcome, one, done, people, known[one.name], compared, compared_result, names, k, seed)
        )
    found = {
        "format": 1,
        "k": k,
        "measure": names[0],
        "searches": len(done),
        "people": len(set(people.tolist())),
        "judgments": sum(len(outcome.prepared[at].judged.relevant) for at in done),
        "complete": not outcome.interrupted,
        "left_out": dict(sorted(outcome.left_out.items())),
        "baseline": {
            part: {
                name: _number(np.nanmean(column)) if (~np.isnan(column)).any() else None for name, column in own.items()
            }
            for part, own in base.items()
        },
        "policies": policies,
        "warnings": warnings(outcome, done),
    }
    return found, _records(outcome, variants, done, base, known, names[0])


def warnings(outcome: Outcome, done: Sequence[int]) -> list[str]:
    """Return the reasons not to trust the figures."""
    found = []
    if outcome.interrupted:
        found.append(
            f"interrupted: {len(done):,} of {count_of(len(outcome.prepared), 'search')} {agreeing(len(done), 'were')} "
            "answered, and the figures are of these alone"
        )
    found += failures(outcome)
    found += of_few([outcome.prepared[at].person for at in done])
    if undated := sum(outcome.prepared[at].judged.at_s is None for at in done):
        found.append(
            f"{count_of(undated, 'search', 'have')} no time: their signals hold all of the history, and if the judgments"
            " come from it, the signals hold the outcome too"
        )
    subjects = [outcome.prepared[at].judged.subject for at in done if outcome.prepared[at].known is None]
    if silent := sum(bool(one.segments) and outcome.segments.isdisjoint(one.segments) for one in subjects):
        found.append(
            f"{count_of(silent, 'search', 'are')} of people whom the history does not know, in segments that no event of "
            "the history "
            "names: nothing personalizes them. A column `segments` of the history names each event's"
        )
    unknown = sum(outcome.prepared[at].known is None for at in done)
    if unknown:
        found.append(
            f"{unknown:,} of {count_of(len(done), 'search')} {agreeing(unknown, 'are')} of people whom the history does not know"
        )
    return found


def failures(outcome: Outcome) -> list[str]:
    """Return a warning for each way in which variants failed, with their names."""
    named: dict[str, list[str]] = {}
    for name, result in outcome.variants.items():
        if words := result.failed_in_words("search"):
            named.setdefault(words, []).append(name)
    return [f"{', '.join(names)} {words}" for words, names in named.items()]


def of_few(people: Sequence[int]) -> list[str]:
    """Return a warning if one person made most of the searches. people: the person of each search."""
    per_person = Counter(people)
    if len(per_person) == 1:
        return ["one person made all searches: there are no intervals, and nothing is known of other people"]
    if per_person and (most := per_person.most_common(1)[0][1]) > MUCH * len(people):
        return [f"one person made {most / len(people):.0%} of the searches: the figures are mostly of that person"]
    return []


def _variant(
    outcome: Outcome,
    variant: Variant,
    done: Sequence[int],
    people: NDArray[np.int64],
    own: Scores,
    base: Scores,
    base_result: Result,
    names: Sequence[str],
    k: int,
    seed: int,
) -> dict[str, Any]:
    result = outcome.variants[variant.name]
    reasons = Counter(str(result.reasons[at]) for at in done)
    measures = {
        part: {name: _paired(paired(own[part][name], base[part][name], people, seed=seed)) for name in names}
        for part in SLICES
    }
    functions = sorted(result.functions[at] for at in done)
    found: dict[str, Any] = {
        "name": variant.name,
        "compared_with": variant.of if variant.explores else "baseline",
        "variation_of": "" if variant.explores else variant.of,
        "explores": variant.explores,
        "placebo": variant.placebo,
        "personalized": _number(reasons[str(Reason.PERSONALIZED)] / len(done)) if done else None,
        "reasons": dict(sorted(reasons.items())),
        "details": dict(result.details.most_common(5)),
        "median_functions": functions[len(functions) // 2] if functions else 0,
        "slots_per_page": _number(sum(result.slots[at] for at in done) / len(done)) if done else None,
        "measures": measures,
        "page": _pages(result, base_result, done, k),
    }
    if not variant.explores:
        column, before = own["all"][names[0]], base["all"][names[0]]
        found["classes"] = _classes(outcome, done, people, column, before, seed)
    found["verdict"] = verdict(found, names[0])
    return found


def _scores(outcome: Outcome, result: Result, done: Sequence[int], k: int) -> Scores:
    prepared = outcome.prepared
    pages = [result.pages[at] for at in done]
    graded = [prepared[at].judged.relevant for at in done]
    first = [at for at in done if prepared[at].is_first]
    every = scored(pages, graded, k)
    cold = np.array([outcome.events[at] < COLD_EVENTS for at in done], bool)
    firsts = scored(
        [result.firsts.get(at, result.pages[at]) for at in first], [prepared[at].judged.relevant for at in first], k
    )
    is_first = np.array([prepared[at].is_first for at in done], bool)
    return {
        "all": every,
        "new": scored(pages, [only(prepared[at].judged, outcome.new[at]) for at in done], k),
        "cold": {name: np.where(cold, column, np.nan) for name, column in every.items()},
        "first search": {name: _at(is_first, column) for name, column in firsts.items()},
    }


def _at(where: NDArray[np.bool_], values: Numbers) -> Numbers:
    column = np.full(len(where), np.nan)
    column[where] = values
    return column


def _pages(result: Result, base: Result, done: Sequence[int], k: int) -> dict[str, Any]:
    """Return the displacement of the pages against those compared with, and the diversity of both."""
    pairs = [(result.pages[at][:k], base.pages[at][:k]) for at in done]
    kept = [len(set(one) & set(other)) / max(1, len(other)) for one, other in pairs]
    overlaps = [rank_biased_overlap(one, other) for one, other in pairs]
    found: dict[str, Any] = {
        "changed": _mean([one != other for one, other in pairs]),
        f"overlap@{k}": _mean(kept),
        "rank_biased_overlap": _mean(overlaps),
    }
    for name, own in (("", result), ("baseline_", base)):
        shown = [own.categories[at][:k] for at in done if any(one is not None for one in own.categories[at][:k])]
        entropies = [one for page in shown if (one := normalized_entropy(page)) is not None]
        found[f"{name}categories@{k}"] = _mean([coverage_at(page, k) for page in shown])
        found[f"{name}normalized_entropy@{k}"] = _mean(entropies)
        unlike = [one for at in done if (one := own.unlike[at]) is not None]
        found[f"{name}intra_list_diversity@{k}"] = _mean(unlike)
        ages = item_ages((age for at in done for age in own.ages_days[at][:k]), YOUNG_DAYS)
        found[f"{name}item_age_median_days"] = _number(ages.median_days) if ages else None
        found[f"{name}item_age_p90_days"] = _number(ages.p90_days) if ages else None
        found[f"{name}young_share"] = _number(ages.young_share) if ages else None
    return found


def _classes(
    outcome: Outcome, done: Sequence[int], people: NDArray[np.int64], own: Numbers, base: Numbers, seed: int
) -> list[dict[str, Any]]:
    """Return the classes of queries, those of most searches first, with intervals that hold for all of them together."""
    by_class: dict[str, list[int]] = {}
    for at, number in enumerate(done):
        if name := outcome.classes[number]:
            by_class.setdefault(name, []).append(at)
    largest = sorted(by_class.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    enough = [(name, rows) for name, rows in largest if len(set(people[rows].tolist())) >= MIN_CLASS_PEOPLE][
        :MAX_CLASSES
    ]
    found = []
    for name, rows in enough:
        one = paired(own[rows], base[rows], people[rows], seed=seed, level=1.0 - 0.05 / len(enough))
        found.append({"name": name, **_paired(one), "effect": class_effect(one.low, one.high)})
    few = sum(len(rows) for _, rows in largest) - sum(len(rows) for _, rows in enough)
    if few:
        found.append({"name": "", "searches": few, "effect": "too few"})
    return found


def _records(
    outcome: Outcome,
    variants: Sequence[Variant],
    done: Sequence[int],
    base: Scores,
    known: Mapping[str, Scores],
    name: str,
) -> list[dict[str, Any]]:
    """Return each search's result, without words, people and times."""
    found = []
    for at, number in enumerate(done):
        one = outcome.prepared[number]
        ways = {"baseline": (outcome.baseline, base)} | {
            v.name: (outcome.variants[v.name], known[v.name]) for v in variants
        }
        found.append(
            {
                "search": one.judged.search_id,
                "person": one.person,
                "events_before": outcome.events[number],
                "class": outcome.classes[number],
                "relevant": sorted(one.judged.positive),
                "new": sorted(outcome.new[number]),
                "first": one.is_first,
                "pages": {way: result.pages[number] for way, (result, _) in ways.items()},
                name: {way: _number(scores["all"][name][at]) for way, (_, scores) in ways.items()},
            }
        )
    return found


def _paired(one: Paired) -> dict[str, Any]:
    return {
        "mean": _number(one.value),
        "compared": _number(one.base),
        "difference": _number(one.difference),
        "low": _number(one.low),
        "high": _number(one.high),
        "ratio": _number(one.ratio),
        "ratio_low": _number(one.ratio_low),
        "ratio_high": _number(one.ratio_high),
        "searches": one.searches,
        "people": one.people,
    }


def _mean(values: Sequence[float]) -> float | None:
    return _number(sum(values) / len(values)) if values else None


def _number(value: Any) -> float | None:
    found = float(value)
    return round(found, DIGITS) if isfinite(found) else None
