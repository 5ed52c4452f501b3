"""Boosts: the functions that a template lists, validated and with clamped weights.

A template may list functions of two forms, a `filter` with a `weight`, and a decay function with a `weight`:

    {"filter": {"term": {"brand": "nike"}}, "weight": 0.2}
    {"gauss": {"listed": {"origin": "now", "scale": "30d"}}, "weight": 0.1}

A decay function's value lies in [0, 1], so both add at most their weight to the factor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, isfinite
from typing import Any, NamedTuple

from rewriter.signals.affinities import TOKEN, Affinity
from rewriter.signals.kinds.registry import every_kind

DECAYS = frozenset({"gauss", "exp", "linear"})
LEAF_QUERIES = frozenset(
    {
        "term", "terms", "range", "exists", "ids", "prefix", "wildcard", "match", "match_phrase", "match_phrase_prefix",
        "multi_match", "terms_set", "geo_distance", "geo_bounding_box", "match_all",
    }
)  # fmt: skip
MAX_FUNCTIONS = 128
"""Most functions of a template, and most filters of an exploration template."""
NAME = "_name"
"""A parameter of queries that the server reports with each hit that matches: callers would see a template's."""
OF_NESTED = frozenset({"path", "query", "score_mode", "ignore_unmapped", "boost", NAME})
OF_CONSTANT = frozenset({"filter", "boost", NAME})
"""Parameters of `nested` and of `constant_score`; `inner_hits` would add to the hits."""
MAX_CLAUSE_DEPTH = 8


class Boost(NamedTuple):
    """One bounded function: adds at most `weight`, in [0, max_boost − 1], to the factor of the hits that it matches."""

    filter: Mapping[str, Any] | None
    weight: float
    decay: Mapping[str, Any] | None = None
    field: str = ""
    value: str = ""
    source: str = "template"


class Refused(Exception):
    """A template's output is invalid: all its faults, none of which quotes a subject's value."""

    def __init__(self, faults: tuple[str, ...]) -> None:
        super().__init__(faults)
        self.faults = faults

    def __str__(self) -> str:
        return "; ".join(self.faults)


def read_functions(
    listed: Any, max_boost: float, affinities: Sequence[Affinity], *, random: bool = False
) -> tuple[Boost, ...]:
    """Return the boosts in a template's output, each weight clamped to [0, max_boost − 1]; functions of weight 0 are left out.

    listed:     the parsed output, a list of functions.
    affinities: the template's input, in the same order: a clause's token is an index into them.
    random:     whether `random_score` is allowed, which only exploration may use.
    Raises Refused with every fault.
    """
    if not isinstance(listed, list):
        raise Refused((f"a list of functions is wanted, not {_kind(listed)}",))
    if len(listed) > MAX_FUNCTIONS:
        raise Refused((f"{len(listed)} functions; {MAX_FUNCTIONS} at most",))
    faults: list[str] = []
    boosts = []
    describe_of = {name: kind.describe for name, kind in every_kind().items()}
    most, count, new = max_boost - 1.0, len(affinities), tuple.__new__  # a NamedTuple's own costs a call
    for number, function in enumerate(listed):
        # The fast path, without a call of our own: an affinity's unchanged clause with a valid weight.
        if (
            type(function) is dict
            and len(function) == 2
            and type(weight := function.get("weight")) is float
            and 0.0 <= weight < inf
            and type(clause := function.get("filter")) is dict
            and len(clause) == 1
            and type(which := clause.get(TOKEN)) is int
            and 0 <= which < count
        ):
            if weight > 0.0:
                kind, field, _, values, _, _, source, _, own = affinities[which]
                described = describe_of[kind](values)
                parts = (own, min(most, weight), None, field, described, source)
                boosts.append(new(Boost, parts))
            continue
        wrong = _wrong_function(function, affinities, random)
        if wrong:
            faults += [f"function {number}: {what}" for what in wrong]
            continue
        weight = clamped(float(function["weight"]), max_boost)
        if weight > 0.0:
            boosts.append(_boost(function, weight, affinities))
    if faults:
        raise Refused(tuple(faults))
    return tuple(boosts)


def clamped(weight: float, max_boost: float) -> float:
    """Return a weight ≥ 0, at most max_boost − 1."""
    return min(weight, max_boost - 1.0)


def _boost(function: Mapping[str, Any], weight: float, affinities: Sequence[Affinity]) -> Boost:
    clause = function.get("filter")
    decay = {name: spec for name, spec in function.items() if name not in ("filter", "weight")} or None
    if clause is not None and clause.keys() == {TOKEN}:  # an affinity's own clause, beside a decay function
        one = affinities[clause[TOKEN]]
        return Boost(one.filter, weight, decay, one.field, describe(one), one.source)
    return Boost(None if clause is None else _resolved(clause, affinities), weight, decay)


def describe(affinity: Affinity) -> str:
    """Return an affinity's values as text, as its kind does."""
    return every_kind()[affinity.kind].describe(affinity.values)


def unnamed(clause: Any) -> Any:
    """Return a clause without the names of its queries, at any depth."""
    return _resolved(clause, ())


def _resolved(part: Any, affinities: Sequence[Affinity]) -> Any:
    """Replace each token by its affinity's clause, and leave out names, at any depth."""
    if isinstance(part, list):
        return [_resolved(one, affinities) for one in part]
    if isinstance(part, dict):
        if TOKEN not in part:
            return {key: _resolved(one, affinities) for key, one in part.items() if key != NAME}
        if wrong := wrong_clause(part, affinities):  # a token inside of a query's parameters
            raise Refused((wrong,))
        return affinities[part[TOKEN]].filter
    return part


def _is_finite(number: float) -> bool:
    """Whether a number fits into a 64-bit float, as the server reads it. An integer of 400 digits does not."""
    try:
        return isfinite(number)
    except OverflowError:
        return False


def _wrong_function(function: Any, affinities: Sequence[Affinity], random: bool) -> list[str]:
    if not isinstance(function, dict):
        return [f"an object is wanted, not {_kind(function)}"]
    wrong = []
    weight = function.get("weight")
    if isinstance(weight, bool) or not isinstance(weight, (int, float)):
        wrong.append("`weight` must be a number")
    elif not _is_finite(weight) or weight < 0:
        wrong.append("`weight` must be finite and ≥ 0")
    shapes = [name for name in function if name not in ("filter", "weight")]
    allowed = DECAYS | {"random_score"} if random else DECAYS
    if unknown := [name for name in shapes if name not in allowed]:
        wrong.append(
            f"{', '.join(map(repr, sorted(unknown)))} not allowed here; only `filter`, `weight` and {', '.join(sorted(allowed))}"
        )
    elif len(shapes) > 1:
        wrong.append(f"one of {', '.join(shapes)}, not both")
    elif shapes and not isinstance(function[shapes[0]], dict):
        wrong.append(f"`{shapes[0]}` must be an object")
    elif not shapes and "filter" not in function:
        wrong.append("needs a `filter` or a decay function; a bare weight would boost every hit alike")
    if "filter" in function and (what := wrong_clause(function["filter"], affinities)):
        wrong.append(f"`filter`: {what}")
    return wrong


def wrong_clause(clause: Any, affinities: Sequence[Affinity], depth: int = 0) -> str | None:
    """Return the fault of a filter clause, or None. Only queries that run no script and read no other index are allowed."""
    if not isinstance(clause, dict) or len(clause) != 1:
        return 'one query clause is wanted, like {"term": {…}}'
    if depth > MAX_CLAUSE_DEPTH:
        return f"nested deeper than {MAX_CLAUSE_DEPTH}"
    ((name, spec),) = clause.items()
    if name == TOKEN:
        known = isinstance(spec, int) and not isinstance(spec, bool) and 0 <= spec < len(affinities)
        return None if known else f"`{TOKEN}` stands for no affinity of this subject"
    if not isinstance(spec, dict):
        return f"`{name}` must be an object"
    if name in LEAF_QUERIES:
        return _wrong_leaf(name, spec)
    if name == "bool":
        return _wrong_bool(spec, affinities, depth)
    if name in ("nested", "constant_score"):
        if unknown := [part for part in spec if part not in (OF_NESTED if name == "nested" else OF_CONSTANT)]:
            return f"`{name}` has no `{unknown[0]}` in a boost"
        return wrong_clause(spec.get("query") if name == "nested" else spec.get("filter"), affinities, depth + 1)
    return f"the query `{name}` is not allowed in a boost"


def _wrong_bool(spec: Mapping[str, Any], affinities: Sequence[Affinity], depth: int) -> str | None:
    for part, inner in spec.items():
        if part in ("filter", "must", "should", "must_not"):
            for one in inner if isinstance(inner, list) else [inner]:
                if wrong := wrong_clause(one, affinities, depth + 1):
                    return wrong
        elif part not in ("minimum_should_match", "boost", NAME):
            return f"`bool` has no `{part}`"
    return None


def _wrong_leaf(name: str, spec: Mapping[str, Any]) -> str | None:
    """Return the fault of a query that reads another index or runs a script, or None."""
    if name == "terms" and any(isinstance(values, dict) for values in spec.values()):
        return "`terms` must list its values: a look-up reads another index"
    if name == "terms_set" and any(
        "minimum_should_match_script" in own for own in spec.values() if isinstance(own, dict)
    ):
        return "`terms_set` needs `minimum_should_match_field`: a script is not allowed"
    return None


def _kind(value: Any) -> str:
    return {"dict": "an object", "list": "a list", "str": "a text", "NoneType": "null"}.get(
        type(value).__name__, type(value).__name__
    )
