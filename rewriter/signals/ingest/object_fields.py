"""Query clauses for looking up objects by an id field, from the answer of `_field_caps`. Pure.

The field's name comes with an event, so it is untrusted. Only an indexed field with whole values (keywords, numbers, dates,
addresses) is searched; for a text, its keyword sub-field. The clause is lenient: an id that the field's type refuses, such as
"undefined" for a number, matches nothing and does not fail the other ids of the same search.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rewriter.errors import Fault

WHOLE = frozenset(
    {"keyword", "constant_keyword", "wildcard", "flat_object", "version", "boolean", "ip", "date", "date_nanos"}
    | {"long", "integer", "short", "byte", "unsigned_long", "double", "float", "half_float", "scaled_float"}
)
TEXT = frozenset({"text", "match_only_text", "search_as_you_type"})
ID_FIELD = "event_attributes.object.object_id_field"


@dataclass(frozen=True, slots=True)
class IndexField:
    """One field of an index expression: its types in all indices, whether it is indexed, whether it has doc values in each."""

    types: frozenset[str]
    is_indexed: bool
    has_doc_values: bool

    @property
    def has_values(self) -> bool:
        """Whether it can be requested besides `_source` in every index: an object has no values and fails the whole search.

        For a constant keyword the server returns the index's name.
        """
        return not self.types & {"object", "nested", "constant_keyword"}


IndexFields = Mapping[str, IndexField]
"""Fields by name, including object and nested fields."""


@dataclass(frozen=True, slots=True)
class IdField:
    """The field that is searched for ids.

    nested:      the path of the nested documents that contain it, or "".
    is_verified: whether a hit counts only if its `_source` has exactly the id, since the field is a text, matched by words, in some
                 index.
    """

    name: str
    nested: str = ""
    is_verified: bool = False

    def clause(self, object_id: str, name: str) -> dict[str, Any]:
        """Return the clause that matches the documents of an id; each hit has `name` in `matched_queries`."""
        match: dict[str, Any] = {"query": object_id, "lenient": True, "operator": "and"}
        if not self.nested:
            return {"match": {self.name: match | {"_name": name}}}
        inner = {"match": {self.name: match}}
        return {
            "nested": {
                "path": self.nested,
                "query": inner,
                "score_mode": "none",
                "ignore_unmapped": True,
                "_name": name,
            }
        }


def fields_of(caps: Mapping[str, Any]) -> dict[str, IndexField]:
    """Parse the answer of `_field_caps`."""
    found = {}
    for name, by_type in caps["fields"].items():
        types = frozenset(by_type) - {"unmapped"}
        is_indexed = any(by_type[one].get("searchable") for one in types)
        found[name] = IndexField(types, is_indexed, all(by_type[one].get("aggregatable") for one in types))
    return found


def id_field(known: IndexFields | None, name: str) -> IdField | Fault:
    """Return the field to search for ids in field `name`, or the fault for which it cannot be searched.

    known: the fields of the index; None if they cannot be read, and `name` is then used as it is.
    """
    if known is None:
        return IdField(name)
    nested = next((path for path in _parents(name) if path in known and "nested" in known[path].types), "")
    field = known.get(name)
    if field is None or name.startswith("_"):
        if any(path in known and "flat_object" in known[path].types for path in _parents(name)):
            return IdField(name, nested)
        return Fault(ID_FIELD, "is not a field of the index")
    if field.types <= TEXT:
        keyword = known.get(f"{name}.keyword")
        if keyword is not None and keyword.types <= WHOLE and keyword.is_indexed:
            return IdField(f"{name}.keyword", nested)
        return Fault(ID_FIELD, "is a text, which matches words and not ids", "name a keyword field")
    if not field.types & WHOLE:
        return Fault(ID_FIELD, f"is of a type that holds no ids ({', '.join(sorted(field.types))})")
    if not field.is_indexed:
        return Fault(ID_FIELD, "is not indexed")
    return IdField(name, nested, is_verified=bool(field.types & TEXT))


def _parents(name: str) -> Iterator[str]:
    """Yield the paths above a name, the longest first."""
    while "." in name:
        name = name.rpartition(".")[0]
        yield name
