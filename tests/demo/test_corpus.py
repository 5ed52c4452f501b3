"""The shop of the demo and the benchmark: what its index may know, and when."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime

import pytest

from rewriter.demo.corpus import MAPPINGS, Corpus, Product, load, values_of
from rewriter.signals.kinds.kind import SignalField
from rewriter.signals.kinds.registry import every_kind

SOUP = "CONDENSED SOUP"
MILK = "CHOCOLATE MILK"
UNTIL_WEEK = 10


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return load([SOUP, MILK], popularity_until_week=UNTIL_WEEK)


def product(product_type: str | None, package_size: str | None) -> Product:
    return Product("7", "GROCERY", None, product_type, "69", "Private", package_size, date(2017, 3, 1), 5)


@pytest.mark.parametrize(
    ("product_type", "package_size", "title"),
    [
        ("SHREDDED CHEESE", "8 OZ", "Shredded cheese 8 OZ"),
        ("SHREDDED CHEESE", None, "Shredded cheese"),
        (None, None, "Grocery"),
    ],
)
def test_a_title_is_made_of_what_is_known(product_type: str | None, package_size: str | None, title: str) -> None:
    assert product(product_type, package_size).title == title


def test_a_document_holds_mapped_fields_alone_and_leaves_the_unknown_out() -> None:
    document = product(None, "8 OZ").document()
    assert document.keys() <= MAPPINGS["properties"].keys()
    assert document.keys().isdisjoint({"product_type", "product_category"})
    assert document["listed"] == "2017-03-01"


def test_the_product_types_asked_for_are_loaded_and_no_others(corpus: Corpus) -> None:
    assert {one.product_type for one in corpus.products.values()} == {SOUP, MILK}
    assert {one.product_id for one in corpus.purchases} <= corpus.products.keys()


def test_purchases_come_in_the_order_of_time(corpus: Corpus) -> None:
    times = [one.at_s for one in corpus.purchases]
    assert times == sorted(times)
    assert datetime.fromtimestamp(times[0], UTC).date() == date(2017, 1, 1)
    assert datetime.fromtimestamp(times[-1], UTC).date() == date(2018, 1, 1)  # the shops' new year, some hours behind
    assert {one.week for one in corpus.purchases} == set(range(1, 54))


def test_the_index_does_not_know_what_was_bought_after_the_cutoff(corpus: Corpus) -> None:
    bought = Counter(one.product_id for one in corpus.purchases if one.week <= UNTIL_WEEK)
    assert {name: one.popularity for name, one in corpus.products.items() if one.popularity} == bought


def test_a_product_is_listed_on_the_day_of_its_first_sale(corpus: Corpus) -> None:
    first: dict[str, date] = {}
    for one in corpus.purchases:
        first.setdefault(one.product_id, datetime.fromtimestamp(one.at_s, UTC).date())
    assert {name: one.listed for name, one in corpus.products.items() if one.listed} == first


def test_a_purchase_says_one_value_of_each_field_that_is_known() -> None:
    fields = {
        "item": SignalField(every_kind()["item"], ("_id",), 1.0, 2.0),
        "manufacturer": SignalField(every_kind()["attribute"], ("manufacturer",), 0.3, 100.0),
        "product_category": SignalField(every_kind()["attribute"], ("product_category",), 0.3, 100.0),
        "size": SignalField(every_kind()["combination"], ("product_type", "package_size"), 0.3, 5.0),
    }
    plain = (("item", "7"), ("manufacturer", "69"))
    assert values_of(product("SOUP", None), fields) == plain
    assert values_of(product("SOUP", "8 OZ"), fields) == (*plain, ("size", "SOUP", "8 OZ"))
