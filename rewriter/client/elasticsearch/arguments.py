"""The arguments of elasticsearch-py's `search`: which keywords mean a key of the body, and which a parameter of the URL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rewriter.client.seam import SearchArguments

BODY_KEYS: Mapping[str, str] = {
    **{
        name: name
        for name in (
            "aggregations", "aggs", "collapse", "docvalue_fields", "explain", "ext", "fields", "highlight", "indices_boost", "knn",
            "min_score", "pit", "post_filter", "profile", "project_routing", "query", "rank", "rescore", "retriever",
            "runtime_mappings", "script_fields", "search_after", "seq_no_primary_term", "size", "slice", "sort", "stats",
            "stored_fields", "suggest", "terminate_after", "timeout", "track_scores", "track_total_hits", "version",
        )
    },
    "from_": "from", "from": "from", "source": "_source", "_source": "_source",
}  # fmt: skip
"""The keywords of `client.search` that mean a key of the body, and the key. All others but NOT_URL are parameters of the URL."""

URL_NAMES = {
    "source_includes": "_source_includes", "source_excludes": "_source_excludes",
    "source_exclude_vectors": "_source_exclude_vectors", "route_slice": "_slice",
}  # fmt: skip
"""The keywords of `client.search` that have another name in the URL."""

NOT_URL = frozenset({"index", "body", "params", "headers", "opaque_id"})
OF_ONE_REQUEST = frozenset(
    {
        "request_timeout",
        "ignore",
        "ignore_status",
        "max_retries",
        "retry_on_status",
        "retry_on_timeout",
        "request_cache",
    }
)
"""Keywords that say how one request is sent or given up: each leg has its own."""


def read_arguments(arguments: Mapping[str, Any], own_headers: Mapping[str, str]) -> SearchArguments:
    """Return what the arguments of `client.search` ask for. own_headers: those that the client's options add to a search."""
    index, given = arguments.get("index"), arguments.get("body")
    headers = dict(own_headers)
    params = arguments.get("params") or {}
    for name, value in (("params", params), ("headers", arguments.get("headers") or {})):
        if not isinstance(value, Mapping):
            return SearchArguments(index, given, unread=f"`{name}` must be a dict")
    headers |= {str(name).lower(): value for name, value in (arguments.get("headers") or {}).items()}
    if (opaque_id := arguments.get("opaque_id")) is not None:
        headers["x-opaque-id"] = opaque_id
    body: dict[str, Any] = {}
    of_url: dict[str, Any] = {}
    own = {name: value for name, value in {**params, **arguments}.items() if name in OF_ONE_REQUEST}
    for name, value in {**params, **arguments}.items():
        if value is None or name in NOT_URL or name in OF_ONE_REQUEST:
            continue
        if name in BODY_KEYS and not (name == "sort" and _in_url(value)):
            body[BODY_KEYS[name]] = value
        else:
            of_url[URL_NAMES.get(name, name)] = value
    if given is None:
        return SearchArguments(index, body, of_url, headers, own=own)
    if not isinstance(given, dict):
        return SearchArguments(index, given, of_url, headers, own=own)
    return SearchArguments(
        index, {BODY_KEYS.get(name, name): value for name, value in given.items()} | body, of_url, headers, own=own
    )


def _in_url(sort: Any) -> bool:
    """Whether the client sends a `sort` in the URL: it does if one of the texts has an order, such as `price:desc`."""
    if isinstance(sort, str):
        return ":" in sort
    return (
        isinstance(sort, (list, tuple))
        and all(isinstance(one, str) for one in sort)
        and any(":" in one for one in sort)
    )
