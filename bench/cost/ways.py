"""The ways to search that are compared. What a page of each is made of:

plain            the search as it is
plain, spaced    the same with a pause of 3 ms before each, about as long as the library computes: the server's cost of idling
by hand          three calls to Redis in a row, then one unbounded `function_score` of 16 functions: what people write
function_score   in `wrap` and in `rescore`, eight functions, bounded, signals at hand: what the server costs without a library
script_score     the same eight values as a map of parameters
one _msearch     the plain search and a rescored one in one request
re-ranker        the top 200 with their fields, ranked by 100 trees on the client, then the ten documents: what a service does
parallel         this library, its default; sync and async
rewrite          this library with one search; sync and async
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from opensearchpy import AsyncOpenSearch

from bench.cost.blocks import Way
from bench.cost.scene import FUNCTIONS, MODES, Scene
from rewriter import AsyncRewriter, Rewriter

PLAIN, PLAIN_ASYNC, SPACED = "plain", "plain, async", "plain, spaced"
SPACED_S = 0.003
WINDOW = 200
TREES, DEPTH = 100, 4
READY_S = 30.0
SCRIPT = "double w = 0; def own = params.items.get(doc['product_id'].value); if (own != null) { w = own; } return _score * (1 + w);"


def weights(scene: Scene, number: int) -> dict[str, float]:
    """Return what a household likes, at hand: item → weight, eight of them, at most 0.5."""
    liked = scene.liked[str(scene.subject(number).user_id)][:FUNCTIONS]
    return {item: min(0.5, 0.1 * weight) for item, weight in liked}


def functions(liked: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return one function for each item, and the bare weight that keeps the factor at 1 and above."""
    found: list[dict[str, Any]] = [
        {"filter": {"term": {"_id": item}}, "weight": weight} for item, weight in liked.items()
    ]
    return [{"weight": 1}, *found]


def enveloped(query: Mapping[str, Any], liked: Mapping[str, float]) -> dict[str, Any]:
    """Return a bounded `function_score` around a query."""
    bound = {"score_mode": "sum", "boost_mode": "multiply", "max_boost": 1.5}
    return {"function_score": {"query": query, "functions": functions(liked), **bound}}


def rescored(body: Mapping[str, Any], liked: Mapping[str, float]) -> dict[str, Any]:
    """Return a body with the same functions in a rescore of the top 200."""
    query = {"rescore_query": enveloped({"match_all": {}}, liked), "score_mode": "multiply"}
    return {**body, "rescore": {"window_size": WINDOW, "query": query}}


class Ways:
    """The ways by name; `unique` and `aggregated` choose the searches."""

    def __init__(self, scene: Scene, *, unique: bool = False, aggregated: bool = False) -> None:
        self._scene = scene
        self._form = {"unique": unique, "aggregated": aggregated}
        chance = np.random.default_rng(5)
        self._features = chance.integers(0, 4, (TREES, 2**DEPTH - 1))
        self._splits = chance.random((TREES, 2**DEPTH - 1))
        self._leaves = chance.random((TREES, 2**DEPTH))

    def _body(self, number: int) -> dict[str, Any]:
        return self._scene.body(number, **self._form)

    def _send(self, body: Mapping[str, Any]) -> bool:
        return bool(self._scene.client.search(index=self._scene.index, body=body)["hits"]["hits"])

    def plain(self, number: int) -> bool:
        """Send the search as it is."""
        return self._send(self._body(number))

    def by_hand(self, number: int) -> bool:
        """Read three keys in a row, and boost without a bound."""
        store, name, body = self._scene.store, self._scene.subject(number).user_id, self._body(number)
        profile: Any = store.zrange(f"hand:profile:{name}", 0, 15, desc=True, withscores=True)
        session: Any = store.zrange(f"hand:session:{name}", 0, 15, desc=True, withscores=True)
        store.hgetall(f"hand:about:{name}")
        liked = dict(profile)
        for item, weight in session:
            liked[item] = liked.get(item, 0.0) + weight
        scored = {
            "query": body["query"],
            "functions": functions(liked)[1:],
            "score_mode": "sum",
            "boost_mode": "multiply",
        }
        return self._send({**body, "query": {"function_score": scored}})

    def wrap(self, number: int) -> bool:
        """Score every match with the functions."""
        body = self._body(number)
        return self._send({**body, "query": enveloped(body["query"], weights(self._scene, number))})

    def rescore(self, number: int) -> bool:
        """Rescore the top 200 with the functions."""
        return self._send(rescored(self._body(number), weights(self._scene, number)))

    def script_score(self, number: int) -> bool:
        """Score every match with a script that looks its item up in a map."""
        body = self._body(number)
        script = {"source": SCRIPT, "params": {"items": weights(self._scene, number)}}
        return self._send({**body, "query": {"script_score": {"query": body["query"], "script": script}}})

    def msearch(self, number: int) -> bool:
        """Send the plain search and a rescored one in one request."""
        body, head = self._body(number), {"index": self._scene.index}
        lines = [head, body, head, rescored(body, weights(self._scene, number))]
        answers = self._scene.client.msearch(body=lines)["responses"]
        return all("hits" in one for one in answers)

    def re_ranker(self, number: int) -> bool:
        """Rank the top 200 by trees over their score, rank, popularity and affinity, and fetch ten documents."""
        client, index, body = self._scene.client, self._scene.index, self._body(number)
        fields = ["product_id", "manufacturer", "popularity"]
        hits = client.search(index=index, body={**body, "size": WINDOW, "_source": False, "docvalue_fields": fields})[
            "hits"
        ]["hits"]
        liked = weights(self._scene, number)
        rows = [
            (hit["_score"], 1.0 / (at + 1), (hit["fields"].get("popularity") or [0])[0], liked.get(hit["_id"], 0.0))
            for at, hit in enumerate(hits)
        ]
        table = np.asarray(rows, float).reshape(-1, 4)
        table /= np.maximum(table.max(axis=0, initial=1e-9), 1e-9)
        order = np.argsort(-self._trees(table), kind="stable")[:10]
        client.mget(index=index, body={"ids": [hits[at]["_id"] for at in order]})
        return True

    def _trees(self, table: Any) -> Any:
        rows = np.arange(len(table))[:, None]
        node = np.zeros((len(table), TREES), int)
        trees = np.arange(TREES)[None, :]
        for _ in range(DEPTH):
            right = table[rows, self._features[trees, node]] > self._splits[trees, node]
            node = 2 * node + 1 + right
        return self._leaves[trees, node - (2**DEPTH - 1)].sum(axis=1)

    @contextmanager
    def opened(
        self, wanted: frozenset[str] | None = None, own_ms: list[float] | None = None, **policy: Any
    ) -> Iterator[list[Way]]:
        """Yield the ways whose names are wanted, by default all; those of the library are closed at the end.

        own_ms: takes the time of the caller's own search in each of the library's sync searches.
        policy: settings of the library's policy.
        """
        scene, loop = self._scene, self._scene.loop
        ways = [
            Way(PLAIN, self.plain), Way(SPACED, self.plain, pause_s=SPACED_S), Way("by hand", self.by_hand),
            Way("function_score, wrap", self.wrap),
            Way("function_score, rescore", self.rescore), Way("script_score", self.script_score),
            Way("one _msearch", self.msearch), Way("re-ranker", self.re_ranker),
        ]  # fmt: skip
        rewriters = {
            f"{mode}, sync": Rewriter(scene.client, scene.store_url, scene.settings(mode, **policy))
            for mode in MODES
            if wanted is None or f"{mode}, sync" in wanted
        }
        client = AsyncOpenSearch(scene.url, pool_maxsize=128, timeout=300)
        tasks = {
            f"{mode}, async": AsyncRewriter(client, scene.store_url, scene.settings(mode, **policy))
            for mode in MODES
            if wanted is None or f"{mode}, async" in wanted
        }

        async def plain(number: int) -> bool:
            return bool((await client.search(index=scene.index, body=self._body(number)))["hits"]["hits"])

        ways += [Way(name, self._through(one, own_ms)) for name, one in rewriters.items()]
        ways.append(Way(PLAIN_ASYNC, plain, PLAIN_ASYNC, is_async=True))
        ways += [Way(name, self._awaiting(one), PLAIN_ASYNC, is_async=True) for name, one in tasks.items()]
        try:
            for one in rewriters.values():
                one.wait_ready(READY_S, index=scene.index)
            loop.run_until_complete(self._ready(list(tasks.values())))
            yield [way for way in ways if wanted is None or way.name in wanted]
        finally:
            for one in rewriters.values():
                one.close()
            for other in tasks.values():
                loop.run_until_complete(other.close())
            loop.run_until_complete(client.close())

    async def _ready(self, tasks: list[AsyncRewriter[Any]]) -> None:
        for one in tasks:
            await one.wait_ready(READY_S, index=self._scene.index)

    def _through(self, rewriter: Rewriter[Any], own_ms: list[float] | None) -> Any:
        def one(number: int) -> bool:
            _, report = rewriter.search_details(
                index=self._scene.index, body=self._body(number), subject=self._scene.subject(number)
            )
            if own_ms is not None:
                own_ms.append(report.timings_ms["baseline"])
            return report.reason == "personalized"

        return one

    def _awaiting(self, rewriter: AsyncRewriter[Any]) -> Any:
        async def one(number: int) -> bool:
            _, report = await rewriter.search_details(
                index=self._scene.index, body=self._body(number), subject=self._scene.subject(number)
            )
            return report.reason == "personalized"

        return one


def first_answer_ms(scene: Scene, mode: str) -> float:
    """Return the time from the constructor of a rewriter to its first answer, imports excluded."""
    started_s = time.perf_counter()
    with Rewriter(scene.client, scene.store_url, scene.settings(mode)) as rewriter:
        rewriter.search_details(index=scene.index, body=scene.body(0), subject=scene.subject(0))
        return (time.perf_counter() - started_s) * 1e3
