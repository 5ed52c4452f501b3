"""Attributes: a subject's preference for values of one document field, as a lift over the population."""

from __future__ import annotations

from rewriter.settings import PolicySettings
from rewriter.signals.kinds.kind import SignalField, SignalKind

PSEUDO_COUNT = 100.0


class Attribute(SignalKind):
    """The kind of a field that is one document field."""

    name = "attribute"

    def fields_of(self, policy: PolicySettings) -> dict[str, SignalField]:
        """Return the policy's fields `of` one document field."""
        return {
            name: SignalField(self, one.of, one.scale, PSEUDO_COUNT if one.pseudo_count is None else one.pseudo_count)
            for name, one in policy.fields.items()
            if len(one.of) == 1
        }


KIND = Attribute()
