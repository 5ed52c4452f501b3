"""Neighbours: items that other users of a subject's items use too (`rewriter.signals.neighbours`).

With z the subject's decayed count of a neighbour, the affinity is z / (z + c). Documents do not hold them: a use of an item counts
its neighbours, only in profiles' counters by class.
"""

from __future__ import annotations

from rewriter.settings import PolicySettings
from rewriter.signals.kinds.kind import AffinityOf, Compared, SignalField, SignalKind, Texts

NEIGHBOUR = "neighbour"
"""The name of the kind and of its only field; no policy may use it for a field of its own."""


class Neighbour(SignalKind):
    """The kind of the field with the id of an item's neighbour."""

    name = NEIGHBOUR
    is_lift = False

    def fields_of(self, policy: PolicySettings) -> dict[str, SignalField]:
        """Return the policy's `item_field` with `neighbour_scale` reduced by `discovery`, unless that is 0."""
        if not (policy.has_neighbours and policy.item_field):
            return {}
        scale = policy.neighbour_scale * policy.discovery
        return {NEIGHBOUR: SignalField(self, (policy.item_field,), scale, policy.neighbour_pseudo_count)}

    def parts(self, field: SignalField, texts: Texts) -> list[list[str]]:  # noqa: ARG002  as of every kind
        """Return an empty list: a document has no neighbours."""
        return [[]]

    def affinity(self, compared: Compared) -> AffinityOf:
        """Return the function that gives z / (z + c)."""
        pseudo_count = compared.pseudo_count
        return lambda _, count: count / (count + pseudo_count)


KIND = Neighbour()
