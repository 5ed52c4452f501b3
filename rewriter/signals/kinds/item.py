"""Items that a subject used before. With x the subject's decayed count of an item, the affinity is x / (x + c), times the factor of
the repeat guard. It needs no population: where people use items again, a use is evidence enough.
"""

from __future__ import annotations

from rewriter.settings import PolicySettings
from rewriter.signals.counters import Value
from rewriter.signals.kinds.kind import AffinityOf, Compared, SignalField, SignalKind, Texts

ITEM = "item"
"""The name of the kind and of its only field."""
WITH_CLASS = 3
"""Parts of an item's Value with its class: ("item", "B0017", "milk")."""


def is_item_of_class(value: Value) -> bool:
    """Whether a value is an item with its class, which profiles keep by class alone where a policy names a `class_field`."""
    return value[0] == ITEM and len(value) == WITH_CLASS


class Item(SignalKind):
    """The kind of the field with an item's id. A value ends with the item's class where the document has one."""

    name = ITEM
    is_lift = False

    def fields_of(self, policy: PolicySettings) -> dict[str, SignalField]:
        """Return the policy's `item_field`, if it has one and its items may be used again."""
        return self.item_field_of(policy) if policy.item_use != "once" else {}

    def item_field_of(self, policy: PolicySettings) -> dict[str, SignalField]:
        """Return the policy's `item_field` as a signal field of this kind, if the policy has one."""
        if not policy.item_field:
            return {}
        field = SignalField(
            self, (policy.item_field,), policy.item_scale, policy.item_pseudo_count, class_field=policy.class_field
        )
        return {ITEM: field}

    def parts(self, field: SignalField, texts: Texts) -> list[list[str]]:
        """Return the ids and the class: the first class if the document has several."""
        found = [texts(field.fields[0])]
        if field.class_field is not None and (own := texts(field.class_field)):
            found.append(own[:1])
        return found

    def lengths(self, field: SignalField) -> tuple[int, ...]:
        """Return the lengths of an item's value without and with its class."""
        return (len(field.fields) + 1, WITH_CLASS)

    def affinity(self, compared: Compared) -> AffinityOf:
        """Return the function that gives x / (x + c), times the repeat guard's factor for the item's class."""
        pseudo_count, strength = compared.pseudo_count, compared.guard.strength
        without_class = strength(None)

        def affinity(value: Value, count: float) -> float:
            left = strength(value[2]) if len(value) == WITH_CLASS else without_class
            return count / (count + pseudo_count) * left

        return affinity


KIND = Item()
