"""Searches that are sent once, end to end on a real server, through both shells: pages, bounds, hedges, and how losers end."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opensearchpy import AsyncOpenSearch, OpenSearch

from rewriter import AsyncRewriter, Reason, Report, Rewriter, Settings, Subject
from rewriter.signals.counters import Counters
from rewriter.signals.memory_store import AsyncMemoryStore, MemoryStore
from rewriter.signals.store import Keys
from tests.conftest import MakeIndex
from tests.fakes import awaited, knowing, known, waited
from tests.live.shelf import MAPPING, MATCH, shoes

ANN = Subject("ann", "s1")
LIKED = Counters(
    {("item", f"{n}"): 9.0 for n in (61, 72, 83, 44)}, {"item": 36.0}, time.time(), time.time(), events=3.0
)
SLOW = (
    "double spin(int n) { double sum = 0; for (int i = 0; i < n; i++) { sum += Math.sqrt(i); } return sum; } "
    "for (int i = 0; i < params.loops / 500000; i++) { spin(500000); } return _score"
)
"""The server allows a function a million statements in loops, so the loop is in one of its own."""
MAX_BOOST = 2.0

Search = Callable[[dict[str, Any]], tuple[Any, Report]]


def settings(index: str, **policy: Any) -> Settings:
    given = {
        "index": index,
        "mode": "rewrite",
        "parallel_share": 0,
        "hedge_ms": 20_000,
        "max_boost": MAX_BOOST,
        "item_scale": 3.0,
        "item_repeat_share": 1.0,
    }
    return Settings.model_validate(
        {
            "experiment": {"holdout": 0},
            "budget": {"signals_ms": 5_000, "cutoff_ms": 20_000},
            "policies": {"shop": {**given, **policy}},
        }
    )


def store() -> MemoryStore:
    found = MemoryStore()
    found.write(Keys().profile("ann"), LIKED, None)
    return found


@pytest.fixture
def shop(index: MakeIndex) -> str:
    mapping = {name: kind for name, kind in MAPPING.items() if name != "hidden"}
    documents = {
        one: {key: value for key, value in source.items() if key != "hidden"} for one, source in shoes(90).items()
    }
    return index({**mapping, "suggest": {"type": "completion"}}, documents={
        one: {**source, "suggest": {"input": [f"shoe {one}"]}} for one, source in documents.items()
    }, shards=3)  # fmt: skip


@pytest.fixture(params=["sync", "async"])
def searches(request: pytest.FixtureRequest, opensearch_url: str, shop: str) -> Iterator[Search]:
    given = settings(shop)
    if request.param == "sync":
        with OpenSearch(opensearch_url, timeout=60) as client, Rewriter(client, store(), given) as rewriter:
            known(rewriter, shop)
            yield lambda body: rewriter.search_details(index=shop, body=body, subject=ANN)
        return
    with asyncio.Runner() as runner:
        other = AsyncOpenSearch(opensearch_url, timeout=60)
        around = AsyncRewriter(other, AsyncMemoryStore(store()), given)
        runner.run(knowing(around, shop))
        yield lambda body: runner.run(around.search_details(index=shop, body=body, subject=ANN))
        runner.run(around.close())
        runner.run(other.close())


OFFERS = {"nested": {"path": "offers", "query": {"match_all": {}}, "inner_hits": {}}}
BODIES: dict[str, dict[str, Any]] = {
    "plain": {"query": MATCH},
    "all of it": {
        "query": {"bool": {"must": [MATCH], "should": [OFFERS]}},
        "aggs": {"b": {"terms": {"field": "brand"}, "aggs": {"p": {"avg": {"field": "price"}}}}},
        "suggest": {"t": {"text": "sho", "term": {"field": "title"}}},
        "highlight": {"fields": {"title": {}}},
        "post_filter": {"range": {"price": {"gt": 12}}},
        "track_total_hits": True,
    },
    "collapse": {"query": MATCH, "collapse": {"field": "price"}},
    "min_score": {"query": MATCH, "min_score": 0.1},
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_a_rewritten_answer_is_the_plain_one_but_for_hits(
    opensearch: OpenSearch, shop: str, searches: Search, name: str
) -> None:
    body = {**BODIES[name], "size": 10}
    plain = opensearch.search(index=shop, body=body)
    whole = opensearch.search(index=shop, body={**body, "size": 90})
    answer, report = searches(body)
    assert (report.reason, report.mode, report.hedged) == (Reason.PERSONALIZED, "rewrite", False)
    assert len(report.slots) == 1
    assert "rewriter:" not in json.dumps(answer)
    for part in (plain, answer):
        part.pop("took")
    base = {hit["_id"]: hit["_score"] for hit in whole["hits"]["hits"]}
    hits, _ = answer["hits"].pop("hits"), plain["hits"].pop("hits")
    answer["hits"].pop("max_score")
    plain["hits"].pop("max_score")
    assert answer == plain
    assert len(hits) == 10
    assert len({hit["_id"] for hit in hits}) == 10
    ratios = [hit["_score"] / base[hit["_id"]] for hit in hits]
    assert min(ratios) >= 1.0 - 1e-6
    assert 1.3 < max(ratios) <= MAX_BOOST * (1.0 + 1e-6)


BY_CLASS: dict[str, dict[str, Any]] = {
    "collapse by the class": {"query": MATCH, "collapse": {"field": "brand"}},
    "the class is shown": {"query": MATCH, "docvalue_fields": ["brand"]},
    "all fields are shown": {"query": MATCH, "fields": ["*"]},
    "a script field of the class's name": {"query": MATCH, "script_fields": {"brand": {"script": "'mine'"}}},
    "a script field of another name": {
        "query": MATCH,
        "script_fields": {"mine": {"script": "'mine'"}},
        "_source": ["brand"],
    },
    "a derived field of the class's name": {
        "query": MATCH,
        "derived": {"brand": {"type": "keyword", "script": "emit('mine')"}},
        "fields": ["price"],
    },
}


@pytest.mark.parametrize("mode", ["rewrite", "parallel"])
@pytest.mark.parametrize("name", BY_CLASS)
def test_asking_for_classes_changes_nothing_of_an_answer(
    opensearch: OpenSearch, opensearch_url: str, shop: str, name: str, mode: str
) -> None:
    """The classes of a query are unknown, so that the search asks for each hit's. All that the server names is removed."""
    given = settings(shop, class_field="brand", named_share=1.0, mode=mode, exploration_share=0)
    body = {**BY_CLASS[name], "size": 10}
    plain = opensearch.search(index=shop, body=body)
    whole = opensearch.search(index=shop, body={**body, "size": 90})
    fields = {hit["_id"]: hit.get("fields") for hit in whole["hits"]["hits"]}
    with OpenSearch(opensearch_url, timeout=60) as client, Rewriter(client, store(), given) as rewriter:
        known(rewriter, shop)
        for _ in range(2):
            answer, report = rewriter.search_details(index=shop, body=body, subject=ANN)
            assert report.reason in (Reason.PERSONALIZED, Reason.NO_HITS), report
            for hit in answer["hits"]["hits"]:
                assert hit.get("fields") == fields.get(hit["_id"], hit.get("fields"))
            assert "rewriter:" not in json.dumps(answer)
            assert answer.get("suggest") == plain.get("suggest")
            hits, wanted = answer["hits"]["hits"], plain["hits"]["hits"]
            assert len(hits) == len(wanted)
            assert [sorted(hit) for hit in hits] == [sorted(hit) for hit in wanted]


@pytest.mark.parametrize("mode", ["rewrite", "parallel"])
@pytest.mark.parametrize(("limit", "own"), [(0, []), (1, ["price"]), (None, [f"f{n}" for n in range(100)])])
def test_no_class_is_asked_for_where_an_index_allows_no_further_field(
    opensearch: OpenSearch, opensearch_url: str, shop: str, limit: int | None, own: list[str], mode: str
) -> None:
    """The server would refuse the whole search, each time, since no class is ever learned."""
    given = settings(shop, class_field="brand", mode=mode, exploration_share=0)
    body = {"query": {"match": {"title": f"shoe {limit}"}}, "docvalue_fields": own}
    opensearch.indices.put_settings(index=shop, body={"index.max_docvalue_fields_search": limit})
    try:
        with OpenSearch(opensearch_url, timeout=60) as client, Rewriter(client, store(), given) as rewriter:
            known(rewriter, shop)
            _, report = rewriter.search_details(index=shop, body=body, subject=ANN)
            assert report.reason is Reason.PERSONALIZED, report
    finally:
        opensearch.indices.put_settings(index=shop, body={"index.max_docvalue_fields_search": None})


@pytest.mark.parametrize("size", [7, 10, 24])
def test_no_hit_of_the_list_is_lost_and_none_shows_twice(
    opensearch: OpenSearch, shop: str, searches: Search, size: int
) -> None:
    every = {hit["_id"] for hit in opensearch.search(index=shop, body={"query": MATCH, "size": 90})["hits"]["hits"]}
    shown: list[str] = []
    modes, tops = [], set()
    for from_ in range(0, 50 - size, size):
        time.sleep(0.15)  # a page is turned a moment later: its plan is saved beside the answer
        answer, report = searches({"query": MATCH, "size": size, "from": from_})
        assert report.reason is Reason.PERSONALIZED
        modes.append(report.mode)
        tops.add(answer["hits"]["max_score"])
        shown += [hit["_id"] for hit in answer["hits"]["hits"]]
    assert len(set(shown)) == len(shown)
    assert set(shown) <= every
    assert modes[:2] == ["rewrite"] * len(modes[:2])
    assert len(tops) == 1


def slow_body(loops: int) -> dict[str, Any]:
    """A search that takes as long as its loops."""
    script = {"source": SLOW, "params": {"loops": loops}}
    return {"query": {"script_score": {"query": MATCH, "script": script}}, "size": 10, "track_total_hits": True}


def searching(client: OpenSearch, loops: int) -> int:
    """How many searches with these loops run on the server."""
    tasks = client.tasks.list(params={"actions": "*search*", "detailed": "true"})
    described = [task.get("description", "") for node in tasks["nodes"].values() for task in node["tasks"].values()]
    return sum(f'"loops":{loops}' in one for one in described)


@pytest.mark.parametrize("shell", ["sync", "async"])
def test_a_loser_is_ended_by_closing_its_connection_and_counts_as_no_failure(
    opensearch: OpenSearch, opensearch_url: str, shop: str, shell: str
) -> None:
    """The rewritten search is made to hang where the caller's own does not, by a client that makes only the latter quick."""
    loops = 40_000_000 + (shell == "async")
    given = settings(shop, hedge_ms=150, exploration_share=0)

    def made_quick(client: Any) -> None:
        own = client.search
        client.search = lambda **arguments: own(**{**arguments, "body": {"query": MATCH}})

    if shell == "sync":
        with OpenSearch(opensearch_url) as client, Rewriter(client, store(), given) as rewriter:
            made_quick(client)
            known(rewriter, shop)
            assert rewriter._runtime is not None
            started_s = time.monotonic()
            _, report = rewriter.search_details(index=shop, body=slow_body(loops), subject=ANN)
            took_s = time.monotonic() - started_s
            assert waited(lambda: rewriter.status().rewritten_in_flight == 0)
            status = rewriter.status()
    else:

        async def main() -> tuple[Report, float, Any]:
            async with (
                AsyncOpenSearch(opensearch_url) as client,
                AsyncRewriter(client, AsyncMemoryStore(store()), given) as rewriter,
            ):
                made_quick(client)
                await knowing(rewriter, shop)
                started_s = time.monotonic()
                _, report = await rewriter.search_details(index=shop, body=slow_body(loops), subject=ANN)
                took_s = time.monotonic() - started_s

                async def ended() -> bool:
                    return (await rewriter.status()).rewritten_in_flight == 0

                await awaited(ended)
                return report, took_s, await rewriter.status()

        report, took_s, status = asyncio.run(main())
    assert (report.reason, report.hedged) == (Reason.SEARCH_LATE, True), report.detail
    assert waited(lambda: searching(opensearch, loops) == 0)
    assert took_s < 8.0
    assert (status.breaker["failures"], status.breaker["slow"]) == (0, 1)
