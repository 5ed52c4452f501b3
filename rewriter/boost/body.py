"""The one envelope around every boost, and the one place that writes it (promise P3).

The bare {"weight": 1} makes the factor 1 + Σ boosts: its floor is exactly 1, and `max_boost` is exactly its ceiling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from rewriter.boost.functions import Boost
from rewriter.report import Strategy

NAME_PREFIX = "rewriter:"
"""Marks our named queries, so that they can be told from the caller's and taken off the hits."""

NOT_FOR_OPTIONAL_LEGS = ("aggs", "aggregations", "suggest", "track_total_hits", "ext")
"""Parts of a search whose answer is leg 1's alone."""


def envelope(boosts: Sequence[Boost], max_boost: float) -> dict[str, Any]:
    """Return the `function_score` (without its query) of `boosts`, each named by its index.

    Raises ValueError where a weight or the limit is not what the clamp left: the last check before anything is sent.
    """
    if not (isfinite(max_boost) and max_boost >= 1.0):
        raise ValueError("max_boost must be finite and at least 1")
    functions: list[dict[str, Any]] = [{"weight": 1}]
    for number, boost in enumerate(boosts):
        if not (isfinite(boost.weight) and boost.weight >= 0.0):
            raise ValueError(f"weight of boost {number} must be finite and at least 0")
        function: dict[str, Any] = dict(boost.decay or {})
        name = f"{NAME_PREFIX}{number}"
        if boost.filter is not None:
            function["filter"] = {"bool": {"filter": [boost.filter], "_name": name}}
        function["weight"] = boost.weight
        functions.append(function)
    return {"functions": functions, "score_mode": "sum", "boost_mode": "multiply", "max_boost": max_boost}


def bounded_body(
    body: Mapping[str, Any], boosts: Sequence[Boost], max_boost: float, strategy: Strategy, window_size: int
) -> dict[str, Any]:
    """Return a new body: `body` with its scores multiplied by a factor in [1, max_boost]; `body` is not modified.

    rescore: the factor is applied to the first `window_size` hits of each shard, after the caller's own rescores.
    wrap:    the query stands inside the `function_score`; every match is scored.
    """
    bounded = dict(body)
    function_score = envelope(boosts, max_boost)
    if strategy == "wrap":
        bounded["query"] = {"function_score": {"query": body["query"], **function_score}}
        return bounded
    rescore = {
        "window_size": window_size,
        "query": {
            "rescore_query": {"function_score": {"query": {"match_all": {}}, **function_score}},
            "score_mode": "multiply",
        },
    }
    own = body.get("rescore")
    bounded["rescore"] = [*(own if isinstance(own, list) else [own] if own else []), rescore]
    return bounded


def optional_leg(body: Mapping[str, Any], from_: int, size: int) -> dict[str, Any]:
    """Return a new body that asks for `size` hits from `from_` of the same search, and for nothing that leg 1 answers."""
    leg = {key: value for key, value in body.items() if key not in NOT_FOR_OPTIONAL_LEGS}
    leg |= {"from": from_, "size": size, "track_total_hits": False}
    return leg


def own_names(hit: Mapping[str, Any]) -> tuple[tuple[int, ...], dict[str, Any]]:
    """Return the boosts that the server says a hit matched, and the hit as the caller would have seen it without our names."""
    matched = hit.get("matched_queries")
    if not matched:
        return (), dict(hit)
    ours = {name: int(name.removeprefix(NAME_PREFIX)) for name in matched if _is_own(name)}
    if not ours:
        return (), dict(hit)
    rest = (
        {name: score for name, score in matched.items() if name not in ours}
        if isinstance(matched, dict)
        else [name for name in matched if name not in ours]
    )
    clean = {key: value for key, value in hit.items() if key != "matched_queries"}
    return tuple(sorted(ours.values())), clean | {"matched_queries": rest} if rest else clean


def _is_own(name: str) -> bool:
    """Whether a name is one of ours; a caller may have named a query with our prefix, but hardly with a number."""
    number = name.removeprefix(NAME_PREFIX)
    return number != name and number.isascii() and number.isdecimal()
