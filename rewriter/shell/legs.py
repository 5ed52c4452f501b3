"""What both shells share about optional legs: how a client is made from settings, the size of an answer, and the bulkhead."""

from __future__ import annotations

import marshal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any

from rewriter.client.registry import library
from rewriter.client.seam import RequestFailed, SearchClient
from rewriter.errors import ConfigurationError, Fault
from rewriter.flow.steps import SearchLeg
from rewriter.settings import OpenSearchSettings


def connect(settings: OpenSearchSettings, connections: int, *, is_async: bool = False) -> SearchClient:
    """Return a client as `[opensearch]` says, with this many connections to each host.

    Raises ConfigurationError where its library is not installed.
    """
    try:
        found = library(settings.client)
    except ImportError:
        remedy = f"pip install 'rewriter[{settings.client}]'"
        raise ConfigurationError(
            [Fault("opensearch.client", f"the client library of {settings.client} is not installed", remedy)]
        ) from None
    return found.connect(settings.connection(connections), is_async=is_async)


@contextmanager
def failing_as(client: SearchClient) -> Iterator[None]:
    """Turn an error of a read of index facts into RequestFailed, with the rights that the read needs."""
    try:
        yield
    except client.errors as error:
        needs = " and ".join(dict.fromkeys((client.rights["mapping"], client.rights["settings"])))
        raise RequestFailed(client.fault_of(error), needs) from error


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
