"""The questions of the nDCG benchmark, and the purchases before them.

A question is a household, a basket and a product type. The name of the type is the query, and the products of that type in the
basket are relevant. The signals are the purchases of the weeks before, by the household and by all households.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from random import Random

import duckdb

from rewriter.cli.action_weights import divided
from rewriter.demo.corpus import Corpus, Purchase, classes_of, values_of
from rewriter.settings import DEFAULT_ACTION_WEIGHTS
from rewriter.signals.affinities import Population, united
from rewriter.signals.backfill.neighbours import find_neighbours, listed_neighbours
from rewriter.signals.backfill.sums import insert
from rewriter.signals.class_affinities import class_totals
from rewriter.signals.class_counters import ClassCounters, counted_by_class
from rewriter.signals.class_items import HASH_FIELDS, class_names, with_items
from rewriter.signals.class_layout import packed_classes, read_classes, wanted_fields
from rewriter.signals.counters import SEPARATOR, Counters, HalfLives, Observation, counted
from rewriter.signals.kinds.item import ITEM, is_item_of_class
from rewriter.signals.kinds.kind import SignalField
from rewriter.signals.neighbours import Near, class_of_near, counted_near
from rewriter.signals.store import SignalsQuery
from rewriter.signals.uses import Use, judged_counters, observed_uses

PURCHASE = divided(DEFAULT_ACTION_WEIGHTS, DEFAULT_ACTION_WEIGHTS["purchase"])["purchase"]
"""The weight of a purchase: the one that `rewriter init --history` writes for a history of purchases alone."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question: household, query, time (seconds since the epoch), and the relevant products.

    relevant: the basket's products of the type.
    new:      those of them that the household had never bought before.
    """

    household_id: str
    week: int
    at_s: int
    words: str
    relevant: frozenset[str]
    new: frozenset[str]


def drawn(corpus: Corpus, weeks: range, count: int, seed: int) -> list[Question]:
    """Draw `count` questions from the baskets of `weeks`, all with the same probability."""
    bought: dict[tuple[str, str], set[str]] = defaultdict(set)
    baskets: dict[tuple[str, str], Purchase] = {}
    first_s: dict[tuple[str, str], int] = {}
    for one in corpus.purchases:
        first_s.setdefault((one.household_id, one.product_id), one.at_s)
        words = corpus.products[one.product_id].product_type
        if one.week in weeks and words:
            bought[one.basket_id, words].add(one.product_id)
            baskets.setdefault((one.basket_id, words), one)
    found = []
    for key in Random(seed).sample(sorted(bought), min(count, len(bought))):
        one, relevant = baskets[key], frozenset(bought[key])
        new = frozenset(name for name in relevant if first_s[one.household_id, name] >= one.at_s)
        found.append(Question(one.household_id, one.week, one.at_s, key[1], relevant, new))
    return found


class PastPurchases:
    """The purchases before a week, counted by the library in `fields`."""

    def __init__(
        self,
        corpus: Corpus,
        weeks: range,
        households: Iterable[str],
        fields: Mapping[str, SignalField],
        half_lives: HalfLives,
        combinations: Collection[str] = (),
    ) -> None:
        self._combinations = combinations
        self._half_lives = half_lives
        self._says = {name: values_of(product, fields) for name, product in corpus.products.items()}
        self._histories: dict[str, list[Purchase]] = {name: [] for name in households}
        for one in corpus.purchases:
            if one.household_id in self._histories:
                self._histories[one.household_id].append(one)
        self._neighbours = partial(neighbours_of, corpus, fields, weeks.start)
        self._near: dict[str, Near] | None = None
        self.populations = dict(self._weekly(corpus, classes_of(corpus, fields), weeks))

    def profile(self, question: Question, keep: int, last: int | None = None) -> Counters:
        """Return the household's `keep` heaviest counters of all classes together, as of the question, as a store keeps them.

        last: only of its last purchases.
        """
        observed = self._shared(self._history(question, last))
        return counted(observed, self._half_lives, question.at_s, keep)

    def bought(self, question: Question) -> list[tuple[str, int]]:
        """Return products and times of the household's purchases before the question."""
        return [(one.product_id, one.at_s) for one in self._history(question, None)]

    def read(self, question: Question, query: SignalsQuery, last: int | None = None) -> Counters:
        """Return the counters that a search reads: on a first search for some words with the items of all classes."""
        found = self.profile(question, query.limit, last)
        if query.every is None:
            return found
        history = self._history(question, last)
        packed = packed_classes(self._by_class(question, history))
        return with_items(found, [packed.get(name) for name in HASH_FIELDS], query.every, query.limit)

    def _by_class(self, question: Question, history: Iterable[Purchase]) -> dict[str, ClassCounters]:
        return counted_by_class(self._observed(history), self._half_lives, question.at_s, ITEM, self._combinations)

    def _history(self, question: Question, last: int | None) -> list[Purchase]:
        found = [one for one in self._histories[question.household_id] if one.week < question.week]
        return found if last is None else found[-last:]

    def classes(self, question: Question, names: Collection[str], last: int | None = None) -> dict[str, ClassCounters]:
        """Return the household's counters in some classes, as of the question."""
        history = self._history(question, last)
        every = self._by_class(question, history)
        wanted = {name: one for name in names if (one := every.get(name)) is not None}
        if any(map(class_of_near, names)):
            if self._near is None:
                self._near = self._neighbours()
            wanted |= counted_near(wanted, self._near, ITEM)
        return as_stored(wanted)

    def _shared(self, purchases: Iterable[Purchase]) -> Iterator[Observation]:
        """The counters for all classes together: what is not kept by class."""
        for one in self._observed(purchases):
            shared = (v for v in one.values if v[0] not in self._combinations and not is_item_of_class(v))
            yield Observation(tuple(shared), one.weight, one.at_s)

    def _observed(self, purchases: Iterable[Purchase]) -> Iterator[Observation]:
        return (Observation(self._says[one.product_id], PURCHASE, one.at_s) for one in purchases)

    def _weekly(self, corpus: Corpus, classes: Mapping[str, str], weeks: range) -> Iterator[tuple[int, Population]]:
        """The population's counters before each week, aged to the week's first purchase; each week adds to the one before."""
        by_week: dict[int, list[Purchase]] = defaultdict(list)
        for one in corpus.purchases:
            by_week[max(one.week, weeks.start - 1)].append(one)
        done = [
            Use(one.household_id, one.basket_id, one.product_id, classes[one.product_id], one.at_s)
            for one in corpus.purchases
        ]
        uses, counted_uses = list(observed_uses(done)), 0
        known: Counters | None = None
        for week in weeks:
            now_s = float(by_week[week][0].at_s)
            end = bisect_left(uses, now_s, lo=counted_uses, key=lambda one: one.at_s)
            fresh = chain(self._observed(by_week[week - 1]), uses[counted_uses:end])
            added, counted_uses = counted(fresh, self._half_lives, now_s), end
            known = united([known, added], self._half_lives, now_s)
            if known is not None:
                seen = judged_counters(known)
                members = {SEPARATOR.join(value): weight for value, weight in seen.weights.items()}
                totals = class_totals(members, self._combinations)
                names = class_names(members)
                yield week, Population(seen.weights, seen.totals, class_totals=totals, class_names=names)


def as_stored(classes: Mapping[str, ClassCounters]) -> dict[str, ClassCounters]:
    """Return counters by class as a search reads them from a store: their weights are rounded."""
    names, values = list(classes), packed_classes(classes)
    return read_classes(names, [values.get(name) for name in wanted_fields(names)])


def neighbours_of(corpus: Corpus, fields: Mapping[str, SignalField], until_week: int) -> dict[str, Near]:
    """Return each item's neighbours, as `rewriter backfill` finds them in the purchases before a week."""
    classes = classes_of(corpus, fields)
    counts = Counter((one.household_id, one.product_id) for one in corpus.purchases if one.week < until_week)
    rows = [(person, classes[item], item, float(count)) for (person, item), count in counts.items()]
    db = duckdb.connect()
    insert(db, "used", {"person": "VARCHAR", "class": "VARCHAR", "item": "VARCHAR", "worth": "DOUBLE"}, rows)
    find_neighbours(db, "used")
    return dict(listed_neighbours(db))
