"""Unused items, with `item_use = "once"`: where people use an item once, all items that they have not used get the same boost.

The kind does not prefer one unused item to another. It moves used items down from the top of a page, within the bounds of a boost:
the factor is 1 for a used item and larger for all others. The repeat guard scales the weight: in a class whose items people use
again, the used items are boosted with the unused ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rewriter.settings import PolicySettings
from rewriter.signals.kinds.item import WITH_CLASS, Item
from rewriter.signals.kinds.kind import AffinityOf, Compared, Function, Liked, Rules, SignalField

MAX_LISTED = 256
"""Most items that one clause lists: those used last or most."""


class Unused(Item):
    """The kind of the field with an item's id, under a policy whose items are used once. It counts what the kind `item` counts."""

    name = "unused"
    is_of_segments = False

    def fields_of(self, policy: PolicySettings) -> dict[str, SignalField]:
        """Return the policy's `item_field`, if it has one and its items are used once."""
        return self.item_field_of(policy) if policy.item_use == "once" else {}

    def affinity(self, compared: Compared) -> AffinityOf:
        """Return the function that gives the repeat guard's factor for the item's class: used is used, however often."""
        strength = compared.guard.strength_once
        return lambda value, _: strength(value[2] if len(value) == WITH_CLASS else None)

    def functions(self, ranked: Sequence[Liked], limit: int, *, by_class: bool) -> Iterator[Function]:  # noqa: ARG002
        """Yield one function for all items together, since one list of the used items serves all."""
        group = ranked[:MAX_LISTED]
        yield tuple([value[1] for _, value, _ in group]), group

    def clause(self, fields: tuple[str, ...], values: tuple[str, ...], rules: Rules) -> dict[str, Any]:
        """Return the clause that matches every document except those of the items."""
        return {"bool": {"must_not": [super().clause(fields, values, rules)]}}

    def describe(self, values: tuple[str, ...]) -> str:
        """Return the values of the function as text."""
        return f"all but {super().describe(values)}"


KIND = Unused()
