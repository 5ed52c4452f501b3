"""The document fields by which an evaluation measures the diversity of pages: category, signal fields, date."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rewriter.evaluate.outcome import Result
from rewriter.measures.ages import age_days
from rewriter.measures.attributes import Paths, attribute_paths, attribute_values, attributes_of
from rewriter.measures.diversity import intra_list_diversity
from rewriter.settings import PolicySettings
from rewriter.signals.query_classes import class_name

Hits = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class ShownFields:
    """The document fields that are read of each hit. category, date: "" for none. source: all fields that `_source` must hold."""

    category: str
    date: str
    attributes: Paths
    source: tuple[str, ...]

    def categories(self, hits: Hits) -> list[str | None]:
        """Return each hit's category, None where it is unknown."""
        return [class_name(_first(hit, self.category)) for hit in hits]

    def note(self, result: Result, number: int, hits: Hits, at_s: float, k: int) -> None:
        """Note what the hits of a search show. at_s: its time, as of which ages are. k: the depth of intra-list diversity."""
        result.categories[number] = self.categories(hits)
        values = [attribute_values(hit.get("_source"), self.attributes) for hit in hits[:k]]
        result.unlike[number] = intra_list_diversity([attributes_of(one) for one in values])
        result.ages_days[number] = [age_days(_first(hit, self.date), at_s) for hit in hits]


def shown_fields(policies: Sequence[PolicySettings]) -> ShownFields:
    """Return the fields of all policies together: the first category and date that one names, and the attributes of each."""
    category = next((one for policy in policies for one in (policy.category_field, policy.class_field) if one), "")
    date = next((one.date_field for one in policies if one.date_field), "")
    named = [(one.category_field, *(path for its in one.fields.values() for path in its.of)) for one in policies]
    attributes = attribute_paths(path for own in named for path in own)
    every = [category, date, *(one.class_field or "" for one in policies), *(".".join(path) for path in attributes)]
    return ShownFields(category, date, attributes, tuple(dict.fromkeys(filter(None, every))))


def _first(hit: Mapping[str, Any], path: str) -> Any:
    """Return a field's value in a hit's `_source`, of a list the first; None for no field."""
    if not path:
        return None
    values = attribute_values(hit.get("_source"), (tuple(path.split(".")),))
    value = values[0] if values else None
    return (value[0] if value else None) if isinstance(value, tuple) else value
