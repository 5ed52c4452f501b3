"""Classification of a server's error: caused by the search (its body or index), or by the state of the cluster.

Errors of the cluster count for the legs' breaker, errors of the search for quarantine. An error that one search in a thousand gets
must not open the breaker for the other 999.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MAX_REASON_CHARS = 300

OF_THE_CLUSTER = frozenset(
    {
        "circuit_breaking_exception", "rejected_execution_exception", "open_search_rejected_execution_exception",
        "opensearch_rejected_execution_exception", "es_rejected_execution_exception", "cluster_block_exception",
        "no_shard_available_action_exception", "unavailable_shards_exception", "node_disconnected_exception",
        "node_not_connected_exception", "node_closed_exception", "receive_timeout_transport_exception",
        "connect_transport_exception", "send_request_transport_exception", "task_cancelled_exception", "timeout_exception",
        "process_cluster_event_timeout_exception", "i_o_exception", "io_exception", "already_closed_exception",
        "shard_not_found_exception", "search_context_missing_exception", "master_not_discovered_exception",
        "cluster_manager_not_discovered_exception", "out_of_memory_error",
    }
)  # fmt: skip
"""Types of errors that any search could have received at that moment."""

OF_OVERLOAD = frozenset(
    {
        "circuit_breaking_exception", "rejected_execution_exception", "open_search_rejected_execution_exception",
        "opensearch_rejected_execution_exception", "es_rejected_execution_exception",
    }
)  # fmt: skip
"""Of these, the types with which a server refuses work that it has no room for."""

OF_THE_INDEX = frozenset({"index_not_found_exception", "index_closed_exception", "security_exception"})
"""Types of errors that any search of these indices would have received at that moment: until they are made, opened or permitted."""

NOT_OF_THE_SEARCH = frozenset({401, 407, 408, 429})
"""Statuses from 400 to 499 that the body or the index does not cause."""


def of_the_search(status: Any, kind: str) -> bool:
    """Whether an error with this HTTP status and this type of cause is a rejection: the same search would receive it again."""
    if not isinstance(status, int) or kind in OF_THE_CLUSTER:
        return False
    if 400 <= status < 500:
        return status not in NOT_OF_THE_SEARCH
    return status == 500 and bool(kind)


def of_a_shard(answer: Mapping[str, Any]) -> tuple[bool, str, str]:
    """Return whether the failed shards of an answer rejected the search, and type and reason of the first shard's cause."""
    shards = answer.get("_shards")
    failures = shards.get("failures") if isinstance(shards, Mapping) else None
    first = failures[0] if isinstance(failures, list) and failures else None
    kind, reason = cause_of(first.get("reason")) if isinstance(first, Mapping) else ("", "")
    return bool(kind) and kind not in OF_THE_CLUSTER, kind, reason


def overloaded(answer: Mapping[str, Any]) -> bool:
    """Whether shards of an answer failed because the server had no room for them."""
    return of_a_shard(answer)[1] in OF_OVERLOAD


def server_cause(info: Any) -> tuple[str, str]:
    """Return type and reason of the innermost cause in a server's error body; "" if the body has another form."""
    error = info.get("error") if isinstance(info, Mapping) else None
    roots = error.get("root_cause") if isinstance(error, Mapping) else None
    found = roots[0] if isinstance(roots, list) and roots else error
    return cause_of(found)


def cause_of(reason: Any) -> tuple[str, str]:
    """Return type and reason of the innermost `caused_by` of one cause."""
    for _ in range(8):
        inner = reason.get("caused_by") if isinstance(reason, Mapping) else None
        if not isinstance(inner, Mapping):
            break
        reason = inner
    if not isinstance(reason, Mapping):
        return "", ""
    return str(reason.get("type") or "")[:80], str(reason.get("reason") or "")[:MAX_REASON_CHARS]
