"""Parser of one search's arguments: indices, body, URL parameters, headers, policy and strategy.

URL parameters that stand for a key of the body are moved into a copy of the body, so that later code reads only the body. The
baseline is sent from the caller's own arguments, which are never modified. The optional legs and all keys are made from the copy,
which is taken at the time of the call.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import field
from hashlib import blake2b
from typing import Any

from rewriter.client.seam import SearchArguments
from rewriter.encodings import header_text
from rewriter.expression import Expression, expression_of, parsed_indices
from rewriter.index_facts import IndexFacts
from rewriter.one_search import difference
from rewriter.record import record
from rewriter.report import Reason, Strategy
from rewriter.settings import Settings
from rewriter.shapes import CHANGES_RESULTS, SearchFacts, own_windows, rescore_window, shape_of
from rewriter.snapshot import ReadOnceError, TooLargeError, Write, snapshot

SAME_IN_BODY = ("explain", "terminate_after", "search_pipeline")
"""Parameters that are keys of the body, with values of the same form."""

LIST_KEYS = frozenset(
    {
        "from", "size", "aggs", "aggregations", "suggest", "highlight", "_source", "fields", "docvalue_fields",
        "stored_fields", "script_fields", "version", "seq_no_primary_term", "track_scores", "track_total_hits",
        "include_named_queries_score", "stats", "timeout", "ext",
    }
)  # fmt: skip
"""Keys of a body that change what a page shows of a list of hits, and not the list itself."""

CREDENTIALS = frozenset({"authorization", "cookie"})
"""Headers that identify the caller. A plan's key omits them, since they are renewed while a list is paged and a plan belongs to one
subject; a pool's key includes them, since a pool is shared."""


@record(frozen=True, slots=True)
class ParsedSearch:
    """One parsed search.

    indices:  index names and patterns, lists split; () for all indices.
    body:     a copy of the caller's body at the time of the call, with the URL parameters that stand for a key of it.
    params:   URL parameters for every leg, as the client writes them into the URL.
    headers:  headers for every leg.
    varies:   those headers that `opensearch.vary_headers` names.
    from_, size: of the page, in hits.
    policy:   the name of the matching policy, or None.
    strategy: how boosts are applied; None if the search is passed through.
    passed:   the reason why the search is passed through, or None; `detail` explains it in words.
    own_rescore_window: the smallest window of the caller's own rescores, or None.
    expression: the indices with the URL parameters that change which indices are searched.
    own_params: URL parameters that apply to the caller's own search alone.
    names:    every key of the body, at any depth, if its policy is known.
    keys:     of this search, once they are computed: see `search_key`, `sent_key` and `flow.class_reading.classes_key`.
    difference: what the answer to one search with boosts would lack of the caller's own (`mode = "rewrite"`), or "".
    """

    indices: tuple[str, ...]
    body: Mapping[str, Any]
    params: Mapping[str, Any]
    headers: Mapping[str, Any]
    varies: Mapping[str, str]
    from_: int
    size: int
    policy: str | None
    strategy: Strategy | None
    passed: Reason | None
    detail: str
    collapse_field: str | None
    own_rescore_window: int | None
    expression: Expression = Expression(())
    own_params: Mapping[str, Any] = field(default_factory=dict)
    difference: str = ""
    names: Collection[str] = frozenset()
    keys: dict[str, str] = field(default_factory=dict, init=False, compare=False, repr=False)

    def rescore_window(self, window_size: int) -> int:
        """Return the window of our rescore, in hits a shard, where a policy's is `window_size`."""
        return rescore_window(window_size, self.own_rescore_window)


class _UnreadableError(Exception):
    """An argument has a form that the server, or the client, will refuse."""


def parse_search(
    arguments: SearchArguments, settings: Settings, facts: Mapping[str, IndexFacts], write: Write = json.dumps
) -> ParsedSearch:
    """Parse the arguments of one search. Never raises: a search that cannot be parsed is passed through.

    facts: index facts by index expression key; an index without facts is assumed to have the server's defaults.
    write: the serializer of the caller's client, for values that JSON cannot represent.
    """
    indices = parsed_indices(arguments.index)
    policy = settings.policy_for(tuple(name for name in indices if not name.startswith("-")))
    body: dict[str, Any] = {}
    params: dict[str, Any] = {}
    own_params: dict[str, Any] = {}
    headers: dict[str, Any] = {}
    names: set[str] = set()
    from_, size, window, unread = 0, 10, None, None
    try:
        headers, params, body = _copied(arguments)
        own_params = dict(arguments.own)
        _fold(params, body)
        params = {name: _url(value) for name, value in params.items()}
        if policy is not None:
            body = _snapshot(body, write, settings.budget.max_body_bytes, names)
        from_, size = _count(body, "from", 0), _count(body, "size", 10)
        window = _own_rescore_window(body)
    except _UnreadableError as error:
        unread = str(error)
    chosen = settings.policies[policy] if policy else None
    expression = expression_of(indices, params)
    own = facts.get(expression.key)
    known = [own] if own is not None else [facts[name] for name in indices if name in facts]
    shape, detail = shape_of(SearchFacts(body, params, unread, from_, size, chosen, known, names))
    passed = shape.outcome if isinstance(shape.outcome, Reason) else None
    strategy: Strategy | None = None if isinstance(shape.outcome, Reason) else shape.outcome
    if strategy and "query" not in body:
        body["query"] = {"match_all": {}}  # the server's default for a missing query; `wrap` needs a query to wrap
    collapse = body.get("collapse")
    collapse_field = collapse["field"] if collapse and not unread else None
    return ParsedSearch(
        indices,
        body,
        params,
        headers,
        _varies(headers, settings),
        from_,
        size,
        policy,
        strategy,
        passed,
        detail,
        collapse_field,
        window,
        expression,
        own_params,
        difference(body, own_params, strategy) if strategy and chosen and chosen.mode == "rewrite" else "",
        names,
    )


def _copied(arguments: SearchArguments) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return headers, parameters and body, each in a dict of its own."""
    if arguments.unread:
        raise _UnreadableError(arguments.unread)
    if not _names_indices(arguments.index):
        raise _UnreadableError("`index` must be a name, or names in a list or separated by commas")
    return dict(arguments.headers), dict(arguments.params), _body(arguments.body)


def _names_indices(index: Any) -> bool:
    """Whether `index` is of a form that clients take. A leg must not search all indices in the stead of one that is not read."""
    if isinstance(index, (list, tuple)) and all(isinstance(name, str) and name for name in index):
        index = ",".join(index)
    # The server ignores empty names at the end, and refuses others.
    return index is None or (isinstance(index, str) and not index.startswith(",") and ",," not in index.rstrip(","))


def _body(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise _UnreadableError("the body is not a dict")
    query = body.get("query")
    if "query" in body and not (isinstance(query, dict) and len(query) == 1):
        raise _UnreadableError("`query` must be one query clause")
    for key in ("ext", "collapse"):
        if not isinstance(body.get(key, {}), dict):
            raise _UnreadableError(f"`{key}` must be an object")
    if (collapse := body.get("collapse")) and not isinstance(collapse.get("field"), str):
        raise _UnreadableError("`collapse` needs a `field`")
    return dict(body)


def _snapshot(body: dict[str, Any], write: Write, max_bytes: int, names: set[str]) -> dict[str, Any]:
    try:
        copied: dict[str, Any] = snapshot(body, write, max_bytes, names)
    except TooLargeError:
        raise _UnreadableError("the body is larger than `budget.max_body_bytes`") from None
    except ReadOnceError:
        raise _UnreadableError("the body has an iterator, which can be read once") from None
    except RecursionError:
        raise _UnreadableError("the body is nested too deep") from None
    except Exception as error:  # noqa: BLE001  a serializer may raise anything
        raise _UnreadableError(f"the client's serializer cannot write the body: {type(error).__name__}") from None
    return copied


def _url(value: Any) -> Any:
    """Return the value of a parameter as the client writes it into the URL."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    if value is None or isinstance(value, str):
        return value
    try:
        return value.isoformat() if hasattr(value, "isoformat") else str(value)
    except Exception as error:  # noqa: BLE001  an object of the caller's may raise anything
        raise _UnreadableError(f"a parameter cannot be written: {type(error).__name__}") from None


def _varies(headers: Mapping[str, Any], settings: Settings) -> dict[str, str]:
    named = {header_text(name).lower(): header_text(value) for name, value in headers.items()} if headers else {}
    return {name: value for name, value in named.items() if name in settings.opensearch.vary_headers}


def _fold(params: dict[str, Any], body: dict[str, Any]) -> None:
    """Move URL parameters that stand for a key of the body into it. As on the server they override the body; `sort` appends."""
    if not params:
        return
    for name, key in (("from", "from"), ("from_", "from"), ("size", "size")):
        if name in params:
            value = params.pop(name)
            body[key] = value if type(value) is int else _url(value)  # the URL takes no fractions
    for name in SAME_IN_BODY:
        if name in params:
            body[name] = params.pop(name)
    if "track_total_hits" in params:
        body["track_total_hits"] = _url_value(params.pop("track_total_hits"))
    if "stored_fields" in params:
        body["stored_fields"] = _listed(params.pop("stored_fields"))
    if "sort" in params:
        sort = body.get("sort") or []
        body["sort"] = [*(sort if isinstance(sort, list) else [sort]), *map(_sort, _listed(params.pop("sort")))]
    source, includes, excludes = (
        params.pop(name, None) for name in ("_source", "_source_includes", "_source_excludes")
    )
    if source is not None or includes is not None or excludes is not None:
        body["_source"] = _source(source, includes, excludes)


def _listed(value: Any) -> list[Any]:
    if isinstance(value, str):
        return value.split(",")
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _url_value(value: Any) -> Any:
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


def _sort(one: Any) -> Any:
    field, colon, order = str(one).rpartition(":")
    return {field: order} if colon else one


def _source(source: Any, includes: Any, excludes: Any) -> Any:
    source = _url_value(source)
    if isinstance(source, bool) and includes is None and excludes is None:
        return source
    if source is False:
        return False
    wanted = includes if includes is not None else None if isinstance(source, bool) else source
    parts = {"includes": wanted, "excludes": excludes}
    return {name: _listed(value) for name, value in parts.items() if value is not None}


def _count(body: Mapping[str, Any], key: str, default: int) -> int:
    """Read a whole number as the server does: texts of digits are accepted, fractions are truncated."""
    value = body.get(key, default)
    if type(value) is int and value >= 0:
        return value
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        return int(value)
    if isinstance(value, float) and 0 <= value < 1e18:
        return int(value)
    raise _UnreadableError(f"`{key}` must be a whole number of at least 0")


def _own_rescore_window(body: Mapping[str, Any]) -> int | None:
    if "rescore" in body and not (isinstance(body["rescore"], list) or body["rescore"]):
        raise _UnreadableError("`rescore` must be an object or a list of them")
    try:
        return min(own_windows(body), default=None)
    except (AttributeError, TypeError, ValueError, OverflowError):
        raise _UnreadableError("`rescore` must be an object or a list of them, each `window_size` a number") from None


def search_key(search: ParsedSearch) -> str:
    """Return a hash (32 hex digits) of indices, policy, body, and of the parameters and headers that change results.

    All pages of one list have the same key.
    """
    found = search.keys.get("search")
    if found is None:
        body = {key: value for key, value in search.body.items() if key not in LIST_KEYS}
        params = {name: value for name, value in search.params.items() if name in CHANGES_RESULTS}
        varies = {name: value for name, value in search.varies.items() if name not in CREDENTIALS}
        found = search.keys["search"] = key_of(search.indices, search.policy, body, params, varies)
    return found


def sent_key(search: ParsedSearch) -> str:
    """Return a hash (32 hex digits) of all of a search that the server may refuse: every header and parameter, with those that
    hold for the caller's own search alone.
    """
    found = search.keys.get("sent")
    if found is None:
        own = sorted(f"{name}={value}" for name, value in search.own_params.items())
        headers = sorted(f"{header_text(name).lower()}={header_text(value)}" for name, value in search.headers.items())
        found = search.keys["sent"] = key_of(own, headers, *whole_parts(search))
    return found


def whole_parts(search: ParsedSearch) -> tuple[Any, ...]:
    """Return the parts of a search that change its answer, credentials among the varying headers too, for a key."""
    page = {key: value for key, value in search.body.items() if key in LIST_KEYS}
    return search_key(search), page, search.params, search.varies


_JSON = json.JSONEncoder(sort_keys=True)


def key_of(*parts: Any) -> str:
    """Return a hash (32 hex digits) of `parts`, which must be JSON values, as those of a ParsedSearch are."""
    text = _JSON.encode(parts)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
