"""Table of search shapes: which bodies and parameters are personalized and by which strategy, and which are passed through and why.

The first row that applies decides. Rows that pass a search through come in the order of `Reason`, except for unreadable searches;
rows that personalize come last. What the rows claim about the server is tested on a real one. `docs/shapes.md` shows this table
with examples.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

from rewriter.index_facts import IndexFacts
from rewriter.query_form import (
    KEYS_OF_CHANCE,
    Relevance,
    explains_inner_hits,
    looks_up_ids,
    matches_by_size,
    relevance,
    scored_by_chance,
)
from rewriter.record import computed_once, record
from rewriter.report import Reason, Strategy
from rewriter.settings import PolicySettings

TOP_LEVEL_QUERIES = frozenset({"hybrid", "agentic", "template"})
"""Queries that a search pipeline completes, and that cannot be nested in another query."""

BODY_KEYS = frozenset(
    {
        "query", "from", "size", "sort", "post_filter", "min_score", "rescore", "collapse", "indices_boost",
        "timeout", "aggs", "aggregations", "suggest", "highlight", "_source", "fields", "docvalue_fields",
        "stored_fields", "script_fields", "derived", "version", "seq_no_primary_term", "track_scores",
        "track_total_hits", "include_named_queries_score", "stats", "explain", "profile", "terminate_after",
        "search_after", "slice", "pit", "search_pipeline", "ext",
    }
)  # fmt: skip
"""Supported keys of a body. Any other key may change hits in an unknown way."""


CHANGES_RESULTS = frozenset(
    {
        "routing",
        "search_type",
        "preference",
        "expand_wildcards",
        "ignore_unavailable",
        "allow_no_indices",
        "ignore_throttled",
    }
)
CHANGES_NOTHING = frozenset(
    {
        "allow_partial_search_results", "batched_reduce_size", "ccs_minimize_roundtrips", "docvalue_fields",
        "error_trace", "human", "include_named_queries_score", "max_concurrent_shard_requests", "phase_took",
        "pre_filter_shard_size", "pretty", "rest_total_hits_as_int", "seq_no_primary_term", "stats", "track_scores",
        "typed_keys", "version",
    }
)  # fmt: skip
"""URL parameters sent with every leg: those that change which hits are returned or their order, and those that do not."""


@record(frozen=True)
class SearchFacts:
    """The parts of a parsed search that the table examines.

    unread: why the arguments could not be parsed, or None.
    facts:  the facts of those of its indices that have been read.
    names:  every key of the body, at any depth.
    """

    body: Mapping[str, Any]
    params: Mapping[str, Any]
    unread: str | None
    from_: int
    size: int
    policy: PolicySettings | None
    facts: Sequence[IndexFacts]
    names: Collection[str]

    @computed_once
    def relevance(self) -> Relevance:
        """The scores that the form of the query shows."""
        return relevance(self.body.get("query"))


@record(frozen=True, slots=True)
class Shape:
    """One row of the table. If `applies` returns a text, that text replaces `detail`.

    needs: a key of the body or a parameter without which the row cannot apply, or "".
    """

    name: str
    applies: Callable[[SearchFacts], object]
    outcome: Reason | Strategy
    detail: str
    needs: str = ""


def is_on(value: Any) -> bool:
    """Whether the server reads `value` as true: in a URL, an empty text is true."""
    return value not in (None, False, "false")


def own_windows(body: Mapping[str, Any]) -> list[int]:
    """Return the `window_size` of each of the caller's own rescores; the server's default is 10.

    Raises TypeError, ValueError or AttributeError if `rescore` has an unexpected form.
    """
    own = body.get("rescore") or []
    return [int(one.get("window_size", 10)) for one in (own if isinstance(own, list) else [own])]


def rescore_window(window_size: int, own: int | None) -> int:
    """Return the window of our rescore, in hits a shard: at most the smallest of the caller's own rescores, if there are any."""
    return min(window_size, own or window_size)


def _by_score(sort: Any) -> bool:
    if isinstance(sort, list):
        return not sort or (len(sort) == 1 and _by_score(sort[0]))
    if isinstance(sort, dict) and len(sort) == 1 and "_score" in sort:
        order = sort["_score"]
        order = order.get("order", "desc") if isinstance(order, dict) else order
        return isinstance(order, str) and order.lower() == "desc"
    return sort is None or sort == "_score"


def _collapses(search: SearchFacts) -> bool:
    return bool(search.body.get("collapse"))


def _has_min_score(search: SearchFacts) -> bool:
    return search.body.get("min_score") is not None


def _rescores(search: SearchFacts) -> bool:
    return bool(search.body.get("rescore"))


def _policy_sets(search: SearchFacts, strategy: Strategy) -> bool:
    return search.policy is not None and search.policy.strategy == strategy


def _wraps(search: SearchFacts) -> bool:
    return _collapses(search) or (_policy_sets(search, "wrap") and not _has_min_score(search) and not _rescores(search))


def _window_too_large(search: SearchFacts) -> bool:
    assert search.policy is not None
    window = rescore_window(search.policy.window_size, min(own_windows(search.body), default=None))
    return not _wraps(search) and any(window > facts.max_rescore_window for facts in search.facts)


def _too_deep(search: SearchFacts) -> bool:
    assert search.policy is not None
    return search.from_ + search.size > min(
        [search.policy.max_depth, *(facts.max_result_window for facts in search.facts)]
    )


def _unknown_key(search: SearchFacts) -> str | None:
    unknown = [key for key in search.body if key not in BODY_KEYS]
    return f"the body's `{unknown[0]!s:.60}` is not supported" if unknown else None


def _unknown_parameter(search: SearchFacts) -> str | None:
    unknown = [name for name in search.params if name not in CHANGES_RESULTS and name not in CHANGES_NOTHING]
    return f"the parameter `{unknown[0]!s:.60}` is not supported" if unknown else None


def _only_suggests(search: SearchFacts) -> bool:
    return "suggest" in search.body and not search.body.keys() & {"query", "aggs", "aggregations"}


def _top_level_query(search: SearchFacts) -> bool:
    return not TOP_LEVEL_QUERIES.isdisjoint(search.body.get("query") or ())


def _default_pipeline(search: SearchFacts) -> bool:
    return any(facts.default_pipeline for facts in search.facts)


def _extended(search: SearchFacts) -> bool:
    return not {"ubi"}.issuperset(search.body.get("ext") or ())


def _without_ids(search: SearchFacts) -> bool:
    return search.body.get("stored_fields") in ("_none_", ["_none_"])


def _scores_nothing(search: SearchFacts) -> bool:
    return search.relevance == "none"


def _by_chance(search: SearchFacts) -> str | None:
    found = "" if KEYS_OF_CHANCE.isdisjoint(search.names) else scored_by_chance(search.body)
    return f"{found}: {OTHER_SCORES}" if found else None


def _neighbours_by_size(search: SearchFacts) -> bool:
    return "knn" in search.names and matches_by_size(search.body)


def _explains_inside(search: SearchFacts) -> bool:
    return {"explain", "inner_hits"}.issubset(search.names) and explains_inner_hits(search.body)


def _flat(search: SearchFacts) -> bool:
    assert search.policy is not None
    return not search.policy.browse and search.relevance == "flat"


def _unsupported(name: str, applies: Callable[[SearchFacts], object], detail: str, needs: str = "") -> Shape:
    return Shape(name, applies, Reason.UNSUPPORTED, detail, needs)


def _key(name: str, detail: str, row: str = "") -> Shape:
    """Return the row of a body's key."""
    return _unsupported(row or f"`{name}`", lambda search: is_on(search.body.get(name)), detail, name)


def _parameter(name: str, detail: str, row: str = "") -> Shape:
    """Return the row of a parameter of the URL."""
    return _unsupported(row or f"`{name}`", lambda search: is_on(search.params.get(name)), detail, name)


OWN_SCORES = "an explanation describes the caller's own scores"
NOT_KNOWN = "it may change hits in an unknown way"
CREDENTIALS = "credentials of one search reach the other legs as `headers` only"
OTHER_SCORES = "each search gives its hits other scores"
WOULD_ADMIT = "`wrap` would admit documents below `min_score`"

TABLE: tuple[Shape, ...] = (
    Shape("no policy", lambda a: a.policy is None, Reason.NO_POLICY, "no policy matches every index of the search"),
    _unsupported("not readable", lambda a: a.unread, "the server or the client will report the fault"),
    Shape("`size: 0`", lambda a: a.size == 0, Reason.NO_HITS, "no hits are requested"),
    Shape("suggestions alone", _only_suggests, Reason.NO_HITS, "a search for suggestions alone has no hits", "suggest"),
    Shape(
        "sorted",
        lambda a: not _by_score(a.body.get("sort")),
        Reason.SORTED,
        "not exactly by `_score` descending",
        "sort",
    ),
    Shape("deep page", _too_deep, Reason.BEYOND_DEPTH, "`from` + `size` > `max_depth` or `max_result_window`"),
    _key("search_after", "`search_after` is a cursor over the caller's own scores"),
    _key("pit", "a point in time belongs to a cursor"),
    _key("slice", "a slice is a part of a cursor"),
    _parameter("scroll", "a scroll is a cursor; the server refuses `rescore` in it"),
    _parameter("q", "the query is in the URL"),
    _parameter("source", "the body is in the URL"),
    _parameter("filter_path", "the answer is cut down to some of its parts"),
    _parameter("format", "the answer is not JSON"),
    _parameter("rest_total_hits_as_int", "the answer has another form", "totals as numbers"),
    _parameter("suggest_field", "suggestions are requested in the URL"),
    _parameter("http_auth", CREDENTIALS),
    _parameter("api_key", CREDENTIALS),
    _unsupported("other parameter", _unknown_parameter, NOT_KNOWN),
    _unsupported("other key", _unknown_key, NOT_KNOWN),
    _key("search_pipeline", "a search pipeline may change scores and hits", "search pipeline"),
    _unsupported(
        "the index's pipeline", _default_pipeline, "the index's default search pipeline may change scores and hits"
    ),
    _unsupported(
        "query of a pipeline", _top_level_query, "`hybrid`, `agentic` and `template` cannot be nested in another query"
    ),
    _key("explain", OWN_SCORES),
    _unsupported("`explain` of `inner_hits`", _explains_inside, OWN_SCORES),
    _key("profile", "a profile describes the caller's own search"),
    _key("terminate_after", "which documents are seen differs from search to search"),
    _unsupported(
        "hits without ids", _without_ids, "`stored_fields: _none_` removes `_id` from the hits", "stored_fields"
    ),
    _unsupported(
        "`ext`", _extended, "a plugin may add data to hits that other legs do not request; `ubi` adds none", "ext"
    ),
    _unsupported("look-up by id", lambda a: looks_up_ids(a.body.get("query")), "the documents are named, not searched"),
    _unsupported("scored by chance", _by_chance, OTHER_SCORES),
    _unsupported("`knn` without `k`", _neighbours_by_size, "`size` decides which documents match; give it a `k`"),
    _unsupported("`collapse`, `min_score`", lambda a: _collapses(a) and _has_min_score(a), WOULD_ADMIT, "collapse"),
    _unsupported(
        "`collapse`, `rescore`",
        lambda a: _collapses(a) and _rescores(a),
        "the server refuses the two together",
        "collapse",
    ),
    _unsupported(
        "`collapse`, policy sets `rescore`",
        lambda a: _collapses(a) and _policy_sets(a, "rescore"),
        "the server refuses `rescore` beside `collapse`",
        "collapse",
    ),
    _unsupported("window too large", _window_too_large, "`window_size` > the index's `max_rescore_window`; lower it"),
    Shape("no scoring clause", _scores_nothing, Reason.NO_RELEVANCE, "filters alone score 0: no boost has an effect"),
    Shape(
        "flat by its form", _flat, Reason.FLAT_SCORES, "every hit scores the same, and the policy does not set `browse`"
    ),
    Shape("`collapse`", _collapses, "wrap", "the server refuses `rescore` beside `collapse`", "collapse"),
    Shape("`min_score`", _has_min_score, "rescore", WOULD_ADMIT, "min_score"),
    Shape("own `rescore`", _rescores, "rescore", "after theirs, with the smallest of their windows", "rescore"),
    Shape("policy sets `wrap`", _wraps, "wrap", "as the policy sets it"),
    Shape("anything else", lambda _: True, "rescore", "as the policy sets it, or leaves it open"),
)


NEEDS = frozenset(shape.needs for shape in TABLE if shape.needs)


@lru_cache(maxsize=256)
def _rows(present: frozenset[str]) -> tuple[Shape, ...]:
    """Return the rows that may apply to a search; `present` are those of NEEDS that it has."""
    return tuple(shape for shape in TABLE if not shape.needs or shape.needs in present)


def shape_of(search: SearchFacts) -> tuple[Shape, str]:
    """Return the first row of the table that applies to a search, and its detail."""
    for shape in _rows(NEEDS.intersection((*search.body, *search.params))):
        if found := shape.applies(search):
            return shape, found if isinstance(found, str) else shape.detail
    raise AssertionError("the last row applies to every search")
