"""The field that names a hit for people: a usual name, else a text field that the search itself looks into. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

USUAL = ("title", "name", "label", "headline", "product_name", "product_title")
ONE_FIELD = frozenset(
    {"match", "match_phrase", "match_phrase_prefix", "match_bool_prefix", "match_only_text", "intervals", "prefix"}
)
MANY_FIELDS = frozenset({"multi_match", "query_string", "simple_query_string", "combined_fields"})
MAX_DEPTH = 20


def likely_titles(body: Any) -> tuple[str, ...]:
    """Return the fields that may hold a hit's title, the likeliest first: usual names, then what a search body looks into.

    A sub-field such as `title.english` is not part of a document: the field that has it follows.
    """
    query = body.get("query") if isinstance(body, Mapping) else None
    searched = list(dict.fromkeys(_searched(query, 0)))
    above = [path.rpartition(".")[0] for path in searched if "." in path]
    usual_inside = [path for path in searched if path.rpartition(".")[2] in USUAL]
    return tuple(dict.fromkeys([*USUAL, *usual_inside, *searched, *above]))


def _searched(part: Any, depth: int) -> Iterator[str]:
    """Yield the fields of full-text clauses, in the order of the body."""
    if depth > MAX_DEPTH:
        return
    if isinstance(part, list):
        for one in part:
            yield from _searched(one, depth + 1)
    if not isinstance(part, Mapping):
        return
    for name, spec in part.items():
        if name in ("must_not", "negative"):
            continue
        if isinstance(spec, Mapping) and name in ONE_FIELD:
            yield from (field for field in spec if isinstance(field, str) and field != "boost")
        elif isinstance(spec, Mapping) and name in MANY_FIELDS:
            yield from _named(spec)
        else:
            yield from _searched(spec, depth + 1)


def _named(spec: Mapping[str, Any]) -> Iterator[str]:
    given = spec.get("fields", spec.get("default_field"))
    fields = given if isinstance(given, list) else [given]
    for one in fields:
        if isinstance(one, str) and "*" not in one:
            yield one.partition("^")[0]
