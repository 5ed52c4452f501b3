"""Combinations: a subject's preference for several document fields' values together, as a lift over the population.

A preference applies only where it was shown: a maker of shoes for shoes, not for shirts. Profiles keep the values of a combination
of the class field and one other field by class, and the lift is the one within the class.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rewriter.settings import PolicySettings
from rewriter.signals.kinds.kind import Function, Liked, Rules, SignalField, SignalKind, levels, only_on

PSEUDO_COUNT = 5.0


class Combination(SignalKind):
    """The kind of a field that combines several document fields, all of which must match."""

    name = "combination"

    def fields_of(self, policy: PolicySettings) -> dict[str, SignalField]:
        """Return the policy's fields `of` several document fields."""
        return {
            name: SignalField(self, one.of, one.scale, PSEUDO_COUNT if one.pseudo_count is None else one.pseudo_count)
            for name, one in policy.fields.items()
            if len(one.of) > 1
        }

    def begins_with_class(self, field: SignalField, class_field: str | None) -> bool:
        """Whether the field combines the class field and one other field."""
        return len(field.fields) == 2 and field.fields[0] == class_field

    def functions(self, ranked: Sequence[Liked], limit: int, *, by_class: bool) -> Iterator[Function]:
        """Yield each value by itself; values kept by class in groups of about equal weight for each class."""
        if not by_class:
            yield from [(one[1][1:], (one,)) for one in ranked[:limit]]
            return
        classes: dict[str, list[Liked]] = {}
        for one in ranked:
            classes.setdefault(one[1][1], []).append(one)
        for class_name, own in classes.items():
            for group in levels(own):
                yield (class_name, *(value[2] for _, value, _ in group)), group

    def clause(self, fields: tuple[str, ...], values: tuple[str, ...], rules: Rules) -> dict[str, Any]:
        """Return the clause that matches documents with all values, or with one class and any of the other field's values."""
        if not rules and len(values) == len(fields):
            return {"bool": {"filter": [{"term": {field: value}} for field, value in zip(fields, values, strict=True)]}}
        filters: list[dict[str, Any]] = []
        for at, rule in rules:
            filters += only_on(rule.indices(values[at - 1]))
        if len(values) > len(fields):  # one class, and alternative values of the other field
            filters += [{"term": {fields[0]: values[0]}}, {"terms": {fields[1]: list(values[1:])}}]
        else:
            filters += [{"term": {field: value}} for field, value in zip(fields, values, strict=True)]
        return {"bool": {"filter": filters}}

    def describe(self, values: tuple[str, ...]) -> str:
        """Return all values as text."""
        return " · ".join(values)

    def wrong_values(self, fields: tuple[str, ...], values: tuple[str, ...]) -> str:
        """Return the fault of a sample without one value for each field."""
        return "" if len(values) == len(fields) else "a combination has one value for each field"


KIND = Combination()
