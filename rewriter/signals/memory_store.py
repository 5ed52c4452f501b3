"""A store in this process: for tests, for a first try, and for a single process that needs no other. Signals go with the process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from threading import Lock

from rewriter.signals.counters import Counters
from rewriter.signals.store import MAX_TEXT_BYTES, Query, Signals


class MemoryStore:
    """A Store that keeps everything in dicts. Time to live is not kept: what is written stays until it is written again."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counters: dict[str, Counters] = {}
        self._texts: dict[str, bytes] = {}

    def read(self, query: Query) -> Signals:
        """See Store.read."""
        with self._lock:
            session, profile = (
                _top(self._counters.get(base or ""), query.fields, query.limit)
                for base in (query.session, query.profile)
            )
            plan = self._texts.get(query.plan or "")
        return Signals(session, profile, plan if plan and len(plan) <= MAX_TEXT_BYTES else None)

    def save_plan(self, key: str, plan: bytes, ttl_s: int) -> None:  # noqa: ARG002  the protocol's signature
        """See Store.save_plan."""
        with self._lock:
            self._texts[key] = plan

    def write(self, base: str, counters: Counters, ttl_s: int | None) -> None:  # noqa: ARG002  the protocol's signature
        """See Store.write."""
        with self._lock:
            self._counters[base] = counters

    def read_many(self, bases: Sequence[str], fields: tuple[str, ...], limit: int) -> list[Counters | None]:
        """See Store.read_many."""
        with self._lock:
            return [_top(self._counters.get(base), fields, limit) for base in bases]

    def read_text(self, key: str) -> str | None:
        """See Store.read_text."""
        with self._lock:
            found = self._texts.get(key)
        return None if found is None else found.decode("utf-8", "replace")

    def write_text(self, key: str, text: str) -> None:
        """See Store.write_text."""
        with self._lock:
            self._texts[key] = text.encode()

    def ping(self) -> None:
        """See Store.ping."""

    def close(self) -> None:
        """See Store.close."""


class AsyncMemoryStore:
    """The same store, awaited."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = store or MemoryStore()

    async def read(self, query: Query) -> Signals:
        """See Store.read."""
        return self.store.read(query)

    async def save_plan(self, key: str, plan: bytes, ttl_s: int) -> None:
        """See Store.save_plan."""
        self.store.save_plan(key, plan, ttl_s)

    async def write(self, base: str, counters: Counters, ttl_s: int | None) -> None:
        """See Store.write."""
        self.store.write(base, counters, ttl_s)

    async def read_many(self, bases: Sequence[str], fields: tuple[str, ...], limit: int) -> list[Counters | None]:
        """See Store.read_many."""
        return self.store.read_many(bases, fields, limit)

    async def read_text(self, key: str) -> str | None:
        """See Store.read_text."""
        return self.store.read_text(key)

    async def write_text(self, key: str, text: str) -> None:
        """See Store.write_text."""
        self.store.write_text(key, text)

    async def ping(self) -> None:
        """See Store.ping."""

    async def close(self) -> None:
        """See Store.close."""


def _top(counters: Counters | None, fields: tuple[str, ...], limit: int) -> Counters | None:
    if counters is None:
        return None
    heaviest = sorted(counters.weights.items(), key=lambda item: -item[1])[:limit]
    totals = {name: total for name, total in counters.totals.items() if name in fields}
    return replace(counters, weights=dict(heaviest), totals=totals)
