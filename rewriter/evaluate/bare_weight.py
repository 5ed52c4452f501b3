"""A bare weight in a team's own `function_score`: the body that has one, and the least weight that lessens the spread so far.

With scores q · f, of words q and functions f, one function more without filter gives q · (w + f): the larger w, the less the
functions spread the scores. It is only suggested, and measured: by `rewriter check` and `rewriter tune`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rewriter.client.seam import LegFault, Search
from rewriter.evaluate.answers import Send
from rewriter.evaluate.spread import PAGE, Spread, spread_of

WEIGHTS = tuple(round(step * 10.0**power, 2) for power in range(-1, 6) for step in (1.0, 1.5, 2.0, 3.0, 5.0, 7.0))
"""Weights that can be suggested: a team's functions range from a logarithm to a count of sales."""
FUNCTIONS = frozenset({"field_value_factor", "script_score", "random_score", "gauss", "linear", "exp"})
DROPPED = frozenset(
    {"aggs", "aggregations", "highlight", "suggest", "fields", "docvalue_fields", "script_fields", "stored_fields"}
)


NONE_HELPS = (
    "no bare weight is suggested: the words' own scores spread as far, or not every search has a function_score that "
    "multiplies by one function or by a sum"
)


@dataclass(frozen=True, slots=True)
class PlainPage:
    """A page of the query alone: ids and scores in order."""

    ids: Sequence[str]
    scores: Sequence[float]


@dataclass(frozen=True, slots=True)
class Suggestion:
    """The least of WEIGHTS with which the spread is small enough, and the spread and the pages with it."""

    weight: float
    spread: Spread
    pages: Sequence[PlainPage | None]

    @property
    def in_words(self) -> str:
        """The function to add, and the spread of scores with it."""
        return (
            f'with one function more, {{"weight": {self.weight:g}}}, in the query\'s own function_score (score_mode sum) '
            f"the first hit scores {self.spread.ratio:.2f} times the tenth"
        )


def with_bare_weight(body: Mapping[str, Any], weight: float) -> dict[str, Any] | None:
    """Return a search body with one function `{"weight": weight}` more; None where its query has no functions that it would join.

    They are those of a `function_score` that multiplies by one function or by a sum: the query, or a `bool`'s only scored clause.
    """
    query = _with_weight(body.get("query"), weight)
    return None if query is None else {**body, "query": query}


def _with_weight(query: Any, weight: float) -> dict[str, Any] | None:
    if not isinstance(query, Mapping) or len(query) != 1:
        return None
    ((name, spec),) = query.items()
    if not isinstance(spec, Mapping):
        return None
    if name == "bool" and set(spec) <= {"must", "filter", "must_not"}:
        must = spec.get("must")
        inner = must[0] if isinstance(must, list) and len(must) == 1 else must
        changed = _with_weight(inner, weight)
        return None if changed is None else {"bool": {**spec, "must": [changed]}}
    if name != "function_score" or spec.get("boost_mode", "multiply") != "multiply":
        return None
    functions, rest = _functions(spec)
    mode = spec.get("score_mode", "multiply")
    if not functions or not (mode == "sum" or (len(functions) == 1 and mode != "avg")):
        return None
    return {"function_score": {**rest, "functions": [*functions, {"weight": weight}], "score_mode": "sum"}}


def _functions(spec: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return the functions of a `function_score`, also of the short form for one, and the other keys."""
    if isinstance(spec.get("functions"), list):
        return list(spec["functions"]), {name: part for name, part in spec.items() if name != "functions"}
    own = {name: part for name, part in spec.items() if name in FUNCTIONS or name == "weight"}
    return [own] if set(own) & FUNCTIONS else [], {name: part for name, part in spec.items() if name not in own}


def plain_pages(send: Send, searches: Sequence[Search], size: int = PAGE) -> list[PlainPage | None]:
    """Return the first page of each search's own query; None for one that failed."""
    sent = [Search(one.index, _page(one.body, size), one.params, one.headers) for one in searches]
    return [None if isinstance(one, LegFault) else _plain_page(one) for one in send(sent)] if sent else []


def _page(body: Mapping[str, Any], size: int) -> dict[str, Any]:
    kept = {name: part for name, part in body.items() if name not in DROPPED}
    return {**kept, "from": 0, "size": size, "_source": False, "track_total_hits": False}


def _plain_page(answer: Mapping[str, Any]) -> PlainPage:
    hits = answer["hits"]["hits"]
    return PlainPage([str(hit["_id"]) for hit in hits], [float(hit.get("_score") or 0.0) for hit in hits])


def suggested(send: Send, searches: Sequence[Search], ratio: float) -> Suggestion | None:
    """Return the bare weight with which scores spread by at most `ratio`; None where no weight does that, or a query takes none.

    The largest weight leaves the words' own scores: if these spread further, no weight helps. The others are found by bisection.
    """

    def tried(weight: float) -> Suggestion | None:
        changed = [with_bare_weight(one.body, weight) for one in searches]
        given = [
            Search(one.index, body, one.params, one.headers)
            for one, body in zip(searches, changed, strict=True)
            if body is not None
        ]
        if not given or len(given) < len(searches):
            return None
        pages = plain_pages(send, given)
        found = spread_of(one.scores for one in pages if one is not None)
        return Suggestion(weight, found, pages) if found and found.ratio <= ratio else None

    return least(WEIGHTS, tried)


def least(weights: Sequence[float], tried: Callable[[float], Suggestion | None]) -> Suggestion | None:
    """Return what the least of rising weights gives for which `tried` returns something, as it then does for all above."""
    best = tried(weights[-1])
    if best is None:
        return None
    low, high = 0, len(weights) - 1
    while low < high:
        middle = (low + high) // 2
        found = tried(weights[middle])
        if found is None:
            low = middle + 1
        else:
            high, best = middle, found
    return best
