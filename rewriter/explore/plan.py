"""What the first page decided and the next pages keep: boosts, seed, what was drawn. Saved as JSON for half an hour.

A slot is decided once, when its page is first shown: a drawn hit, or nothing. A click in between then neither repeats nor hides
a hit, because the boosts of the first page serve the next ones too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from rewriter.boost.functions import Boost
from rewriter.report import Source, Strategy

PLAN_TTL_S = 30 * 60
VERSION = 1


@dataclass(frozen=True, slots=True)
class Drawn:
    """One decided slot. `key` is None where nothing was drawn; the list then goes on with the next personalised hit."""

    position: int
    key: tuple[str, ...] | None
    propensity: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a later page needs to continue the list that the first one began."""

    boosts: tuple[Boost, ...]
    max_boost: float
    strategy: Strategy
    template_version: str
    source: Source
    seed: int
    block: int
    preference: str | None = None
    slots: tuple[Drawn, ...] = ()


def encode(plan: Plan) -> bytes:
    """Return the plan as JSON."""
    found: dict[str, Any] = {one.name: getattr(plan, one.name) for one in fields(plan)}
    found |= {
        "v": VERSION,
        "boosts": [boost._asdict() for boost in plan.boosts],
        "slots": [asdict(slot) for slot in plan.slots],
    }
    return json.dumps(found, separators=(",", ":")).encode()


def decode(raw: bytes | None) -> Plan | None:
    """Return the plan in `raw`, or None where it is no plan of this version: it may have been written by anybody."""
    if not raw:
        return None
    try:
        found: Mapping[str, Any] = json.loads(raw)
        if found["v"] != VERSION:
            return None
        boosts = tuple(Boost(**boost) for boost in found["boosts"])
        slots = tuple(
            Drawn(int(s["position"]), None if s["key"] is None else tuple(map(str, s["key"])), float(s["propensity"]))
            for s in found["slots"]
        )
        plan = Plan(
            boosts, float(found["max_boost"]), found["strategy"], str(found["template_version"]), found["source"],
            int(found["seed"]), int(found["block"]), found["preference"], slots,
        )  # fmt: skip
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    sound = all(0.0 <= boost.weight <= plan.max_boost - 1.0 for boost in boosts)  # a NaN fails it too
    return (
        plan
        if sound and 1.0 <= plan.max_boost <= 10.0 and plan.strategy in ("rescore", "wrap") and plan.block >= 0
        else None
    )
