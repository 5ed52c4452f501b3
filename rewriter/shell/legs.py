"""The parts of optional legs that both shells share: a client made from settings, the size of an answer, and the bulkhead."""

from __future__ import annotations

import marshal
from collections import Counter
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
    """Return a client with the settings of `[opensearch]`, and with this many connections to each host.

    Raises ConfigurationError if its library is not installed.
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


def note_size(step: SearchLeg, size: int, response: Any = None) -> None:
    """Report the size of a leg's answer to its flow: the bytes of its text, or an estimate if the client does not show them."""
    hits = None if response is None else response["hits"]["hits"]
    if not size and hits:
        with suppress(ValueError):  # objects of the caller's own deserializer have no known size
            size = len(marshal.dumps(hits))
    step.sized(size, None if hits is None else len(hits))


class Bulkhead:
    """A bound on the parts that one process has in flight, abandoned legs and slow reads included. Thread-safe.

    One policy whose legs hang must not take the permits of the others. So half of them belong to all, and the other half to the
    policies in equal shares: a policy takes more than its share only while the others could still take theirs.

    cap:      how many permits there are.
    policies: how many policies take them.
    """

    def __init__(self, cap: int, policies: int = 1) -> None:
        self.cap = cap
        self._lock = Lock()
        self._count = 0
        self._share = cap // (2 * policies) if policies > 1 else 0
        self._kept = self._share * policies  # the sum of what each policy has left of its share
        self._held: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """The number of permits that are taken."""
        return self._count

    def try_acquire(self, policy: str = "") -> bool:
        """Take a permit, or return False if none is left for this policy."""
        with self._lock:
            within = self._held[policy] < self._share
            if self._count + (0 if within else self._kept) >= self.cap:
                return False
            self._count += 1
            self._kept -= within
            self._held[policy] += 1
            return True

    def acquire(self) -> None:
        """Take a permit even beyond the cap: for work that starts in any case, such as the reads of a part that has a permit."""
        with self._lock:
            self._count += 1

    def release(self) -> None:
        """Give a permit of `acquire` back."""
        with self._lock:
            self._count -= 1

    def give_back(self, policy: str = "") -> None:
        """Give a permit of `try_acquire` back."""
        with self._lock:
            self._count -= 1
            self._held[policy] -= 1
            self._kept += self._held[policy] < self._share

    def kept(self, policy: str) -> str:
        """Return in words why a policy was left no permit while there were some, or ""."""
        if self._count >= self.cap:
            return ""
        return f"{self._held[policy]} of this policy in flight; the other permits are those of other policies"
