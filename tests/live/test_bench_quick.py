"""Counted work of both modes on a real server, against the committed bounds of `make bench-quick`: no time is judged."""

from __future__ import annotations

import json

from opensearchpy import OpenSearch

from bench import quick

PRODUCTS, TURNS = 2_000, 40


def test_no_mode_sends_or_receives_more_than_it_may(opensearch_url: str) -> None:
    with (
        OpenSearch(opensearch_url, connection_class=quick.Counting, pool_maxsize=32, timeout=60) as client,
        quick.loaded(client, PRODUCTS) as index,
    ):
        found = quick.measured(client, index, TURNS)
    bounds = {
        way: {name: limits for name, limits in some.items() if name in quick.COUNTED}
        for way, some in json.loads(quick.BOUNDS.read_text("utf-8")).items()
        if way != "pure"
    }
    assert set(bounds) == set(found)
    assert quick.broken(found, bounds) == []
