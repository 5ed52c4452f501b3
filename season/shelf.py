"""The shelf: the product types of Complete Journey that the season sells, with the baskets of its weeks. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from rewriter.demo.corpus import Corpus, Purchase
from season.parameters import CatalogueParameters


@dataclass(frozen=True, slots=True)
class Basket:
    """The purchases of one household at one time, by product type."""

    household_id: str
    week: int
    at_s: int
    bought: Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Shelf:
    """Products, and facts of them from before the season.

    by_type:  product ids by product type, the best selling first.
    makers:   manufacturers by product type, and the best selling products of each.
    history:  purchases before the season, in the order of time; baskets: those of its weeks.
    """

    corpus: Corpus
    by_type: Mapping[str, Sequence[str]]
    makers: Mapping[str, Mapping[str, Sequence[str]]]
    history: Sequence[Purchase]
    baskets: Sequence[Basket]

    def alike(self, product_ids: Collection[str]) -> frozenset[str]:
        """Return the products of the same type and manufacturer as one of `product_ids`, those included."""
        found: set[str] = set()
        for product_id in product_ids:
            product = self.corpus.products[product_id]
            found.update(self.makers[product.product_type or ""][product.manufacturer])
        return frozenset(found)

    def sold_by(self, least_types: int) -> dict[str, list[str]]:
        """Return the product types of each manufacturer with at least the given number of them, each with a selling product."""
        types: dict[str, list[str]] = defaultdict(list)
        for product_type, makers in sorted(self.makers.items()):
            for maker, products in sorted(makers.items()):
                if self.corpus.products[products[0]].popularity >= SELLS:
                    types[maker].append(product_type)
        return {maker: found for maker, found in types.items() if len(found) >= least_types}


SELLS = 20
"""Number of purchases before the season from which on a product counts as selling."""


def most_bought(corpus: Corpus, parameters: CatalogueParameters) -> frozenset[str]:
    """Return the product types that were bought most often before the season."""
    counts: Counter[str] = Counter()
    for one in corpus.purchases:
        if one.week <= parameters.history_weeks and (name := corpus.products[one.product_id].product_type):
            counts[name] += 1
    return frozenset(name for name, _ in counts.most_common(parameters.product_types))


def shelf_of(corpus: Corpus, parameters: CatalogueParameters) -> Shelf:
    """Return the shelf of a corpus, which may hold more product types."""
    chosen = most_bought(corpus, parameters)
    products = {name: one for name, one in corpus.products.items() if one.product_type in chosen}
    by_type: dict[str, list[str]] = defaultdict(list)
    makers: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for product_id, one in sorted(products.items(), key=lambda item: (-item[1].popularity, item[0])):
        by_type[one.product_type or ""].append(product_id)
        makers[one.product_type or ""][one.manufacturer].append(product_id)
    purchases = [sale for sale in corpus.purchases if sale.product_id in products]
    bought: dict[str, dict[str, set[str]]] = {}
    firsts: dict[str, Purchase] = {}
    for sale in purchases:
        if sale.week in parameters.weeks:
            firsts.setdefault(sale.basket_id, sale)
            kind = products[sale.product_id].product_type or ""
            bought.setdefault(sale.basket_id, {}).setdefault(kind, set()).add(sale.product_id)
    baskets = [
        Basket(
            first.household_id,
            first.week,
            first.at_s,
            {kind: frozenset(ids) for kind, ids in sorted(bought[name].items())},
        )
        for name, first in firsts.items()
    ]
    history = [sale for sale in purchases if sale.week <= parameters.history_weeks]
    return Shelf(Corpus(products, purchases), dict(by_type), {k: dict(v) for k, v in makers.items()}, history, baskets)
