"""Affinities: how much more than the population a subject prefers a value, in [0, 1], computed from counters.

An attribute's or combination's affinity is *lift*, not share: with c the subject's decayed count of the value, C the subject's
total in that field, p the value's share in the population and κ the pseudo-count,

    lift = (c / p + κ) / (C + κ)        affinity = ln(lift) / saturation, clipped to [0, 1]

which is the posterior mean of the subject's share under a Dirichlet prior κ·p, over p. Raw share was measured on real
purchases and ranked worse than no personalization at all. An item's affinity is x / (x + c), times what
the repeat guard leaves of it (`repeats`): where people buy things again, having bought it tells enough.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import log
from typing import Any, Literal, NamedTuple, TypeVar

from rewriter.index_facts import TermRule
from rewriter.report import Source
from rewriter.settings import PolicySettings, SignalSettings
from rewriter.signals.counters import Counters, HalfLives, Value, aged, growth
from rewriter.signals.repeats import RepeatGuard

_T = TypeVar("_T")
Kind = Literal["attribute", "combination", "item"]
ITEM = "item"


TOKEN = "$affinity"  # noqa: S105  no secret, but a placeholder
WITH_CLASS = 3
"""Parts of an item's Value with its class: ("item", "B0017", "milk")."""
LEVELS = 4
"""Number of functions into which the values of one document field are grouped. Four levels cost under 0.3 % of nDCG against one
function per value; 8 functions take 1.3 times a plain search, 128 take 2.3 times."""


class Clause(dict[str, Any]):
    """A query clause that a template prints as a token (`text`), which is replaced by the clause in the template's output."""

    __slots__ = ("text",)
    text: str

    def __init__(self, clause: Mapping[str, Any], number: int) -> None:
        super().__init__(clause)
        self.text = f'{{"{TOKEN}": {number}}}'


class Affinity(NamedTuple):
    """A subject's preference in one signal field.

    values: of an attribute or item, the values liked about equally much, any of which will do; of a combination, one for each of
            `fields`, all of which must match; of a combination with the class field, the class and the values liked within it.
    number: its place among the affinities of this search, which its clause's token carries.
    """

    kind: Kind
    field: str
    fields: tuple[str, ...]
    values: tuple[str, ...]
    weight: float
    scale: float
    source: Source
    number: int
    filter: Clause


@dataclass(frozen=True, slots=True)
class SignalField:
    """A signal field with the constants of its affinities.

    rules: those of document fields that not every index takes any value of, by position in a Value.
    class_field: of items, the document field with the class that ends a Value, where the document has one.
    """

    kind: Kind
    fields: tuple[str, ...]
    scale: float
    pseudo_count: float
    rules: tuple[tuple[int, TermRule], ...] = ()
    class_field: str | None = None


@dataclass(frozen=True, slots=True)
class Population:
    """What everybody does: decayed counts per value and per field, as of one time. classes: those with the most uses;
    class_totals: by field and class, what `class_affinities` compares with.

    A value's share is its weight divided by its field's total. An unseen value counts as one event, or as `floor` if lighter values
    were left out.
    """

    weights: Mapping[Value, float]
    totals: Mapping[str, float]
    floor: float = 0.0
    left_out: int = 0
    classes: tuple[str, ...] = ()
    class_totals: Mapping[tuple[str, str], float] = field(default_factory=dict)


NOBODY = Population({}, {})
NO_RULES: Mapping[str, TermRule] = {}
DEFAULT_PSEUDO_COUNT: Mapping[Kind, float] = {"attribute": 100.0, "combination": 5.0}


def signal_fields(
    policy: PolicySettings, dead: frozenset[str] = frozenset(), rules: Mapping[str, TermRule] = NO_RULES
) -> dict[str, SignalField]:
    """Return the signal fields of a policy by name, without those that have a dead document field.

    dead:  document fields that are unmapped or text.
    rules: term rules by document field, from `index_facts.term_rules`.
    """

    def ruled(of: tuple[str, ...]) -> tuple[tuple[int, TermRule], ...]:
        return tuple((at, rules[name]) for at, name in enumerate(of, 1) if name in rules)

    found: dict[str, SignalField] = {}
    for name, setting in policy.fields.items():
        if not dead.intersection(setting.of):
            kind: Kind = "attribute" if len(setting.of) == 1 else "combination"
            pseudo_count = DEFAULT_PSEUDO_COUNT[kind] if setting.pseudo_count is None else setting.pseudo_count
            found[name] = SignalField(kind, setting.of, setting.scale, pseudo_count, ruled(setting.of))
    if policy.item_field and policy.item_field not in dead:
        of = (policy.item_field,)
        found[ITEM] = SignalField(
            "item", of, policy.item_scale, policy.item_pseudo_count, ruled(of), policy.class_field
        )
    return found


def class_combinations(fields: Mapping[str, SignalField], class_field: str | None) -> frozenset[str]:
    """Return the names of the combinations of the class field with one other: their lift is that within the class."""
    return frozenset(
        name
        for name, field in fields.items()
        if field.kind == "combination" and len(field.fields) == 2 and field.fields[0] == class_field
    )


def guard_of(population: Population, policy: PolicySettings) -> RepeatGuard:
    """Return what the boosts of items are multiplied by under a policy."""
    return RepeatGuard(population.weights, population.totals, policy.item_repeat_share)


def profile_half_lives(policies: Iterable[PolicySettings], signals: SignalSettings) -> HalfLives:
    """Return the half-lives of profiles, segments and the population; all policies share their counters."""
    own: dict[str, float] = {}
    for policy in policies:
        own |= {name: setting.half_life_s for name, setting in policy.fields.items() if setting.half_life_s}
        if policy.item_half_life_s:
            own[ITEM] = policy.item_half_life_s
    return HalfLives(signals.profile_half_life_s, own)


def preferences(
    counters: Counters,
    half_lives: HalfLives,
    fields: Mapping[str, SignalField],
    population: Population,
    guard: RepeatGuard,
    saturation: float,
    now_s: float,
) -> dict[Value, float]:
    """Return the affinity in (0, 1] of each value that `counters` prefer. An item's is what `guard` leaves of it."""
    found: dict[Value, float] = {}
    constants = _constants(counters, half_lives, fields, population, now_s)
    shares, floor = population.weights, max(1.0, population.floor)
    for value, weight in counters.weights.items():
        known = constants.get(value[0])
        if known is None or len(value) not in known.lengths:
            continue
        if known.rules and any(rule.indices(value[at]) == () for at, rule in known.rules):
            continue  # every index refuses it
        count = weight * known.decay
        if known.population_total is None:
            class_name = value[2] if len(value) == WITH_CLASS else None
            found[value] = count / (count + known.pseudo_count) * guard.strength(class_name)
            continue
        share = min(1.0, max(shares.get(value, floor), 1.0) / known.population_total)
        lift = (count / share + known.pseudo_count) / (max(known.total, count) + known.pseudo_count)
        if lift > 1.0:
            found[value] = min(1.0, log(lift) / saturation)
    return {value: affinity for value, affinity in found.items() if affinity > 0.0}


@dataclass(frozen=True, slots=True)
class _Constants:
    """The constants of all values of one field; `population_total` is None for items, whose affinity is not a lift."""

    lengths: tuple[int, ...]
    decay: float
    pseudo_count: float
    total: float
    population_total: float | None
    rules: tuple[tuple[int, TermRule], ...]


def _constants(
    counters: Counters, half_lives: HalfLives, fields: Mapping[str, SignalField], population: Population, now_s: float
) -> dict[str, _Constants]:
    found = {}
    for name, of in fields.items():
        item = of.kind == "item"
        if item or name in population.totals:
            decay = growth(now_s, counters.landmark_s, half_lives.of(name))
            population_total = None if item else max(population.totals[name], 1.0)
            total = counters.totals.get(name, 0.0) * decay
            length = len(of.fields) + 1
            found[name] = _Constants(
                (length, WITH_CLASS) if item else (length,),
                decay,
                of.pseudo_count,
                total,
                population_total,
                of.rules,
            )
    return found


def session_part(events: float, signals: SignalSettings) -> float:
    """Return the session's share of the blend after n events: α(n) = α_max · n / (n + k)."""
    return signals.blend_max * events / (events + signals.blend_half_events)


def blended(
    session: Mapping[Value, float], profile: Mapping[Value, float], alpha: float
) -> dict[Value, tuple[float, Source]]:
    """Return α · session + (1 − α) · profile for each value, with its source."""
    found: dict[Value, tuple[float, Source]] = {
        value: ((1.0 - alpha) * weight, "profile") for value, weight in profile.items()
    }
    for value, weight in session.items():
        if alpha > 0.0:
            before = found.get(value)
            found[value] = (alpha * weight + before[0], "blend") if before else (alpha * weight, "session")
    return found


def strongest(
    weights: Mapping[Value, tuple[float, Source]],
    fields: Mapping[str, SignalField],
    limit: int,
    by_class: Collection[str] = (),
) -> tuple[Affinity, ...]:
    """Return the `limit` affinities with the largest weight · scale, the strongest first.

    The values of an attribute or of the item are grouped by rank into at most LEVELS groups of equal size, each with its mean
    weight.
    """
    liked: dict[str, list[tuple[float, Value, Source]]] = {}
    for value, (weight, source) in weights.items():
        liked.setdefault(value[0], []).append((weight, value, source))
    found: list[tuple[float, str, tuple[str, ...], float, Source]] = []
    for name, values in liked.items():
        scale = fields[name].scale
        values.sort(reverse=True)
        if scale <= 0.0:
            continue
        if name in by_class and not fields[name].rules:
            found += _class_levels(name, values, scale)
            continue
        if fields[name].kind == "combination":
            found += [(weight * scale, name, value[1:], weight, source) for weight, value, source in values[:limit]]
            continue
        for group in levels(values):
            mean = sum([weight for weight, _, _ in group]) / len(group)
            mixed = any(source != group[0][2] for _, _, source in group)
            found.append(
                (
                    mean * scale,
                    name,
                    tuple([value[1] for _, value, _ in group]),
                    mean,
                    "blend" if mixed else group[0][2],
                )
            )
    found.sort(key=_boost, reverse=True)
    return tuple(
        Affinity(
            kind, name, of, values, weight, fields[name].scale, source, at,
            clause(kind, of, values, at, fields[name].rules),
        )
        for at, (_, name, values, weight, source) in enumerate(found[:limit])
        for kind, of in [(fields[name].kind, fields[name].fields)]
    )  # fmt: skip


def _class_levels(
    name: str, values: Sequence[tuple[float, Value, Source]], scale: float
) -> Iterator[tuple[float, str, tuple[str, ...], float, Source]]:
    """Yield a combination's values, the heaviest first, in groups of one class: a function for each group instead of each value."""
    classes: dict[str, list[tuple[float, Value, Source]]] = {}
    for one in values:
        classes.setdefault(one[1][1], []).append(one)
    for class_name, own in classes.items():
        for group in levels(own):
            mean = sum([weight for weight, _, _ in group]) / len(group)
            mixed = any(source != group[0][2] for _, _, source in group)
            members = (class_name, *(value[2] for _, value, _ in group))
            yield mean * scale, name, members, mean, "blend" if mixed else group[0][2]


def _boost(one: tuple[float, str, tuple[str, ...], float, Source]) -> float:
    return one[0]


def levels(ranked: Sequence[_T], count: int = LEVELS) -> list[Sequence[_T]]:
    """Return `ranked` in at most `count` runs whose lengths differ by at most one."""
    count = min(count, len(ranked))
    bounds = [round(at * len(ranked) / count) for at in range(count + 1)] if count else [0]
    return [ranked[start:end] for start, end in pairwise(bounds)]


def clause(
    kind: Kind,
    fields: tuple[str, ...],
    values: tuple[str, ...],
    number: int,
    rules: Sequence[tuple[int, TermRule]] = (),
) -> Clause:
    """Return the clause that matches documents with all values of a combination, or with any of one field's values.

    A value that only some of the expression's indices accept gets an `_index` filter. A `term` that an index refuses would fail its
    shards; a `bool` that its `_index` filter excludes for an index is never turned into a query there.
    """
    if kind == "combination":
        filters: list[dict[str, Any]] = []
        for at, rule in rules:
            filters += _guard(rule.indices(values[at - 1]))
        if len(values) > len(fields):  # one class, and values of the other field any of which will do
            filters += [{"term": {fields[0]: values[0]}}, {"terms": {fields[1]: list(values[1:])}}]
        else:
            filters += [{"term": {field: value}} for field, value in zip(fields, values, strict=True)]
        return Clause({"bool": {"filter": filters}}, number)
    taken_by: dict[tuple[str, ...] | None, list[str]] = {}
    for value in values:
        taken_by.setdefault(rules[0][1].indices(value) if rules else None, []).append(value)
    parts = []
    for indices, some in taken_by.items():
        term = {"term": {fields[0]: some[0]}} if len(some) == 1 else {"terms": {fields[0]: some}}
        parts.append(term if indices is None else {"bool": {"filter": [*_guard(indices), term]}})
    return Clause(parts[0] if len(parts) == 1 else {"bool": {"should": parts}}, number)


def _guard(indices: tuple[str, ...] | None) -> list[dict[str, Any]]:
    return [] if indices is None else [{"terms": {"_index": list(indices)}}]


def united(partials: Iterable[Counters | None], half_lives: HalfLives, now_s: float) -> Counters | None:
    """Return the sum of per-partition counters as of `now_s` (seconds since the epoch), or None if there are none."""
    weights: dict[Value, float] = {}
    totals: dict[str, float] = {}
    last_event_s = events = 0.0
    for partial in partials:
        if partial is None:
            continue
        part = aged(partial, now_s, half_lives)
        for value, weight in part.weights.items():
            weights[value] = weights.get(value, 0.0) + weight
        for name, total in part.totals.items():
            totals[name] = totals.get(name, 0.0) + total
        last_event_s, events = max(last_event_s, part.last_event_s), events + part.events
    return Counters(weights, totals, now_s, last_event_s, events) if totals else None
