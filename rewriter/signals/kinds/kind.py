"""Base class of signal kinds, the signal field with its kind, and the population's counts that an affinity compares with.

A module of this package with a `KIND` is a kind; `registry` finds it. Values begin with their field's name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log
from typing import Any, NamedTuple, TypeVar

from rewriter.index_facts import TermRule
from rewriter.report import Source
from rewriter.settings import PolicySettings
from rewriter.signals.counters import Value
from rewriter.signals.repeats import RepeatGuard

_T = TypeVar("_T")
Rules = Sequence[tuple[int, TermRule]]
"""Term rules of the document fields for which some index refuses some values, by position in a Value."""
Liked = tuple[float, Value, Source]
"""The weight of a value, the value, and the source of the weight."""
AffinityOf = Callable[[Value, float], float]
"""The affinity of a value with a decayed count, of one field of one subject: every constant of the formula is bound."""
Function = tuple[tuple[str, ...], Sequence[Liked]]
"""The values that share one function: the texts for `SignalKind.clause`, and their weighted values."""
Texts = Callable[[str], list[str]]
"""Returns the texts that a document has at a dotted path."""

LEVELS = 4
"""Number of functions into which the values of one document field are grouped. Four levels cost under 0.3 % of nDCG against one
function per value; 8 functions take 1.3 times a plain search, 128 take 2.3 times."""
MAX_DESCRIBED = 3


@dataclass(frozen=True, slots=True)
class SignalField:
    """A signal field with the constants of its affinities.

    rules: term rules of the document fields for which some index refuses some values, by position in a Value.
    class_field: for items, the document field with the class that ends a Value, if the document has one.
    """

    kind: SignalKind
    fields: tuple[str, ...]
    scale: float
    pseudo_count: float
    rules: tuple[tuple[int, TermRule], ...] = ()
    class_field: str | None = None


class Compared(NamedTuple):
    """The counts and constants with which an affinity compares a subject's counts of one field, or of one class of it.

    total:            the subject's decayed total in the field; in a class, that of the class.
    pseudo_count:     the field's κ, or an item's c.
    shares_of:        the population's decayed weight by value; all weights sum to `population_total`.
    population_total: of the field or the class; at least 1.
    floor:            the weight of a value that the population does not list; at least 1.
    saturation:       the logarithm of the lift at which an affinity is 1.
    guard:            the factor of the repeat guard, by which the boosts of items are multiplied.
    """

    total: float
    pseudo_count: float
    shares_of: Mapping[Value, float]
    population_total: float
    floor: float
    saturation: float
    guard: RepeatGuard


class SignalKind(ABC):
    """One kind of signal field. The defaults are those of alternative values of one document field.

    name:    the name of the kind in templates and samples.
    is_lift: whether its affinities are lifts over the population, so that they need one.
    is_of_segments: whether the signals of a segment are evidence for one of its members.
    """

    name: str
    is_lift = True
    is_of_segments = True

    @abstractmethod
    def fields_of(self, policy: PolicySettings) -> dict[str, SignalField]:
        """Return the signal fields of this kind that a policy names, without rules."""

    def parts(self, field: SignalField, texts: Texts) -> list[list[str]]:
        """Return lists of a document's texts. One text of each list makes a value of `field`; an empty list makes none."""
        return [texts(of) for of in field.fields]

    def lengths(self, field: SignalField) -> tuple[int, ...]:
        """Return the lengths that a Value of `field` may have; the last one is that of a value with its class."""
        return (len(field.fields) + 1,)

    def begins_with_class(self, field: SignalField, class_field: str | None) -> bool:  # noqa: ARG002  for those that do
        """Whether a Value of `field` is its class and one more text, so that profiles keep it by class."""
        return False

    def affinity(self, compared: Compared) -> AffinityOf:
        """Return the function of a value and its decayed count that gives its affinity, at most 1; 0 if it is not preferred."""
        return lift(compared)

    def functions(self, ranked: Sequence[Liked], limit: int, *, by_class: bool) -> Iterator[Function]:  # noqa: ARG002  as above
        """Yield the values that share one function.

        ranked:   the values of one field, the heaviest first; at most `limit` functions are used.
        by_class: whether the values begin with their class, and every index takes them.
        """
        for group in levels(ranked):
            yield tuple([value[1] for _, value, _ in group]), group

    def clause(self, fields: tuple[str, ...], values: tuple[str, ...], rules: Rules) -> dict[str, Any]:
        """Return the clause that matches the documents with the values of one function."""
        return any_of(fields[0], values, rules)

    def describe(self, values: tuple[str, ...]) -> str:
        """Return the values of one function as text: the first MAX_DESCRIBED of a level."""
        more = len(values) - MAX_DESCRIBED
        return f"{', '.join(values[:MAX_DESCRIBED])} and {more} more" if more > 0 else ", ".join(values)

    def wrong_values(self, fields: tuple[str, ...], values: tuple[str, ...]) -> str:  # noqa: ARG002  as above
        """Return the fault in a sample's values, or ""."""
        return ""


def lift(compared: Compared) -> AffinityOf:
    """Return the function that gives ln(lift) / saturation, at most 1, of a value; 0 where the subject does not prefer it."""
    total, pseudo_count, shares_of, population_total, floor, saturation, _ = compared
    least, weight_of = 1.0 / population_total, shares_of.get

    # Made for each value of each search: `min` and `max` would each cost as much as the logarithm.
    def affinity(value: Value, count: float) -> float:
        weight = weight_of(value, floor)
        share = least if weight < 1.0 else 1.0 if weight > population_total else weight / population_total
        more = total
        if count > total:
            more = count
        found = (count / share + pseudo_count) / (more + pseudo_count)
        if found <= 1.0:
            return 0.0
        strength = log(found) / saturation
        if strength > 1.0:
            return 1.0
        return strength

    return affinity


def levels(ranked: Sequence[_T], count: int = LEVELS) -> list[Sequence[_T]]:
    """Return `ranked` in at most `count` runs whose lengths differ by at most one."""
    count = min(count, len(ranked))
    bounds = [round(at * len(ranked) / count) for at in range(count + 1)] if count else [0]
    return [ranked[start:end] for start, end in pairwise(bounds)]


def any_of(field: str, values: Iterable[str], rules: Rules) -> dict[str, Any]:
    """Return the clause that matches documents with any of one field's values.

    A value that only some of the expression's indices accept gets an `_index` filter. A `term` that an index refuses would fail its
    shards; a `bool` that its `_index` filter excludes for an index is never turned into a query there.
    """
    if not rules:
        return _one_of(field, list(values))
    taken_by: dict[tuple[str, ...] | None, list[str]] = {}
    for value in values:
        taken_by.setdefault(rules[0][1].indices(value), []).append(value)
    parts = []
    for indices, some in taken_by.items():
        term = _one_of(field, some)
        parts.append(term if indices is None else {"bool": {"filter": [*only_on(indices), term]}})
    return parts[0] if len(parts) == 1 else {"bool": {"should": parts}}


def _one_of(field: str, values: list[str]) -> dict[str, Any]:
    return {"term": {field: values[0]}} if len(values) == 1 else {"terms": {field: values}}


def only_on(indices: tuple[str, ...] | None) -> list[dict[str, Any]]:
    """Return the filter on indices, none if every index accepts the value."""
    return [] if indices is None else [{"terms": {"_index": list(indices)}}]
