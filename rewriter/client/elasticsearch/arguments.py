"""The arguments of elasticsearch-py's `search`: which keywords mean a key of the body, and which a parameter of the URL."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
OF_ONE_REQUEST = frozenset({"request_timeout", "ignore", "request_cache"})
"""Keywords that say how one request is sent or given up: each leg has its own."""

ALIASES = {"_source": "source", "from": "from_"}
"""Other names of two keywords. As keywords the client reads them only where it sends no other body."""


def read_arguments(
    arguments: Mapping[str, Any], own_headers: Mapping[str, str], timeout_s: float | None = None
) -> SearchArguments:
    """Return what the arguments of `client.search` ask for.

    own_headers, timeout_s: the headers that the client's options add to a search, and the time that they give it.

    Arguments that the client refuses are unread: it has to see them, since a rewritten search would be answered.
    """
    params = arguments.get("params") or {}
    if not isinstance(params, Mapping):
        return SearchArguments(arguments.get("index"), arguments.get("body"), unread="`params` must be a dict")
    call = {**params, **arguments}
    index, given = call.get("index"), call.get("body")
    if twice := [name for name in params if name in arguments]:
        return SearchArguments(index, given, unread=f"`{twice[0]!s:.60}` is in `params` and beside it")
    if not isinstance(call.get("headers") or {}, Mapping):
        return SearchArguments(index, given, unread="`headers` must be a dict")
    headers = dict(own_headers)
    headers |= {str(name).lower(): value for name, value in (call.get("headers") or {}).items()}
    if (opaque_id := call.get("opaque_id")) is not None:
        headers["x-opaque-id"] = opaque_id
    own = {name: value for name, value in call.items() if name in OF_ONE_REQUEST}
    if timeout_s is not None:
        own.setdefault("request_timeout", timeout_s)
    named = {name: value for name, value in call.items() if name not in NOT_URL and name not in OF_ONE_REQUEST}
    of_body = {name: named.pop(name) for name in list(named) if _in_body(name, named[name], beside=given is not None)}
    of_url = {URL_NAMES.get(name, name): named[name] for name in _aliases_last(named, URL_NAMES.values())}
    if given is not None and not isinstance(given, dict):
        return SearchArguments(index, given, of_url, headers, own=own)
    try:
        body = _body(given, of_body)
    except ValueError as error:
        return SearchArguments(index, given, of_url, headers, unread=str(error), own=own)
    return SearchArguments(index, body, of_url, headers, own=own)


def _body(given: Mapping[str, Any] | None, of_body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body that the client sends. Raises ValueError for a key that is given twice.

    The client writes keywords into its caller's body, and may have done so already: such a key has the keyword's own value.
    """
    if given is None:
        return {BODY_KEYS[name]: of_body[name] for name in _aliases_last(of_body, ALIASES)}
    body, aliased = dict(given), {}
    for name, value in of_body.items():
        if name in ALIASES:
            aliased[name] = value
        elif name in body and body[name] is not value:
            raise ValueError(f"`{name}` is in the body and beside it")
        else:
            body[name] = value
    for name, keyword in ALIASES.items():
        if keyword in body:
            body[name] = body.pop(keyword)
    return body or {name: value for name, value in aliased.items() if value is not None}


def _aliases_last(call: Mapping[str, Any], aliases: Collection[str]) -> list[str]:
    """Return the names of the arguments that are given: beside another name of the same, the client reads the alias."""
    return sorted((name for name, value in call.items() if value is not None), key=lambda name: name in aliases)


def _in_body(name: str, value: Any, *, beside: bool) -> bool:
    """Whether the client sends a keyword as a key of the body. beside: whether a body is given too; `sort` is a key of it then."""
    return name in BODY_KEYS and (name != "sort" or beside or not _in_url(value))


def _in_url(sort: Any) -> bool:
    """Whether the client sends a `sort` in the URL: it does if one of the texts has an order, such as `price:desc`."""
    if isinstance(sort, str):
        return ":" in sort
    return (
        isinstance(sort, (list, tuple))
        and all(isinstance(one, str) for one in sort)
        and any(":" in one for one in sort)
    )
