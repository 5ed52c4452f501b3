"""Judged searches made from a history's last weeks: their time is that of the first event that the search led to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from rewriter.errors import ConfigurationError
from rewriter.evaluate.hold_out import HeldOut, held_out
from rewriter.evaluate.past import Past

DOCUMENTS = [{"_id": name, "title": f"the {name}"} for name in ("milk", "tea", "film")]
MILK, TEA, FILM = range(3)


def judged(*rows: tuple[float, int, str | None, str], title: str = "title") -> HeldOut:
    """What one person's rows (time, document, query, action) are judged by."""
    full: list[tuple[Any, ...]] = [(person, at_s, doc, query, None, action, None)
                                   for person, (at_s, doc, query, action) in (("ann", row) for row in rows)]  # fmt: skip
    past = SimpleNamespace(
        until_s=100_000.0, history=SimpleNamespace(rows=lambda *_: full), documents=DOCUMENTS, at_s=np.zeros(0)
    )
    return held_out(cast("Past", past), 99_000.0, ("purchase", "click"), title=title, count=10, seed=1)


def found(*rows: tuple[float, int, str | None, str]) -> list[tuple[str, float, list[str]]]:
    return sorted((one.query, one.at_s or 0.0, sorted(one.relevant)) for one in judged(*rows).searches)


def test_what_led_to_a_purchase_is_after_its_search() -> None:
    """Otherwise the view of the item itself would be a signal of the search that found it."""
    rows = ((5_000.0, TEA, "drink", "view"), (5_060.0, MILK, "Drink", "view"), (5_090.0, MILK, "drink", "add_to_cart"),
            (5_120.0, MILK, "drink", "purchase"), (5_130.0, TEA, "other", "view"))  # fmt: skip
    assert found(*rows) == [("drink", 5_000.0, ["milk"])]


def test_another_visit_is_another_search() -> None:
    rows = (
        (5_000.0, MILK, "drink", "view"),
        (50_000.0, MILK, "drink", "purchase"),
        (50_300.0, TEA, "drink", "purchase"),
    )
    assert found(*rows) == [("drink", 50_000.0, ["milk", "tea"])]


def test_a_purchase_without_words_has_those_of_the_item_s_view() -> None:
    rows = ((5_000.0, MILK, "drink", "view"), (5_060.0, FILM, "movie", "view"), (5_090.0, MILK, None, "purchase"))
    assert found(*rows) == [("drink", 5_000.0, ["milk"])]
    held = judged(*rows, (5_100.0, TEA, None, "purchase"))
    assert dict(held.left_out) == {"without a query": 1}
    assert not held.by_title


def test_a_view_without_words_is_no_signal_of_the_search_that_sold_the_item() -> None:
    rows = ((4_990.0, TEA, None, "view"), (5_000.0, MILK, None, "view"), (5_060.0, MILK, "drink", "purchase"))
    assert found(*rows) == [("drink", 5_000.0, ["milk"])]


def test_titles_replace_queries_where_no_purchase_has_one() -> None:
    rows = ((5_000.0, MILK, None, "view"), (5_060.0, MILK, None, "purchase"), (5_070.0, TEA, None, "view"))
    assert judged(*rows).by_title
    assert found(*rows) == [("the milk", 5_000.0, ["milk"])]
    with pytest.raises(ConfigurationError, match="no event has a query"):
        judged(*rows, title="")
