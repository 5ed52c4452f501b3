"""The repeat guard: boosts for items that somebody used before act only where people use the same item again. Pure.

The repeat share ρ of a class of product (groceries 0.4, films 0) is the share of uses that fall on an item that the same subject
had used in an earlier visit. An item counts once a visit, so that to view, click and buy it is one use; somebody's first visit
counts for nothing, since there was nothing to use again. `rewriter ingest` and `rewriter backfill` keep two fields in the
population, decayed like the rest of it, whose values are the classes:

    $uses    how many uses there were
    $again   how many of them were on an item used before

Where ρ is 0 a boost for what was seen before fills the page with it (measured on films: nDCG@10 × 0.7); at 0.4 it is the strongest
boost there is (× 1.2). A class of few uses is judged by the catalogue as well:

    ρ(class) = (again + SHRUNK_BY · ρ(catalogue)) / (uses + SHRUNK_BY)
    item affinities are multiplied by s(ρ): 0 up to NONE_AT, 1 from FULL_AT, linear between them

and those for unused items, of a policy with `item_use = "once"`, by 1 up to ONCE_AT, 0 from NONE_AT. The catalogue's own share,
which stands for items without a class, mixes classes that may differ: s is 0 up to MIXED_NONE_AT there, and 1 from MIXED_FULL_AT.

Below `MIN_USES` nobody can tell, and items have no boosts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from heapq import nlargest
from typing import Any, NamedTuple

from rewriter.record import record
from rewriter.signals.counters import SEPARATOR, Observation, Value

USES, AGAIN = "$uses", "$again"
"""Fields of the population. No policy's field has a `$` in its name."""
NO_CLASS = "-"
"""The class of an item that has none, or where no policy names a `class_field`."""
MIN_USES = 500.0
"""Decayed uses of the whole catalogue: at 500 a share of 0.1 is known to within 0.03."""
SHRUNK_BY = 100.0
NONE_AT, FULL_AT = 0.1, 0.2
"""Boosts for used items broke even at 0.12 on generated catalogues: they lost 10 % at 0.08 and gained 11 % at 0.17
(`bench.catalogues`). Of three real catalogues two had 0.4 and 0.7 and gained, one had 0 and lost.
"""
MIXED_NONE_AT, MIXED_FULL_AT = 0.2, 0.35
"""The same where one share stands for all classes: a shop that sells milk and books has 0.2, and books that people have read would
fill their pages. With NONE_AT and FULL_AT the default policy lost up to 13 % between 0.12 and 0.21 (docs/template-sets.md).
"""
ONCE_AT = 0.05
"""Boosts for unused items act in full up to here, and end at NONE_AT."""


@record(frozen=True, slots=True)
class RepeatShare:
    """How often people use an item again, in a class or in the whole catalogue. share: ρ in [0, 1]; uses: decayed.

    is_mixed: whether it was counted over all classes together.
    """

    share: float
    uses: float
    is_mixed: bool = False

    @property
    def strength(self) -> float:
        """By what item affinities are multiplied, in [0, 1]."""
        if self.is_mixed:
            return strength_at(self.share, MIXED_NONE_AT, MIXED_FULL_AT)
        return strength_at(self.share)

    @property
    def strength_once(self) -> float:
        """By what boosts of unused items are multiplied, in [0, 1]."""
        return min(1.0, max(0.0, (NONE_AT - self.share) / (NONE_AT - ONCE_AT)))


def strength_at(share: float, none_at: float = NONE_AT, full_at: float = FULL_AT) -> float:
    """Return s(ρ): 0 up to `none_at`, 1 from `full_at`."""
    return min(1.0, max(0.0, (share - none_at) / (full_at - none_at)))


class RepeatGuard:
    """What item affinities of each class are multiplied by.

    weights, totals: the population's. stated: the share that the policy states for its catalogue; what was counted is ignored then.
    """

    __slots__ = ("_stated", "_strengths", "_weights", "catalogue", "uses")

    def __init__(
        self, weights: Mapping[Value, float], totals: Mapping[str, float], stated: float | None = None
    ) -> None:
        self._weights = weights
        self._stated = stated
        self._strengths: dict[str | None, float] = {}
        uses = totals.get(USES, 0.0)
        self.uses = round(uses)
        self.catalogue: RepeatShare | None = None
        if stated is not None:
            self.catalogue = RepeatShare(stated, uses)
        elif uses >= MIN_USES:
            self.catalogue = RepeatShare(min(1.0, totals.get(AGAIN, 0.0) / uses), uses, is_mixed=True)

    @property
    def is_stated(self) -> bool:
        """Whether the policy states the share."""
        return self._stated is not None

    @property
    def classes(self) -> dict[str, float]:
        """The decayed uses of each class. It looks at everything that was counted: not for a search."""
        return {value[1]: weight for value, weight in self._weights.items() if value[0] == USES}

    def of(self, class_name: str | None) -> RepeatShare | None:
        """Return the repeat share of a class, shrunk to the catalogue's, which stands for no class; None where nobody can tell."""
        whole = self.catalogue
        if whole is None or class_name is None or self._stated is not None:
            return whole
        uses = self._weights.get((USES, class_name), 0.0)
        again = min(uses, self._weights.get((AGAIN, class_name), 0.0))
        return RepeatShare((again + SHRUNK_BY * whole.share) / (uses + SHRUNK_BY), uses)

    def strength(self, class_name: str | None) -> float:
        """Return by what an item's affinity is multiplied, in [0, 1]: 0 where nobody can tell."""
        known = self._strengths.get(class_name)
        if known is None:
            found = self.of(class_name)
            known = self._strengths[class_name] = found.strength if found is not None else 0.0
        return known

    def strength_once(self, class_name: str | None) -> float:
        """Return by what a boost of unused items is multiplied: 1 up to ONCE_AT, 0 from NONE_AT and where nobody can tell."""
        found = self.of(class_name)
        return found.strength_once if found is not None else 0.0


def described(guard: RepeatGuard, classes: Iterable[str] = ()) -> dict[str, Any]:
    """Return what a guard knows of the catalogue and of some classes, as JSON takes it; `share` is None where nobody can tell.

    item_boosts, unused_boosts: by what affinities of used and of unused items without a class are multiplied.
    stated: whether the policy states the share.
    """

    def known(found: RepeatShare | None) -> dict[str, Any]:
        if found is None:
            return {"share": None, "uses": guard.uses, "item_boosts": 0.0, "unused_boosts": 0.0}
        return {
            "share": round(found.share, 4), "uses": round(found.uses), "item_boosts": round(found.strength, 4),
            "unused_boosts": round(found.strength_once, 4),
        }  # fmt: skip

    return known(guard.catalogue) | {
        "stated": guard.is_stated,
        "classes": {} if guard.is_stated else {name: known(guard.of(name)) for name in classes},
    }


def in_words(known: Mapping[str, Any], item_scale: float = 1.0, item_use: str = "again") -> str:
    """Return what `described` gave in a sentence: for people at a terminal. item_scale, item_use: the policy's."""
    if known["share"] is None:
        return (
            f"items are not boosted: {known['uses']:,} of {MIN_USES:,.0f} uses that tell whether people use items again"
        )

    def follows(one: Mapping[str, Any]) -> str:
        if item_scale <= 0.0:
            return "no item boosts, since item_scale is 0"
        return _boosted(one["item_boosts"]) if item_use == "again" else _boosted_once(one["unused_boosts"])

    source = "as stated" if known["stated"] else f"of {known['uses']:,} uses"
    text = f"people use items again in {known['share']:.1%} {source}: {follows(known)}"
    differing = {name: one for name, one in known["classes"].items() if follows(one) != follows(known)}
    if differing:
        text += "; but " + ", ".join(f"{name} {one['share']:.1%}: {follows(one)}" for name, one in differing.items())
    unsuited = known["share"] >= NONE_AT and (item_scale <= 0.0 or item_use == "once")
    return f"{text}; the template set `shop` would suit" if unsuited else text


def _boosted(strength: float) -> str:
    if strength <= 0.0:
        return "no item boosts"
    return "item boosts" if strength >= 1.0 else f"{strength:.0%} of item boosts"


def _boosted_once(strength: float) -> str:
    if strength <= 0.0:
        return "no boosts of what is unused"
    return "what is unused is boosted" if strength >= 1.0 else f"{strength:.0%} of boosts of what is unused"


def largest_classes(members: Mapping[str, float], count: int) -> tuple[str, ...]:
    """Return the names of the `count` classes with the most uses. It looks at the whole population: not for a search."""
    start = f"{USES}{SEPARATOR}"
    uses = [(weight, member[len(start) :]) for member, weight in members.items() if member.startswith(start)]
    return tuple(name for _, name in nlargest(count, uses))


class Use(NamedTuple):
    """One thing done with an item in a visit; `at_s` in seconds since the epoch."""

    subject: str
    visit: str
    item: str
    class_name: str
    at_s: float


def observed_uses(done: Iterable[Use]) -> Iterator[Observation]:
    """Yield what `done`, in the order of time, adds to the population's two fields."""
    first_visits: dict[str, str] = {}
    last_visits: dict[tuple[str, str], str] = {}
    for one in done:
        used_in = last_visits.get((one.subject, one.item))
        last_visits[one.subject, one.item] = one.visit
        if used_in != one.visit and first_visits.setdefault(one.subject, one.visit) != one.visit:
            again: tuple[Value, ...] = () if used_in is None else ((AGAIN, one.class_name),)
            yield Observation(((USES, one.class_name), *again), 1.0, one.at_s)
