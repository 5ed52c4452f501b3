"""Index facts: mapping types, windows, default pipeline and replicas of the indices that a search names.

The background reads them; the pure code gets them as arguments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rewriter.errors import Fault
from rewriter.settings import PolicySettings

WINDOW = 10_000
"""The server's default of `index.max_result_window`, and through it of `index.max_rescore_window`."""

DOCVALUE_FIELDS = 100
"""The server's default of `index.max_docvalue_fields_search`."""

ANALYZED = frozenset({"text", "match_only_text", "search_as_you_type", "annotated_text"})
"""Types whose terms are tokens: a `term` on a whole value matches nothing, without an error."""

WHOLE_VALUES = frozenset({"keyword", "constant_keyword", "wildcard"})
"""Types on which a `term` matches a whole value, and that accept any value. On a type that is neither here nor in `NUMBERS`, such
as date, ip or geo_point, the server may refuse a `term`, so none is sent to an index that maps the field to such a type."""

UNSEARCHABLE = "unsearchable"
"""Stands for the type of a field with neither an index nor doc values: the server refuses a `term` on it."""

MAX_GUARDED = 64
"""Limit of index names in one boost's `_index` filter; a value that needs more names gets no boost."""

NUMBERS: Mapping[str, tuple[float, float]] = {
    **{kind: (-(2**bits), 2**bits - 1) for kind, bits in (("byte", 7), ("short", 15), ("integer", 31), ("long", 63))},
    "unsigned_long": (0, 2**64 - 1),
    **{
        kind: (-most, most)
        for kind, most in (("half_float", 65_504), ("float", 3e38), ("double", 1e308), ("scaled_float", 1e15))
    },
}
"""Range of values that a `term` on each numeric type accepts; for any other value the server refuses the whole search."""

FRACTIONS = frozenset({"half_float", "float", "double", "scaled_float"})
"""Numeric types whose values are spelled otherwise in a hit's doc values than in most documents."""

_NUMBER = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?")


@dataclass(frozen=True, slots=True)
class IndexFacts:
    """The facts of one concrete index, or of all indices behind an index expression.

    fields:             document field → mapping type; objects dotted, sub-fields included (`brand.raw`). Only those
                        that every index maps with this one type and can search.
    max_result_window:  the deepest from + size that each index allows.
    max_rescore_window: the largest rescore window that each index allows.
    default_pipeline:   the search pipeline of any of them.
    replicas:           the most that any of them has.
    differing:          document field → mapping type → the indices that map it so, for fields that are not in `fields`.
    analyzers:          document field of an analyzed type, of `fields` → what reads it; equal texts, the same in every index.
    max_docvalue_fields: the most `docvalue_fields` of a search that each index allows.
    normalizers:        document field → the normalizer that some index applies to its values.
    """

    fields: Mapping[str, str] = field(default_factory=dict)
    max_result_window: int = WINDOW
    max_rescore_window: int = WINDOW
    default_pipeline: str | None = None
    replicas: int = 0
    differing: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    analyzers: Mapping[str, str] = field(default_factory=dict)
    max_docvalue_fields: int = DOCVALUE_FIELDS
    normalizers: Mapping[str, str] = field(default_factory=dict)

    def kinds(self, name: str) -> Mapping[str, tuple[str, ...] | None]:
        """Return the mapping types of a document field, each with its indices; None stands for all indices."""
        if name in self.fields:
            return {self.fields[name]: None}
        return self.differing.get(name, {})


class TermRule(NamedTuple):
    """The indices to which a `term` on a document field may be sent, by value, so that no index refuses it.

    taking:   mapping types on which a `term` matches a whole value, each with its indices; None stands for all of the expression's.
    refusing: whether any index maps the field to a type on which the server may refuse a `term`.
    """

    taking: tuple[tuple[str, tuple[str, ...] | None], ...]
    refusing: bool

    def indices(self, value: str) -> tuple[str, ...] | None:
        """Return the indices whose type accepts `value`: None for all of the expression's, () for none."""
        fitting = [names for kind, names in self.taking if kind in WHOLE_VALUES or fits(kind, value)]
        if len(fitting) == len(self.taking) and not self.refusing:
            return None
        found = sorted({name for names in fitting for name in names or ()})
        return tuple(found) if len(found) <= MAX_GUARDED else ()


def facts_of(mapping_response: Mapping[str, Any], settings_response: Mapping[str, Any]) -> IndexFacts:
    """Return the facts that hold for all indices of `GET name/_mapping` and `GET name/_settings?flat_settings=true`.

    The mapping response may be filtered to the relevant fields, and may omit an index that has none of them.
    Raises KeyError, TypeError or ValueError if a response has an unexpected form.
    """
    indices = list(dict.fromkeys([*settings_response, *mapping_response]))
    kinds: dict[str, dict[str, list[str]]] = {}
    analyzers: dict[str, list[str]] = {}
    normalizers: dict[str, str] = {}
    for index in indices:
        mapping = mapping_response[index]["mappings"] if index in mapping_response else {}
        for name, (kind, analyzer, normalizer) in _fields(mapping).items():
            kinds.setdefault(name, {}).setdefault(kind, []).append(index)
            analyzers.setdefault(name, []).append(analyzer)
            if normalizer is not None:
                normalizers[name] = str(normalizer)
    alike = {
        name: next(iter(by_kind))
        for name, by_kind in kinds.items()
        if UNSEARCHABLE not in by_kind and [len(named) for named in by_kind.values()] == [len(indices)]
    }
    settings = [answer["settings"] for answer in settings_response.values()]
    pipelines = [one.get("index.search.default_pipeline") for one in settings]
    windows = [
        (int(one.get("index.max_result_window", WINDOW)), one.get("index.max_rescore_window")) for one in settings
    ]
    return IndexFacts(
        fields=alike,
        max_result_window=min((result for result, _ in windows), default=WINDOW),
        max_rescore_window=min((int(rescore or result) for result, rescore in windows), default=WINDOW),
        max_docvalue_fields=min(
            (int(one.get("index.max_docvalue_fields_search", DOCVALUE_FIELDS)) for one in settings),
            default=DOCVALUE_FIELDS,
        ),
        default_pipeline=next((one for one in pipelines if one not in (None, "_none")), None),
        replicas=max((int(one.get("index.number_of_replicas", 0)) for one in settings), default=0),
        differing={
            name: {kind: tuple(named) for kind, named in by_kind.items()}
            for name, by_kind in kinds.items()
            if name not in alike
        },
        analyzers={name: " | ".join(analyzers[name]) for name, kind in alike.items() if kind in ANALYZED},
        normalizers=normalizers,
    )


def _fields(mapping: Mapping[str, Any]) -> dict[str, tuple[str, str, Any]]:
    """Return the type of each field, the names of the analyzers that read its documents and its queries, and its normalizer."""
    found = dict(_walk(mapping.get("properties", {}), ""))
    return {
        name: (kind, f"{meant.get('analyzer')} {meant.get('search_analyzer')}", meant.get("normalizer"))
        for name, spec in found.items()
        if (kind := _type(meant := _meant(spec, found)))
    }


def _walk(properties: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, spec in properties.items():
        yield prefix + name, spec
        for inner in ("properties", "fields"):
            yield from _walk(spec.get(inner, {}), f"{prefix}{name}.")


def _meant(spec: Mapping[str, Any], found: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    return found.get(spec.get("path", ""), {}) if spec.get("type") == "alias" else spec


def _type(spec: Mapping[str, Any]) -> str | None:
    if spec.get("index") is False and spec.get("doc_values") is False:
        return UNSEARCHABLE
    kind = spec.get("type")
    return kind if isinstance(kind, str) else None


def alias_paths(mapping_response: Mapping[str, Any]) -> set[str]:
    """Return the target fields of all fields of type `alias`."""
    return {
        str(spec.get("path", ""))
        for answer in mapping_response.values()
        for _, spec in _walk(answer["mappings"].get("properties", {}), "")
        if spec.get("type") == "alias"
    }


def term_fields(policy: PolicySettings) -> set[str]:
    """Return the document fields that the boosts of `policy` filter by `term`."""
    return {of for one in policy.fields.values() for of in one.of} | {policy.item_field or "_id"}


def dead_fields(policy: PolicySettings, facts: IndexFacts) -> list[Fault]:
    """Return the fields of `policy` on which a boost would match nothing, or would have the search refused, in every index.

    The `where` of each fault is the document field.
    """
    names = term_fields(policy) | ({policy.class_field} if policy.class_field else set())
    faults = [Fault(name, *fault) for name in sorted(names) if (fault := _dead_term(name, facts))]
    if (date := policy.date_field) and date not in facts.fields:
        faults.append(
            Fault(date, "is not mapped in every index", "the server would refuse a search with a decay function on it")
        )
    return faults


def changed_class(policy: PolicySettings, facts: IndexFacts) -> list[Fault]:
    """Return the fault of a class field with which a hit's class is spelled as no document spells it, or cannot be read.

    Boosts by the class of a query would never act. Other fields may be so: a `term` finds what the server made of their values.
    """
    name = policy.class_field
    if not name:
        return []
    fraction = next((kind for kind in facts.kinds(name) if kind in FRACTIONS), None)
    if name in facts.normalizers:
        what = f"has the normalizer {facts.normalizers[name]}: a hit's class is not spelled as in its document"
    elif fraction is not None:
        what = f"is a {fraction}: a hit's class is not spelled as in its document (5.0 for 5)"
    elif _in_flat_object(name, facts):
        what = "is inside a flat_object, of which a search cannot request a hit's class"
    else:
        return []
    return [Fault(name, f"is the class field and {what}", "use a keyword without a normalizer")]


def _dead_term(name: str, facts: IndexFacts) -> tuple[str, str] | None:
    if name.startswith("_"):
        return None  # metadata: `_id`, `_routing`, `_index`
    fields = facts.fields
    if nested := next((parent for parent in _parents(name) if fields.get(parent) == "nested"), None):
        return (
            f"is inside the nested objects of {nested}, where a `term` matches nothing",
            "copy it to a field of the document",
        )
    if _in_flat_object(name, facts):
        return None  # its keys need no mapping
    kinds = facts.kinds(name)
    if any(_takes_terms(kind) for kind in kinds):
        return None
    kind = next((kind for kind in kinds if kind in ANALYZED), next(iter(kinds), UNSEARCHABLE))
    if kind == UNSEARCHABLE:
        return "is not mapped, or cannot be searched, in any index", "map it as a keyword"
    if kind not in ANALYZED:
        return f"is a {kind}: the server can refuse a `term` on it", "map a keyword beside it"
    whole = [one for one, its in fields.items() if one.startswith(f"{name}.") and its in WHOLE_VALUES]
    return f"is a {kind}: a `term` matches no whole value", f"use {whole[0]}" if whole else "map a keyword beside it"


def _parents(name: str) -> list[str]:
    return [name[:at] for at, letter in enumerate(name) if letter == "."]


def _in_flat_object(name: str, facts: IndexFacts) -> bool:
    return any("flat_object" in facts.kinds(parent) for parent in _parents(name))


def _takes_terms(kind: str) -> bool:
    return kind in WHOLE_VALUES or kind in NUMBERS or kind == "boolean"


def term_rules(policy: PolicySettings, facts: IndexFacts) -> dict[str, TermRule]:
    """Return the term rules of the document fields of `policy` for which some index refuses some value.

    An index that does not map a field, or maps it as a text, accepts a `term` on it and matches nothing.
    """
    found = {}
    for name in term_fields(policy):
        kinds = facts.kinds(name)
        taking = tuple((kind, indices) for kind, indices in kinds.items() if _takes_terms(kind))
        refusing = any(not _takes_terms(kind) and kind not in ANALYZED for kind in kinds)
        if refusing or any(kind not in WHOLE_VALUES for kind, _ in taking):
            found[name] = TermRule(taking, refusing)
    return found


def fits(kind: str, value: str) -> bool:
    """Whether the server accepts `value` in a `term` on a field of this numeric type, or of type boolean."""
    if kind == "boolean":
        return value in ("true", "false")
    least, most = NUMBERS[kind]
    return _NUMBER.fullmatch(value) is not None and least <= float(value) <= most
