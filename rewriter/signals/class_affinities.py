"""From counters by class to affinities: what a subject prefers within the classes of a query. Pure.

With x the subject's decayed count of a value and n its total in the class t, both of the class's own counters:

    item                    x / (x + c), times what the repeat guard leaves in t
    neighbour               z / (z + c), z of the counters of neighbours (`neighbours`), of items that the subject did not use
    attribute given t       ln((x / p + κ) / (max(n, x) + κ)) / saturation, clipped to [0, 1], with p the value's share of the
                            population's weight in t

which is the lift of `affinities`, within the class: that somebody buys milk often tells nothing of the milk that they buy.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from rewriter.signals.affinities import Population
from rewriter.signals.class_counters import ClassCounters, with_class
from rewriter.signals.counters import SEPARATOR, HalfLives, Value, growth
from rewriter.signals.kinds.item import ITEM
from rewriter.signals.kinds.kind import AffinityOf, Compared, Rules, SignalField
from rewriter.signals.kinds.neighbour import NEIGHBOUR
from rewriter.signals.neighbours import class_of_near
from rewriter.signals.repeats import RepeatGuard


def class_totals(members: Mapping[str, float], combinations: Collection[str]) -> dict[tuple[str, str], float]:
    """Return what the population's members of combinations with the class add up to, by field and class.

    It looks at all: not for a search.
    """
    found: dict[tuple[str, str], float] = {}
    for text, weight in members.items():
        field, _, rest = text.partition(SEPARATOR)
        if field in combinations:
            key = field, rest.partition(SEPARATOR)[0]
            found[key] = found.get(key, 0.0) + weight
    return found


def class_preferences(
    classes: Mapping[str, ClassCounters],
    half_lives: HalfLives,
    fields: Mapping[str, SignalField],
    population: Population,
    guard: RepeatGuard,
    saturation: float,
    now_s: float,
) -> dict[Value, float]:
    """Return the affinity in (0, 1] of each value that a subject prefers within `classes`. Values are whole, with their class."""
    found: dict[Value, float] = {}
    for name, own in classes.items():
        if (class_name := class_of_near(name)) is not None:
            if (near := fields.get(NEIGHBOUR)) is not None:
                found |= _near(own, classes.get(class_name), near, half_lives, now_s)
            continue
        total = own.total * growth(now_s, own.landmark_s, half_lives.of(ITEM)) if ITEM in fields else 0.0
        counted = dict.fromkeys(value[0] for value in own.weights)
        constants = {
            of: _in_class(name, of, field, population, total, saturation, guard)
            for of in counted
            if (field := fields.get(of)) is not None
        }
        decays = {of: growth(now_s, own.landmark_s, half_lives.of(of)) for of in constants}
        for value, weight in own.weights.items():
            known = constants.get(value[0])
            whole = with_class(value, ITEM, name)
            if known is None or len(whole) != known.length:
                continue
            if known.rules and any(rule.indices(whole[at]) == () for at, rule in known.rules):
                continue  # no index takes it
            affinity = known.affinity(whole, weight * decays[value[0]])
            if affinity > 0.0:
                found[whole] = affinity
    return found


class _Constants(NamedTuple):
    """The constants of all values of one field in a class."""

    affinity: AffinityOf
    length: int
    rules: Rules


def _in_class(
    class_name: str, name: str, field: SignalField, population: Population, total: float, saturation: float, guard: RepeatGuard
) -> _Constants | None:  # fmt: skip
    """Return the constants of a field in a class; None where the population has nothing of the class to compare with."""
    class_total = population.class_totals.get((name, class_name), 0.0)
    if field.kind.is_lift and class_total <= 0.0:
        return None
    compared = Compared(
        total, field.pseudo_count, population.weights, max(class_total, 1.0), max(1.0, population.floor), saturation, guard
    )  # fmt: skip
    return _Constants(field.kind.affinity(compared), field.kind.lengths(field)[-1], field.rules)


def _near(
    near: ClassCounters, used: ClassCounters | None, field: SignalField, half_lives: HalfLives, now_s: float
) -> dict[Value, float]:
    """Return the affinities of a class's neighbours that the subject did not use."""
    found: dict[Value, float] = {}
    decay = growth(now_s, near.landmark_s, half_lives.of(NEIGHBOUR))
    own = used.weights if used is not None else {}
    for value, weight in near.weights.items():
        if len(value) != 2 or value[0] != NEIGHBOUR or (ITEM, value[1]) in own:
            continue
        if not any(rule.indices(value[1]) == () for _, rule in field.rules):
            count = weight * decay
            found[value] = count / (count + field.pseudo_count)
    return found


def of_classes(liked: Mapping[Value, float], classes: Collection[str]) -> dict[Value, float]:
    """Return affinities without those of items of other classes: no hit of the query has them."""
    return {
        value: affinity
        for value, affinity in liked.items()
        if not (value[0] == ITEM and len(value) > 2 and value[2] not in classes)
    }
