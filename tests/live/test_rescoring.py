"""Legs computed in process: the server's own order, search by search, and the server where that is not certain."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from opensearchpy import OpenSearch

from rewriter.boost.body import bounded_body
from rewriter.boost.functions import Boost
from rewriter.client.registry import around
from rewriter.client.seam import Search
from rewriter.evaluate.answers import sender
from rewriter.evaluate.rescoring import Rescoring
from tests.conftest import MakeIndex

MAPPING = {
    "title": {"type": "text"},
    "brand": {"type": "keyword"},
    "kind": {"type": "keyword"},
    "price": {"type": "integer"},
}
WORDS = ("shoe", "trail", "road", "light", "blue")


@pytest.fixture
def shelf(index: MakeIndex) -> str:
    chance = random.Random(3)
    documents = {
        f"p{n}": {
            "title": " ".join(["shoe", *chance.choices(WORDS, k=chance.randrange(6))]),
            "brand": chance.choices(["nike", "puma", "hoka"], k=chance.randrange(1, 3)),
            "kind": f"k{n % 4}",
            "price": n,
        }
        for n in range(300)
    }
    return index(MAPPING, documents=documents)


def filters(chance: random.Random) -> dict[str, Any]:
    brand = {"term": {"brand": chance.choice(["nike", "puma", "none"])}}
    return chance.choice(
        [
            brand,
            {"terms": {"_id": [f"p{n}" for n in chance.sample(range(300), 40)]}},
            {"bool": {"filter": [brand, {"terms": {"kind": ["k1", "k2"]}}]}},
            {"term": {"_id": f"p{chance.randrange(300)}"}},
            {"bool": {"should": [brand, {"term": {"kind": "k3"}}]}},
        ]
    )


def legs(index: str, count: int, seed: int) -> list[Search]:
    chance = random.Random(seed)
    found = []
    for _ in range(count):
        words = " ".join(chance.sample(WORDS, 2))
        body = {"query": {"match": {"title": words}}, "from": 0, "size": 20, "_source": False}
        boosts = [Boost(filters(chance), round(chance.random(), 3)) for _ in range(chance.randrange(1, 9))]
        gate = {"match": {"title": {"query": words, "operator": "and"}}} if chance.random() < 0.6 else None
        found.append(Search(index, bounded_body(body, boosts, 1.7, "rescore", chance.choice([50, 200]), gate)))
    return found


def shown(answers: Sequence[Any]) -> list[list[tuple[str, float]]]:
    return [[(hit["_id"], round(hit["_score"], 4)) for hit in one["hits"]["hits"]] for one in answers]


def test_computed_pages_are_the_server_s(shelf: str, opensearch: OpenSearch) -> None:
    send = sender(around(opensearch, is_async=False))
    rescoring = Rescoring(send, {"brand", "kind"})
    searches = legs(shelf, 120, 7)
    computed = [*rescoring(searches[:60]), *rescoring(searches[60:])]
    assert shown(computed) == shown(send(searches))
    assert (rescoring.computed, rescoring.sent) == (120, 0)


def test_what_is_not_exact_goes_to_the_server(shelf: str, index: MakeIndex, opensearch: OpenSearch) -> None:
    send = sender(around(opensearch, is_async=False))
    rescoring = Rescoring(send, {"brand", "kind"})
    body = {"query": {"match": {"title": "shoe"}}, "from": 0, "size": 10, "_source": False}
    ranged = Boost({"range": {"price": {"lt": 40}}}, 0.4)
    decay = Boost(None, 0.4, {"gauss": {"price": {"origin": 5, "scale": 10}}})
    several = index(MAPPING, documents={f"q{n}": {"title": "shoe", "brand": "nike"} for n in range(30)}, shards=3)
    liked = Boost({"term": {"brand": "nike"}}, 0.4)
    searches = [
        Search(shelf, bounded_body(body, [ranged], 1.5, "rescore", 200)),
        Search(shelf, bounded_body(body, [decay], 1.5, "rescore", 200)),
        Search(several, bounded_body(body, [liked], 1.5, "rescore", 200)),
        Search(shelf, bounded_body(body, [liked], 1.5, "wrap", 200)),
        Search(shelf, body),
    ]
    assert shown(rescoring(searches)) == shown(send(searches))
    assert (rescoring.computed, rescoring.sent) == (0, 3)
