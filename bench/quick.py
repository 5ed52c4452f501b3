"""Cost of a search in each mode, as counted work and as ratios to the plain search, compared with committed bounds: two minutes.

    python -m bench.quick                    60,000 products, with and without aggregations, one caller, the sync shell
    python -m bench.quick --out found.json   the same, with date and versions as JSON

Plain, parallel and rewritten searches take turns, so that a machine that slows down does so for all. Searches sent and bytes are
counted at the connection, the caller's and the legs' alike; CPU is the client's, of all its threads. The bounds are those of
bench/quick.json: counts are tight, times have room for a busy machine. The exit code is 1 if a figure is out of bounds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, quantiles
from typing import Any, ClassVar

from opensearchpy import OpenSearch, helpers
from opensearchpy.connection import Urllib3HttpConnection

from rewriter import Rewriter, Settings, Subject
from rewriter.report import Report
from rewriter.signals.counters import Counters, Value
from rewriter.signals.memory_store import MemoryStore
from rewriter.signals.store import Keys
from rewriter_engines import OpenSearchServer

BOUNDS = Path(__file__).with_name("quick.json")
PRODUCTS = 60_000
TURNS = 150
COUNTED = ("personalized", "searches", "received bytes ÷ plain", "sent bytes")
"""The figures that a busy machine does not change."""
MODES = ("parallel", "rewrite")
WORDS = [f"w{n}" for n in range(400)]
ANN = Subject(user_id="ann")
MAPPING = {"title": {"type": "text"}, "brand": {"type": "keyword"}, "price": {"type": "integer"}}
AGGREGATIONS = {
    "brands": {"terms": {"field": "brand"}},
    "prices": {"stats": {"field": "price"}},
    "spread": {"histogram": {"field": "price", "interval": 100}},
}


class Counting(Urllib3HttpConnection):
    """A connection that counts searches and their bytes; the clone of the legs has it too."""

    counted: ClassVar[Counter[str]] = Counter()

    def perform_request(self, method: str, url: str, *arguments: Any, **named: Any) -> Any:
        """See opensearchpy.Connection.perform_request."""
        answer = super().perform_request(method, url, *arguments, **named)
        if url.endswith("_search"):
            sent = named.get("body", arguments[1] if len(arguments) > 1 else None)
            self.counted.update(searches=1, sent_bytes=len(sent or b""), received_bytes=len(answer[2]))
        return answer


@dataclass(frozen=True, slots=True)
class Turn:
    """One search."""

    took_ms: float
    cpu_ms: float
    counted: Mapping[str, int]
    report: Report | None


def settings(mode: str, index: str) -> Settings:
    """Return settings under which no guard opens: a busy machine is late at times, and late searches are counted."""
    policy = {"index": index, "item_repeat_share": 1.0, "mode": mode, "parallel_share": 0, "hedge_ms": 5_000}
    never = {"max_error_rate": 1.0, "max_slow_rate": 1.0, "burst_error_rate": 1.0, "failures_in_a_row": 10_000}
    budget = {"signals_ms": 500, "cutoff_ms": 5_000}
    given = {"experiment": {"holdout": 0}, "budget": budget, "breaker": never, "policies": {"shop": policy}}
    return Settings.model_validate(given)


def store() -> MemoryStore:
    """Return a store in which one user likes eight items: eight functions are sent."""
    found, now_s = MemoryStore(), time.time()
    weights: dict[Value, float] = {("item", str(n * 37)): 3.0 for n in range(8)}
    found.write(Keys().profile("ann"), Counters(weights, {"item": 24.0}, now_s, now_s, events=8.0), None)
    return found


def body(number: int, *, aggregated: bool) -> dict[str, Any]:
    """Return the search of a turn: one of ten, so that the exploration pool is nearly always cached."""
    found: dict[str, Any] = {
        "query": {"match": {"title": f"{WORDS[number % 10]} {WORDS[number * 7 % 10]}"}},
        "size": 10,
    }
    return found | ({"aggs": AGGREGATIONS} if aggregated else {})


@contextmanager
def loaded(client: OpenSearch, count: int = PRODUCTS) -> Iterator[str]:
    """Load so many products; remove them at the end."""
    name, chance = f"bench-quick-{uuid.uuid4().hex[:8]}", random.Random(1)
    shards = {"number_of_shards": 1, "number_of_replicas": 0}
    client.indices.create(index=name, body={"settings": shards, "mappings": {"properties": MAPPING}})
    try:
        products = (
            {
                "_index": name,
                "_id": str(n),
                "title": " ".join(chance.choices(WORDS, k=8)),
                "brand": f"b{n % 50}",
                "price": n % 1000,
            }
            for n in range(count)
        )
        helpers.bulk(client, products, chunk_size=5_000, refresh=True)
        yield name
    finally:
        client.indices.delete(index=name)


def turn(client: OpenSearch, index: str, rewriter: Rewriter[Any] | None, body: dict[str, Any]) -> Turn:
    """Send one search, plain or through a rewriter."""
    before = Counter(Counting.counted)
    started_s, cpu_s = time.perf_counter(), time.process_time()
    report = None
    if rewriter is None:
        client.search(index=index, body=body)
    else:
        _, report = rewriter.search_details(index=index, body=body, subject=ANN)
    took_s, cpu_s = time.perf_counter() - started_s, time.process_time() - cpu_s
    return Turn(took_s * 1000.0, cpu_s * 1000.0, Counting.counted - before, report)


def measured(client: OpenSearch, index: str, turns_each: int = TURNS) -> dict[str, dict[str, float]]:
    """Return the figures of each mode, as ratios to the plain search of the same run."""
    found: dict[str, dict[str, float]] = {}
    with ExitStack() as stack:
        rewriters: dict[str, Rewriter[Any] | None] = {"plain": None}
        for mode in MODES:
            made = stack.enter_context(Rewriter(client, store(), settings(mode, index)))
            while index not in made.status().indices:
                time.sleep(0.05)
            rewriters[mode] = made
        for aggregated in (False, True):
            turns: dict[str, list[Turn]] = {way: [] for way in rewriters}
            for number in range(-40, turns_each):
                for way, rewriter in rewriters.items():
                    one = turn(client, index, rewriter, body(number, aggregated=aggregated))
                    if number >= 0:
                        turns[way].append(one)
            plain = turns.pop("plain")
            for way, those in turns.items():
                name = f"{way}, aggregated" if aggregated else way
                found[name] = figures(plain, those)
    return found


def figures(plain: list[Turn], those: list[Turn]) -> dict[str, float]:
    """Return the cost of one mode's searches beside the plain ones."""
    p50, base_p50 = (quantiles([one.took_ms for one in turns], n=100)[49] for turns in (those, plain))
    cpu, base_cpu = (fmean(one.cpu_ms for one in turns) for turns in (those, plain))

    def per_search(name: str, turns: list[Turn]) -> float:
        return fmean(one.counted.get(name, 0) for one in turns)

    return {
        "personalized": fmean(one.report is not None and one.report.reason == "personalized" for one in those),
        "searches": per_search("searches", those),
        "received bytes ÷ plain": per_search("received_bytes", those) / per_search("received_bytes", plain),
        "sent bytes": per_search("sent_bytes", those),
        "p50 ÷ plain": p50 / base_p50,
        "client CPU ÷ plain": cpu / base_cpu,
    }


def broken(found: Mapping[str, Mapping[str, float]], bounds: Mapping[str, Mapping[str, list[float]]]) -> list[str]:
    """Return a line for each figure that is out of its bounds."""
    return [
        f"{way}: {name} is {found[way][name]:.3g}, not in [{low:g}, {high:g}]"
        for way, limits in bounds.items()
        for name, (low, high) in limits.items()
        if not low <= found[way][name] <= high
    ]


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and compare with the bounds."""
    parser = argparse.ArgumentParser(
        prog="bench.quick", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="a file for the figures, with date and versions")
    given = parser.parse_args(arguments)
    with ExitStack() as stack:
        url = os.environ.get("OPENSEARCH_URL") or stack.enter_context(OpenSearchServer()).url
        client = stack.enter_context(OpenSearch(url, connection_class=Counting, pool_maxsize=32, timeout=60))
        server = client.info()["version"]["number"]
        found = measured(client, stack.enter_context(loaded(client)))
    for way, figures_of in found.items():
        print(way, "  ".join(f"{name} {value:.2f}" for name, value in figures_of.items()), sep="\t")
    if given.out:
        versions = {name: version(name) for name in ("opensearch-py", "redis", "rewriter")}
        about = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "opensearch": server,
            "python": platform.python_version(),
        }
        given.out.write_text(
            json.dumps({**about, **versions, "cores": os.cpu_count(), "figures": found}, indent=1) + "\n", "utf-8"
        )
    bounds = json.loads(BOUNDS.read_text("utf-8"))
    wrong = broken(found, {way: limits for way, limits in bounds.items() if way != "pure"})
    for text in wrong:
        print(f"OUT OF BOUNDS: {text}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
