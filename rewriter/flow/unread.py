"""What a process has not read yet, in the words of a report: why a search of its first second has less to work with. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from rewriter.flow.steps import SearchContext
from rewriter.signals.affinities import SignalField

NO_STORE = "no store is configured"
NO_POPULATION = "no population yet"
READING_FACTS = "still reading index facts"


def needs_population(fields: Mapping[str, SignalField]) -> bool:
    """Whether any field's affinity is a lift over the population; an item's is not."""
    return any(field.kind != "item" for field in fields.values())


def unread(context: SearchContext, *, known: bool) -> str:
    """Return what is not read yet and keeps a search from its signals, or "".

    known: whether the subject has counters, which without a population tell of items alone.
    """
    if not context.core.store_breakers:
        return NO_STORE
    snapshot = context.snapshot
    if known and not snapshot.population.totals and needs_population(snapshot.fields[context.name]):
        return NO_POPULATION
    return ""
