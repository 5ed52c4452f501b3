"""Growth: what a search costs as one thing grows, each with the exponent of a power law fitted to it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from math import exp, log
from statistics import linear_regression, median
from typing import Any

from opensearchpy import helpers

from bench.cost.blocks import Block, Way, measured
from bench.cost.intervals import ENOUGH, client_ms, exponent, figures, p50, server_ms
from bench.cost.scene import MODES, WORDS, Scene, Size, products
from bench.cost.ways import PLAIN, Ways, rescored
from rewriter.demo.corpus import baseline_query
from rewriter.signals.counters import Counters, Value
from rewriter.signals.redis_store import open_store
from rewriter.signals.store import Keys, SignalsQuery

SYNC = frozenset({PLAIN, *(f"{mode}, sync" for mode in MODES)})
EXPONENTS = {"p50_ms": p50, "server_cpu_ms": server_ms, "client_cpu_ms": client_ms}


def curve(points: Mapping[float, Mapping[str, Sequence[Block]]], unit: str) -> Mapping[str, Any]:
    """Return a growth curve: the figures at each size, and each way's exponents over the sizes that it personalized."""
    names = list(next(iter(points.values())))
    found = {
        f"{size:g}": {name: figures(blocks[name], blocks[names[0]]) for name in names}
        for size, blocks in points.items()
    }
    return {
        "unit": unit,
        "points": found,
        "exponents": {
            name: {
                what: list(exponent(sizes, [points[size][name] for size in sizes], figure))
                for what, figure in EXPONENTS.items()
            }
            for name in names
            if len(sizes := [size for size in points if found[f"{size:g}"][name]["personalized"] >= ENOUGH]) > 1
        },
    }


def _sync(scene: Scene, size: Size, ways: Ways, **policy: Any) -> dict[str, list[Block]]:
    with ways.opened(SYNC, **policy) as some:
        return measured(some, scene.clock, scene.loop, callers=1, rounds=size.rounds, searches=size.searches)


def boosts(scene: Scene, size: Size) -> Mapping[str, Any]:
    """Functions of a rescore, with and without names, without the library."""
    found: dict[float, dict[str, list[Block]]] = {}
    items = [f"{number}" for number in range(128)]

    def way(name: str, count: int, *, named: bool) -> Way:
        def one(number: int) -> bool:
            liked = dict.fromkeys(items[:count], 0.1)
            body = rescored(scene.body(number), liked)
            if named:
                own = body["rescore"]["query"]["rescore_query"]["function_score"]["functions"]
                for at, function in enumerate(own[1:]):
                    function["filter"] = {"bool": {"filter": [function["filter"]], "_name": f"n{at}"}}
            return bool(scene.client.search(index=scene.index, body=body)["hits"]["hits"])

        return Way(name, one)

    plain = Way(PLAIN, Ways(scene).plain)
    for count in (1, 2, 4, 8, 16, 32, 64, 128):
        ways = [plain, way("named", count, named=True), way("not named", count, named=False)]
        found[count] = measured(ways, scene.clock, scene.loop, callers=1, rounds=size.rounds, searches=size.searches)
    return curve(found, "functions")


def counters(scene: Scene, size: Size) -> Mapping[str, Any]:
    """Counters stored of each person; at most `max_counters` are read."""
    store, keys = open_store(scene.store_url), Keys("counters")
    assert store is not None
    found: dict[float, dict[str, list[Block]]] = {}
    scene = replace(scene, subjects=scene.subjects[:10])
    for count in (10, 100, 1_000, 10_000):
        weights: dict[Value, float] = {("item", str(n)): 1.0 + n / count for n in range(count)}
        made = Counters(weights, {"item": float(count)}, time.time(), time.time(), float(count))
        for key in (keys.population(), *(keys.profile(str(subject.user_id)) for subject in scene.subjects)):
            store.write(
                key, made, None
            )  # without a population a rewriter is not ready, and each would be waited for in vain
        found[count] = _sync(_prefixed(scene, "counters"), size, Ways(_prefixed(scene, "counters")))
    store.close()
    return curve(found, "counters stored a person")


def _prefixed(scene: Scene, prefix: str) -> Scene:
    class Prefixed(Scene):
        def settings(self, mode: str, **policy: Any) -> Any:
            found = super().settings(mode, **policy)
            return found.model_copy(update={"store": found.store.model_copy(update={"prefix": prefix})})

    values = {name: getattr(scene, name) for name in scene.__dataclass_fields__}
    return Prefixed(**values)


def matches(scene: Scene, size: Size) -> Mapping[str, Any]:
    """Matches of the query: from a share of a product type to every product."""
    found: dict[float, dict[str, list[Block]]] = {}
    words = [
        "saffron",
        "yogurt",
        "soft drinks",
        "coffee cheese bread",
        "frozen pizza coffee cheese bread soup cereal candy",
    ]
    for text in words:
        query = baseline_query(text)
        total = scene.client.count(index=scene.index, body={"query": query})["count"]
        if total:
            ways = Ways(_with_body(scene, {"query": query, "size": 10}))
            found[float(total)] = _sync(scene, size, ways)
    return curve(dict(sorted(found.items())), "matches")


def _with_body(scene: Scene, body: Mapping[str, Any]) -> Scene:
    class Fixed(Scene):
        def body(self, number: int, **_: bool) -> dict[str, Any]:  # noqa: ARG002
            return dict(body)

    return Fixed(**{name: getattr(scene, name) for name in scene.__dataclass_fields__})


def depth(scene: Scene, size: Size) -> Mapping[str, Any]:
    """Hits of the page."""
    found: dict[float, dict[str, list[Block]]] = {}
    for count in (10, 20, 50, 100):
        ways = Ways(_with_body(scene, {"query": baseline_query(WORDS[0]), "size": count}))
        found[count] = _sync(scene, size, ways)
    return curve(found, "hits of a page")


def documents(scene: Scene, size: Size) -> Mapping[str, Any]:
    """Documents of the index."""
    found: dict[float, dict[str, list[Block]]] = {}
    for count in (10_000, 100_000, scene.documents):
        with ExitStack() as stack:
            index = scene.index if count == scene.documents else stack.enter_context(products(scene, count))
            other = replace(scene, index=index, documents=count)
            found[count] = _sync(other, size, Ways(other))
    return curve(dict(sorted(found.items())), "documents")


def document_size(scene: Scene, size: Size) -> Mapping[str, Any]:
    """Bytes of a document, of which a page returns all."""
    found: dict[float, dict[str, list[Block]]] = {}
    for count in (500, 5_000, 20_000, 100_000):
        index = f"{scene.index}-size-{count}"
        scene.client.indices.create(
            index=index,
            body={
                "settings": {"number_of_shards": 1, "number_of_replicas": 0},
                "mappings": {"properties": {"title": {"type": "text"}, "manufacturer": {"type": "keyword"},
                                            "popularity": {"type": "integer"}, "text": {"type": "keyword", "index": False,
                                                                                     "doc_values": False}}},
            },
        )  # fmt: skip
        try:
            filler = "lorem ipsum dolor sit amet " * (count // 27 + 1)
            some = ({"_index": index, "_id": f"{n}", "title": WORDS[n % len(WORDS)], "manufacturer": f"{n % 50}",
                     "popularity": n % 100, "text": filler[:count]} for n in range(1_000))  # fmt: skip
            helpers.bulk(scene.client, some, chunk_size=100, refresh=True)
            other = replace(scene, index=index, documents=1_000)
            found[count] = _sync(other, size, Ways(other))
        finally:
            scene.client.indices.delete(index=index)
    return curve(found, "bytes a document")


def users(scene: Scene, size: Size) -> Mapping[str, Any]:
    """People in the store: memory, and the time of a read of signals."""
    store, keys = open_store(scene.store_url), Keys("users")
    assert store is not None
    now_s, found, written = time.time(), {}, 0
    empty = int(scene.store.info("memory")["used_memory"])
    for count in (1_000, 10_000, 100_000):
        for number in range(written, count):
            weights: dict[Value, float] = {("item", f"{number % 977}-{n}"): 1.0 + n / 60 for n in range(60)}
            store.write(keys.profile(f"u{number}"), Counters(weights, {"item": 60.0}, now_s, now_s, 60.0), None)
        used = int(scene.store.info("memory")["used_memory"]) - empty
        took = []
        for number in range(size.rounds * size.searches):
            query = SignalsQuery(None, keys.profile(f"u{number * 31 % count}"), None, ("item",), 128)
            started_s = time.perf_counter()
            store.read(query)
            took.append((time.perf_counter() - started_s) * 1e3)
        found[count] = {"store, MiB": used / 2**20, "a read of signals, p50 in ms": median(took)}
        written = count
    store.close()
    return {"unit": "people in the store", "people": found, "fitted": fitted(found, (1_000_000, 10_000_000))}


def fitted(points: Mapping[int, Mapping[str, float]], beyond: Sequence[int]) -> dict[str, dict[str, float]]:
    """Return, for each figure, the exponent of the power law through its points, and its value at the sizes beyond them."""
    logs = [log(size) for size in points]
    found = {}
    for name in next(iter(points.values())):
        slope, at_one = linear_regression(logs, [log(max(of[name], 1e-9)) for of in points.values()])
        found[name] = {"exponent": slope, **{f"{size}": exp(at_one + slope * log(size)) for size in beyond}}
    return found
