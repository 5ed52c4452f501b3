"""What is known of the indices that a search names: read in the background, handed to the pure code as it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rewriter.errors import Fault
from rewriter.settings import PolicySettings

WINDOW = 10_000
"""The server's default of `index.max_result_window`, and through it of `index.max_rescore_window`."""

ANALYSED = frozenset({"text", "match_only_text", "search_as_you_type", "annotated_text"})
"""Types whose terms are tokens: a `term` on a whole value finds nothing and says nothing."""

WHOLE_VALUES = frozenset({"keyword", "constant_keyword", "wildcard"})

NUMBERS: Mapping[str, tuple[float, float]] = {
    **{kind: (-(2**bits), 2**bits - 1) for kind, bits in (("byte", 7), ("short", 15), ("integer", 31), ("long", 63))},
    "unsigned_long": (0, 2**64 - 1),
    **{
        kind: (-most, most)
        for kind, most in (("half_float", 65_504), ("float", 3e38), ("double", 1e308), ("scaled_float", 1e15))
    },
}
"""What a term on a number takes; for anything else the server refuses the whole search."""

REFUSING = frozenset(
    {"date", "date_nanos", "ip", "geo_point", "geo_shape", "binary", "completion", "knn_vector", "join"}
)
"""Types on which a term with a value of another form has the search refused, and that no term is meant for."""

_NUMBER = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?")


@dataclass(frozen=True, slots=True)
class IndexFacts:
    """The facts of one concrete index, or of all indices behind one alias or pattern.

    fields:             document field → mapping type; objects dotted, sub-fields included (`brand.raw`). Only those
                        that every index maps and can search; `text` where any index says so.
    max_result_window:  the deepest from + size that each index allows.
    max_rescore_window: the largest rescore window that each index allows.
    default_pipeline:   the search pipeline of any of them.
    replicas:           the most that any of them has.
    """

    fields: Mapping[str, str] = field(default_factory=dict)
    max_result_window: int = WINDOW
    max_rescore_window: int = WINDOW
    default_pipeline: str | None = None
    replicas: int = 0


def facts_of(mapping_response: Mapping[str, Any], settings_response: Mapping[str, Any]) -> IndexFacts:
    """Return what `GET name/_mapping` and `GET name/_settings?flat_settings=true` say, merged to what holds for all.

    Raises KeyError, TypeError or ValueError where an answer has another form.
    """
    mapped = [_fields(answer["mappings"]) for answer in mapping_response.values()]
    first, *others = mapped or [{}]
    fields = {
        name: next((types[name] for types in mapped if types[name] in ANALYSED), first[name])
        for name in first
        if all(name in types for types in others)
    }
    settings = [answer["settings"] for answer in settings_response.values()]
    pipelines = [one.get("index.search.default_pipeline") for one in settings]
    windows = [
        (int(one.get("index.max_result_window", WINDOW)), one.get("index.max_rescore_window")) for one in settings
    ]
    return IndexFacts(
        fields=fields,
        max_result_window=min((result for result, _ in windows), default=WINDOW),
        max_rescore_window=min((int(rescore or result) for result, rescore in windows), default=WINDOW),
        default_pipeline=next((one for one in pipelines if one not in (None, "_none")), None),
        replicas=max((int(one.get("index.number_of_replicas", 0)) for one in settings), default=0),
    )


def _fields(mapping: Mapping[str, Any]) -> dict[str, str]:
    found = dict(_walk(mapping.get("properties", {}), ""))
    return {name: kind for name, spec in found.items() if (kind := _type(spec, found))}


def _walk(properties: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, spec in properties.items():
        yield prefix + name, spec
        for inner in ("properties", "fields"):
            yield from _walk(spec.get(inner, {}), f"{prefix}{name}.")


def _type(spec: Mapping[str, Any], found: Mapping[str, Mapping[str, Any]]) -> str | None:
    if spec.get("type") == "alias":
        spec = found.get(spec.get("path", ""), {})
    if spec.get("index") is False and spec.get("doc_values") is False:
        return None  # the server refuses the whole search: "cannot search on field"
    kind = spec.get("type")
    return kind if isinstance(kind, str) else None


def dead_fields(policy: PolicySettings, facts: IndexFacts) -> list[Fault]:
    """Return the fields of `policy` on which a boost would silently match nothing, or have the search refused.

    Each fault's `where` is the document's field.
    """
    terms = {of for one in policy.fields.values() for of in one.of} | {policy.item_field or "_id"}
    faults = [Fault(name, *fault) for name in sorted(terms) if (fault := _dead_term(name, facts.fields))]
    if (date := policy.date_field) and date not in facts.fields:
        faults.append(
            Fault(date, "is not mapped in every index", "a decay function on it would have the search refused")
        )
    return faults


def _dead_term(name: str, fields: Mapping[str, str]) -> tuple[str, str] | None:
    if name.startswith("_"):
        return None  # metadata: `_id`, `_routing`, `_index`
    parents = [name[:at] for at, letter in enumerate(name) if letter == "."]
    if nested := next((parent for parent in parents if fields.get(parent) == "nested"), None):
        return (
            f"lies in the nested objects of {nested}, where a term finds nothing",
            "copy it to a field of the document",
        )
    if any(fields.get(parent) == "flat_object" for parent in parents):
        return None  # its keys need no mapping
    kind = fields.get(name)
    if kind is None:
        return "is not mapped, or cannot be searched, in every index", "map it as a keyword"
    if kind in REFUSING or kind.endswith("_range"):
        return f"is a {kind}: a term on it can have the search refused", "map a keyword beside it"
    if kind not in ANALYSED:
        return None
    whole = [one for one, its in fields.items() if one.startswith(f"{name}.") and its in WHOLE_VALUES]
    return f"is a {kind}: a term finds no whole value in it", f"use {whole[0]}" if whole else "map a keyword beside it"


def checked_types(facts: Iterable[IndexFacts]) -> dict[str, str]:
    """Return document field → type for those that are a number or a boolean in any index: their values have to fit."""
    return {name: kind for one in facts for name, kind in one.fields.items() if kind in NUMBERS or kind == "boolean"}


def fits(kind: str, value: str) -> bool:
    """Whether the server takes `value` in a term on a field of a type out of `checked_types`."""
    if kind == "boolean":
        return value in ("true", "false")
    least, most = NUMBERS[kind]
    return _NUMBER.fullmatch(value) is not None and least <= float(value) <= most
