"""What the demo calls products, and what it says of its own machine."""

from __future__ import annotations

import io
import time
from dataclasses import replace

import pytest
from rich.console import Console

from rewriter.demo.corpus import Product
from rewriter.demo.lateness import Lateness
from rewriter.demo.names import maker_names, product_names
from rewriter.demo.pages import print_pages
from rewriter.demo.scenes import _waits
from rewriter.demo.shop import ShownPage
from rewriter.report import Reason, Report

ONE = Product("1", "GROCERY", None, "MILK", "70", "National", "1 GA", None, 5)


def test_no_two_products_of_a_type_have_the_same_name() -> None:
    products = [
        replace(
            ONE, product_id=f"{maker}-{size}-{number}", manufacturer=str(maker), package_size=size, popularity=number
        )
        for maker in range(400)
        for size in ("1 GA", None)
        for number in range(3)
    ]
    names = product_names(products)
    assert len(set(names.values())) == len(products)
    assert names == product_names(reversed(products)), "the same in every run"
    assert not any(product.product_id in name for product in products for name in [names[product.product_id]])


def test_the_shop_s_own_brand_is_the_house_and_the_most_bought_comes_first() -> None:
    own = replace(ONE, product_id="2", manufacturer="69", brand="Private", popularity=9)
    again = replace(own, product_id="3", popularity=30)
    assert product_names([ONE, own, again]) == {"1": "Barton 1 GA", "2": "House 1 GA #2", "3": "House 1 GA #1"}
    assert maker_names([ONE]) == {"70": "Barton"}


def test_a_busy_interpreter_is_seen_as_lateness() -> None:
    with Lateness() as lateness:
        until_s = time.perf_counter() + 0.1
        while time.perf_counter() < until_s:  # holds the interpreter's lock for its switch interval
            pass
    assert lateness.worst_ms > 0


def test_waits_are_stated_beside_their_bound() -> None:
    text = _waits([10.0, 40.0, 263.0], 250, 48)
    assert "40 ms in the median after the shop's own search, and 263 ms at most; the demo's bound is 250 ms" in text
    assert "the default of 30 ms. With it, 2 of the 3 pages here would have been the shop's own" in text
    assert text.endswith("a thread that only sleeps waiting up to 48 ms longer than asked.")
    assert "With it" not in _waits([10.0], 30, 1)


@pytest.mark.parametrize("width", [80, 100])
def test_a_page_that_is_not_personalized_explains_its_reason(width: int) -> None:
    hits = [{"_id": "1", "_source": {}}]
    found = ShownPage(hits, hits, Report(Reason.SEARCH_LATE), 1.0, 2.0)
    console = Console(file=io.StringIO(), width=width)
    print_pages(console, found, {"1": "Barton 1 GA"}, (), {}, lambda reason: f"{reason} is explained")
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "Barton 1 GA" in shown
    assert "That means: search_late is explained" in shown
    assert max(map(len, shown.splitlines())) <= width
