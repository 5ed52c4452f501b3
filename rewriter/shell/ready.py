"""What a process has still to read before it can personalize: for scripts and tests that wait for it, and for `status()`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rewriter.flow.unread import NO_POPULATION, NO_STORE, READING_FACTS, needs_population

if TYPE_CHECKING:
    from rewriter.core import Core
    from rewriter.shell.refresh import Refresh

POLL_S = 0.02
NOT_ASKED = "the store was not asked yet"


def missing(core: Core, refresh: Refresh) -> tuple[str, ...]:
    """Return what is missing, in words; nothing where all was read that searches need."""
    if not core.store_breakers:
        return (NO_STORE,)
    unread = {
        NOT_ASKED: not refresh.asked_store,
        NO_POPULATION: not core.snapshot.population.totals
        and any(map(needs_population, core.snapshot.fields.values())),
        READING_FACTS: not refresh.read_facts,
    }
    return tuple(what for what, holds in unread.items() if holds)


def ever(found: tuple[str, ...]) -> bool:
    """Whether it is worth waiting for what is missing."""
    return NO_STORE not in found
