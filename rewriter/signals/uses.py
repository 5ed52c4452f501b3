"""Uses of items: what the repeat guard (`repeats`) counts, and which of these counts tell whether people use items again. Pure.

A use is the first action of a weight with an item in a visit: to view it, and to buy it, are two. It is a use again where the same
subject had done at least as much with the item in an earlier visit: a purchase after a purchase, a view after a view or a purchase.
Who views a film on Monday and buys it on Thursday does not use it again. Somebody's first visit counts for nothing, since there was
nothing to use again; and one subject adds MOST_ALONE uses (MOST_IN_CLASS of a class and a weight), or MOST_OF_ALL of all if that
is more. A value of the four fields is a class and the weight of the action, as text.

A class is judged by the strongest action that RARE of its uses have, with stronger ones, and by no weaker one (`judged`): where
people buy things, they look at many twice before they do, and at those that they have, to see when they arrive. A class of
few uses goes by the catalogue, as its ρ does. What a program before this one counted has no weight; where the strength of what was
done before is not known, a use again counts apart, behind `UNKNOWN`. Both count where a class has but one kind of action.
Elsewhere, a class with more than MOST_UNKNOWN of the latter is not judged.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import replace
from functools import lru_cache
from typing import Generic, NamedTuple, TypeVar

from rewriter.signals.counters import SEPARATOR, Counters, Observation, Value, sound
from rewriter.signals.repeats import AGAIN, MARKS, SHRUNK_BY, USES

_T = TypeVar("_T", bound=Hashable)
_V = TypeVar("_V", bound=Hashable)
UNKNOWN = "?"
"""Ends the weight of a use again of an item of unknown strength."""
RARE = 0.005
"""Share of the uses that an action must have, with stronger ones, to be what people come for: few of those who look buy."""
MOST_UNKNOWN = 0.2
"""Share of a class's uses that may be of items of unknown strength. They count as no uses again, which most of them may be: with
more of them nobody can tell, as after an upgrade from a version without strengths.
"""
NAMED_ONLY = 0.01
"""Uses of a class that has none of its strongest action: its name is read from here."""
MOST_ALONE, MOST_IN_CLASS, MOST_OF_ALL = 200, 50, 0.05
"""How many uses one subject may add in all and in a class, and beyond them its largest share of the uses of all and of the class: a
bot, or a test that buys the same basket every hour, is not how people use a catalogue.
"""


class Use(NamedTuple):
    """One thing done with an item in a visit; `at_s` in seconds since the epoch, `weight` of the action, above 0."""

    subject: str
    visit: str
    item: str
    class_name: str
    at_s: float
    weight: float = 1.0


@lru_cache(256)
def level_of(weight: float) -> str:
    """Return an action's weight as the text that the values of uses end with."""
    return f"{weight:g}"


class Controls(Generic[_T]):
    """What a use is judged by besides its own subject's: the latest use of its class by another subject, and how many each added.

    It keeps two uses for each class, and a number for each subject and class. Classes, subjects and items are texts, or numbers.

    max_classes: beyond it, the class whose use is oldest is left out.
    max_numbers: beyond it, all numbers are halved, and those of one use are left out.
    """

    def __init__(self, max_classes: int = 10_000, max_numbers: int = 20_000) -> None:
        self._max_classes, self._max_numbers = max_classes, max_numbers
        self._latest: dict[_T, tuple[_T, _T, _T | None]] = {}
        self._added: dict[tuple[_T | None, _T | None], int] = {}

    def has_room(self, class_name: _T, subject: _T) -> bool:
        """Return whether a use may count: the subject added less than its share of all uses, and of those of the class."""
        added = self._added.get
        everywhere = added((None, subject), 0)
        if everywhere >= MOST_ALONE and everywhere >= MOST_OF_ALL * added((None, None), 0):
            return False
        in_class = added((class_name, subject), 0)
        return in_class < MOST_IN_CLASS or in_class < MOST_OF_ALL * added((class_name, None), 0)

    def add(self, class_name: _T, subject: _T) -> None:
        """Note that a use counted."""
        for key in ((class_name, subject), (class_name, None), (None, subject), (None, None)):
            self._added[key] = self._added.get(key, 0) + 1
        if len(self._added) > self._max_numbers:
            self._added = {key: count // 2 for key, count in self._added.items() if count > 1}

    def other(self, class_name: _T, subject: _T) -> _T | None:
        """Return the item of the latest use of a class by another subject, or None if there was none."""
        known = self._latest.get(class_name)
        if known is None:
            return None
        return known[2] if known[0] == subject else known[1]

    def note(self, class_name: _T, subject: _T, item: _T) -> bool:
        """Note a use, unless its subject has no room: what one subject does all the time is no sample of what others do.

        Returns whether it has room (`has_room`).
        """
        if not self.has_room(class_name, subject):
            return False
        other = self.other(class_name, subject)
        self._latest.pop(class_name, None)
        self._latest[class_name] = (subject, item, other)
        if len(self._latest) > self._max_classes:
            del self._latest[next(iter(self._latest))]
        return True


def marks_of_uses(done: Iterable[tuple[_T, _V, bool, _T, _T, float]]) -> Iterator[int]:
    """Yield, for each of `done` in the order of time, the fields of `MARKS` that it adds to, as bits: bit 0 is the first field.

    done: subject, visit, whether the visit is a later one than the subject's first, item, class with weight, and weight (above 0).
    """
    visits: dict[tuple[_T, _T], dict[_V, float]] = {}
    controls = Controls[_T]()
    nothing: dict[_V, float] = {}
    for subject, visit, is_later, item, of, weight in done:
        used_in = visits.setdefault((subject, item), {})
        if used_in.get(visit, -1.0) >= weight:
            yield 0
            continue
        other = controls.other(of, subject)
        has_room = controls.note(of, subject, item)
        marks = 0
        if is_later and has_room:
            controls.add(of, subject)
            marks = 0b11 if max(used_in.values(), default=-1.0) >= weight else 0b01
            held = nothing if other is None else visits.get((subject, other), nothing)
            # What this visit used already is no evidence, as it is no use again.
            if other is not None and held.get(visit, -1.0) < weight:
                marks |= 0b1100 if max(held.values(), default=-1.0) >= weight else 0b0100
        used_in[visit] = weight
        yield marks


def observed_uses(done: Iterable[Use]) -> Iterator[Observation]:
    """Yield what `done`, in the order of time, adds to the population's fields."""
    uses, first_visits = list(done), dict[str, str]()
    rows = (
        (
            one.subject, one.visit, first_visits.setdefault(one.subject, one.visit) != one.visit, one.item,
            SEPARATOR.join((one.class_name, level_of(one.weight))), one.weight,
        )
        for one in uses
    )  # fmt: skip
    for one, bits in zip(uses, marks_of_uses(rows), strict=True):
        if bits:
            marks = (mark for at, mark in enumerate(MARKS) if bits >> at & 1)
            yield Observation(tuple((mark, one.class_name, level_of(one.weight)) for mark in marks), 1.0, one.at_s)


def judged(counts: Mapping[Value, float]) -> dict[Value, float]:
    """Return the uses that a class is judged by, as values (field, class), of all that were counted."""
    of_class: dict[str, dict[str | None, dict[str, float]]] = {}
    for (mark, name, *rest), count in counts.items():
        of_level = of_class.setdefault(name, {}).setdefault(rest[0] if rest else None, {})
        of_level[mark] = of_level.get(mark, 0.0) + count
    used = {
        name: {weight: of[USES] for level, of in levels.items() if USES in of and (weight := sound(level)) is not None}
        for name, levels in of_class.items()
    }
    every: dict[float, float] = {}
    for own in used.values():
        for of_weight, count in own.items():
            every[of_weight] = every.get(of_weight, 0.0) + count
    shares = _shares_from(every, {}, 0.0)
    found: dict[Value, float] = {}
    for name, levels in of_class.items():
        own = _shares_from(used[name], shares, SHRUNK_BY)
        least = max((of_weight for of_weight, share in own.items() if share >= RARE), default=0.0)
        is_alone = own.get(least, 1.0) > 1.0 - RARE
        counted: dict[str, float] = {}
        unknown = 0.0
        for level, of in levels.items():
            weight = sound((level or "").removesuffix(UNKNOWN))
            is_known = weight is not None and not (level or "").endswith(UNKNOWN)
            if weight is None or weight >= least:
                if is_known or is_alone:
                    counted |= {mark: counted.get(mark, 0.0) + count for mark, count in of.items()}
                elif weight is not None:
                    unknown += of.get(AGAIN, 0.0)
        if unknown <= MOST_UNKNOWN * counted.get(USES, 0.0):
            for mark, count in counted.items():
                found[mark, name] = count
        found.setdefault((USES, name), NAMED_ONLY)
    return found


def _shares_from(uses: Mapping[float, float], catalogue: Mapping[float, float], shrunk_by: float) -> dict[float, float]:
    """Return, by weight, the share of the uses that have it or a larger one, shrunk to the catalogue's; none without uses."""
    every = sum(uses.values()) + (shrunk_by if catalogue else 0.0)
    if every <= 0.0:
        return {}
    return {
        weight: (sum(count for of, count in uses.items() if of >= weight) + shrunk_by * catalogue.get(weight, 0.0))
        / every
        for weight in catalogue or uses
    }


def judged_counters(counters: Counters) -> Counters:
    """Return counters with the uses that each class is judged by in place of all uses."""
    uses = judged({value: weight for value, weight in counters.weights.items() if value[0] in MARKS})
    others = {value: weight for value, weight in counters.weights.items() if value[0] not in MARKS}
    return replace(counters, weights={**others, **uses}, totals=judged_totals(counters.totals, uses))


def judge_members(weights: MutableMapping[str, float], totals: MutableMapping[str, float]) -> None:
    """Replace all uses by those that each class is judged by, in weights by member and totals by field.

    What is replaced already stays as it is.
    """
    starts = tuple(f"{mark}{SEPARATOR}" for mark in MARKS)
    uses = {tuple(text.split(SEPARATOR)): weight for text, weight in weights.items() if text.startswith(starts)}
    if all(len(value) <= 2 for value in uses):
        return
    for value in uses:
        del weights[SEPARATOR.join(value)]
    found = judged(uses)
    weights.update({SEPARATOR.join(value): weight for value, weight in found.items()})
    judged_sums = judged_totals(totals, found)
    totals.clear()
    totals.update(judged_sums)


def totals_of(uses: Mapping[Value, float]) -> dict[str, float]:
    """Return the sums by field."""
    found: dict[str, float] = {}
    for (mark, *_), weight in uses.items():
        found[mark] = found.get(mark, 0.0) + weight
    return found


def judged_totals(totals: Mapping[str, float], uses: Mapping[Value, float]) -> dict[str, float]:
    """Return totals by field with those of `uses` in place of all uses: a field without any has none."""
    return {name: total for name, total in totals.items() if name not in MARKS} | totals_of(uses)
