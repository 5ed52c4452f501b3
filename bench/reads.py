"""Cost of a read of signals: session and profile with 64 counters each, in one pipelined round trip to a real Valkey.

    python -m bench.reads

Client and server share this machine, so the figures include the cost of the protocol and of Python, and no network. The last rows
are the background's reads, and the read of a subject with a million members.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from statistics import quantiles
from typing import Any

from rich.console import Console
from rich.table import Table

from rewriter.signals.commands import MEMBERS_AT_ONCE, commands, signals
from rewriter.signals.counters import Counters, Value
from rewriter.signals.redis_store import AsyncRedisStore, RedisStore
from rewriter.signals.store import Keys, SignalsQuery
from rewriter_engines import Valkey, ValkeyCluster

ROUNDS = 3_000
FIELDS = ("brand", "type", "item")
KEYS = Keys()
QUERY = SignalsQuery(KEYS.session("s"), KEYS.profile("u"), None, FIELDS, 64)
CROWDED = SignalsQuery(KEYS.session("crowded"), None, None, FIELDS, 64)
CROWD = 1_000_000


def counters(count: int) -> Counters:
    """Return counters with realistic members."""
    weights: dict[Value, float] = {("brand", f"a brand of {number:06d}"): 1.0 + 1.3 * number for number in range(count)}
    return Counters(weights, dict.fromkeys(FIELDS, 99.0), 1.8e9, 1.8e9, 30.0)


def fill(store: RedisStore) -> None:
    """Write the counters that the benchmark reads."""
    store.write(QUERY.session or "", counters(64), None)
    store.write(QUERY.profile or "", counters(64), None)


def timed(work: Callable[[], Any], rounds: int = ROUNDS) -> list[float]:
    """Return the time of each run of `work`, in µs."""
    found = []
    for _ in range(rounds):
        began_s = time.perf_counter()
        work()
        found.append((time.perf_counter() - began_s) * 1e6)
    return found


async def timed_on_the_loop(url: str) -> list[float]:
    """Return the time of each awaited read, in µs."""
    store = AsyncRedisStore(url)
    found = []
    for _ in range(ROUNDS):
        began_s = time.perf_counter()
        await store.read(QUERY)
        found.append((time.perf_counter() - began_s) * 1e6)
    await store.close()
    return found


def measured() -> dict[str, list[float]]:
    """Return the times of each row, in µs."""
    rows: dict[str, list[float]] = {}
    with Valkey() as server, ValkeyCluster() as cluster:
        nodes = "redis+cluster://" + ",".join(url.partition("://")[2] for url in cluster.urls)
        for name, url in (("one server", server.url), ("cluster of three", nodes)):
            store = RedisStore(url)
            fill(store)
            rows[f"read, {name}, threads"] = timed(lambda store=store: store.read(QUERY))  # type: ignore[misc]
            rows[f"read, {name}, event loop"] = asyncio.run(timed_on_the_loop(url))
            store.close()
        store = RedisStore(server.url)
        replies = store.run(commands(QUERY))
        rows["of which parsing the replies into counters"] = timed(lambda: signals(QUERY, replies))
        with server.client() as client:
            for first in range(0, CROWD, 10_000):
                members: dict[bytes | str, float] = {f"brand\x1f{n}": float(n) for n in range(first, first + 10_000)}
                client.zadd(f"{CROWDED.session}:z", members)
            client.hset(f"{CROWDED.session}:m", "landmark", "1.8e9")
        rows[f"read, session of {CROWD:,} members"] = timed(lambda: store.read(CROWDED))
        store.write(KEYS.population(), counters(MEMBERS_AT_ONCE), None)
        rows[f"population of {MEMBERS_AT_ONCE:,} values"] = timed(
            lambda: store.read_many([KEYS.population()], FIELDS, MEMBERS_AT_ONCE), 30
        )
        store.close()
    return rows


def main() -> None:
    """Print the table."""
    table = Table("µs", "p50", "p99", title="Reading signals")
    for name, times in measured().items():
        percentiles = quantiles(times, n=100)
        table.add_row(name, f"{percentiles[49]:,.0f}", f"{percentiles[98]:,.0f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
