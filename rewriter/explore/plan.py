"""What the first page decided and the next pages keep: boosts, seed, what was drawn. Saved as JSON for half an hour.

A slot is decided once, when its page is first shown: a drawn hit, or nothing. A click in between then neither repeats nor hides
a hit, because the boosts of the first page serve the next ones too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from rewriter.boost.functions import DECAYS, Boost, wrong_clause
from rewriter.report import Source, Strategy

PLAN_TTL_S = 30 * 60

Position = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, slots=True)
class Drawn:
    """One decided slot. `key` is None where nothing was drawn; the list then goes on with the next personalised hit."""

    position: Position
    key: tuple[str, ...] | None
    propensity: Annotated[float, Field(ge=0, le=1)] = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a later page needs to continue the list that the first one began."""

    boosts: tuple[Boost, ...]
    max_boost: float
    strategy: Strategy
    template_version: str
    source: Source
    seed: int
    block: Position
    preference: str | None = None
    slots: tuple[Drawn, ...] = ()
    form: Literal[1] = 1


_JSON = TypeAdapter(Plan)


def encode(plan: Plan) -> bytes:
    """Return the plan as JSON."""
    return _JSON.dump_json(plan)


def decode(raw: bytes | None) -> Plan | None:
    """Return the plan in `raw`, or None where it is no plan of this version: it may have been written by anybody."""
    try:
        plan = _JSON.validate_json(raw or b"")
    except ValidationError:
        return None
    return (
        plan if 1.0 <= plan.max_boost <= 10.0 and all(_sound(boost, plan.max_boost) for boost in plan.boosts) else None
    )


def _sound(boost: Boost, max_boost: float) -> bool:
    """Whether a boost could have come from a template: the same clamp, the same clauses. A NaN fails the first comparison."""
    return (
        0.0 <= boost.weight <= max_boost - 1.0
        and (boost.filter is None or wrong_clause(boost.filter, ()) is None)
        and DECAYS.issuperset(boost.decay or ())
    )
