"""Texts for data that a process has not read yet, which explain why searches of its first second are personalized less. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from rewriter.flow.steps import SearchContext
from rewriter.signals.affinities import SignalField

NO_STORE = "no store is configured"
NO_POPULATION = "no population yet"
READING_FACTS = "still reading index facts"


def needs_population(fields: Mapping[str, SignalField]) -> bool:
    """Whether any field's affinity is a lift over the population. Affinities of items are not."""
    return any(field.kind != "item" for field in fields.values())


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
