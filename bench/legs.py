"""Cost of a whole search relative to the plain one, on a real server and a real Valkey, all on the same machine.

    python -m bench.legs                     1.0 million products: the corpus, eleven times over
    python -m bench.legs --copies 1          92 thousand

Plain and personalized searches alternate in one run, so that changes of the machine's speed affect both; the results are ratios of
medians. "cached" sends a search whose exploration pool another search has just filled, "uncached" one that was not sent before. The
same runs measure promise P2: the time from the baseline's arrival to the answer, and the baseline's delay beside legs.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from statistics import median, quantiles
from typing import Any

from opensearchpy import AsyncOpenSearch, OpenSearch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from rewriter import AsyncRewriter, Rewriter, Settings, Subject
from rewriter.demo.corpus import Corpus, Product, baseline_query, create_index, load, values_of
from rewriter.report import Report
from rewriter.signals.affinities import signal_fields
from rewriter.signals.counters import HalfLives, Observation, counted
from rewriter.signals.redis_store import open_store
from rewriter.signals.store import Keys
from rewriter_engines import OpenSearchServer, Valkey

INDEX = "bench-legs"
WORDS = ("soft drinks", "yogurt", "cheese", "cookies", "shampoo", "bread", "frozen pizza", "coffee", "cereal", "soup")
HOUSEHOLDS = 50
SETTINGS = Settings.model_validate(
    {
        "experiment": {"holdout": 0.0},
        "policies": {
            "shop": {
                "index": INDEX,
                "fields": {"manufacturer": {"scale": 0.3}},
                "category_field": "manufacturer",
                "item_repeat_share": 1.0,
            }
        },
        # A busy machine is late at times. This benchmark counts late searches, so no guard may open because of them.
        "breaker": {"max_error_rate": 1.0, "burst_error_rate": 1.0, "failures_in_a_row": 10_000},
    }
)


def copied(corpus: Corpus, copies: int) -> Iterator[Product]:
    """Yield the corpus' products `copies` times, each time with other ids."""
    for copy in range(copies):
        for product in corpus.products.values():
            yield product if copy == 0 else replace(product, product_id=f"{product.product_id}-{copy}")


def write_signals(corpus: Corpus, url: str) -> list[Subject]:
    """Write the population, and profiles of the households with the most purchases; return these households."""
    keys, store = Keys(SETTINGS.store.prefix), open_store(url)
    assert store is not None
    fields = signal_fields(SETTINGS.policies["shop"])
    half_lives = HalfLives(SETTINGS.signals.profile_half_life_s)
    now_s = time.time()
    behind_s = now_s - corpus.purchases[-1].at_s
    seen: dict[str, list[Observation]] = {}
    for one in corpus.purchases:
        values = values_of(corpus.products[one.product_id], fields)
        seen.setdefault(one.household_id, []).append(Observation(values, 1.0, one.at_s + behind_s))
    store.write(
        keys.population(), counted((o for found in seen.values() for o in found), half_lives, now_s, 20_000), None
    )
    chosen = sorted(seen, key=lambda name: -len(seen[name]))[:HOUSEHOLDS]
    for name in chosen:
        store.write(keys.profile(name), counted(seen[name], half_lives, now_s, 2 * SETTINGS.signals.max_counters), None)
    store.close()
    return [Subject(user_id=name) for name in chosen]


def body(number: int, *, unique: bool) -> dict[str, Any]:
    """Return the search of a turn: a frequent query, or one that is in no cache."""
    query = baseline_query(WORDS[number % len(WORDS)])
    if unique:
        query = {"bool": {"must": [query], "must_not": [{"term": {"product_id": f"nobody-{number}-{time.time_ns()}"}}]}}
    return {"query": query, "size": 10}


class Times:
    """The times of one kind of turn, in ms."""

    def __init__(self) -> None:
        self.plain: list[float] = []
        self.baseline: list[float] = []
        self.whole: list[float] = []
        self.reports: list[Report] = []

    def row(self) -> list[str]:
        """Return medians, their ratio, p99s, and the figures of P2."""
        added = sorted(report.timings_ms["added"] for report in self.reports if "added" in report.timings_ms) or [0.0]
        personalized = sum(report.reason == "personalized" for report in self.reports) / max(1, len(self.reports))
        plain, whole, baseline = (quantiles(times, n=100) for times in (self.plain, self.whole, self.baseline))
        return [
            f"{plain[49]:.2f}", f"{whole[49]:.2f}", f"{whole[49] / plain[49]:.2f}", f"{whole[98] / plain[98]:.2f}",
            f"{baseline[49] / plain[49]:.2f}", f"{added[int(len(added) * 0.999)]:.1f}", f"{personalized:.1%}",
        ]  # fmt: skip


STAGES = ("signals", "render", "personalized", "exploration", "merge", "added")


def stages(times: Times) -> list[str]:
    """Return the median time of each stage, in ms."""
    found = [[one.timings_ms[stage] for one in times.reports if stage in one.timings_ms] for stage in STAGES]
    return [f"{median(values):.2f}" if values else "–" for values in found]


def sync_turns(client: OpenSearch, rewriter: Rewriter, subjects: list[Subject], turns: int, *, unique: bool) -> Times:
    """Alternate plain and personalized searches."""
    times = Times()
    for number in range(turns):
        started = time.perf_counter()
        client.search(index=INDEX, body=body(number, unique=unique))
        times.plain.append((time.perf_counter() - started) * 1000)
        started = time.perf_counter()
        _, report = rewriter.search_details(
            index=INDEX, body=body(number, unique=unique), subject=subjects[number % len(subjects)]
        )
        times.whole.append((time.perf_counter() - started) * 1000)
        times.baseline.append(report.timings_ms["baseline"])
        times.reports.append(report)
    return times


def sync_callers(client: OpenSearch, rewriter: Rewriter, subjects: list[Subject], turns: int, callers: int) -> Times:
    """The same with `callers` threads at once."""
    share = max(1, turns // callers)
    with ThreadPoolExecutor(callers) as pool:
        work = [pool.submit(sync_turns, client, rewriter, subjects, share, unique=False) for _ in range(callers)]
        parts = [one.result() for one in work]
    whole = Times()
    for part in parts:
        whole.plain += part.plain
        whole.baseline += part.baseline
        whole.whole += part.whole
        whole.reports += part.reports
    return whole


async def async_turns(url: str, store: str, subjects: list[Subject], turns: int, *, unique: bool) -> Times:
    """The same on an event loop."""
    times = Times()
    async with AsyncOpenSearch(url) as client, AsyncRewriter(client, store, SETTINGS) as rewriter:
        while not (await rewriter.status()).population_values:  # noqa: ASYNC110  polled, as a health page would
            await asyncio.sleep(0.05)
        for number in range(turns):
            started = time.perf_counter()
            await client.search(index=INDEX, body=body(number, unique=unique))
            times.plain.append((time.perf_counter() - started) * 1000)
            started = time.perf_counter()
            _, report = await rewriter.search_details(
                index=INDEX, body=body(number, unique=unique), subject=subjects[number % len(subjects)]
            )
            times.whole.append((time.perf_counter() - started) * 1000)
            times.baseline.append(report.timings_ms["baseline"])
            times.reports.append(report)
    return times


def main(arguments: list[str] | None = None) -> None:
    """Load, measure, print."""
    parser = argparse.ArgumentParser(
        prog="bench.legs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--copies", type=int, default=11, help="how often the corpus of 92 thousand products is loaded")
    parser.add_argument("--turns", type=int, default=600)
    parser.add_argument(
        "--url", default=os.environ.get("OPENSEARCH_URL"), help="a server to use instead of starting one"
    )
    given = parser.parse_args(arguments)
    console = Console(width=120)
    with ExitStack() as stack:
        url = given.url or stack.enter_context(OpenSearchServer(heap="2g")).url
        store = stack.enter_context(Valkey()).url
        client = OpenSearch(url, pool_maxsize=32, timeout=120)
        corpus = load()
        count = len(corpus.products) * given.copies
        if client.indices.exists(index=INDEX):
            client.indices.delete(index=INDEX)
        stack.callback(lambda: client.indices.delete(index=INDEX))
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task(f"loading {count:,} products", total=count)
            create_index(
                client,
                INDEX,
                copied(corpus, given.copies),
                on_progress=lambda done: progress.update(task, completed=done),
            )
        client.indices.forcemerge(index=INDEX, max_num_segments=5)
        subjects = write_signals(corpus, store)
        table = Table(title=f"whole search beside the plain one, {count:,} products (ms, and ratios in one run)")
        for name in (
            "shell",
            "plain p50",
            "whole p50",
            "ratio p50",
            "ratio p99",
            "baseline ×",
            "added p99.9",
            "personalized",
        ):
            table.add_column(name, justify="left" if name == "shell" else "right")
        where = Table(title="time of each stage, median ms (stages run in parallel)")
        for name in ("shell", *STAGES):
            where.add_column(name, justify="left" if name == "shell" else "right")
        rows: list[tuple[str, Times]] = []
        with Rewriter(client, store, SETTINGS) as rewriter:
            while not rewriter.status().population_values:
                time.sleep(0.05)
            sync_turns(client, rewriter, subjects, given.turns // 3, unique=False)  # warm
            rows.append(
                ("sync, the exploration leg cached", sync_turns(client, rewriter, subjects, given.turns, unique=False))
            )
            rows.append(("sync, uncached", sync_turns(client, rewriter, subjects, given.turns, unique=True)))
            rows += [
                (f"sync, {callers} callers", sync_callers(client, rewriter, subjects, given.turns, callers))
                for callers in (8, 32)
            ]
        rows += [
            (label, asyncio.run(async_turns(url, store, subjects, given.turns, unique=unique)))
            for label, unique in (("async, the exploration leg cached", False), ("async, uncached", True))
        ]
        for label, times in rows:
            table.add_row(label, *times.row())
            where.add_row(label, *stages(times))
        console.print(table)
        console.print(where)


if __name__ == "__main__":
    main()
