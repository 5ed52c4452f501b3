"""The choice of the field that identifies an item. Pure."""

from __future__ import annotations

from rewriter.cli.init.choices import ItemChoice, LeftOut
from rewriter.cli.init.facets import MIN_SHARED
from rewriter.cli.init.fields import why_dead
from rewriter.cli.init.index_profile import IndexProfile
from rewriter.cli.init.names import suggests_person, suggests_reference
from rewriter.plural import count_of
from rewriter.toml_text import quoted

UNIQUE = 0.97
"""Distinct values per document from which on a field counts as unique: the server's count is exact within a few percent."""


def item_of(profile: IndexProfile) -> tuple[ItemChoice, list[LeftOut]]:
    """Return the field that identifies an item, and advice on fields that identify variants of one."""
    advice = [
        LeftOut(
            one.name,
            f"{count_of(one.distinct, 'value')}, {one.shared_by:.1f} documents a value: if these are variants of one product,"
            f" `item_field = {quoted(one.name)}` makes them one item",
            is_possible=False,
        )
        for one in profile.values.values()
        if suggests_reference(one.name)
        and not why_dead(one.name, profile)
        and 1.5 <= one.shared_by < MIN_SHARED
        and one.documents >= UNIQUE * profile.measured
    ]
    unique = [
        one
        for one in profile.values.values()
        if one.distinct >= UNIQUE * profile.measured
        and one.documents >= UNIQUE * profile.measured
        and suggests_reference(one.name)
        and not suggests_person(one.name)
        and not why_dead(one.name, profile)
    ]
    if profile.has_generated_ids and profile.is_data_stream:
        why = "documents of a data stream with ids that the server made up: nobody returns to one, so items are not boosted"
        return ItemChoice("_id", why, is_boosted=False), advice
    if profile.has_generated_ids and unique:
        best = min(unique, key=lambda one: (profile.source_field(one.name) != one.name, len(one.name), one.name))
        why = (
            f"{count_of(best.distinct, 'value')} in {count_of(best.documents, 'document')}, so it names them; the ids of"
            " the documents are of the form that the server makes up; events name it by `object_id_field`"
        )
        return ItemChoice(best.name, why), advice
    if profile.has_generated_ids:
        return ItemChoice(
            "_id", "the server made the ids up, but no field names each document; events must name these ids"
        ), advice
    return ItemChoice("_id", "the id of the document, by which events name what was viewed or bought"), advice
