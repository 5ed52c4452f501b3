"""A read-only view of a store: a preview of a real subject must not change later pages of the subject or the fleet's report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rewriter.signals.class_counters import ClassCounters
from rewriter.signals.counters import Counters
from rewriter.signals.store import NewPlan, SavedPlans, Signals, SignalsQuery, Store


class ReadOnlyStore:
    """`store` without its writes: plans are not saved, the process does not announce itself, nothing is counted."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def run(self, wanted: Sequence[tuple[Any, ...]], *, atomic: bool = False) -> list[Any]:
        """See Store.run. Only the population is read with it, and computed if no process of the service has done so yet."""
        return self._store.run(wanted, atomic=atomic)

    def read(self, query: SignalsQuery) -> Signals:
        """Read one subject's signals, without the plan of a list: each preview shows a first page anew."""
        return replace(self._store.read(query), plan=None, more_plans={})

    def save_plans(self, plans: Sequence[NewPlan]) -> SavedPlans:  # noqa: ARG002  as Store has it
        """Save nothing."""
        return SavedPlans()

    def write(
        self,
        base: str,  # noqa: ARG002  as Store has it
        counters: Counters,  # noqa: ARG002
        ttl_s: int | None,  # noqa: ARG002
        classes: Mapping[str, ClassCounters] | None = None,  # noqa: ARG002
    ) -> bool:
        """Write nothing."""
        return False

    def read_many(self, bases: Sequence[str], fields: tuple[str, ...], limit: int) -> list[Counters | None]:
        """See Store.read_many."""
        return self._store.read_many(bases, fields, limit)

    def read_text(self, key: str) -> str | None:
        """See Store.read_text."""
        return self._store.read_text(key)

    def write_text(self, key: str, text: str) -> None:
        """Write nothing."""

    def change_text(self, key: str, edit: Callable[[str | None], str | None]) -> None:
        """Change nothing."""

    def announce(self, key: str, name: str, text: str, now_s: float) -> None:
        """Announce nothing: a preview is not a process of the service."""

    def announced(self, key: str) -> dict[str, str]:
        """See Store.announced."""
        return self._store.announced(key)

    def ping(self) -> None:
        """See Store.ping."""
        self._store.ping()

    def close(self) -> None:
        """See Store.close."""
        self._store.close()
