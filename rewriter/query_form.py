"""What the form of a query says about its scores, before it is sent. What the form hides, the baseline's scores show."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
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
"""How deep a query is looked into; what lies deeper shows in the baseline's scores."""


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


SCORING_PARTS = ("query", "rescore", "post_filter", "derived")
"""Parts of a body that decide which hits there are and what they score."""

CHANCE = re.compile(
    r"\bMath\s*\.\s*random\b|\bnew\s+(java\s*\.\s*util\s*\.\s*)?(Random|SplittableRandom)\s*\(\s*\)"
    r"|\bCollections\s*\.\s*shuffle\b|\brandomUUID\b"
)
"""Calls in a script that give something else each time. Generators with a seed in their brackets do not."""


def scored_by_chance(body: Mapping[str, Any]) -> str:
    """Return what in a body makes hits or scores differ from search to search, or ""."""
    for key, value in inside([body.get(part) for part in SCORING_PARTS]):
        if key == "random_score" and isinstance(value, dict) and value.get("seed") is None:
            return "`random_score` without a `seed`"
        if key in ("source", "inline", "script") and isinstance(value, str) and CHANCE.search(value):
            return "a script that draws by chance"
    return ""


def depends_on_collection(body: Mapping[str, Any]) -> bool:
    """Whether scores may depend on whether the server visits every match: `boosting` forgets its negative part where it skips."""
    return any(key == "boosting" for key, _ in inside([body.get(part) for part in SCORING_PARTS]))


def inside(parts: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield all keys with their values in some parts of a body, at any depth."""
    left: list[Any] = [parts]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            yield from one.items()
        left += [
            part for part in (one.values() if isinstance(one, dict) else one) if isinstance(part, (dict, list, tuple))
        ]
