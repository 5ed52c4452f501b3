"""The all-words gate: a filter that matches the hits of a query that hold all of its words. Pure.

Boosts act only on those hits. A full-text query also matches documents that hold one word of three, and a boost for a brand would
lift those above documents that hold all three (measured on Complete Journey: nDCG@10 0.512 without the gate, 0.521 with it).

The words are those of the query's own full-text clauses, so the server analyzes them as it analyzes the query: stop words,
synonyms, stems and n-grams need no handling here. A gate is made only where its meaning is certain:

    match                     the same with `operator: and`; phrases hold all their words as they are
    multi_match               words may lie in several fields: `cross_fields` with `operator: and`, where one analyzer reads all of
                              the fields; sub-fields (`title.stem`) may read a field once more
    query_string              and simple_query_string: as multi_match, where the text has no operator of their syntax
    bool, dis_max             all texts of `must`; without any, the one text of `should` or of the queries
    function_score            and script_score, constant_score, boosting: as the query inside

Everything else (nested objects, vectors, spans, several texts in `should`) gives no gate, and boosts act on all hits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from rewriter.index_facts import ANALYZED, IndexFacts

Clause = dict[str, Any]

MAX_DEPTH = 20
MAX_CLAUSES = 16
"""Most clauses of a gate. More full-text clauses would double the cost of the query."""
MAX_TEXT = 512
"""Longest text in characters. A longer query is a document, and hardly any hit holds all of its words."""

WORDLESS = frozenset(
    {
        "term", "terms", "range", "exists", "ids", "prefix", "wildcard", "regexp", "fuzzy", "match_all", "match_none", "terms_set",
        "rank_feature", "distance_feature", "geo_distance", "geo_bounding_box", "geo_polygon", "geo_shape",
    }
)  # fmt: skip
"""Queries without analyzed words."""
WRAPPED = {"function_score": "query", "script_score": "query", "constant_score": "filter", "boosting": "positive"}
PHRASES = frozenset({"match_phrase", "match_phrase_prefix"})
OF_SCORE = frozenset(
    {"boost", "_name", "operator", "minimum_should_match", "tie_breaker", "cutoff_frequency", "slop_boost"}
)
"""Parameters that change a score, or the number of words that a hit must hold: the gate sets its own."""
OF_ANALYSIS = frozenset({"analyzer", "zero_terms_query", "auto_generate_synonyms_phrase_query", "lenient"})
OF_STRING_ANALYSIS = frozenset({"analyzer", "auto_generate_synonyms_phrase_query"})
OF_FUZZINESS = frozenset({"fuzziness", "prefix_length", "max_expansions", "fuzzy_rewrite", "fuzzy_transpositions"})
OF_STRINGS = OF_SCORE | OF_ANALYSIS | OF_FUZZINESS | {
    "default_operator", "analyze_wildcard", "allow_leading_wildcard", "type", "flags", "phrase_slop", "quote_analyzer",
    "quote_field_suffix", "enable_position_increments", "fuzzy_prefix_length", "fuzzy_max_expansions", "rewrite",
    "max_determinized_states", "escape",
}  # fmt: skip
"""Parameters of `query_string` that have no effect on a text without its syntax."""
SYNTAX = re.compile(r'[+\-=&|><!(){}\[\]^"~*?:\\/]|\b(AND|OR|NOT)\b')


class Gate(NamedTuple):
    """The result of `all_words`.

    clause:  matches the hits that hold every word; None if its meaning is not certain.
    unknown: document fields of the query whose mapping is not known: with their mappings there may be a gate.
    """

    clause: Clause | None
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _FieldFacts:
    """The mappings, and the names that they lack."""

    kinds: Mapping[str, str]
    analyzers: Mapping[str, str]
    unknown: dict[str, None] = field(default_factory=dict)


class _UnsureError(Exception):
    """The query's words, or the fields that must hold them, are not certain."""


_Held = dict[str, list[Clause]]
"""Text → alternative clauses, each of which matches hits that hold all of its words; {} for a query without words."""


def all_words(query: Any, facts: IndexFacts) -> Gate:
    """Return the gate of `query` on the indices that `facts` describe.

    Raises nothing; `query` is not modified, and the clause shares only texts and numbers with it.
    """
    known = _FieldFacts(facts.fields, facts.analyzers)
    try:
        held = _held(query, known, 0)
    except _UnsureError:
        return Gate(None, tuple(known.unknown))
    ways = [_unique(clauses) for clauses in held.values()]
    if not ways or sum(map(len, ways)) > MAX_CLAUSES:
        return Gate(None)
    every = [one[0] if len(one) == 1 else {"bool": {"should": one}} for one in ways]
    return Gate(every[0] if len(every) == 1 else {"bool": {"filter": every}})


def _unique(clauses: Iterable[Clause]) -> list[Clause]:
    found: list[Clause] = []
    for one in clauses:
        if one not in found:
            found.append(one)
    return found


def _held(query: Any, known: _FieldFacts, depth: int) -> _Held:
    if depth > MAX_DEPTH or not isinstance(query, Mapping) or len(query) != 1:
        raise _UnsureError
    ((name, spec),) = query.items()
    if name in WORDLESS:
        return {}
    if not isinstance(spec, Mapping):
        raise _UnsureError
    if name in WRAPPED:
        inner = spec.get(WRAPPED[name])
        return {} if inner is None else _held(inner, known, depth + 1)
    if name == "bool":
        return _of_bool(spec, known, depth)
    if name == "dis_max":
        return _of_one_text(listed(spec.get("queries")), known, depth)
    if name == "match" or name in PHRASES:
        return _of_match(name, spec)
    if name == "multi_match":
        return _of_multi_match(spec, known)
    if name in ("query_string", "simple_query_string"):
        return _of_string(spec, known)
    raise _UnsureError


def listed(part: Any) -> list[Any]:
    """Return the elements of a part of a body that may be a list, a single one, or missing."""
    return part if isinstance(part, list) else [] if part is None else [part]


def _of_bool(spec: Mapping[str, Any], known: _FieldFacts, depth: int) -> _Held:
    """Return the clauses of a `bool`: `must` has the query's words; a `should` clause with the same text is an alternative."""
    required: _Held = {}
    for one in listed(spec.get("must")):
        for text, clauses in _held(one, known, depth + 1).items():
            required.setdefault(text, []).extend(clauses)
    optional = listed(spec.get("should"))
    if not required:
        return _of_one_text(optional, known, depth)
    if _is_needed(spec.get("minimum_should_match")):
        with suppress(_UnsureError):
            for text in _of_one_text(optional, known, depth):
                required.setdefault(text, [])
    for one in optional:
        try:
            found = _held(one, known, depth + 1)
        except _UnsureError:
            continue
        for text, clauses in found.items():
            if text in required and len(found) == 1:
                required[text].extend(clauses)
    return required


def _is_needed(least: Any) -> bool:
    """Whether a hit must match one of the `should` clauses. Percentages and negative numbers may come to none of them."""
    return str(least).isdecimal() and int(least) > 0


def _of_one_text(queries: list[Any], known: _FieldFacts, depth: int) -> _Held:
    """Return the clauses of alternatives, which must have one text: of several, it is unknown which one a hit must hold."""
    found: _Held = {}
    for one in queries:
        for text, clauses in _held(one, known, depth + 1).items():
            found.setdefault(text, []).extend(clauses)
    if len(found) > 1:
        raise _UnsureError
    return found


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise _UnsureError
    return value


def _has_words(text: str) -> bool:
    """Whether a text has a letter or a digit. Most analyzers make no word of others, and a gate without words matches nothing."""
    return any(map(str.isalnum, text))


def _kept(spec: Mapping[str, Any], dropped: frozenset[str], kept: frozenset[str]) -> Clause:
    """Return the parameters of a clause that the gate needs too. An unknown parameter may change the matches."""
    if any(name not in dropped and name not in kept for name in spec):
        raise _UnsureError
    return {name: value for name, value in spec.items() if name in kept}


def _of_match(name: str, spec: Mapping[str, Any]) -> _Held:
    if len(spec) != 1:
        raise _UnsureError
    ((name_of, given),) = spec.items()
    given = given if isinstance(given, Mapping) else {"query": given}
    if isinstance(given.get("query"), (int, float)):  # numbers, dates and booleans have no words
        return {}
    text = _text(given.get("query"))
    if not _has_words(text):
        return {}
    own = frozenset({"slop", "max_expansions"}) if name in PHRASES else OF_FUZZINESS
    held = {"query": text, **_kept(given, OF_SCORE | {"query"}, OF_ANALYSIS | own)}
    return {text: [{name: {name_of: held if name in PHRASES else held | {"operator": "and"}}}]}


def _of_multi_match(spec: Mapping[str, Any], known: _FieldFacts) -> _Held:
    text, kind = _text(spec.get("query")), spec.get("type", "best_fields")
    if not _has_words(text):
        return {}
    fields = _fields(spec.get("fields"))
    if kind in ("phrase", "phrase_prefix"):  # each hit holds all words, in one field
        own = frozenset({"slop", "max_expansions"})
        kept = _kept(spec, OF_SCORE | {"query", "fields", "type"}, OF_ANALYSIS | own)
        return {text: [{"multi_match": {"query": text, "fields": fields, "type": kind, **kept}}]}
    if kind not in ("best_fields", "most_fields", "cross_fields"):
        raise _UnsureError
    kept = _kept(spec, OF_SCORE | {"query", "fields", "type"}, OF_ANALYSIS | OF_FUZZINESS)
    return {text: _in_fields(text, fields, kept, known)}


def _of_string(spec: Mapping[str, Any], known: _FieldFacts) -> _Held:
    text = _text(spec.get("query"))
    if not _has_words(text):
        return {}
    if SYNTAX.search(text):
        raise _UnsureError
    fields = _fields(spec.get("fields", spec.get("default_field")))
    kept = _kept(spec, OF_STRINGS | {"query", "fields", "default_field"}, OF_STRING_ANALYSIS)
    if (
        len(fields) == 1 and known.kinds.get(fields[0]) not in ANALYZED
    ):  # an index's setting may make these queries lenient
        kept["lenient"] = True
    whole = [name for name in _named(fields, known) if known.kinds.get(name) not in ANALYZED]
    if whole and len(text.split()) > 1:  # these queries cut the text at blanks first: each field may hold a single word
        raise _UnsureError
    return {text: _in_fields(text, fields, kept, known)}


def _fields(given: Any) -> list[str]:
    """Return the fields that a query names, without their boosts."""
    fields = [given] if isinstance(given, str) else given
    if not isinstance(fields, list) or not fields or not all(isinstance(name, str) for name in fields):
        raise _UnsureError  # the index's default fields, which are not known here
    return [name.partition("^")[0] for name in fields]


def _named(fields: Iterable[str], known: _FieldFacts) -> list[str]:
    """Return the document fields of names and patterns. An outermost object's mapping is known whole or not at all."""
    found: list[str] = []
    for name in fields:
        outermost = name.partition(".")[0]
        if "*" in outermost:
            raise _UnsureError
        matched = [one for one in known.kinds if fnmatchcase(one, name)] if "*" in name else [name]
        if not matched or any(one not in known.kinds for one in matched):
            known.unknown[outermost] = None
            raise _UnsureError
        found += matched
    return list(dict.fromkeys(found))


def _in_fields(text: str, fields: list[str], kept: Clause, known: _FieldFacts) -> list[Clause]:
    """Return the clauses that match a text's words in several fields: any mixture of text fields, or one whole value."""
    if len(fields) == 1 and "*" not in fields[0]:
        return [{"match": {fields[0]: {"query": text, "operator": "and", **kept}}}]
    named = _named(fields, known)
    texts = [name for name in named if known.kinds[name] in ANALYZED]
    whole = [name for name in named if known.kinds[name] not in ANALYZED]
    found: list[Clause] = []
    if texts:
        roots = {_root(name, known) for name in texts}
        if len(roots) == 1:
            kind = "best_fields"
        elif OF_FUZZINESS & kept.keys():
            raise _UnsureError  # `cross_fields` accepts no fuzziness
        else:
            kind = "cross_fields"
            if "analyzer" not in kept and not _is_covered(texts, roots, known):
                raise _UnsureError
        found.append({"multi_match": {"query": text, "fields": texts, "type": kind, "operator": "and", **kept}})
    if whole:
        plain = {name: value for name, value in kept.items() if name in OF_FUZZINESS or name == "analyzer"}
        clause = {"query": text, "fields": whole, "operator": "and", "lenient": True, **plain}
        found.append({"multi_match": clause})
    if not found:
        raise _UnsureError
    return found


def _is_covered(texts: Iterable[str], roots: set[str], known: _FieldFacts) -> bool:
    """Whether one analyzer reads every field: `cross_fields` looks for all words within the fields of each analyzer."""
    read: dict[str, set[str]] = {}
    for name in texts:
        if (analyzer := known.analyzers.get(name)) is not None:
            read.setdefault(analyzer, set()).add(_root(name, known))
    return roots in read.values()


def _root(name: str, known: _FieldFacts) -> str:
    """Return the field of which a field is a sub-field, or the field itself: both read the same values."""
    parts = name.split(".")
    for end in range(1, len(parts)):
        parent = ".".join(parts[:end])
        if known.kinds.get(parent) not in (None, "object", "nested", "flat_object"):
            return parent
    return name
