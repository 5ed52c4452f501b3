"""Results that several evaluations of the same searches and history share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rewriter.evaluate.counted_past import CountedPast
from rewriter.evaluate.outcome import Prepared
from rewriter.evaluate.past import Past
from rewriter.evaluate.variants import Variant
from rewriter.signals.query_classes import QueryClasses
from rewriter.signals.store import Signals

KEPT_COUNTS = 6
"""Counting rules whose signals are kept: each half-life that tuning tries, and the policy's own."""


class _FirstLearned(QueryClasses):
    """The classes of queries as first learned, so that no evaluation depends on earlier ones."""

    def put(self, key: str, classes: tuple[str, ...], now_s: float) -> None:
        """Keep the classes of a query, unless they are known already."""
        if not self.get(key, now_s):
            super().put(key, classes, now_s)


@dataclass(slots=True)
class Shared:
    """Cache of results that several evaluations of the same searches and history share.

    signals: by counting rules, search and classes, for the KEPT_COUNTS rules used last. classes: the classes of queries.
    values:  by counting rules, their values without half-lives. answers: the baseline's answers by search.
    """

    counted: dict[str, CountedPast] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    signals: dict[str, dict[tuple[Any, ...], Signals]] = field(default_factory=dict)
    classes: QueryClasses = field(default_factory=_FirstLearned)
    knows_classes: bool = False
    described: dict[int, tuple[int, frozenset[str], str]] = field(default_factory=dict)
    prepared: Sequence[Prepared] = ()
    answers: dict[str, Any] = field(default_factory=dict)

    def of(self, variant: Variant, past: Past) -> tuple[CountedPast, dict[tuple[Any, ...], Signals]]:
        """Return the past as a variant counts it, and the signals computed from it."""
        key = counting_key(variant)
        values = values_key(variant)
        alike = next((one.coded for name, one in self.counted.items() if self.values.get(name) == values), None)
        found = self.counted.pop(key, None) or CountedPast(past, variant.settings, alike)
        self.values[key] = values
        self.counted[key] = found  # the last one
        memory = self.signals.setdefault(key, {})
        for old in list(self.counted)[:-KEPT_COUNTS]:
            del self.counted[old]
            self.signals.pop(old, None)
        return found, memory


def counting_key(variant: Variant) -> str:
    """Return a variant's counting rules as a key: variants that count alike have equal keys."""
    lives = {name: one.half_life_s for name, one in variant.policy.fields.items()}
    return repr((values_key(variant), lives, variant.policy.item_half_life_s, variant.settings.signals))


def values_key(variant: Variant) -> str:
    """Return the values that a variant counts as a key: the part of its counting rules without half-lives."""
    policy = variant.policy
    return repr(
        ({name: one.of for name, one in policy.fields.items()}, policy.item_field, policy.item_use, policy.class_field)
    )
