"""The one seam to the search client, beside `clones`: how a client is made as the settings say, and what its errors mean."""

from __future__ import annotations

import marshal
from collections.abc import Callable, Mapping
from contextlib import suppress
from threading import Lock
from typing import Any

import opensearchpy
from opensearchpy import OpenSearch
from opensearchpy.exceptions import ConnectionTimeout, TransportError
from opensearchpy.serializer import JSONSerializer

from rewriter.flow.faults import of_the_search, server_cause
from rewriter.flow.steps import LegFault, SearchLeg
from rewriter.settings import OpenSearchSettings


def connect(settings: OpenSearchSettings, connections: int) -> OpenSearch:
    """Return a client of the caller's kind, as `[opensearch]` says."""
    return OpenSearch(**_arguments(settings), pool_maxsize=connections)


def connect_async(settings: OpenSearchSettings, connections: int) -> opensearchpy.AsyncOpenSearch:
    """Return an async client of the caller's kind, as `[opensearch]` says."""
    # The name is there only with the `async` extra.
    return opensearchpy.AsyncOpenSearch(**_arguments(settings), pool_maxsize=connections)


def _arguments(settings: OpenSearchSettings) -> dict[str, Any]:
    auth = (
        (settings.username, settings.password.get_secret_value() if settings.password else "")
        if settings.username
        else None
    )
    return {
        "hosts": [host.get_secret_value() for host in settings.hosts],
        "http_auth": auth,
        "ca_certs": str(settings.ca_certs) if settings.ca_certs else None,
        "verify_certs": settings.verify_certs,
        "timeout": settings.timeout_s,
    }


def writer_of(client: Any) -> Callable[[Any], str | bytes]:
    """Return the function by which `client` writes a body as JSON."""
    serializer = getattr(getattr(client, "transport", None), "serializer", None) or JSONSerializer()
    write: Callable[[Any], str | bytes] = serializer.dumps
    return write


def fault_of(error: Exception) -> LegFault:
    """Return what became of a leg, in words that hold nothing of the body."""
    if isinstance(error, ConnectionTimeout):
        return LegFault("late", "given up by its client")
    if isinstance(error, TransportError) and "task_cancelled_exception" in str(error.info):
        return LegFault("late", "cancelled by the server")
    if isinstance(error, TransportError):
        said = f"{type(error).__name__}({error.status_code}, {str(error.error)[:80]})"
        kind, reason = server_cause(error.info)
        return LegFault(
            "rejected" if of_the_search(error.status_code, kind) else "failed",
            said,
            f"{kind}: {reason}" if kind else "",
        )
    return LegFault("failed", type(error).__name__)


def hits_of(response: Any) -> Mapping[str, Any]:
    """Return a leg's response, or raise LegFault for what is none."""
    if (
        isinstance(response, Mapping)
        and isinstance(response.get("hits"), Mapping)
        and isinstance(response["hits"].get("hits"), list)
    ):
        return response
    raise LegFault("failed", "the answer has no hits")


def told_size(step: SearchLeg, size: int, response: Any = None) -> None:
    """Tell a leg's flow how large its answer was: the text's bytes, or about as many where the client does not show them."""
    hits = None if response is None else response["hits"]["hits"]
    if not size and hits:
        with suppress(ValueError):  # what a deserializer of the caller's own makes is not weighed
            size = len(marshal.dumps(hits))
    step.sized(size, None if hits is None else len(hits))


PLANS_SHARE = 0.5
"""Of the places in flight: a store that reads but does not write (a failover, a full disk) must leave some to searches."""


class Bulkhead:
    """How many parts, abandoned ones and slow reads included, one process has under way."""

    def __init__(self, cap: int) -> None:
        self.cap = cap
        self._lock = Lock()
        self._count = 0

    @property
    def count(self) -> int:
        """The number under way."""
        return self._count

    def try_acquire(self, share: float = 1.0) -> bool:
        """Take a place, or return False where none is left of this share of the cap."""
        with self._lock:
            if self._count >= self.cap * share:
                return False
            self._count += 1
            return True

    def acquire(self) -> None:
        """Take a place even beyond the cap: for work that is there already, like a read that outlived its search."""
        with self._lock:
            self._count += 1

    def release(self, _: object = None) -> None:
        """Give a place back."""
        with self._lock:
            self._count -= 1
