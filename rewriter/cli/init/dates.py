"""The choice of the listing date: in most documents, spread over more than a day, and in the past. Pure."""

from __future__ import annotations

from rewriter.cli.init.choices import Chosen, LeftOut
from rewriter.cli.init.fields import why_dead_date
from rewriter.cli.init.figures import day_of, share_of
from rewriter.cli.init.index_profile import FieldDates, IndexProfile
from rewriter.cli.init.names import suggests_listing_date
from rewriter.toml_text import quoted

MAX_AHEAD = 0.05
MIN_DATED = 0.3
DAY_S = 86_400.0


def listing_date(profile: IndexProfile, now_s: float) -> tuple[Chosen, float, list[LeftOut]]:
    """Return the listing date, the age of the newest quarter in seconds, and the other dates."""
    fitting: list[FieldDates] = []
    others: list[LeftOut] = []
    for one in sorted(profile.dates.values(), key=lambda one: one.name):
        if why := _why_no_listing_date(one, profile):
            others.append(LeftOut(one.name, why))
        else:
            fitting.append(one)
    if not fitting:
        return (
            Chosen("", "no date looks like the time of a listing" if profile.dates else "no date is mapped"),
            0.0,
            others,
        )
    ranked = sorted(fitting, key=lambda one: (-suggests_listing_date(one.name), -one.documents, one.half_s, one.name))
    best = ranked[0]
    others += [LeftOut(one.name, f"{_span(one, profile)}; {quoted(best.name)} fits better") for one in ranked[1:]]
    by_name = ", and its name suggests it" if suggests_listing_date(best.name) > 0 else ""
    return (
        Chosen(best.name, f"{_span(best, profile)}, {best.ahead:,} lie ahead{by_name}"),
        now_s - best.quarter_s,
        others,
    )


def _why_no_listing_date(one: FieldDates, profile: IndexProfile) -> str:
    if dead := why_dead_date(one.name, profile):
        return dead
    if one.ahead > MAX_AHEAD * one.documents:
        return f"{_span(one, profile)}; {share_of(one.ahead, one.documents)} lie ahead, so it is not a listing date"
    if one.documents < MIN_DATED * profile.measured:
        return f"only {share_of(one.documents, profile.measured)} of the documents have it"
    if one.last_s - one.first_s < DAY_S and one.documents > 1:
        return f"{_span(one, profile)}: all within a day, like the time of an import"
    if suggests_listing_date(one.name) < 0:
        return f"{_span(one, profile)}; by its name it is not a listing date"
    return ""


def _span(one: FieldDates, profile: IndexProfile) -> str:
    return (
        f"{day_of(one.first_s)} to {day_of(one.last_s)} in {share_of(one.documents, profile.measured)} of the documents"
    )
