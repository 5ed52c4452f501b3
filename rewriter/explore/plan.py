"""Page plan: the boosts, seed, drawn slots and shown hits of a list's first page, which its later pages reuse.

A slot is decided once, when its page is first shown: a drawn hit, or none. Later pages use the first page's boosts, so that a click
in between neither repeats nor hides a hit.
"""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from rewriter.boost.functions import DECAYS, Boost, clamped, wrong_clause
from rewriter.explore.shown import overlaid
from rewriter.report import Source, Strategy

MAX_JSON_BYTES = 64 * 2**10
"""Limit of a plan's uncompressed JSON; a plan with 128 boosts has about 12,000 bytes."""

COMMON = (
    b'"max_boost":1.5,"strategy":"rescore","template_version":"","source":"session","blend","segment","stale","wrap","seed":,"block":7,'
    b'"preference":null,"slots":[],"shown":"","detour":false,"form":2}{"search":"","boosts":[[{"bool":{"filter":[{"term":{"'
    b'category":"}},{"term":{"colour":"}}]}},0.,[{"terms":{"_id":["product-","item","profile"],[{"term":{"brand":"}},0.1,null,"'
)
"""zlib dictionary: texts that most plans contain, so that a compressed plan need not repeat them."""

Position = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, slots=True)
class Drawn:
    """One decided slot: position (from 0), key of the drawn hit and its propensity.

    `key` is None if no hit was drawn; the position then shows the next personalized hit.
    """

    position: Position
    key: tuple[str, ...] | None
    propensity: Annotated[float, Field(ge=0, le=1)] = 0.0


@dataclass(frozen=True, slots=True)
class PagePlan:
    """The data with which a later page continues the list of the first one.

    search: the list's own search key; plans of other searches may have their turn under the same key of a store.
    shown:  what was shown (see `shown`), in base 64.
    forgotten_s: up to when the subject had been forgotten then; after a later `rewriter forget` the plan is of no use.
    gated:  whether boosts act only on hits that hold every word of the query.
    at_s:   wall time of the list's latest page. Of a plan that could not be written and the store's, the newer one counts.
    ranks:  position → personalized rank at which a page from there continues, for the ends of pages that were shown.
            Slots and the hits that they took from later pages make the two differ.
    detour: whether a page of the list was the baseline's, or left out what stands on a later one, so that the others have to go by
            what was shown.
    """

    search: str
    boosts: tuple[Boost, ...]
    max_boost: float
    strategy: Strategy
    template_version: str
    source: Source
    seed: int
    block: Position
    preference: str | None = None
    slots: tuple[Drawn, ...] = ()
    shown: str = ""
    detour: bool = False
    forgotten_s: float = 0.0
    gated: bool = False
    at_s: float = 0.0
    ranks: tuple[tuple[Position, Position], ...] = ()
    form: Literal[2] = 2


_JSON = TypeAdapter(PagePlan)


def encode(plan: PagePlan) -> bytes:
    """Return the plan as compressed JSON: about 500 bytes with 32 boosts."""
    packing = zlib.compressobj(9, zdict=COMMON)
    return packing.compress(_JSON.dump_json(plan)) + packing.flush()


def decode(raw: bytes | None) -> PagePlan | None:
    """Return the plan in `raw`, or None if it is no valid plan of this version: another program may have written it."""
    unpacking = zlib.decompressobj(zdict=COMMON)
    try:
        text = unpacking.decompress(raw or b"", MAX_JSON_BYTES)
        plan = _JSON.validate_json(text if unpacking.eof else b"")
        b64decode(plan.shown, validate=True)
    except (zlib.error, ValueError, ValidationError):
        return None
    return (
        plan if 1.0 <= plan.max_boost <= 10.0 and all(_sound(boost, plan.max_boost) for boost in plan.boosts) else None
    )


def united(raw: bytes, other: bytes) -> bytes:
    """Return the plan of a list of which two pages were shown at the same time, each with a plan that lacks the other page.

    Where both have a page, the newer plan's counts. If they are plans of different lists, the newer plan is returned.
    raw, other: encoded plans. If `other` is no plan of this version, `raw` is returned.
    """
    one, two = decode(raw), decode(other)
    if one is None or two is None:
        return raw
    newer, older = (two, one) if two.at_s > one.at_s else (one, two)
    if (newer.search, newer.seed) != (older.search, older.seed):
        return other if newer is two else raw
    slots = {slot.position: slot for slot in older.slots}
    # A page that was not shown yet was left without exploration by the plan of a later page.
    slots |= {slot.position: slot for slot in newer.slots if slot.key is not None or slot.position not in slots}
    return encode(
        replace(
            newer,
            slots=tuple(slots[position] for position in sorted(slots)),
            shown=as_text(overlaid(shown_by(newer), shown_by(older))),
            detour=newer.detour or older.detour,
            ranks=tuple(sorted((dict(older.ranks) | dict(newer.ranks)).items())),
        )
    )


def shown_by(plan: PagePlan) -> bytes:
    """Return a plan's record of shown hits."""
    return b64decode(plan.shown)


def as_text(shown: bytes) -> str:
    """Return a record of shown hits as text, for `PagePlan.shown`."""
    return b64encode(shown).decode()


def _sound(boost: Boost, max_boost: float) -> bool:
    """Whether a boost passes the checks of a template's output: the clamp (a NaN fails it) and the allowed clauses."""
    return (
        0.0 <= boost.weight == clamped(boost.weight, max_boost)
        and (boost.filter is None or wrong_clause(boost.filter, ()) is None)
        and DECAYS.issuperset(boost.decay or ())
    )
