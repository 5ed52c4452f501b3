"""The choice of a template set by repeat use of items, by the age of items, and by whether searches have words. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from rewriter.cli.init.choices import Choices, Chosen
from rewriter.cli.init.classes import SEVERAL
from rewriter.cli.init.figures import plain, share_of
from rewriter.cli.init.index_profile import RECENT_D, IndexProfile
from rewriter.signals.repeats import MIN_USES, RepeatGuard, described, in_words, suits_shop

STREAM_SHARE = 0.6
"""Share of the documents with a listing date younger than RECENT_D days, from which on the index is a stream of new items."""
STREAM_AGE_D = 3.0
"""Largest median age of items in use that makes them a stream of new items, whatever the index archives."""
PAYS = 0.25
"""Mean factor of item boosts from which on they pay for exploration: it cost 1 to 4 % on generated catalogues between the kinds,
where attributes alone gained 1 to 3 %.
"""
DAY_S = 86_400.0
GAINED_LESS = "on generated catalogues attributes alone gained less than exploration costs"
ITEM_USE = {"default": "auto", "catalogue": "once", "news": "once"}
"""The setting `item_use` of the sets that have it; the others have "again"."""


@dataclass(frozen=True, slots=True)
class ItemUses:
    """Statistics of how people use items, from a history file or the store's counters.

    guard:      the counts of the repeat guard, or None.
    source:     the source of the counts as a phrase; without counts, why there are none.
    median_age_s: the median age of an item when it was used, in seconds, or None if unknown.
    classes:    the names of the classes with the most uses.
    mean_weight: the mean weight of the events that add to counters; 0.0 if unknown.
    is_of_history: whether they are those of a history file.
    """

    guard: RepeatGuard | None
    source: str
    median_age_s: float | None = None
    classes: tuple[str, ...] = ()
    mean_weight: float = 0.0
    is_of_history: bool = False


@dataclass(frozen=True, slots=True)
class SetChoice:
    """A template set with the reasons for it, each a sentence; class_field: "" where items are not counted by class.

    unexplored: why no position is given to exploration, "" where the set's share is.
    """

    name: str
    why: tuple[str, ...]
    class_field: Chosen
    unexplored: str = ""


def set_of(profile: IndexProfile, choices: Choices, uses: ItemUses, given: str | None) -> tuple[str, tuple[str, ...]]:
    """Return the name of the set that fits, and why. given: the name in `--set`."""
    known = _uses_in_words(uses, ITEM_USE.get(given or "", "again"))
    if given is not None:
        return given, (f"--set {given}", known)
    if profile.facts.fields and not _has_texts(profile):
        return "browse", ("no field is a text, so that searches have no words and their hits score alike", known)
    is_stream, age = _age(profile, choices, uses)
    guard = uses.guard
    whole = guard.catalogue if guard else None
    if whole is not None and suits_shop(whole.share, whole.strength_once):
        return "shop", (known, *((age,) if age else ()))
    once = _uses_in_words(uses, "once")
    if is_stream:
        return "news", (once, age)
    if whole is not None:
        return "catalogue", (once, *((age,) if age else ()))
    unknown = (
        "so the safe set was chosen: what people used, or what they did not, is boosted only after enough uses have shown which of"
        " both they want"
    )
    if not uses.is_of_history:
        unknown += "; `rewriter init --history FILE --force` chooses by a history"
    return "default", (f"{known}, {unknown}", *((age,) if age else ()))


def why_unexplored(uses: ItemUses, item_use: str) -> str:
    """Return why exploration costs more than the boosts gain, "" where it does not or nothing is known.

    item_use: the set's.
    """
    guard = uses.guard
    if guard is None or guard.catalogue is None:
        too_short = "the history is too short to tell whether people use items again"
        return f"{too_short}, and {GAINED_LESS}" if uses.is_of_history else ""
    strength = guard.mean_strength(item_use)
    if strength >= PAYS:
        return ""
    return f"item boosts act with {strength:.0%} of their weight here, and {GAINED_LESS}"


def class_field_of(profile: IndexProfile, choices: Choices, *, wanted: bool, set_name: str) -> Chosen:
    """Return the field by which items are counted, where the set wants one and documents have one class each."""
    facet = next((one for one in choices.facets if profile.source_field(one.field) == choices.category.field), None)
    if not choices.category.field or facet is None:
        return Chosen("", "there is no class")
    if not wanted:
        return Chosen("", f"the set {set_name} boosts no items, so that counters by class would only cost")
    if normalizer := profile.facts.normalizers.get(facet.field):
        return Chosen("", f"the normalizer {normalizer} spells {plain(facet.field)} otherwise than the documents do")
    measured = profile.values.get(facet.field)
    if measured is None:
        return Chosen("", "the index holds no document yet, so it is unknown whether each has one class")
    if measured.per_document > SEVERAL:
        return Chosen(
            "", f"a document has {measured.per_document:.1f} of {plain(facet.field)}, and an item counts in one"
        )
    return Chosen(facet.field, "a search reads the counters of its query's classes, and items are judged by class")


def _has_texts(profile: IndexProfile) -> bool:
    kinds = {kind for name in (*profile.facts.fields, *profile.facts.differing) for kind in profile.facts.kinds(name)}
    return bool(kinds & {"text", "match_only_text", "search_as_you_type"})


def _uses_in_words(uses: ItemUses, item_use: str) -> str:
    if uses.guard is None:
        return f"it is unknown whether people use items again ({uses.source})"
    if uses.guard.catalogue is None:
        return f"{uses.guard.uses:,} of {MIN_USES:,.0f} uses that tell whether people use items again ({uses.source})"
    return f"{in_words(described(uses.guard, uses.classes), item_use=item_use)} ({uses.source})"


def _age(profile: IndexProfile, choices: Choices, uses: ItemUses) -> tuple[bool, str]:
    """Return whether items are a stream of new items, and the figure that shows it; ages of used items count before the index's."""
    if uses.median_age_s is not None:
        age_d = uses.median_age_s / DAY_S
        return age_d <= STREAM_AGE_D, f"half of the uses were of items at most {age_d:,.1f} days old"
    dates = profile.dates.get(choices.date.field)
    if dates is None:
        return False, ""
    figure = f"{share_of(dates.recent, dates.documents)} of the documents are younger than {RECENT_D} days"
    return dates.recent >= STREAM_SHARE * dates.documents, f"{figure} by {plain(dates.name)}"
