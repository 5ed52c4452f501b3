"""Affinities: how much more than the population a subject prefers a value, in [0, 1], computed from counters.

`kinds` has one file for each kind of signal field. An attribute's or combination's affinity is *lift*, not share: with c the
subject's decayed count of the value, C the subject's total in that field, p the value's share in the population and κ the
pseudo-count,

    lift = (c / p + κ) / (C + κ)        affinity = ln(lift) / saturation, clipped to [0, 1]

which is the posterior mean of the subject's share under a Dirichlet prior κ·p, over p. Raw share was measured on real
purchases and ranked worse than no personalization at all. An item's affinity is x / (x + c), times what
the repeat guard leaves of it (`repeats`): where people buy things again, having bought it tells enough.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any, NamedTuple

from rewriter.index_facts import TermRule
from rewriter.report import Source
from rewriter.settings import PolicySettings, SignalSettings
from rewriter.signals.counters import Counters, HalfLives, Value, aged, growth
from rewriter.signals.kinds.item import ITEM
from rewriter.signals.kinds.kind import AffinityOf, Compared, Liked, Rules, SignalField
from rewriter.signals.kinds.neighbour import NEIGHBOUR
from rewriter.signals.kinds.registry import every_kind
from rewriter.signals.repeats import RepeatGuard

TOKEN = "$affinity"  # noqa: S105  no secret, but a placeholder


class Clause(dict[str, Any]):
    """A query clause that a template prints as a token (`text`), which is replaced by the clause in the template's output."""

    __slots__ = ("text",)
    text: str


TEXTS = [f'{{"{TOKEN}": {number}}}' for number in range(128)]
"""The tokens of the first affinities: a policy may have up to 128 functions."""


class Affinity(NamedTuple):
    """A subject's preference in one signal field. `kind` is the name of the field's kind.

    values: of an attribute or item, the values liked about equally much, any of which will do; of a combination, one for each of
            `fields`, all of which must match; of a combination with the class field, the class and the values liked within it.
    number: its place among the affinities of this search, which its clause's token carries.
    """

    kind: str
    field: str
    fields: tuple[str, ...]
    values: tuple[str, ...]
    weight: float
    scale: float
    source: Source
    number: int
    filter: Clause


@dataclass(frozen=True, slots=True)
class Population:
    """What everybody does: decayed counts per value and per field, as of one time. classes: those with the most uses;
    class_totals: by field and class, what `class_affinities` compares with; class_names: by the digest of `class_layout`.
    guards: by the share that a policy states, those of `guard_of`.

    A value's share is its weight divided by its field's total. An unseen value counts as one event, or as `floor` if lighter values
    were left out.
    """

    weights: Mapping[Value, float]
    totals: Mapping[str, float]
    floor: float = 0.0
    left_out: int = 0
    classes: tuple[str, ...] = ()
    class_totals: Mapping[tuple[str, str], float] = field(default_factory=dict)
    class_names: Mapping[bytes, str] = field(default_factory=dict)
    guards: dict[float | None, RepeatGuard] = field(default_factory=dict, init=False, compare=False, repr=False)


EMPTY_POPULATION = Population({}, {})
NO_RULES: Mapping[str, TermRule] = {}


def signal_fields(
    policy: PolicySettings, dead: frozenset[str] = frozenset(), rules: Mapping[str, TermRule] = NO_RULES
) -> dict[str, SignalField]:
    """Return the signal fields of a policy by name, without those that have a dead document field.

    dead:  document fields that are unmapped or text.
    rules: term rules by document field, from `index_facts.term_rules`.
    """
    found: dict[str, SignalField] = {}
    for kind in every_kind().values():
        for name, one in kind.fields_of(policy).items():
            if not dead.intersection(one.fields):
                own = tuple((at, rules[of]) for at, of in enumerate(one.fields, 1) if of in rules)
                found[name] = replace(one, rules=own) if own else one
    order = {name: at for at, name in enumerate(policy.fields)}
    return dict(sorted(found.items(), key=lambda pair: order.get(pair[0], len(order))))


def class_combinations(fields: Mapping[str, SignalField], class_field: str | None) -> frozenset[str]:
    """Return the names of the combinations of the class field with one other: their lift is that within the class."""
    return frozenset(name for name, field in fields.items() if field.kind.begins_with_class(field, class_field))


def guard_of(population: Population, policy: PolicySettings) -> RepeatGuard:
    """Return what the boosts of items are multiplied by under a policy: one guard for all searches, which keeps what it found."""
    stated = policy.item_repeat_share
    found = population.guards.get(stated)
    if found is None:
        found = population.guards[stated] = RepeatGuard(population.weights, population.totals, stated)
    return found


def profile_half_lives(policies: Iterable[PolicySettings], signals: SignalSettings) -> HalfLives:
    """Return the half-lives of profiles, segments and the population; all policies share their counters."""
    own: dict[str, float] = {}
    for policy in policies:
        own |= {name: setting.half_life_s for name, setting in policy.fields.items() if setting.half_life_s}
        if policy.item_half_life_s:
            own[ITEM] = own[NEIGHBOUR] = policy.item_half_life_s
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
    constants = _constants(counters, half_lives, fields, population, guard, saturation, now_s)
    for value, weight in counters.weights.items():
        affinity_of, lengths, decay, rules = constants.get(value[0], _UNCOUNTED)
        if len(value) not in lengths or (rules and any(rule.indices(value[at]) == () for at, rule in rules)):
            continue  # of no field, or every index refuses it
        affinity = affinity_of(value, weight * decay)
        if affinity > 0.0:
            found[value] = affinity
    return found


def _none(_: Value, __: float) -> float:
    return 0.0


class _Constants(NamedTuple):
    """The constants of all values of one field."""

    affinity: AffinityOf
    lengths: tuple[int, ...]
    decay: float
    rules: tuple[tuple[int, TermRule], ...]


_UNCOUNTED = _Constants(_none, (), 0.0, ())
"""Those of a value that is of no field."""


def _constants(
    counters: Counters,
    half_lives: HalfLives,
    fields: Mapping[str, SignalField],
    population: Population,
    guard: RepeatGuard,
    saturation: float,
    now_s: float,
) -> dict[str, _Constants]:
    found = {}
    for name, of in fields.items():
        if of.kind.is_lift and name not in population.totals:
            continue
        decay = growth(now_s, counters.landmark_s, half_lives.of(name))
        compared = Compared(
            counters.totals.get(name, 0.0) * decay, of.pseudo_count, population.weights,
            max(population.totals.get(name, 0.0), 1.0), max(1.0, population.floor), saturation, guard,
        )  # fmt: skip
        found[name] = _Constants(of.kind.affinity(compared), of.kind.lengths(of), decay, of.rules)
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


_Ranked = tuple[float, SignalField, str, tuple[str, ...], float, Source]
"""The boost of one function, its field and the field's name, the texts of its clause, its weight and its source."""
_BOOST = itemgetter(0)


def strongest(
    weights: Mapping[Value, tuple[float, Source]],
    fields: Mapping[str, SignalField],
    limit: int,
    by_class: Collection[str] = (),
) -> tuple[Affinity, ...]:
    """Return the `limit` affinities with the largest weight · scale, the strongest first.

    A field's kind tells which of its values share a function; its weight is their mean weight.
    by_class: the fields whose values begin with their class.
    """
    liked: dict[str, list[Liked]] = {name: [] for name in fields}
    for value, (weight, source) in weights.items():
        liked[value[0]].append((weight, value, source))
    found: list[_Ranked] = []
    for name, values in liked.items():
        field = fields[name]
        scale = field.scale
        if scale <= 0.0 or not values:
            continue
        values.sort(reverse=True)
        for texts, group in field.kind.functions(values, limit, by_class=name in by_class and not field.rules):
            mean, source = _mean(group) if len(group) > 1 else group[0][::2]
            found.append((mean * scale, field, name, texts, mean, source))
    found.sort(key=_BOOST, reverse=True)
    new, made = tuple.__new__, []  # a NamedTuple's own `__new__` costs a call
    for number, (_, field, name, texts, weight, source) in enumerate(found[:limit]):
        kind, of = field.kind, field.fields
        own = _numbered(kind.clause(of, texts, field.rules), number)
        made.append(new(Affinity, (kind.name, name, of, texts, weight, field.scale, source, number, own)))
    return tuple(made)


def clause(kind: str, fields: tuple[str, ...], values: tuple[str, ...], number: int, rules: Rules = ()) -> Clause:
    """Return the clause of an affinity of a kind, which matches the documents with its values."""
    return _numbered(every_kind()[kind].clause(fields, values, rules), number)


def _numbered(clause: Mapping[str, Any], number: int) -> Clause:
    own = Clause(clause)
    own.text = TEXTS[number] if number < len(TEXTS) else f'{{"{TOKEN}": {number}}}'
    return own


def _mean(group: Sequence[Liked]) -> tuple[float, Source]:
    """Return the mean weight of several values, and their source."""
    sources = {source for _, _, source in group}
    return sum([weight for weight, _, _ in group]) / len(group), "blend" if len(sources) > 1 else group[0][2]


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
