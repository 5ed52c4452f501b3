"""The scene of a run: servers, the index of products, households with their signals, and the searches.

The corpus is Complete Journey's, copied until it holds as many products as are wanted. OPENSEARCH_URL names a server to use;
without it one is started from its jars, with 2 GB of heap.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import redis
from opensearchpy import OpenSearch

from bench.cost.blocks import ServerClock
from rewriter import Settings, Subject
from rewriter.demo.corpus import Corpus, Product, baseline_query, create_index, load, values_of
from rewriter.signals.affinities import signal_fields
from rewriter.signals.counters import HalfLives, Observation, counted
from rewriter.signals.redis_store import open_store
from rewriter.signals.store import Keys
from rewriter_engines import OpenSearchServer, Valkey

WORDS = ("soft drinks", "yogurt", "cheese", "cookies", "shampoo", "bread", "frozen pizza", "coffee", "cereal", "soup")
HOUSEHOLDS = 50
FUNCTIONS = 8
HAND_FUNCTIONS = 16
AGGREGATIONS = {
    "departments": {"terms": {"field": "department"}},
    "manufacturers": {"terms": {"field": "manufacturer"}},
    "popularity": {"stats": {"field": "popularity"}},
}
MODES = ("parallel", "rewrite")
NEVER = {
    "max_error_rate": 1.0,
    "max_slow_rate": 1.0,
    "burst_error_rate": 1.0,
    "failures_in_a_row": 10_000,
    "late_reads_in_a_row": 10_000,
}
"""The breaker of every run."""
POLICY: Mapping[str, Any] = {
    "fields": {"manufacturer": {"scale": 0.3}},
    "category_field": "manufacturer",
    "item_repeat_share": 1.0,
    "max_functions": FUNCTIONS,
}
"""The settings of every run that decide its boosts and slots."""


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a measurement: its number of rounds, and the searches in each block of a round."""

    rounds: int
    searches: int


@dataclass
class Scene:
    """Servers, index and settings that all ways of a run share.

    patient: the library waits long for signals and legs, and hedges late: with many callers on few cores, every search is to be
             personalized, and what that does to the rest is what is measured.
    """

    url: str
    store_url: str
    client: OpenSearch
    store: redis.Redis
    clock: ServerClock
    loop: asyncio.AbstractEventLoop
    corpus: Corpus
    index: str
    documents: int
    subjects: list[Subject] = field(default_factory=list)
    liked: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    patient: bool = False

    def subject(self, number: int) -> Subject:
        """Return the household that sends a search."""
        return self.subjects[number % len(self.subjects)]

    def body(self, number: int, *, unique: bool = False, aggregated: bool = False) -> dict[str, Any]:
        """Return the search of a number: one of ten, or one that was never sent before."""
        query = baseline_query(WORDS[number % len(WORDS)])
        if unique:
            nobody = {"term": {"product_id": f"nobody-{number}-{time.time_ns()}"}}
            query = {"bool": {"must": [query], "must_not": [nobody]}}
        return {"query": query, "size": 10, **({"aggs": AGGREGATIONS} if aggregated else {})}

    def client_of(self, url: str) -> OpenSearch:
        """Return another client of this server."""
        return OpenSearch(url, pool_maxsize=128, timeout=300)

    def settings(self, mode: str, **policy: Any) -> Settings:
        """Return settings under which a busy machine switches nothing off: what is late is counted."""
        own = {
            **POLICY,
            "index": self.index,
            "mode": mode,
            # The ways take turns: the default's five seconds would be over whenever a way's turn comes again, while in production
            # the searches of other people keep a pool fresh.
            "exploration_fresh_s": 600.0,
            "exploration_stale_s": 600.0,
        }
        given = {
            "experiment": {"holdout": 0.0},
            "breaker": NEVER,
            "budget": {"signals_ms": 2_000, "cutoff_ms": 10_000, "max_in_flight": 256} if self.patient else {},
            "policies": {"shop": own | ({"hedge_ms": 30_000} if self.patient else {}) | policy},
        }
        return Settings.model_validate(given)


def copies(corpus: Corpus, documents: int) -> Iterator[Product]:
    """Yield `documents` products: the corpus' own, then the same with other ids."""
    products = list(corpus.products.values())

    def every() -> Iterator[Product]:
        copy = 0
        while True:
            for product in products:
                yield product if copy == 0 else replace(product, product_id=f"{product.product_id}-{copy}")
            copy += 1

    return islice(every(), documents)


@contextmanager
def scene(documents: int) -> Iterator[Scene]:
    """Start or find servers, load the products, write the signals; remove all of it at the end."""
    with ExitStack() as stack:
        url = os.environ.get("OPENSEARCH_URL") or stack.enter_context(OpenSearchServer(heap="2g")).url
        store_url = stack.enter_context(Valkey()).url
        client = stack.enter_context(OpenSearch(url, pool_maxsize=128, timeout=300))
        store = stack.enter_context(redis.Redis.from_url(store_url, decode_responses=True))
        loop = asyncio.new_event_loop()
        stack.callback(loop.close)
        corpus = load()
        found = Scene(url, store_url, client, store, ServerClock(client), loop, corpus, "", documents)
        found.index = stack.enter_context(products(found, documents))
        _write_signals(found)
        yield found


@contextmanager
def products(found: Scene, documents: int) -> Iterator[str]:
    """Load so many products into an index of their own; remove it at the end."""
    index = f"bench-cost-{documents}-{uuid.uuid4().hex[:6]}"
    try:
        create_index(found.client, index, copies(found.corpus, documents))
        found.client.indices.forcemerge(index=index, params={"max_num_segments": "5"}, request_timeout=900)
        yield index
    finally:
        found.client.indices.delete(index=index, ignore_unavailable=True)


def _write_signals(found: Scene) -> None:
    """Write what the households that bought most like: for the library, and as somebody would who writes it by hand."""
    settings = found.settings("parallel")
    keys, store = Keys(settings.store.prefix), open_store(found.store_url)
    assert store is not None
    fields = signal_fields(settings.policies["shop"])
    half_lives = HalfLives(settings.signals.profile_half_life_s)
    now_s = time.time()
    behind_s = now_s - found.corpus.purchases[-1].at_s
    seen: dict[str, list[Observation]] = {}
    for one in found.corpus.purchases:
        values = values_of(found.corpus.products[one.product_id], fields)
        seen.setdefault(one.household_id, []).append(Observation(values, 1.0, one.at_s + behind_s))
    store.write(
        keys.population(), counted((o for some in seen.values() for o in some), half_lives, now_s, 20_000), None
    )
    most = 2 * settings.signals.max_counters
    for name in sorted(seen, key=lambda name: -len(seen[name]))[:HOUSEHOLDS]:
        counters = counted(seen[name], half_lives, now_s, most)
        store.write(keys.profile(name), counters, None)
        found.subjects.append(Subject(user_id=name))
        items = [(value[1], weight) for value, weight in counters.weights.items() if value[0] == "item"]
        found.liked[name] = sorted(items, key=lambda one: -one[1])[:HAND_FUNCTIONS]
        found.store.zadd(f"hand:profile:{name}", dict(found.liked[name]))
        found.store.zadd(f"hand:session:{name}", dict(found.liked[name][:3]))
        found.store.hset(f"hand:about:{name}", mapping={"total": str(len(items)), "last": str(now_s)})
    store.close()
