"""Texts for data that a process has not read yet, which explain why searches of its first second are personalized less. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from rewriter.flow.steps import SearchContext
from rewriter.signals.kinds.item import ITEM
from rewriter.signals.kinds.kind import SignalField
from rewriter.signals.repeats import RepeatGuard

NO_STORE = "no store is configured"
NO_POPULATION = "no population yet"
READING_FACTS = "still reading index facts"
NO_REPEATS = "people hardly use an item again, so items have no boosts"
TOO_FEW_USES = "too few uses of items were counted to boost items"


def needs_population(fields: Mapping[str, SignalField]) -> bool:
    """Whether any field's affinity is a lift over the population. Affinities of items are not."""
    return any(field.kind.is_lift for field in fields.values())


def guarded(context: SearchContext, guard: RepeatGuard) -> str:
    """Return why no item is boosted, or "" where items may be."""
    if ITEM not in context.fields or guard.strength(None) > 0.0:
        return ""
    return TOO_FEW_USES if guard.catalogue is None else NO_REPEATS


def unread(context: SearchContext, *, known: bool) -> str:
    """Return what a search's signals need and this process has not read yet, or "".

    known: whether the subject has counters. Without a population they give affinities of items alone.
    """
    if not context.core.store_breakers:
        return NO_STORE
    snapshot = context.snapshot
    if known and not snapshot.population.totals and needs_population(snapshot.fields[context.name]):
        return NO_POPULATION
    return ""
