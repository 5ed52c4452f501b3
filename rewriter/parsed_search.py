"""One search as its arguments give it, read once and never modified.

URL parameters that mean a key of the body are folded into a new body, so that what follows looks at one place. The baseline is
sent from the arguments as they came; nothing here touches it. What the optional legs and all keys are made of is a copy, taken
at the time of the call.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from rewriter.client.seam import SearchArguments
from rewriter.expression import Expression, expression_of, parsed_indices
from rewriter.index_facts import IndexFacts
from rewriter.report import Reason, Strategy
from rewriter.settings import Settings
from rewriter.shapes import CHANGES_RESULTS, SearchFacts, own_windows, shape_of
from rewriter.snapshot import TooLargeError, Write, snapshot

SAME_IN_BODY = ("explain", "terminate_after", "search_pipeline")
"""Parameters that are keys of the body, with values of the same form."""

LIST_KEYS = frozenset(
    {
        "from", "size", "aggs", "aggregations", "suggest", "highlight", "_source", "fields", "docvalue_fields",
        "stored_fields", "script_fields", "version", "seq_no_primary_term", "track_scores", "track_total_hits",
        "include_named_queries_score", "stats", "timeout", "ext",
    }
)  # fmt: skip
"""Keys of a body that change what is shown of a list of hits, and not the list."""

CREDENTIALS = frozenset({"authorization", "cookie"})
"""Headers that say who asks. They are renewed within a list, whose plan is its subject's own; a pool is everybody's."""


@dataclass(frozen=True, slots=True)
class ParsedSearch:
    """One search as asked.

    indices:  as named, lists split; () for all.
    body:     the caller's as it stood at the time of the call, with URL parameters that mean a key of it.
    params:   of the URL, for every leg, as the client writes them there. headers: for every leg.
    varies:   the headers on which an answer may depend, as `opensearch.vary_headers` names them.
    policy:   the name of the policy that matches; strategy: how boosts act, None where the search is passed through.
    passed:   why it is passed through, and `detail` in words.
    own_rescore_window: the smallest window of the caller's own rescores.
    expression: the indices with the parameters that say which of them there are.
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
    expression: Expression = Expression(())  # noqa: RUF009  immutable

    def rescore_window(self, window_size: int) -> int:
        """Return the window of our rescore, in hits a shard: at most the smallest of the caller's own rescores."""
        return min(window_size, self.own_rescore_window or window_size)


class _UnreadableError(Exception):
    """What in the arguments has a form that the server will refuse."""


def parse_search(
    arguments: SearchArguments, settings: Settings, facts: Mapping[str, IndexFacts], write: Write = json.dumps
) -> ParsedSearch:
    """Read the arguments of one search. Never raises: what cannot be read is passed through.

    facts: by the key of an index expression; an index of which nothing is known is taken to have the server's defaults.
    write: the serializer of the caller's client, for what JSON does not know.
    """
    indices = parsed_indices(arguments.index)
    policy = settings.policy_for(tuple(name for name in indices if not name.startswith("-")))
    body: dict[str, Any] = {}
    params: dict[str, Any] = {}
    headers: dict[str, Any] = {}
    from_, size, window, unread = 0, 10, None, None
    try:
        headers, params, body = _copied(arguments)
        _fold(params, body)
        params = {name: _url(value) for name, value in params.items()}
        if policy is not None:
            body = _snapshot(body, write, settings.budget.max_body_bytes)
        from_, size = _count(body, "from", 0), _count(body, "size", 10)
        window = _own_rescore_window(body)
    except _UnreadableError as error:
        unread = str(error)
    chosen = settings.policies[policy] if policy else None
    expression = expression_of(indices, params)
    own = facts.get(expression.key)
    known = [own] if own is not None else [facts[name] for name in indices if name in facts]
    shape, detail = shape_of(SearchFacts(body, params, unread, from_, size, chosen, known))
    passed = shape.outcome if isinstance(shape.outcome, Reason) else None
    strategy: Strategy | None = None if isinstance(shape.outcome, Reason) else shape.outcome
    if strategy and "query" not in body:
        body["query"] = {"match_all": {}}  # what the server takes a missing query for; `wrap` needs one to stand around
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
    )


def _copied(arguments: SearchArguments) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return headers, parameters and body, each in a dict of its own."""
    if arguments.unread:
        raise _UnreadableError(arguments.unread)
    return dict(arguments.headers), dict(arguments.params), _body(arguments.body)


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


def _snapshot(body: dict[str, Any], write: Write, max_bytes: int) -> dict[str, Any]:
    try:
        copied: dict[str, Any] = snapshot(body, write, max_bytes)
    except TooLargeError:
        raise _UnreadableError("the body is larger than `budget.max_body_bytes`") from None
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
    return value.isoformat() if hasattr(value, "isoformat") else value if value is None else str(value)


def _varies(headers: Mapping[str, Any], settings: Settings) -> dict[str, str]:
    named = {_text(name).lower(): _text(value) for name, value in headers.items()} if headers else {}
    return {name: value for name, value in named.items() if name in settings.opensearch.vary_headers}


def _text(part: Any) -> str:
    """Return a header's name or value, which the client sends alike as text and as bytes."""
    return part.decode("latin-1") if isinstance(part, bytes) else str(part)


def _fold(params: dict[str, Any], body: dict[str, Any]) -> None:
    """Move parameters that mean a key of the body into it, as the server reads them: they override, `sort` appends."""
    if not params:
        return
    for name, key in (("from", "from"), ("from_", "from"), ("size", "size")):
        if name in params:
            body[key] = params.pop(name)
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
    """Read a whole number as the server does: texts of digits count, and fractions are cut off."""
    value = body.get(key, default)
    if type(value) is int and value >= 0:
        return value
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        return int(value)
    if isinstance(value, float) and 0 <= value < 1e18:
        return int(value)
    raise _UnreadableError(f"`{key}` must be a whole number of at least 0")


def _own_rescore_window(body: Mapping[str, Any]) -> int | None:
    try:
        return min(own_windows(body), default=None)
    except (AttributeError, TypeError, ValueError, OverflowError):
        raise _UnreadableError("`rescore` must be an object or a list of them, each `window_size` a number") from None


def search_key(request: ParsedSearch) -> str:
    """Return 32 hex digits, the same for all pages of one list: of indices, policy, body and what else changes results."""
    body = {key: value for key, value in request.body.items() if key not in LIST_KEYS}
    params = {name: value for name, value in request.params.items() if name in CHANGES_RESULTS}
    varies = {name: value for name, value in request.varies.items() if name not in CREDENTIALS}
    return key_of(request.indices, request.policy, body, params, varies)


def key_of(*parts: Any) -> str:
    """Return the 32 hex digits that stand for `parts`, which hold nothing but what JSON knows, as a Request does."""
    text = json.dumps(parts, sort_keys=True)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
