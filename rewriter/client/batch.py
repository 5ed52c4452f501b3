"""The body of an `_msearch` and its answers: reading and writing its lines. Pure.

A body is pairs of lines: a head (the indices and a few parameters), then a search.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rewriter.client.seam import ClientFault, LegFault, Search, SearchArguments, answer_of, leg_fault

HEAD_KEYS = frozenset(
    {
        "allow_no_indices", "allow_partial_search_results", "ccs_minimize_roundtrips", "expand_wildcards", "ignore_throttled",
        "ignore_unavailable", "preference", "request_cache", "routing", "search_type",
    }
)  # fmt: skip
"""The parameters that a head may hold on both servers. Other parameters of the URL (`typed_keys`, `human`, …) change no hits."""

OF_THE_BATCH = frozenset({"max_concurrent_searches", "max_concurrent_shard_requests", "pre_filter_shard_size"})
"""Parameters of the URL that control the execution of a batch."""


def read_batch(lines: Any, url: SearchArguments, of_one_request: Collection[str]) -> list[SearchArguments] | str:
    """Read the lines of a batch, or return why they cannot be read. Modifies nothing.

    url: the arguments beside the lines, which each search's head may override.
    of_one_request: parameters that control how one request is sent.
    """
    if url.unread:
        return url.unread
    if not isinstance(lines, (list, tuple)) or len(lines) % 2:
        return "the body is not a list of heads and searches in turn"
    params = {name: value for name, value in url.params.items() if name not in OF_THE_BATCH}
    found = []
    for head, body in zip(lines[::2], lines[1::2], strict=True):
        if not isinstance(head, Mapping):
            found.append(replace(url, body=body, unread="the head of the search is not a dict"))
            continue
        own = {
            name: value
            for name, value in head.items()
            if name not in ("index", "indices") and name not in of_one_request
        }
        index = head.get("index", head.get("indices", url.index))
        found.append(SearchArguments(index, body, {**params, **own}, url.headers))
    return found


def lines_of(searches: Sequence[Search], more: Mapping[str, Any]) -> list[Any]:
    """Return the lines of a batch. more: keys of each head beside those of its search."""
    return list(_lines(searches, more))


def _lines(searches: Sequence[Search], more: Mapping[str, Any]) -> Iterator[Any]:
    for one in searches:
        head = {name: value for name, value in one.params.items() if name in HEAD_KEYS}
        yield {**head, **more, "index": one.index.split(",") if one.index else []}
        yield one.body


def answers_of(answer: Any, count: int) -> list[Mapping[str, Any] | LegFault]:
    """Return the answer to each leg of a batch, or its LegFault. Raises LegFault if the number of answers differs from `count`."""
    responses = answer.get("responses") if isinstance(answer, Mapping) else None
    if not isinstance(responses, list) or len(responses) != count:
        raise LegFault("failed", "the answer has not one response for each search")
    return [_answer(one) for one in responses]


def error_of(response: Any) -> str:
    """Return the type of the error of one search of a batch, "" if it was answered."""
    if not isinstance(response, Mapping):
        return "no answer"
    error = response.get("error")
    return "" if error is None else str(error.get("type", "an error") if isinstance(error, Mapping) else error)[:80]


def _answer(response: Any) -> Mapping[str, Any] | LegFault:
    if kind := error_of(response):
        status = response.get("status") if isinstance(response, Mapping) else None
        return leg_fault(ClientFault("status", "msearch", status if isinstance(status, int) else None, kind, response))
    try:
        return answer_of(response)
    except LegFault as fault:
        return fault
