"""The signal fields of one search under `item_use = "auto"`: the repeat guard decides between boosts of used and of unused items.

Per class at most one of both has a weight (`repeats`). Before enough uses are counted neither has.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from rewriter.settings import PolicySettings
from rewriter.signals.kinds.item import ITEM
from rewriter.signals.kinds.kind import SignalField
from rewriter.signals.kinds.unused import KIND as UNUSED
from rewriter.signals.repeats import RepeatGuard

UNUSED_ROOM = 0.5
"""Largest share of the boost beyond 1 that unused items get under "auto": with all of it attributes could not tell them apart."""


def acting_fields(
    fields: Mapping[str, SignalField], policy: PolicySettings, guard: RepeatGuard, classes: Collection[str]
) -> Mapping[str, SignalField]:
    """Return a policy's signal fields with items as unused ones, where those of the query are used once.

    classes: of the query; if they are unknown, the whole catalogue decides.
    """
    if policy.item_use != "auto" or ITEM not in fields:
        return fields
    judged = classes or (None,)
    if any(guard.strength(one) > 0.0 for one in judged) or not any(guard.strength_once(one) > 0.0 for one in judged):
        return fields
    own = fields[ITEM]
    scale = min(own.scale, UNUSED_ROOM * (policy.max_boost - 1.0))
    return {**fields, ITEM: replace(own, kind=UNUSED, scale=scale)}
