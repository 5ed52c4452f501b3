"""Builder of the personalized body: the bounded `function_score` around all boosts (promise P3).

The bare {"weight": 1} makes the factor 1 + Σ boosts: it is at least 1 and at most `max_boost`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import inf, isfinite
from typing import Any

from rewriter.alike import alike
from rewriter.boost.functions import Boost, clamped
from rewriter.query_form import depends_on_collection
from rewriter.report import Strategy

NAME_PREFIX = "rewriter:"
"""Prefix of our named queries, by which they are recognized and removed from the hits."""

WORDS_NAME = f"{NAME_PREFIX}words"
"""Names the all-words gate, so that a hit tells whether boosts acted on it."""

NOT_FOR_OPTIONAL_LEGS = ("aggs", "aggregations", "suggest", "ext")
"""Keys of a body that only the baseline answers. `track_total_hits` is not among them: it changes scores."""


def envelope(
    boosts: Sequence[Boost], max_boost: float, gate: Mapping[str, Any] | None = None, *, named: bool = True
) -> dict[str, Any]:
    """Return the `function_score` (without its query) of `boosts`, each named by its index and acting where `gate` matches.

    named: whether the server is to name the boosts that act on a hit, which costs it about as much as the boosts themselves.

    Raises ValueError if a weight is not finite or < 0, or `max_boost` is not finite or < 1: the last check before sending.
    """
    if not (isfinite(max_boost) and max_boost >= 1.0):
        raise ValueError("max_boost must be finite and at least 1")
    functions: list[dict[str, Any]] = [{"weight": 1}]
    for number, (own, weight, decay, *_) in enumerate(boosts):
        if not 0.0 <= weight < inf:
            raise ValueError(f"weight of boost {number} must be finite and at least 0")
        function: dict[str, Any] = dict(decay) if decay else {}
        filters = [] if own is None else [own]
        if gate is not None:
            filters.append(gate)
        if filters and named:
            function["filter"] = {"bool": {"filter": filters, "_name": f"{NAME_PREFIX}{number}"}}
        elif filters:
            function["filter"] = filters[0] if len(filters) == 1 else {"bool": {"filter": filters}}
        function["weight"] = weight
        functions.append(function)
    return {"functions": functions, "score_mode": "sum", "boost_mode": "multiply", "max_boost": max_boost}


def capped(boosts: Sequence[Boost], max_boost: float) -> tuple[Boost, ...]:
    """Return boosts with weights of at most max_boost − 1: a switch may have lowered the limit since they were made."""
    if max((boost.weight for boost in boosts), default=0.0) <= max_boost - 1.0:
        return tuple(boosts)
    return tuple([boost._replace(weight=clamped(boost.weight, max_boost)) for boost in boosts])


def bounded_body(
    body: Mapping[str, Any],
    boosts: Sequence[Boost],
    max_boost: float,
    strategy: Strategy,
    window_size: int,
    gate: Mapping[str, Any] | None = None,
    *,
    named: bool = True,
    names_gate: bool = True,
) -> dict[str, Any]:
    """Return a new body: `body` with its scores multiplied by a factor in [1, max_boost]; `body` is not modified.

    rescore: the factor is applied to the first `window_size` hits of each shard, after the caller's own rescores.
    wrap:    the query stands inside the `function_score`; every match is scored.
    gate:    the factor is 1 for hits that this clause does not match (`all_words`). Which hits there are does not change.
    named:   whether the server is to name the boosts that act on a hit; names_gate: whether it names the gate of a rescore.
    """
    bounded = dict(body)
    function_score = envelope(boosts, max_boost, gate if strategy == "wrap" else None, named=named)
    if strategy == "wrap":
        bounded["query"] = {"function_score": {"query": body["query"], **function_score}}
        return highlighted_by(bounded, body["query"])
    rescore = {
        "window_size": window_size,
        "query": {
            "rescore_query": {"function_score": {"query": _gated(gate, named=names_gate), **function_score}},
            "score_mode": "multiply",
        },
    }
    own = body.get("rescore")
    bounded["rescore"] = [*(own if isinstance(own, list) else [own] if own else []), rescore]
    return bounded


def _gated(gate: Mapping[str, Any] | None, *, named: bool) -> dict[str, Any]:
    """Return the query whose hits are rescored, each with a score of 1; the others keep theirs."""
    if gate is None:
        return {"match_all": {}}
    return {"constant_score": {"filter": {"bool": {"filter": [gate], "_name": WORDS_NAME}} if named else gate}}


def optional_leg(
    body: Mapping[str, Any], from_: int, size: int, names: Collection[str] = ("boosting",)
) -> dict[str, Any]:
    """Return a new body for `size` hits from `from_` of the same search, without the keys that only the baseline answers.

    It scores as `body` does. Without aggregations the server may skip matches that cannot reach the page, and then `boosting` can
    ignore its negative part. So a body with both counts all matches (`track_total_hits`), which makes the server visit each.

    names: the keys of the body at any depth, if they are known: without `boosting` among them, the body has none.
    """
    leg = {key: value for key, value in body.items() if key not in NOT_FOR_OPTIONAL_LEGS}
    leg |= {"from": from_, "size": size}
    if "boosting" in names and (body.get("aggs") or body.get("aggregations")) and depends_on_collection(body):
        leg["track_total_hits"] = True
    return leg


def highlighted_by(body: Mapping[str, Any], query: Any) -> dict[str, Any]:
    """Return a new body with `query` as the `highlight_query` of every highlight without one, those of `collapse` included.

    Inside a `function_score` a phrase would be highlighted term by term, and our own filters would be highlighted too.
    """
    changed = dict(body)
    if "highlight" in body:
        changed["highlight"] = _by_query(body["highlight"], query)
    collapse = body.get("collapse")
    inner = collapse.get("inner_hits") if isinstance(collapse, dict) else None
    if inner:
        parts = [
            {**one, "highlight": _by_query(one["highlight"], query)}
            if isinstance(one, dict) and "highlight" in one
            else one
            for one in (inner if isinstance(inner, list) else [inner])
        ]
        changed["collapse"] = {**body["collapse"], "inner_hits": parts if isinstance(inner, list) else parts[0]}
    return changed


def _by_query(highlight: Any, query: Any) -> Any:
    return {"highlight_query": query, **highlight} if isinstance(highlight, dict) else highlight


def own_names(hit: Mapping[str, Any], *, gated: bool = False) -> tuple[int, ...]:
    """Return the boosts that the server says acted on a hit. gated: none acts on a hit that a rescore's gate did not match."""
    named = hit.get("matched_queries") or ()
    if gated and WORDS_NAME not in named:
        return ()
    return tuple(sorted(int(name.removeprefix(NAME_PREFIX)) for name in named if _is_own(name) and name != WORDS_NAME))


def without_own_names(hit: Mapping[str, Any]) -> Any:
    """Return a copy of a hit, in its own class, without our names in `matched_queries`, at any depth of its `inner_hits`.

    The server lists all names of a search in the inner hits too. `hit` is not modified.
    """
    clean = dict(hit)
    named = clean.get("matched_queries")
    if named and any(map(_is_own, named)):
        kept = [name for name in named if not _is_own(name)]
        if kept:
            clean["matched_queries"] = (
                alike(named, {name: named[name] for name in kept}) if isinstance(named, dict) else kept
            )
        else:
            del clean["matched_queries"]
    inner = clean.get("inner_hits")
    if isinstance(inner, dict):
        clean["inner_hits"] = alike(inner, {name: _inner(part) for name, part in inner.items()})
    return alike(hit, clean)


def _inner(part: Any) -> Any:
    found = part.get("hits") if isinstance(part, dict) else None
    if not isinstance(found, dict) or not isinstance(found.get("hits"), list):
        return part
    hits = [without_own_names(hit) for hit in found["hits"]]
    return alike(part, {**part, "hits": alike(found, {**found, "hits": hits})})


def _is_own(name: str) -> bool:
    """Whether a name is one of ours: our prefix and a number, since a caller's own name may begin with the prefix."""
    number = str(name).removeprefix(NAME_PREFIX)
    return name == WORDS_NAME or (number != name and len(number) < 5 and number.isascii() and number.isdecimal())
