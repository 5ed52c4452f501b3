"""Copies of an index that differ, and writes between the legs: explained, served or passed over, and never a failure of the legs.

A node alone assigns no replica, so a second copy is an index of its own here: the same documents, but with the deleted ones
of its own history still counted, as a replica has them. The legs search it under the first one's name.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from threading import Event, Thread
from typing import Any

import pytest
from opensearchpy import OpenSearch, helpers

from rewriter import Reason, Rewriter, Settings
from rewriter.signals.counters import Counters
from rewriter.signals.memory_store import MemoryStore
from rewriter.signals.store import Keys
from tests.conftest import MakeIndex
from tests.live.test_right_answers import ANN, BRANDS, MAPPING, MATCH, shoes

FAILURES = {
    Reason.SEARCH_FAILED,
    Reason.SEARCH_REJECTED,
    Reason.TEMPLATE_FAILED,
    Reason.QUARANTINED,
    Reason.BREAKER_OPEN,
    Reason.SEARCH_LATE,
}


class Copy:
    """A client whose searches go to another index, and come back under the name of the one that was asked for."""

    def __init__(self, client: OpenSearch, name: str, copy: str) -> None:
        self._client, self._name, self._copy = client, name, copy
        self.indices = client.indices
        self.transport = client.transport

    def search(self, **arguments: Any) -> Any:
        answer = self._client.search(**{**arguments, "index": self._copy})
        for hit in answer["hits"]["hits"]:
            hit["_index"] = self._name
        return answer


def opened(client: OpenSearch, legs: Any) -> Rewriter:
    given = {
        "experiment": {"holdout": 0},
        "budget": {"signals_ms": 5_000, "cutoff_ms": 10_000},
        "policies": {"shelf": {"index": "*", "item_repeat_share": 1.0, "fields": {"brand": {"scale": 0.5}}}},
    }
    store, now_s = MemoryStore(), time.time()
    store.write(Keys().profile("ann"), Counters({("brand", "puma"): 9.0}, {"brand": 9.0}, now_s, now_s, 3.0), None)
    everybody = Counters({("brand", one): 1_000.0 for one in BRANDS}, {"brand": 4_000.0}, now_s, now_s, 9.0)
    store.write(Keys().population(0), everybody, None)
    return Rewriter(client, store, Settings.model_validate(given), leg_client=legs)


def wait_for_facts(made: Rewriter, name: str) -> None:
    until_s = time.monotonic() + 20.0
    while name not in made.status().indices:
        assert time.monotonic() < until_s
        made.search(index=name, body={"query": MATCH}, subject=ANN)
        time.sleep(0.05)
    until_s = time.monotonic() + 20.0
    while made.search_details(index=name, body={"query": MATCH}, subject=ANN)[1].reason is Reason.NO_SIGNALS:
        assert time.monotonic() < until_s
        time.sleep(0.05)


QUERIES: tuple[dict[str, Any], ...] = (
    MATCH,
    {"match": {"title": "red trail shoe"}},
    {"bool": {"should": [{"match": {"title": "model"}}, {"match_phrase": {"title": "trail shoe"}}]}},
    {"multi_match": {"query": "red shoe 17", "fields": ["title^2", "brand"]}},
)


@pytest.mark.parametrize(("replicas", "every"), [(1, 33), (1, 4), (0, 33), (0, 4)])
def test_copies_that_differ_in_their_deleted_documents(
    opensearch: OpenSearch, index: MakeIndex, replicas: int, every: int
) -> None:
    """3 % of documents rewritten move scores by up to 3 %, where a word is in every document; 25 % by 20 %."""
    whole = {"number_of_replicas": replicas, "refresh_interval": "-1"}
    name = index(MAPPING, documents=shoes(1_000), settings=whole)
    other = index(MAPPING, documents=shoes(1_000), settings=whole)
    rewritten = list(shoes(1_000).items())[::every]  # a deleted document counts until its segment is merged
    actions = ({"_index": other, "_id": product, "_source": source} for product, source in rewritten)
    helpers.bulk(opensearch, actions, refresh=True)
    reasons: Counter[Reason] = Counter()
    details: set[str] = set()
    with opened(opensearch, Copy(opensearch, name, other)) as made:
        wait_for_facts(made, name)
        for query, _ in itertools.product(QUERIES, range(10)):
            answer, report = made.search_details(index=name, body={"query": query, "size": 10}, subject=ANN)
            reasons[report.reason] += 1
            details.add(report.detail)
            assert len(answer["hits"]["hits"]) == 10
        assert made.status().breaker["state"] == "closed"
    assert not FAILURES & set(reasons), reasons
    if replicas and every == 33:
        assert reasons == {Reason.PERSONALIZED: 40}, details
    else:
        assert set(reasons) <= {Reason.PERSONALIZED, Reason.ANSWERS_DIFFER}


@pytest.mark.parametrize("replicas", [1, 0])
@pytest.mark.parametrize("shards", [1, 3])
def test_writes_and_refreshes_between_the_legs(
    opensearch: OpenSearch, index: MakeIndex, shards: int, replicas: int
) -> None:
    name = index(MAPPING, documents=shoes(600), shards=shards, settings={"number_of_replicas": replicas})
    stop, written = Event(), 0

    def write() -> None:
        nonlocal written
        while not stop.is_set():
            number = written = written + 1
            actions: list[dict[str, Any]] = [
                {
                    "_index": name,
                    "_id": f"p{number * 7 % 600}",
                    "_source": {"title": "a red shoe", "brand": "fila", "price": 1},
                },
                {
                    "_index": name,
                    "_id": f"new{number}",
                    "_source": {"title": "a shoe of today", "brand": "puma", "price": 2},
                },
                {"_op_type": "delete", "_index": name, "_id": f"p{number * 13 % 600}"},
            ]
            helpers.bulk(opensearch, actions, refresh=True, raise_on_error=False)

    writer = Thread(target=write)
    reasons: Counter[Reason] = Counter()
    with opened(opensearch, None) as made:
        wait_for_facts(made, name)
        writer.start()
        try:
            until_s = time.monotonic() + 60.0
            for number in itertools.count():
                query = QUERIES[number % len(QUERIES)]
                if number >= 120 and written >= 25:
                    break
                answer, report = made.search_details(index=name, body={"query": query, "size": 10}, subject=ANN)
                reasons[report.reason] += 1
                hits = [(hit["_id"], hit.get("_routing")) for hit in answer["hits"]["hits"]]
                assert len(set(hits)) == len(hits)
                assert time.monotonic() < until_s, written
        finally:
            stop.set()
            writer.join()
        assert made.status().breaker["state"] == "closed"
    assert not FAILURES & set(reasons), reasons
    assert reasons[Reason.PERSONALIZED] >= 0.8 * reasons.total(), (reasons, written)
    print(f"{shards} shards, {replicas} replicas: {dict(reasons)}, {written} writes")  # noqa: T201  how often, for whoever asks
