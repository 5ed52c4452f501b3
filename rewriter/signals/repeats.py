"""The repeat guard: boosts for items that somebody used before act only where people use the same item again. Pure.

The repeat share ρ of a class of product (groceries 0.4, films 0) is the share of uses that fall on an item with which the same
subject had done at least as much in an earlier visit: bought, where the use is a purchase. What counts as a use, and which uses a
class is judged by, is in `uses`. `rewriter ingest` and `rewriter backfill` keep four fields in the population, decayed like the
rest of it:

    $uses       how many uses there were
    $again      how many of them were on an item used before
    $controls   how many uses could be compared with another subject's
    $chance     how many of these other uses were of an item that the subject had used before

In a class of few items, or of a few that everybody uses, people use items again by chance alone, and a boost for them fills the
page with what popularity had ranked high enough already. So each use is compared with the latest one of its class by another
subject. The share of these that fall on the subject's own used items is the share γ that chance gives. Where

    λ = ρ / (1 − ρ) · (1 − γ) / γ

is 1, having used an item tells nothing. On 28 generated catalogues boosts for used items lost where λ was below 0.9,
hardly gained (−1 to +13 %) up to 2.1 and gained above, for every ρ from 0.04 to 0.38. All of them cost new items.

Where ρ is 0 a boost for what was seen before fills the page with it (measured on films: nDCG@10 × 0.7); at 0.4 it is the strongest
boost there is (× 1.2). A class of few uses is judged by the catalogue as well:

    ρ(class) = (again + SHRUNK_BY · ρ(catalogue)) / (uses + SHRUNK_BY)
    item affinities are multiplied by s(ρ): 0 up to NONE_AT, 1 from FULL_AT, linear between them,
    and by s(λ) from LIFT_NONE_AT to LIFT_FULL_AT; γ of a class is shrunk as ρ is

and those for unused items, of a policy with `item_use = "once"`, by 1 up to ONCE_AT, 0 from NONE_AT; or by 1 up to λ =
LIFT_ONCE_FULL_AT, 0 from LIFT_ONCE_AT, if that is more. From λ = LIFT_ONCE_AT on they end until LIFT_NONE_AT, however small ρ is:
in a catalogue of many classes people seldom come back to a class, but then to what they know. The catalogue's own share, which
stands for items without a class, mixes classes that may differ: s is 0 up to MIXED_NONE_AT there, and 1 from MIXED_FULL_AT.

Below `MIN_USES` nobody can tell, and items have no boosts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import nlargest
from typing import Any

from rewriter.plural import count_of
from rewriter.record import record
from rewriter.signals.counters import SEPARATOR, Value

USES, AGAIN, CONTROLS, CHANCE = "$uses", "$again", "$controls", "$chance"
MARKS = (USES, AGAIN, CONTROLS, CHANCE)
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
MIN_CONTROLS = 250.0
"""Decayed comparisons of the whole catalogue: below, λ is unknown, and ρ alone decides. At 250 a γ of 0.1 is known to 0.04."""
LIFT_NONE_AT, LIFT_FULL_AT = 1.3, 2.2
"""Of λ: boosts for used items begin at the first, and act in full from the second on."""
LIFT_ONCE_FULL_AT, LIFT_ONCE_AT = 0.5, 0.9
"""Of λ: boosts for unused items act in full up to the first, and where ρ is not small end at the second."""
MAX_KEPT = 10_000
"""Classes whose factor a guard keeps. A profile may name any class, and a guard lives as long as the population."""
LIFT_MOST = 1e6
"""The largest λ, which stands for a γ of 0."""


@record(frozen=True, slots=True)
class RepeatShare:
    """How often people use an item again, in a class or in the whole catalogue. share: ρ in [0, 1]; uses: decayed.

    is_mixed: whether it was counted over all classes together.
    chance:   γ in [0, 1], the share that chance gives; None if too little was compared.
    """

    share: float
    uses: float
    is_mixed: bool = False
    chance: float | None = None

    @property
    def lift(self) -> float | None:
        """λ: the odds of using an item again over those by chance, at most LIFT_MOST; None if unknown."""
        if self.chance is None:
            return None
        by_chance = self.chance * (1.0 - self.share)
        if by_chance <= 0.0:
            return LIFT_MOST if self.share > 0.0 else 0.0
        return min(LIFT_MOST, self.share * (1.0 - self.chance) / by_chance)

    @property
    def strength(self) -> float:
        """By what item affinities are multiplied, in [0, 1]."""
        bounds = (MIXED_NONE_AT, MIXED_FULL_AT) if self.is_mixed else (NONE_AT, FULL_AT)
        return strength_at(self.share, *bounds) * self.more_than_chance

    @property
    def more_than_chance(self) -> float:
        """s(λ), in [0, 1]; 1 if λ is unknown."""
        lift = self.lift
        return 1.0 if lift is None else strength_at(lift, LIFT_NONE_AT, LIFT_FULL_AT)

    @property
    def strength_once(self) -> float:
        """By what boosts of unused items are multiplied, in [0, 1]."""
        lift = self.lift
        rare = 1.0 - strength_at(self.share, ONCE_AT, NONE_AT)
        if lift is None:
            return rare
        wanted_once = max(rare, 1.0 - strength_at(lift, LIFT_ONCE_FULL_AT, LIFT_ONCE_AT))
        return wanted_once * (1.0 - strength_at(lift, LIFT_ONCE_AT, LIFT_NONE_AT))


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
            controls = totals.get(CONTROLS, 0.0)
            chance = min(1.0, totals.get(CHANCE, 0.0) / controls) if controls >= MIN_CONTROLS else None
            self.catalogue = RepeatShare(min(1.0, totals.get(AGAIN, 0.0) / uses), uses, is_mixed=True, chance=chance)

    @property
    def is_stated(self) -> bool:
        """Whether the policy states the share."""
        return self._stated is not None

    @property
    def classes(self) -> dict[str, float]:
        """The decayed uses of each class. It looks at everything that was counted: not for a search."""
        return {value[1]: weight for value, weight in self._weights.items() if value[0] == USES}

    def mean_strength(self, item_use: str) -> float:
        """Return the mean over all counted uses of the factor of item boosts. item_use: the policy's. Not for a search."""
        classes = self.classes
        weighted = sum(
            uses * self.strength_of(item_use, None if name == NO_CLASS else name) for name, uses in classes.items()
        )
        return weighted / (sum(classes.values()) or 1.0)

    def of(self, class_name: str | None) -> RepeatShare | None:
        """Return the repeat share of a class, shrunk to the catalogue's, which stands for no class; None where nobody can tell."""
        whole = self.catalogue
        if whole is None or class_name is None or self._stated is not None:
            return whole
        uses, share = self._shrunk(class_name, USES, AGAIN, whole.share)
        chance = None if whole.chance is None else self._shrunk(class_name, CONTROLS, CHANCE, whole.chance)[1]
        return RepeatShare(share, uses, chance=chance)

    def _shrunk(self, class_name: str, of: str, hit: str, whole: float) -> tuple[float, float]:
        """Return the count `of` a class, and the share of it that `hit` is, shrunk to the catalogue's."""
        count = self._weights.get((of, class_name), 0.0)
        hits = min(count, self._weights.get((hit, class_name), 0.0))
        return count, (hits + SHRUNK_BY * whole) / (count + SHRUNK_BY)

    def strength(self, class_name: str | None) -> float:
        """Return by what an item's affinity is multiplied, in [0, 1]: 0 where nobody can tell."""
        known = self._strengths.get(class_name)
        if known is None:
            found = self.of(class_name)
            known = found.strength if found is not None else 0.0
            if len(self._strengths) < MAX_KEPT:
                self._strengths[class_name] = known
        return known

    def strength_of(self, item_use: str, class_name: str | None) -> float:
        """Return the factor of the item boosts of a policy with this `item_use`."""
        again = self.strength(class_name) if item_use != "once" else 0.0
        return again or (self.strength_once(class_name) if item_use != "again" else 0.0)

    def strength_once(self, class_name: str | None) -> float:
        """Return by what a boost of unused items is multiplied: 1 up to ONCE_AT, 0 from NONE_AT and where nobody can tell."""
        found = self.of(class_name)
        return found.strength_once if found is not None else 0.0


def described(guard: RepeatGuard, classes: Iterable[str] = ()) -> dict[str, Any]:
    """Return what a guard knows of the catalogue and of some classes, as JSON takes it; `share` is None where nobody can tell.

    chance: the share that chance gives, or None.
    item_boosts, unused_boosts: by what affinities of used and of unused items without a class are multiplied.
    stated: whether the policy states the share.
    """

    def known(found: RepeatShare | None) -> dict[str, Any]:
        if found is None:
            return {"share": None, "uses": guard.uses, "chance": None, "item_boosts": 0.0, "unused_boosts": 0.0}
        return {
            "share": round(found.share, 4), "uses": round(found.uses),
            "chance": None if found.chance is None else round(found.chance, 4), "item_boosts": round(found.strength, 4),
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
        is_once = item_use == "once" or (item_use == "auto" and one["unused_boosts"] > 0.0)
        return _boosted_once(one["unused_boosts"]) if is_once else _boosted(one["item_boosts"])

    source = "as stated" if known["stated"] else f"of {count_of(known['uses'], 'use')}"
    text = f"people use items again in {known['share']:.1%} {source}{_by_chance(known)}: {follows(known)}"
    differing = {name: one for name, one in known["classes"].items() if follows(one) != follows(known)}
    if differing:
        text += "; but " + ", ".join(
            f"{name} {one['share']:.1%}{_by_chance(one)}: {follows(one)}" for name, one in differing.items()
        )
    unsuited = suits_shop(known["share"], known["unused_boosts"]) and (item_scale <= 0.0 or item_use == "once")
    return f"{text}; the template set `shop` would suit" if unsuited else text


def suits_shop(share: float, unused_boosts: float) -> bool:
    """Whether people use items again, and not less than chance would have it: the template set `shop` suits, else `catalogue`."""
    return share >= NONE_AT and unused_boosts <= 0.0


def _by_chance(known: Mapping[str, Any]) -> str:
    """Return the share that chance gives, where it matters: where people hardly use more items again."""
    share, chance = known["share"], known["chance"]
    if chance is None or share < NONE_AT or RepeatShare(share, 0.0, chance=chance).more_than_chance >= 1.0:
        return ""
    return f", by chance {chance:.1%}"


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
