"""Answers of an evaluation: each different search is sent once, and everything by which searches differ tells them apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from rewriter.client.seam import Search
from rewriter.evaluate.answers import Answered, OnceEach


class Counting:
    """Answers each search with its number in the order of sending."""

    def __init__(self) -> None:
        self.sent: list[Search] = []

    def __call__(self, searches: Sequence[Search]) -> Sequence[Answered]:
        """Answer searches, as Send."""
        self.sent += searches
        return [{"number": number} for number in range(len(self.sent) - len(searches), len(self.sent))]


def search(words: str, **more: Any) -> Search:
    return Search("shop", {"query": {"match": {"title": words}}}, **more)


def test_an_equal_search_of_another_variant_is_not_sent_again() -> None:
    send = Counting()
    once = OnceEach(send)
    assert once([search("milk"), search("tea"), search("milk")]) == [{"number": 0}, {"number": 1}, {"number": 0}]
    assert once([search("tea"), search("pan")]) == [{"number": 1}, {"number": 2}]
    assert len(send.sent) == 3
    once.forget()
    assert once([search("tea")]) == [{"number": 3}]


@pytest.mark.parametrize(
    "other",
    [
        search("Milk"),
        search("mil\udc6b"),  # a lone surrogate, which no JSON in UTF-8 holds
        search("milk", params={"routing": "a"}),
        search("milk", headers={"x-opaque-id": "1"}),
        Search("shop,more", search("milk").body),
        Search("shop", {"query": {"match": {"title": "milk"}}, "size": 20}),
    ],
)
def test_searches_that_differ_are_both_sent(other: Search) -> None:
    send = Counting()
    assert OnceEach(send)([search("milk"), other, other]) == [{"number": 0}, {"number": 1}, {"number": 1}]
