"""Analysis of a query before it is sent: whether its scores are zero, equal, random, or each hit's own.

A query whose form does not show this counts as scored; the baseline's scores then show it.
"""

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
"""Queries that give every match the same score."""

MAX_QUERY_DEPTH = 8
"""Depth to which a query is analyzed; deeper clauses count as scored."""


def relevance(query: Any, depth: int = 0) -> Relevance:
    """Return the scores of a query's matches: all 0 ("none"), all equal ("flat"), or each its own ("scored")."""
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
    every = (relevance(clause, depth + 1) for clause in must + should)
    if should and len(must + should + filters) > 1:
        # A match's score depends on which clauses it matches. The first one that scores settles it, of a thousand.
        return "scored" if any(one != "none" for one in every) else "none"
    found = set(every)
    return "scored" if "scored" in found else "flat" if "flat" in found else "none"


def _clauses(spec: Mapping[str, Any], part: str) -> list[Any]:
    clauses = spec.get(part) or []
    return clauses if isinstance(clauses, list) else [clauses]


def looks_up_ids(query: Any, depth: int = 0) -> bool:
    """Whether a query only selects documents by their ids."""
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
"""Parts of a body that decide which documents match and what they score."""

CHANCE = re.compile(
    r"\bMath\s*\.\s*random\b|\bnew\s+(java\s*\.\s*util\s*\.\s*)?(Random|SplittableRandom)\s*\(\s*\)"
    r"|\bCollections\s*\.\s*shuffle\b|\brandomUUID\b"
)
"""Calls in a script that return a random value. A generator with a seed as argument is not one of them."""


KEYS_OF_CHANCE = frozenset({"random_score", "source", "inline", "script"})
"""Keys that a body has, at some depth, where it may be scored by chance."""


def scored_by_chance(body: Mapping[str, Any]) -> str:
    """Return, in words, the part of a body that makes hits or scores differ from search to search, or ""."""
    for key, value in inside([body.get(part) for part in SCORING_PARTS]):
        if key == "random_score" and isinstance(value, dict) and value.get("seed") is None:
            return "`random_score` without a `seed`"
        if key in ("source", "inline", "script") and isinstance(value, str) and CHANCE.search(value):
            return "a script that uses random numbers"
    return ""


def matches_by_size(body: Mapping[str, Any]) -> bool:
    """Whether a body's `size` decides which documents match: Elasticsearch's `knn` query without `k` finds `size` of each shard.

    OpenSearch's has the field as its key, and a `k` or a limit of its own.
    """
    return any(
        key == "knn" and isinstance(value, dict) and isinstance(value.get("field"), str) and value.get("k") is None
        for key, value in inside([body.get(part) for part in SCORING_PARTS])
    )


def explains_inner_hits(body: Mapping[str, Any]) -> bool:
    """Whether a body requests explanations of inner hits, to which the server adds the rescores of the whole search."""
    parts = [body.get(part) for part in (*SCORING_PARTS, "collapse")]
    inner_hits = [value for key, value in inside(parts) if key == "inner_hits"]
    listed = [one for value in inner_hits for one in (value if isinstance(value, list) else [value])]
    return any(isinstance(one, dict) and one.get("explain") not in (None, False, "false") for one in listed)


def depends_on_collection(body: Mapping[str, Any]) -> bool:
    """Whether scores may depend on the server visiting every match: `boosting` ignores its negative part where it skips matches."""
    return any(key == "boosting" for key, _ in inside([body.get(part) for part in SCORING_PARTS]))


def inside(parts: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield every key and value in `parts` of a body, at any depth."""
    left: list[Any] = [parts]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            yield from one.items()
        left += [
            part for part in (one.values() if isinstance(one, dict) else one) if isinstance(part, (dict, list, tuple))
        ]
