"""The choice of the class field: documents of one class have few of the values of finer fields. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from rewriter.cli.init.choices import Chosen, Facet
from rewriter.cli.init.figures import share_of
from rewriter.cli.init.index_profile import FieldValues, IndexProfile
from rewriter.cli.init.names import suggests_class
from rewriter.plural import count_of

MIN_COVERAGE = 0.5
MIN_VALUES, MAX_VALUES = 3, 1_000
MIN_IN_CLASS = 10.0
SEVERAL = 1.2
"""Mean number of classes per document from which on documents count as having several."""
NARROWS = 0.8
"""A field without a name of a class is chosen only if documents of one of its values have at most this share of the values of
finer fields that chance would give."""


def category_of(profile: IndexProfile, facets: Sequence[Facet]) -> Chosen:
    """Return the class field: the one within whose values finer facets have the fewest values."""
    ranked: list[tuple[float, int, str, float | None]] = []
    for one in (profile.values[facet.field] for facet in facets):
        is_named = suggests_class(one.name)
        if not _may_class(one, profile.measured, is_named=is_named):
            continue
        finer = [
            ratio
            for (own, other), ratio in profile.narrowing.items()
            if own == one.name
            and profile.values[other].distinct > one.distinct
            and any(facet.field == other for facet in facets)
        ]
        narrowing = mean(finer) if finer else None
        if is_named or (narrowing is not None and narrowing <= NARROWS):
            rank = (1.0 if narrowing is None else narrowing) * (0.5 if is_named else 1.0)
            ranked.append((rank * (1.5 if one.per_document > SEVERAL else 1.0), one.distinct, one.name, narrowing))
    if not ranked:
        return Chosen("", "no field looks like the classes of a catalogue (3 to 1,000 values, in most documents)")
    _, _, name, narrowing = min(ranked, key=lambda one: one[:3])
    return Chosen(profile.source_field(name), _why(profile.values[name], profile.measured, narrowing))


def _may_class(one: FieldValues, documents: int, *, is_named: bool) -> bool:
    return (
        MIN_VALUES <= one.distinct <= MAX_VALUES
        and one.shared_by >= MIN_IN_CLASS
        and one.documents >= MIN_COVERAGE * documents
        and (one.per_document <= SEVERAL or is_named)
    )


def _why(one: FieldValues, documents: int, narrowing: float | None) -> str:
    why = f"{count_of(one.distinct, 'value')} in {share_of(one.documents, documents)} of the documents"
    if narrowing is not None:
        why += (
            f"; documents of one class have {narrowing:.0%} of the values of finer facets that chance would give them"
        )
    if suggests_class(one.name):
        why += "; its name suggests it"
    if one.per_document > SEVERAL:
        why += f"; a document has {one.per_document:.1f} of them on average, and exploration compares the whole list"
    return why


def combination_of(facets: Sequence[Facet], category: Chosen, profile: IndexProfile) -> tuple[Facet, Facet] | None:
    """Return the class with the best other facet."""
    classes = [one for one in facets if category.field and profile.source_field(one.field) == category.field]
    others = [one for one in facets if one not in classes]
    return (classes[0], others[0]) if classes and others else None
