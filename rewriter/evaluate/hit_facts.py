"""The document fields by which an evaluation measures the diversity of pages: category, signal fields, date."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rewriter.evaluate.outcome import Result
from rewriter.measures.ages import age_days
from rewriter.measures.attributes import Paths, attribute_paths, attribute_values, attributes_of
from rewriter.measures.diversity import intra_list_diversity
from rewriter.settings import PolicySettings
from rewriter.signals.query_classes import class_name

Hits = Sequence[Mapping[str, Any]]


class _HitFacts(NamedTuple):
    category: str | None
    date: Any
    attributes: frozenset[Hashable] | None


@dataclass(frozen=True, slots=True)
class ShownFields:
    """The document fields that are read of each hit. category, date: "" for none. source: all fields that `_source` must hold.

    A document's facts are read once: most hits are on the pages of many searches.
    """

    category: str
    date: str
    attributes: Paths
    source: tuple[str, ...]
    _known: dict[tuple[Any, Any, Any], _HitFacts] = field(default_factory=dict, repr=False, compare=False)

    def categories(self, hits: Hits) -> list[str | None]:
        """Return each hit's category, None where it is unknown."""
        return [self._of(hit).category for hit in hits]

    def note(self, result: Result, number: int, hits: Hits, at_s: float, k: int) -> None:
        """Note what the hits of a search show. at_s: its time, as of which ages are. k: the depth of intra-list diversity."""
        facts = [self._of(hit) for hit in hits]
        result.categories[number] = [one.category for one in facts]
        result.unlike[number] = intra_list_diversity([one.attributes for one in facts[:k]])
        result.ages_days[number] = [age_days(one.date, at_s) for one in facts]

    def _of(self, hit: Mapping[str, Any]) -> _HitFacts:
        key = hit.get("_index"), hit.get("_id"), hit.get("_routing")
        found = self._known.get(key)
        if found is None:
            attributes = attributes_of(attribute_values(hit.get("_source"), self.attributes))
            found = _HitFacts(class_name(_first(hit, self.category)), _first(hit, self.date), attributes)
            self._known[key] = found
        return found


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
