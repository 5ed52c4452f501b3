"""What the form of a query says about its scores, before it is sent. What the form hides, leg 1's scores show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Relevance = Literal["none", "flat", "scored"]

FLAT_QUERIES = frozenset(
    {
        "match_all", "constant_score", "terms", "range", "exists", "ids", "prefix", "wildcard", "regexp", "script",
        "geo_distance", "geo_bounding_box", "geo_polygon", "geo_shape",
    }
)  # fmt: skip
"""Queries that give every match the same score, by their form."""

MAX_QUERY_DEPTH = 8
"""How deep a query is looked into; what lies deeper shows in leg 1's scores."""


def relevance(query: Any, depth: int = 0) -> Relevance:
    """Return what a match scores: 0 ("none"), the same as every match ("flat"), or its own ("scored")."""
    if query is None:
        return "flat"
    if depth > MAX_QUERY_DEPTH or not isinstance(query, dict) or len(query) != 1:
        return "scored"
    ((name, spec),) = query.items()
    if not isinstance(spec, dict):
        return "scored"
    if name == "bool":
        return _relevance_of_bool(spec, depth)
    if name in ("query_string", "simple_query_string"):
        return "flat" if spec.get("query") in ("*", "*:*") else "scored"
    rewritten = any(isinstance(value, dict) and "rewrite" in value for value in spec.values())
    return "flat" if name in FLAT_QUERIES and not rewritten else "scored"


def _relevance_of_bool(spec: Mapping[str, Any], depth: int) -> Relevance:
    must, should, filters = (_clauses(spec, part) for part in ("must", "should", "filter"))
    if not must and not should:
        return "none" if filters or _clauses(spec, "must_not") else "flat"
    every = {relevance(clause, depth + 1) for clause in must + should}
    if should and len(must + should + filters) > 1 and every != {"none"}:
        return "scored"  # as many scores as there are ways to match
    return "scored" if "scored" in every else "flat" if "flat" in every else "none"


def _clauses(spec: Mapping[str, Any], part: str) -> list[Any]:
    clauses = spec.get(part) or []
    return clauses if isinstance(clauses, list) else [clauses]


def looks_up_ids(query: Any, depth: int = 0) -> bool:
    """Whether a query does nothing but name documents by their ids."""
    if depth > MAX_QUERY_DEPTH or not isinstance(query, dict) or len(query) != 1:
        return False
    ((name, spec),) = query.items()
    if name == "ids" or not isinstance(spec, dict):
        return bool(name == "ids")
    if name in ("term", "terms"):
        return "_id" in spec
    if name == "constant_score":
        return looks_up_ids(spec.get("filter"), depth + 1)
    if name == "bool" and not _clauses(spec, "should"):
        wanted = _clauses(spec, "must") + _clauses(spec, "filter")
        return len(wanted) == 1 and looks_up_ids(wanted[0], depth + 1)
    return False
