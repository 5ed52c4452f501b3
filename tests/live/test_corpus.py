"""The shop's index and its own query, on the real server."""

from __future__ import annotations

from datetime import date

from opensearchpy import OpenSearch

from rewriter.demo.corpus import Product, baseline_query, create_index
from tests.conftest import MakeIndex


def test_of_equal_words_the_more_popular_comes_first(opensearch: OpenSearch, index: MakeIndex) -> None:
    name = index()
    opensearch.indices.delete(index=name)
    sold = {"rare": ("SOUP", 2), "popular": ("SOUP", 200), "other": ("MILK", 900)}
    products = [
        Product(key, "GROCERY", "CANS", kind, "69", "Private", "8 OZ", date(2017, 3, 1), popularity)
        for key, (kind, popularity) in sold.items()
    ]
    progress: list[int] = []
    create_index(opensearch, name, products, shards=1, on_progress=progress.append)
    answer = opensearch.search(index=name, body={"query": baseline_query("soup")})
    assert [hit["_id"] for hit in answer["hits"]["hits"]] == ["popular", "rare"]
    assert progress == [1, 2, 3]
