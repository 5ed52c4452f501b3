"""Names of products for people: the corpus has numbers for makers and products, and no names.

A maker's name is invented, and the same in every run: the most bought maker gets the first one. A product is called by its maker,
its size, and, where the maker has several of this size and type, its place among them by purchases: `Barton 20 OZ #2`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from rewriter.demo.corpus import Product

_STARTS = (
    "Bar", "Nor", "Wal", "Fen", "Hol", "Mar", "Kel", "Dal", "Ros", "Ash", "Tor", "Bel", "Gar", "Lin", "Per", "Cor", "Sel", "Hart",
    "Win", "Ford", "Lan", "Pel", "Ver", "Cas", "Hal", "Mil", "Red", "Sut", "Whit", "Oak",
)  # fmt: skip
_ENDS = ("ton", "by", "den", "ley", "ham", "low", "wick", "mer", "field", "gate")
HOUSE_BRAND = "House"


def maker_names(products: Iterable[Product]) -> dict[str, str]:
    """Return a name for each maker number, none twice; the maker of the shop's own brand is called `House`."""
    bought: Counter[str] = Counter()
    own: Counter[str] = Counter()
    for product in products:
        bought[product.manufacturer] += product.popularity
        own[product.manufacturer] += product.popularity if product.brand == "Private" else 0
    house = own.most_common(1)[0][0] if any(own.values()) else None
    ranked = sorted((maker for maker in bought if maker != house), key=lambda maker: (-bought[maker], maker))
    named = {maker: _name(number) for number, maker in enumerate(ranked)}
    return named | ({house: HOUSE_BRAND} if house is not None else {})


def product_names(products: Iterable[Product]) -> dict[str, str]:
    """Return what to call each product, by its id; no two of a type have the same name."""
    products = list(products)
    makers = maker_names(products)
    alike: defaultdict[tuple[str | None, str, str], list[Product]] = defaultdict(list)
    for product in products:
        alike[product.product_type, product.manufacturer, product.package_size or ""].append(product)
    names = {}
    for (_, maker, size), some in alike.items():
        some.sort(key=lambda one: (-one.popularity, one.product_id))
        for place, one in enumerate(some, 1):
            parts = [makers[maker], size, f"#{place}" if len(some) > 1 else ""]
            names[one.product_id] = " ".join(filter(None, parts))
    return names


def _name(number: int) -> str:
    """Return the name of a number; beyond those that there are, names have a number of their own."""
    which, start = divmod(number, len(_STARTS))
    end = (3 * start + which) % len(_ENDS)  # so that neighbors do not all end alike
    more = which // len(_ENDS)
    return f"{_STARTS[start]}{_ENDS[end]}" + (f" {more + 1}" if more else "")
