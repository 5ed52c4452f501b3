"""docs/season.md and the reports that it links to, written by `make season` from the measured outcomes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from season.parameters import Parameters
from season.run import Outcome

DOCS = Path(__file__).parents[1] / "docs"
TEXT = Path(__file__).with_name("page.txt")


def terminal(one: Outcome) -> str:
    """Return a season in a few lines."""
    expected = " or ".join(sorted(one.variant.verdicts))
    mark = "as expected" if one.as_expected else f"NOT as expected ({expected})"
    lines = [
        f"{one.variant.name}: {one.variant.what}",
        f"  {one.report['sentence']}  [{mark}; there was {one.true_lift:+.1%}]",
        f"  {one.searches:,} searches, {one.events:,} events, {one.took_s:.0f} s, {one.cpu_s:.0f} s of CPU; "
        + ", ".join(f"{name} {count:,}" for name, count in one.reasons.most_common()),
    ]
    return "\n".join(lines)


def write(outcomes: Sequence[Outcome], given: Parameters, folder: Path, took_s: float, docs: Path = DOCS) -> None:
    """Write the page, and copy the reports beside it."""
    (docs / "season").mkdir(exist_ok=True)
    for one in outcomes:
        shutil.copyfile(folder / one.variant.name / "report.html", docs / "season" / f"{one.variant.name}.html")
    (docs / "season.md").write_text(page_of(outcomes, given, took_s), "utf-8")


def page_of(outcomes: Sequence[Outcome], given: Parameters, took_s: float) -> str:
    """Return the page. took_s: the duration of all variants together."""
    visits, clicks, season = given.visits, given.clicks, given.season
    named = {one.variant.name: one for one in outcomes}
    searches, events = (sum(getattr(one, name) for one in outcomes) for name in ("searches", "events"))
    cpu_s = sum(one.cpu_s for one in outcomes)
    cost = (
        f"{searches:,} searches and {events:,} events in {took_s / 60:.0f} minutes, of which the searching processes used "
        f"{cpu_s / 60:.0f} minutes of CPU. Every search has its record and every event was counted; otherwise the run fails."
    )
    return TEXT.read_text("utf-8").format(
        first=given.catalogue.weeks.start, last=given.catalogue.weeks.stop - 1, shared=visits.shared,
        until=given.catalogue.history_weeks, needs=visits.max_needs, again=visits.again, gift=visits.gift, theme=visits.theme,
        drift=visits.drift, examination=clicks.examination, wanted=clicks.wanted, alike=clicks.alike, other=clicks.other,
        holdout=season.holdout, interleaved=season.interleaved, dated=given.dated, seed=season.seed, verdicts=_verdicts(outcomes),
        pages=_pages(outcomes), twins=season.twins, distances=_distances(outcomes),
        cure=slots_effect(named["lift"], named["unexplored"]), cost=cost,
    )  # fmt: skip


def _verdicts(outcomes: Sequence[Outcome]) -> str:
    rows = []
    for one in outcomes:
        report = one.report
        clicks = report["clicks"]
        preferred = "–"
        if clicks is not None and clicks["interval"]["low"] is not None:
            interval = clicks["interval"]
            preferred = f"{clicks['score']:+.2f} ({interval['low']:+.2f} … {interval['high']:+.2f})"
        there = f"{one.true_lift:+.1%}"
        name = f"[{one.variant.name}](season/{one.variant.name}.html)"
        rows.append(
            (name, one.variant.what, f"{report['people']:,}", f"{one.searches:,}", there, report["sentence"], preferred)
        )
    return _table(
        ("season", "what", "people", "searches", "true lift", "verdict of the report", "interleaving, by clicks"), rows
    )


def _pages(outcomes: Sequence[Outcome]) -> str:
    rows = []
    for one in outcomes:
        treated, held = (one.report["diversity"].get(arm) or {} for arm in ("treatment", "holdout"))
        rows.append(
            (
                one.variant.name, _number(treated, "entropy"), _number(held, "entropy"), _number(treated, "coverage"),
                _number(held, "coverage"), _slope(treated, held),
            )
        )  # fmt: skip
    head = (
        "season",
        "treated",
        "held out",
        "manufacturers in ten hits, treated",
        "held out",
        "slope, treated − held out",
    )
    return _table(head, rows)


def _slope(treated: Mapping[str, Any], held: Mapping[str, Any]) -> str:
    if any(one.get("slope") is None or one.get("slope_error") is None for one in (treated, held)):
        return "–"
    error = 1.96 * (treated["slope_error"] ** 2 + held["slope_error"] ** 2) ** 0.5
    return f"{treated['slope'] - held['slope']:+.3f} ± {error:.3f}"


def _number(arm: Mapping[str, Any], name: str) -> str:
    value = arm.get(name)
    return "–" if value is None else f"{value:.3f}"


def _distances(outcomes: Sequence[Outcome]) -> str:
    known = [one for one in outcomes if one.distances]
    weeks = max((len(one.distances) for one in known), default=0)
    rows = [(one.variant.name, *(f"{distance.items:.2f}" for distance in one.distances)) for one in known]
    return _table(("season", *(f"week {number + 1}" for number in range(weeks))), rows)


def slots_effect(explored: Outcome, unexplored: Outcome) -> str:
    """Return sentences on the effect of slots on the bubble: by the distance of twins, and by the variety of pages."""
    on, off = (one.distances[-1].items for one in (explored, unexplored))
    grown = [one.distances[-1].items - one.distances[0].items for one in (explored, unexplored)]
    less = (off - on) / off if off else 0.0
    twins = (
        f"In the last week the pages of twins differ in {on:.0%} of their items with exploration and in {off:.0%} without "
        f"({grown[0]:+.2f} and {grown[1]:+.2f} since the first week)."
    )
    verdict = (
        "There is no distance that slots would have to cure." if off < 0.05
        else f"Slots take {less:.0%} of the distance away. **They do not cure it.**" if less < 0.5
        else f"Slots take {less:.0%} of the distance away."
    )  # fmt: skip
    narrowing = explored.report.get("narrowing")
    pages = f" The report compares the variety of pages: {narrowing_sentence(narrowing)}" if narrowing else ""
    return f"{twins} {verdict}{pages}"


def narrowing_sentence(found: Mapping[str, Any]) -> str:
    """Return the report's sentence on the share of a page's variety that slots give back."""
    from rewriter.experiment.narrowing import Narrowing  # noqa: PLC0415  needs the extra

    return Narrowing(**found).sentence


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
