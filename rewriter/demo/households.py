"""The purchases of households: those up to week 46 are the shop's knowledge, later ones are the test of its pages.

The corpus ends in 2017, and counters age. So the times of the purchases are shifted such that week 46 ends now.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from rewriter.demo.corpus import LAST_TUNING_WEEK, Corpus, classes_of, values_of
from rewriter.signals.counters import Counters, HalfLives, Observation, counted
from rewriter.signals.kinds.kind import SignalField
from rewriter.signals.uses import Use, judged_counters, observed_uses


@dataclass(frozen=True, slots=True)
class Visit:
    """A household that searches for a product type by its name; `later` holds its purchases of it in the weeks after 46."""

    household_id: str
    product_type: str
    later: frozenset[str]

    @property
    def words(self) -> str:
        """The query."""
        return self.product_type.lower()


class Households:
    """The purchases of a corpus, by household. `now_s` is the end of week 46, in seconds since the epoch."""

    def __init__(self, corpus: Corpus, fields: Mapping[str, SignalField], half_lives: HalfLives, now_s: float) -> None:
        self._corpus = corpus
        self._half_lives = half_lives
        self._now_s = now_s
        self._values = {name: values_of(product, fields) for name, product in corpus.products.items()}
        self._types = {name: product.product_type or "" for name, product in corpus.products.items()}
        self._known: dict[str, list[tuple[str, float]]] = defaultdict(list)
        self._uses: list[Use] = []
        classes = classes_of(corpus, fields)
        self._later: dict[str, list[str]] = defaultdict(list)
        moved_s = now_s - max(one.at_s for one in corpus.purchases if one.week <= LAST_TUNING_WEEK)
        for one in corpus.purchases:
            if one.week <= LAST_TUNING_WEEK:
                at_s = one.at_s + moved_s
                self._known[one.household_id].append((one.product_id, at_s))
                self._uses.append(Use(one.household_id, one.basket_id, one.product_id, classes[one.product_id], at_s))
            else:
                self._later[one.household_id].append(one.product_id)

    @property
    def ids(self) -> Sequence[str]:
        """The households that the shop knows."""
        return list(self._known)

    def profile(self, household_id: str, keep: int) -> Counters:
        """Return a household's `keep` heaviest counters."""
        return self._counted(self._known[household_id], keep)

    def population(self) -> Counters:
        """Return everybody's counters, and how often they bought a product again."""
        bought = (one for known in self._known.values() for one in known)
        uses = judged_counters(counted(observed_uses(self._uses), self._half_lives, self._now_s))
        population = self._counted(bought, None)
        return replace(
            population, weights={**population.weights, **uses.weights}, totals={**population.totals, **uses.totals}
        )

    def most_loyal(self, count: int) -> list[Visit]:
        """Return the households with most purchases, each with the product type that it bought most often, no type twice."""
        taken: set[str] = set()
        visits = []
        for household_id in sorted(self._known, key=lambda name: (-len(self._known[name]), name))[:count]:
            often = Counter(self._types[product_id] for product_id, _ in self._known[household_id])
            product_type = next(name for name, _ in often.most_common() if name not in taken)
            taken.add(product_type)
            visits.append(self._visit(household_id, product_type))
        return visits

    def drawn(self, count: int, seed: int) -> list[Visit]:
        """Return households drawn from those with purchases after week 46, each with the product type that it bought first then."""
        returned = sorted(self._known.keys() & self._later.keys())
        drawn = Random(seed).sample(returned, min(count, len(returned)))
        return [self._visit(name, self._types[self._later[name][0]]) for name in drawn]

    def clicks(self, product_ids: Sequence[str], weight: float, half_life_s: float) -> Counters:
        """Return a session's counters after clicks on these products, just now."""
        seen = (Observation(self._values[product_id], weight, self._now_s) for product_id in product_ids)
        return counted(seen, HalfLives(half_life_s), self._now_s)

    def times_bought(self, household_id: str) -> Counter[str]:
        """Return how often a household bought each product."""
        return Counter(product_id for product_id, _ in self._known[household_id])

    def _visit(self, household_id: str, product_type: str) -> Visit:
        later = (name for name in self._later[household_id] if self._types[name] == product_type)
        return Visit(household_id, product_type, frozenset(later))

    def _counted(self, bought: Iterable[tuple[str, float]], keep: int | None) -> Counters:
        seen = (Observation(self._values[product_id], 1.0, at_s) for product_id, at_s in bought)
        return counted(seen, self._half_lives, self._now_s, keep)
