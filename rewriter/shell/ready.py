"""The data that a process has still to read before it can personalize, for `wait_ready` and `status()`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rewriter.expression import Expression, expression_of, parsed_indices
from rewriter.flow.unread import NO_POPULATION, NO_STORE, READING_FACTS, needs_population

if TYPE_CHECKING:
    from rewriter.core import Core
    from rewriter.shell.background.refresh import Refresh

POLL_S = 0.02
STORE_UNREAD = "the store has not been read yet"


def wanted(core: Core, index: str | Sequence[str] | None, now_s: float) -> Expression | None:
    """Return the index expression of `index` and have its facts read; None if `index` is None.

    Raises ValueError if `index` is no name, if no policy matches it, or if it names another cluster: such a search is never
    personalized.
    """
    if index is None:
        return None
    if not isinstance(index, str) and not (
        isinstance(index, (list, tuple)) and all(isinstance(one, str) for one in index)
    ):
        raise ValueError(f"index is {type(index).__qualname__}, not a name, nor a list or tuple of names")
    expression = expression_of(parsed_indices(index), {})
    if core.settings.policy_for(tuple(name for name in expression.indices if not name.startswith("-"))) is None:
        raise ValueError(f"no policy matches {expression.key!r}: extend the `index` of one")
    if expression.remote:
        raise ValueError(f"{expression.key!r} is another cluster's: its mappings and settings cannot be read")
    core.searched.note(expression, now_s)
    return expression


def missing(core: Core, refresh: Refresh, searched: Expression | None = None) -> tuple[str, ...]:
    """Return a text for each kind of data that is missing; empty once everything that searches need was read.

    searched: the index expression that is going to be searched; by default all indices and patterns that policies name.
    """
    if not core.store_breakers:
        return (NO_STORE,)
    facts = refresh.read_facts if searched is None else searched.key in core.snapshot.facts
    unread = {
        STORE_UNREAD: not refresh.has_read_store,
        NO_POPULATION: not core.snapshot.population.totals
        and any(map(needs_population, core.snapshot.fields.values())),
        READING_FACTS: not facts,
    }
    return tuple(what for what, holds in unread.items() if holds)


def ever(found: tuple[str, ...]) -> bool:
    """Whether waiting can help: without a store, the missing data never arrives."""
    return NO_STORE not in found
