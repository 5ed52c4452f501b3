"""Bodies drawn by chance over several shards and indices, on a real server: the caller's own answer but for order and score.

Each draw is searched plain and through the rewriter, page after page, with legs that fail now and then.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from opensearchpy import OpenSearch, helpers

from rewriter import Reason, Report, Rewriter
from rewriter.client.registry import around
from rewriter.client.seam import LegFault, Search, SearchClient
from tests.conftest import MakeIndex
from tests.live.engine import Intercepted, intercept, runnable, search_client
from tests.live.test_live_writes import opened, wait_for_facts
from tests.live.test_right_answers import ANN, MAPPING, MATCH, every, key, shoes

SEED = int(os.environ.get("SEED", "8"))
DRAWS = 40
PAGES = 3
TOLERANCE = 1e-5

QUERIES: tuple[dict[str, Any], ...] = runnable(
    MATCH,
    {"match": {"title": "red trail shoe"}},
    {"match_phrase": {"title": "trail shoe"}},
    {
        "bool": {
            "must": [MATCH],
            "should": [{"match": {"title": "model"}}, {"term": {"brand": {"value": "nike", "_name": "theirs"}}}],
        }
    },
    {
        "bool": {
            "must": [MATCH],
            "filter": [{"range": {"price": {"gte": 3}}}],
            "must_not": [{"term": {"brand": "fila"}}],
        }
    },
    {"dis_max": {"queries": [MATCH, {"match": {"title": "model 7"}}], "tie_breaker": 0.3}},
    {"boosting": {"positive": MATCH, "negative": {"range": {"price": {"gte": 40}}}, "negative_boost": 0.3}},
    {"boosting": {"positive": MATCH, "negative": {"term": {"brand": "puma"}}, "negative_boost": 0.5}},
    {"function_score": {"query": MATCH, "field_value_factor": {"field": "price", "modifier": "ln2p"}}},
    {"function_score": {"query": MATCH, "random_score": {"seed": 7, "field": "price"}, "boost_mode": "sum"}},
    {"script_score": {"query": MATCH, "script": {"source": "_score + doc['price'].value / 100.0"}}},
    {"bool": {"must": [MATCH, {"nested": {"path": "offers", "query": {"match_all": {}}, "inner_hits": {}}}]}},
    {"bool": {"must": [MATCH], "should": [{"constant_score": {"filter": {"term": {"brand": "asics"}}, "boost": 2}}]}},
)
MORE: tuple[dict[str, Any], ...] = runnable(
    {},
    {},
    {"track_total_hits": True},
    {"track_total_hits": False},
    {"aggs": {"brands": {"terms": {"field": "brand"}, "aggs": {"best": {"top_hits": {"size": 1}}}}}},
    {"highlight": {"fields": {"title": {}}}},
    {"_source": ["title"], "fields": ["brand"], "docvalue_fields": ["price"]},
    {"_source": False, "version": True, "seq_no_primary_term": True},
    {"post_filter": {"range": {"price": {"lte": 70}}}},
    {"min_score": 0.01},
    {"collapse": {"field": "group"}},
    {"collapse": {"field": "group", "inner_hits": {"name": "more", "size": 2}}},
    {"rescore": {"window_size": 40, "query": {"rescore_query": {"match": {"title": "model"}}}}},
    {"script_fields": {"twice": {"script": {"source": "doc['price'].value * 2"}}}},
    {"indices_boost": [{"*": 1.3}]},
)


class Legs(Intercepted):
    """The client of the legs, of which some are refused by the server."""

    def __init__(self, seam: SearchClient, chance: random.Random) -> None:
        super().__init__(seam)
        self._chance = chance
        self.share = 0.0

    def search(self, search: Search, timeout_s: float, *, is_leg: bool = False) -> Any:
        if self._chance.random() < self.share:
            raise LegFault("failed", "TransportError(503, busy)")
        return self.seam.search(search, timeout_s, is_leg=is_leg)


def shown(hit: Mapping[str, Any]) -> Any:
    """All that a caller sees of a hit but its score; hits inside it may stand in another order."""
    rest = {name: value for name, value in hit.items() if name not in ("_score", "sort", "inner_hits")}
    inner = {name: sorted(map(key, part["hits"]["hits"])) for name, part in hit.get("inner_hits", {}).items()}
    return json.loads(json.dumps(rest)) | {"inner_hits": inner if "more" not in inner else list(inner)}


def beside(answer: Mapping[str, Any]) -> Any:
    """Totals, aggregations and all else that is the caller's own answer's."""
    hits = {name: value for name, value in answer["hits"].items() if name not in ("hits", "max_score")}
    return {name: value for name, value in answer.items() if name not in ("took", "hits")} | hits


def held(plain: Any, answer: Any, own: Mapping[Any, Any], report: Report, collapsed: bool) -> None:
    """Hold a page against the caller's own search and all of its matches."""
    hits = answer["hits"]["hits"]
    assert '"rewriter:' not in json.dumps(answer)
    assert beside(answer) == beside(plain)
    assert all(key(hit) in own for hit in hits)
    if report.reason is not Reason.PERSONALIZED:
        return
    assert len(hits) >= len(
        plain["hits"]["hits"]
    )  # more at a list's end, where a page that fell back had left some out
    assert all("503" in error for error in report.errors), report.errors
    for hit in hits:
        assert 1.0 - TOLERANCE <= hit["_score"] / own[key(hit)]["_score"] <= 1.5 * (1.0 + TOLERANCE), key(hit)
        if not collapsed:
            assert shown(hit) == shown(own[key(hit)])


def test_several_shards_and_indices(opensearch: OpenSearch, opensearch_url: str, index: MakeIndex) -> None:
    chance = random.Random(SEED)
    names = [index(MAPPING, shards=shards) for shards in (1, 3, 5)]
    actions = [
        {"_index": name, "_id": product, "_source": source, **({"routing": shop} if shop else {})}
        for name in names
        for product, source in shoes(70).items()
        for shop in chance.choice([(None,), ("berlin", "paris")])
    ]
    helpers.bulk(opensearch, actions, refresh=True)
    client = search_client(opensearch_url)
    legs = Legs(around(client, is_async=False).cloned(8), chance)
    seen: Counter[str] = Counter()
    places = [*names, ",".join(names[:2]), ",".join(names)]
    with closing(client), opened(client, None) as made:
        intercept(made, legs)
        for name in names:
            wait_for_facts(made, name)
        for number in range(DRAWS):
            body = {"query": chance.choice(QUERIES), "size": chance.randint(4, 12), **chance.choice(MORE)}
            place = chance.choice(places)
            legs.share = chance.choice([0.0, 0.0, 0.3])
            own = every(opensearch, place, {name: value for name, value in body.items() if name != "collapse"})
            pages: list[Any] = []
            for page in range(PAGES):
                arguments = {"index": place, "body": {**body, "from": page * body["size"]}}
                plain = opensearch.search(**arguments)
                answer, report = made.search_details(**arguments, subject=ANN)
                answer = getattr(answer, "body", answer)
                try:
                    held(plain, answer, own, report, collapsed="collapse" in body)
                    if page == 0 and report.reason is not Reason.PERSONALIZED:
                        seen[f"first page: {report.reason}"] += 1
                        break
                    seen[str(report.reason)] += 1
                    pages += map(key, answer["hits"]["hits"])
                    assert len(set(pages)) == len(pages)
                except AssertionError as broken:
                    broken.add_note(f"draw {number} of seed {SEED}, page {page}: {arguments}, {report}")
                    raise
                until(made)
    assert seen["personalized"] >= DRAWS, seen
    assert not {str(Reason.TEMPLATE_FAILED), str(Reason.ANSWERS_DIFFER), str(Reason.SEARCH_REJECTED)} & set(seen), seen


def until(made: Rewriter) -> None:
    """Wait until the plan is saved."""
    late_s = time.monotonic() + 20.0
    while made.status().in_flight and time.monotonic() < late_s:
        time.sleep(0.005)
