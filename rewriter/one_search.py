"""The searches that can be sent once, with boosts in them, and still answer as the callers' own: the table's third column.

A policy with `mode = "rewrite"` sends the caller's whole body with our rescore (or wrap) added. Order and scores of the hits then
differ, as they should; everything else must not. The first row that applies names what would differ. Such a search goes parallel:
its totals, aggregations and suggestions are those of the caller's own search. The claims of the rows, and each type in
EQUAL_AGGREGATIONS, are tested on a real server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rewriter.query_form import inside
from rewriter.report import Strategy

OF_SCORES = frozenset({"sampler", "diversified_sampler", "scripted_metric"})
"""Aggregations that are made of scores, or may be. Under rescore these are those of the first pass, and so the caller's own."""

EQUAL_AGGREGATIONS = OF_SCORES | {
    "adjacency_matrix", "auto_date_histogram", "avg", "avg_bucket", "bucket_script", "bucket_selector",
    "bucket_sort", "cardinality", "composite", "cumulative_sum", "date_histogram", "date_range", "derivative",
    "diversified_sampler", "extended_stats", "extended_stats_bucket", "filter", "filters", "geo_centroid",
    "geo_distance", "global", "histogram", "ip_range", "max", "max_bucket", "median_absolute_deviation", "min",
    "min_bucket", "missing", "moving_fn", "multi_terms", "nested", "percentile_ranks", "percentiles",
    "percentiles_bucket", "range", "rare_terms", "reverse_nested", "serial_diff", "significant_terms",
    "significant_text", "stats", "stats_bucket", "sum", "sum_bucket", "terms", "value_count",
    "variable_width_histogram", "weighted_avg",
}  # fmt: skip
"""Aggregations that answer the same beside a rescore. `top_hits` does not: it runs the rescore in every bucket, which gives other
hits and boosted scores, and with 40 buckets takes 32 times as long. Types that are not listed were not tried."""

PARTS_OF_AN_AGGREGATION = frozenset({"aggs", "aggregations", "meta"})

MAX_AGGREGATIONS = 500
"""Looked at; a search with more goes parallel."""

MAX_TIME_S = 1e6
"""More than clients take."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One row: `applies` may return a text, which then stands in for `why`."""

    name: str
    applies: Callable[[Mapping[str, Any], Mapping[str, Any], Strategy], object]
    why: str


def aggregations(body: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the type and the definition of each aggregation of a body, at any depth. Raises ValueError for what is none."""
    left: list[Any] = [body.get("aggs"), body.get("aggregations")]
    seen = 0
    while left:
        named = left.pop()
        if named is None:
            continue
        if not isinstance(named, Mapping):
            raise ValueError("aggregations must be an object")  # noqa: TRY004  of the server's making, not of ours
        for one in named.values():
            seen += 1
            if not isinstance(one, Mapping) or seen > MAX_AGGREGATIONS:
                raise ValueError("an aggregation must be an object")
            left += [one.get("aggs"), one.get("aggregations")]
            for kind, definition in one.items():
                if kind not in PARTS_OF_AN_AGGREGATION:
                    yield str(kind), definition


def _aggregates_otherwise(body: Mapping[str, Any], _: Mapping[str, Any], strategy: Strategy) -> str:
    if "aggs" not in body and "aggregations" not in body:
        return ""
    try:
        for kind, definition in aggregations(body):
            if kind not in EQUAL_AGGREGATIONS:
                return f"the aggregation `{kind:.40}` is not known to answer the same beside boosts"
            if strategy == "wrap" and (kind in OF_SCORES or any(key == "script" for key, _ in inside([definition]))):
                return f"under `wrap` the aggregation `{kind:.40}` may read boosted scores"
    except ValueError:
        return "the aggregations have a form that is not known here"
    return ""


def _highlights_wrapped(body: Mapping[str, Any], _: Mapping[str, Any], strategy: Strategy) -> bool:
    return strategy == "wrap" and "highlight" in body


def _shows_groups(body: Mapping[str, Any], _: Mapping[str, Any], __: Strategy) -> bool:
    return bool((body.get("collapse") or {}).get("inner_hits"))


def _suggests_documents(body: Mapping[str, Any], _: Mapping[str, Any], __: Strategy) -> bool:
    return "suggest" in body and any(key == "completion" for key, _ in inside([body["suggest"]]))


def _is_time(value: Any) -> bool:
    """Whether a time limit is none, or a number of seconds above 0."""
    return value is None or (type(value) in (int, float) and 0.0 < value < MAX_TIME_S)


DIFFERENCES: tuple[Difference, ...] = (
    Difference(
        "aggregation", _aggregates_otherwise, "`top_hits`, types that are not known here, under `wrap` also those that read scores",
    ),
    Difference("`wrap`, `highlight`", _highlights_wrapped, "inside a `function_score` other words may be marked"),
    Difference("`collapse`, `inner_hits`", _shows_groups, "hits inside each group would be ordered and scored by boosts"),
    Difference(
        "suggested documents", _suggests_documents, "on one shard, documents of `completion` would have scores of other hits",
    ),
    Difference(
        "`request_cache`", lambda _, own, __: str(own.get("request_cache")).lower() == "true",
        "the server's cache would keep an entry for each subject",
    ),
    Difference(
        "`request_timeout`", lambda _, own, __: not _is_time(own.get("request_timeout")),
        "its client may refuse the time limit",
    ),
    Difference("`ext.ubi`", lambda body, _, __: bool(body.get("ext")), "the plugin would note the hits before exploration"),
)  # fmt: skip


def difference(body: Mapping[str, Any], own_params: Mapping[str, Any], strategy: Strategy) -> str:
    """Return in words what the answer to one search would lack of the caller's own, or "".

    own_params: the parameters of the URL that hold for the caller's own search alone.
    """
    for row in DIFFERENCES:
        if found := row.applies(body, own_params, strategy):
            return found if isinstance(found, str) else row.why
    return ""
