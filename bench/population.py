"""Cost of the population for a process that searches, and for the store: `python -m bench.population`.

Rounds with and without the population alternate, so that other load of the machine affects both. In a round with it, the process
checks every second (ten times as often as usual) and finds a new version each time, which another process publishes. In a round
without it, the same publisher runs, and the process has no store. The loop's lag is the delay of `asyncio.sleep(0.001)` beyond its
millisecond.

A second table shows the effect of a store's answer that is too large: the times of searches beside those of a subject with 40 MB of
members.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import redis

from rewriter import AsyncRewriter, Settings, Subject
from rewriter.settings import PolicySettings
from rewriter.shell.background import population as shell
from rewriter.signals.counters import Counters, HalfLives, Value
from rewriter.signals.population_builder import PopulationBuilder
from rewriter.signals.redis_store import RedisStore
from rewriter.signals.store import Keys
from rewriter_engines import Valkey

ROUNDS = 10
ROUND_S = 6.0
VALUES, PARTITIONS = 20_000, 16
KEYS = Keys()
SEARCH = {"index": "products", "body": {"query": {"match": {"title": "shoe"}}}}


class Client:
    """A fake search client that answers after 3 ms, since only the population is measured."""

    def __init__(self) -> None:
        self.indices = self

    async def search(self, **_: Any) -> Any:
        """Answer ten hits."""
        await asyncio.sleep(0.003)
        hits = [{"_index": "products", "_id": str(n), "_score": 2.0 - n / 100} for n in range(10)]
        return {"took": 1, "timed_out": False, "_shards": {"failed": 0}, "hits": {"total": {"value": 10}, "hits": hits}}

    async def get_mapping(self, **_: Any) -> Any:
        """Answer a mapping with a brand."""
        return {"products": {"mappings": {"properties": {"brand": {"type": "keyword"}}}}}

    async def get_settings(self, **_: Any) -> Any:
        """Answer settings."""
        return {"products": {"settings": {"index.number_of_replicas": "0"}}}

    async def close(self) -> None:
        """Do nothing."""


def main() -> None:
    """Print both tables."""
    with Valkey() as valkey, redis.Redis.from_url(valkey.url) as raw:
        fill(valkey.url)
        print(
            f"| {VALUES:,} values × {PARTITIONS} partitions, {ROUNDS} rounds of {ROUND_S:g} s each | without | with |"
        )
        print("|---|---|---|")
        pairs = [
            (one_round(valkey.url, with_store=False), one_round(valkey.url, with_store=True)) for _ in range(ROUNDS)
        ]
        for number, name in enumerate(("loop lag p50, ms", "loop lag p99.9, ms", "thread CPU of the loop, ms per s")):
            print(
                f"| {name} | {median(off[number] for off, _ in pairs):.2f} | {median(on[number] for _, on in pairs):.2f} |"
            )
        ratios = sorted(on[1] / off[1] for off, on in pairs)
        print(f"| p99.9 with ÷ without, by pair | | {median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f}) |")
        print(f"| memory of a reading process, MiB | | {memory_mib(valkey.url):.1f} |")
        print(f"| of a core of the server, 100 such processes, % | | {server_share(raw, valkey.url) * 100 * 100:.3f} |")
        print()
        print("| a store's answer of 40 MB | p50, ms | p99, ms |\n|---|---|---|")
        for name, user in (("others alone", None), ("other searches beside it", "large")):
            waited_ms = asyncio.run(searches(valkey.url, raw, user))
            print(f"| {name} | {waited_ms[len(waited_ms) // 2]:.1f} | {waited_ms[int(len(waited_ms) * 0.99)]:.1f} |")


def fill(url: str) -> None:
    """Write the population's parts, and a profile."""
    store, draw, now_s = RedisStore(url), random.Random(3), time.time()
    store.run([("SET", f"{KEYS.prefix}:partitions", PARTITIONS)])
    for number in range(PARTITIONS):
        weights: dict[Value, float] = {("brand", f"brand-{n:05d}"): 1.0 + draw.random() for n in range(VALUES)}
        store.write(KEYS.population(number), Counters(weights, {"brand": 30_000.0}, now_s, now_s, 100.0), None)
    store.write(KEYS.profile("ann"), Counters({("brand", "brand-00001"): 9.0}, {"brand": 9.0}, now_s, now_s, 3.0), None)
    make(store)
    store.close()


def make(store: RedisStore) -> None:
    """Compute the population, as a worker does."""
    maker = PopulationBuilder(
        store, KEYS, HalfLives(9_676_800.0), role="worker", token="bench", max_counters=128, ttl_s=1e7, now_s=time.time,  # noqa: S106
        wait=lambda _: False,
    )  # fmt: skip
    look = maker.reader.look()
    maker.leads(look)
    maker.make(look)


def settings() -> Settings:
    """Return settings that switch off everything but the population."""
    shop = PolicySettings.model_validate({"index": "products", "fields": {"brand": {}}, "exploration_share": 0})
    return Settings.model_validate({"experiment": {"holdout": 0}, "policies": {"default": shop}})


def one_round(url: str, *, with_store: bool) -> tuple[float, float, float]:
    """Return the loop's lag (p50, p99.9, in ms), and the CPU of its thread in ms per second."""
    setattr(shell, "LOOK_EVERY_S", 1.0)  # noqa: B010  it is a constant everywhere else
    store = url if with_store else None

    async def measured() -> tuple[float, float, float]:
        lags_ms = []
        async with AsyncRewriter(Client(), store, settings(), leg_client=Client()) as rewriter:
            await rewriter.search(subject=Subject("ann"), **SEARCH)
            await asyncio.sleep(1.5)
            began_s, until_s = time.thread_time(), time.monotonic() + ROUND_S
            while (now_s := time.monotonic()) < until_s:
                await asyncio.sleep(0.001)
                lags_ms.append((time.monotonic() - now_s - 0.001) * 1000.0)
            cpu_ms = (time.thread_time() - began_s) * 1000.0 / ROUND_S
        lags_ms.sort()
        return lags_ms[len(lags_ms) // 2], lags_ms[int(len(lags_ms) * 0.999)], cpu_ms

    with counting(url):
        return asyncio.run(measured())


@contextmanager
def counting(url: str) -> Iterator[None]:
    """Run a process that publishes a new version every second, for the duration of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.population", "--publish", url], cwd=Path(__file__).parents[1]
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def publish(url: str) -> None:
    """Publish a new version of the population every second, by moving its landmark."""
    store = RedisStore(url)
    while True:
        store.run([("HSET", f"{KEYS.population(0)}:m", "landmark", repr(time.time()))])
        make(store)
        time.sleep(1.0)


def memory_mib(url: str) -> float:
    """Return the memory that a process needs for the population."""
    code = (
        "import sys, time, threading\n"
        "from rewriter import Settings\nfrom rewriter.core import Core\n"
        "from rewriter.shell.background.population import PopulationReader\n"
        "from rewriter.signals.redis_store import RedisStore\n"
        "rss = lambda: int(next(line for line in open('/proc/self/status') if line.startswith('VmRSS')).split()[1]) / 1024\n"
        "core = Core(Settings(), {}, ['store'])\nstore = RedisStore(sys.argv[1])\nstore.ping()\n"
        "reader = PopulationReader(core, store, {}, lambda: True)\nbefore = rss()\n"
        "for _ in range(20):\n    reader._population = ''\n    assert reader.tried()\n"
        "print(rss() - before)\n"
    )
    return float(subprocess.run([sys.executable, "-c", code, url], capture_output=True, text=True, check=True).stdout)


def server_share(raw: Any, url: str) -> float:
    """Return the share of the server's core for one process, which checks every 10 s and reads one version per minute."""
    store = RedisStore(url)
    maker = PopulationBuilder(
        store, KEYS, HalfLives(1e6), role="search", token="bench", max_counters=128, ttl_s=1e7, now_s=time.time,  # noqa: S106
        wait=lambda _: False,
    )  # fmt: skip
    header = maker.reader.look().population
    assert header is not None
    looks_s = cpu_s(raw, maker.reader.look, 300)
    reads_s = cpu_s(raw, lambda: maker.reader.population(header), 60)
    store.close()
    return looks_s / 10.0 + reads_s / 60.0


def cpu_s(raw: Any, work: Any, count: int) -> float:
    """Return the server's CPU time for each of `count` runs."""
    before = raw.info("cpu")
    for _ in range(count):
        work()
    after = raw.info("cpu")
    return float(sum(after[f"used_cpu_{kind}"] - before[f"used_cpu_{kind}"] for kind in ("user", "sys"))) / count


async def searches(url: str, raw: Any, large: str | None) -> list[float]:
    """Return the sorted times of searches in ms, beside those of a subject with a profile of 40 MB, if any."""
    if large is not None:
        store = RedisStore(url)
        store.write(KEYS.profile(large), Counters({("brand", "b"): 1.0}, {"brand": 1.0}, time.time()), None)
        store.close()
        for number in range(40):
            raw.zadd(f"{KEYS.profile(large)}:z", {b"brand\x1f%d" % number + b"x" * 1_000_000: 9.0})
    took_ms = []
    async with AsyncRewriter(Client(), url, settings(), leg_client=Client()) as rewriter:
        await rewriter.wait_ready(20.0)
        beside: set[asyncio.Task[Any]] = set()
        for number in range(600):
            if large is not None and number % 5 == 0:
                task = asyncio.create_task(rewriter.search(subject=Subject(large), **SEARCH))
                beside.add(task)
                task.add_done_callback(beside.discard)
            began_s = time.perf_counter()
            await rewriter.search(subject=Subject("ann"), **SEARCH)
            took_ms.append((time.perf_counter() - began_s) * 1000.0)
        await asyncio.gather(*beside)
    return sorted(took_ms)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--publish"]:
        publish(sys.argv[2])
    main()
