"""All choices of `rewriter init` for one index: by its figures, or by names alone if it is empty. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from rewriter.cli.init.choices import Choices, Chosen, Facet, ItemChoice, LeftOut
from rewriter.cli.init.classes import category_of, combination_of
from rewriter.cli.init.dates import listing_date
from rewriter.cli.init.facets import MAX_FACETS, found_facets, kept_facets, with_names
from rewriter.cli.init.fields import unusable, why_dead, why_dead_date
from rewriter.cli.init.index_profile import IndexProfile
from rewriter.cli.init.items import item_of
from rewriter.cli.init.names import (
    suggests_class,
    suggests_facet,
    suggests_listing_date,
    suggests_person,
    suggests_technical,
)
from rewriter.index_facts import WHOLE_VALUES


def choose(profile: IndexProfile, now_s: float) -> Choices:
    """Return the choices for an index. The same figures give the same choices."""
    if not profile.documents:
        return _by_names(profile)
    facets, left_out = found_facets(profile)
    category = category_of(profile, facets)
    kept = kept_facets(facets, category, profile)
    left_out += [
        LeftOut(one.field, f"{one.why}; left out since {MAX_FACETS} fields are enough to begin with", is_possible=True)
        for one in facets
        if one not in kept
    ]
    date, fresh_s, other_dates = listing_date(profile, now_s)
    item, more = item_of(profile)
    named = with_names(kept)
    others = {one.field: one for one in [*left_out, *other_dates, *more, *unusable(profile)] if one.field != item.field}
    return Choices(
        tuple(named),
        combination_of(named, category, profile),
        category,
        date,
        fresh_s,
        item,
        tuple(others[name] for name in sorted(others)),
    )


def _by_names(profile: IndexProfile) -> Choices:
    """Return the choices for an index without documents, which has only field names and types."""
    why = "the index holds no document yet: chosen by its name and type alone"
    fields: dict[str, str] = {}
    dates: list[str] = []
    left_out = list(_unusable_when_empty(profile))
    for name, kind in sorted(profile.facts.fields.items()):
        if kind in WHOLE_VALUES and not why_dead(name, profile) and name not in profile.alias_fields:
            if suggests_facet(name) and not suggests_person(name) and not suggests_technical(name):
                fields.setdefault(profile.source_field(name), name)
            else:
                left_out.append(
                    LeftOut(name, "its name does not suggest a property that people choose by", is_possible=True)
                )
        elif kind in ("date", "date_nanos") and not why_dead_date(name, profile) and suggests_listing_date(name) > 0:
            dates.append(name)
    chosen = with_names([Facet("", name, (), why) for name in list(fields.values())[:MAX_FACETS]])
    left_out += [LeftOut(name, why, is_possible=True) for name in list(fields.values())[MAX_FACETS:]]
    classes = [one for one in chosen if suggests_class(one.field)]
    category = (
        Chosen(profile.source_field(classes[0].field), why) if classes else Chosen("", "no field is named like a class")
    )
    date = Chosen(dates[0], why) if dates else Chosen("", "no date is named like the time of a listing")
    item = ItemChoice("_id", "the id of the document, by which events name what was viewed or bought")
    combination = combination_of(chosen, category, profile)
    return Choices(tuple(chosen), combination, category, date, 0.0, item, tuple(left_out))


def _unusable_when_empty(profile: IndexProfile) -> Iterator[LeftOut]:
    for one in unusable(profile):
        if "nested" in profile.facts.kinds(one.field) or "flat_object" in profile.facts.kinds(one.field):
            yield one
