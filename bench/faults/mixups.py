"""The proof that no search uses another subject's signals: many concurrent searches, with deadlines that cut reads anywhere.

The store is a real Valkey behind Toxiproxy, whose answers take 0 to 6 ms. Four rewriters give reads up after 0.5 to 6 ms, and
connections are reset now and then. The search engine is a fake that answers at once, so that a hundred thousand searches take
minutes and not hours. The personalized leg carries the subject's items in its body, and a context variable holds the subject.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from bench.faults.rig import rewritten
from bench.faults.scene import PREFIX, SUBJECTS, likes, subject
from bench.faults.toxiproxy import Toxiproxy
from rewriter import AsyncRewriter, Rewriter, Settings
from rewriter_engines import Valkey

BUDGETS_MS = (0.5, 2.0, 4.0, 6.0)
AT_ONCE = 24
RESET_EVERY = 2_000

_who: ContextVar[int] = ContextVar("who")


class Transport:
    """A transport without content: the fake client is not cloned."""


class Engine:
    """A search client that answers ten hits, and notes bodies that boost items of another subject than the search's."""

    transport = Transport()

    def __init__(self) -> None:
        self.strangers: list[str] = []

    def search(self, **arguments: Any) -> dict[str, Any]:
        """Answer as OpenSearch would, ten hits of falling scores."""
        for entry in arguments["body"].get("rescore", ()):
            functions = entry["query"]["rescore_query"]["function_score"]["functions"]
            boosted = {_item(function) for function in functions[1:]}
            if not boosted or not boosted <= likes(_who.get()):
                self.strangers.append(f"{_who.get()} was boosted {sorted(boosted)}")
        hits = [{"_index": "i", "_id": str(n), "_score": 10.0 - n, "_source": {}} for n in range(10)]
        return {"timed_out": False, "_shards": {"failed": 0}, "hits": {"hits": hits, "max_score": 10.0}}

    @property
    def indices(self) -> Engine:
        """The part of the client that reads mappings and settings."""
        return self

    def get_mapping(self, **_: Any) -> Any:
        """No field is mapped; `_id` needs no mapping."""
        return {}

    def get_settings(self, *, index: str, **_: Any) -> Any:
        """One index without settings of its own."""
        return {index: {"settings": {}}}

    def close(self) -> None:
        """Do nothing."""


class AsyncEngine(Engine):
    """The same, awaited."""

    async def get_mapping(self, **_: Any) -> Any:
        """See Engine."""
        return {}

    async def get_settings(self, *, index: str, **_: Any) -> Any:
        """See Engine."""
        return {index: {"settings": {}}}

    async def search(self, **arguments: Any) -> dict[str, Any]:  # type: ignore[override]
        """Answer on a later turn of the loop."""
        await asyncio.sleep(0)
        return super().search(**arguments)

    async def close(self) -> None:  # type: ignore[override]
        """Do nothing."""


def _item(function: Mapping[str, Any]) -> str:
    clause = function["filter"]
    return str((clause["bool"]["filter"][0] if "bool" in clause else clause)["term"]["_id"])  # named, or not


def _settings(budget_ms: float) -> Settings:
    never = {
        "max_error_rate": 1.0,
        "max_slow_rate": 1.0,
        "burst_error_rate": 1.0,
        "burst_calls": 10_000,
        "failures_in_a_row": 10_000,
        "late_reads_in_a_row": 10_000,
    }
    return Settings.model_validate(
        {
            "store": {"prefix": PREFIX},
            "signals": {"on_late": "stale", "stale_max_age_s": 0.5},
            "budget": {"signals_ms": budget_ms, "max_in_flight": 4 * AT_ONCE},
            "experiment": {"holdout": 0.0},
            "breaker": never,
            "policies": {"all": {"index": "i", "item_repeat_share": 1.0, "exploration_share": 0.0}},
        }
    )


def _arguments() -> dict[str, Any]:
    return {"index": "i", "body": {"query": {"match": {"title": "shoe"}}}}


def sync_searches(url: str, proxy: Toxiproxy, count: int) -> tuple[Counter[str], list[str]]:
    """Run `count` searches on `AT_ONCE` threads; return the reasons, and the answers with another subject's signals."""
    engine, reasons, draw = Engine(), Counter[str](), random.Random(7)
    rewriters = [Rewriter(engine, url, _settings(budget_ms), leg_client=engine) for budget_ms in BUDGETS_MS]

    def one(number: int, who: int) -> str:
        _who.set(who)
        _, report = rewriters[number % len(rewriters)].search_details(**_arguments(), subject=subject(who))
        engine.strangers += sorted({boost.value for boost in report.boosts} - likes(who))
        return str(report.reason)

    with ThreadPoolExecutor(AT_ONCE) as callers:
        for start in range(0, count, RESET_EVERY):
            turns = range(start, min(count, start + RESET_EVERY))
            reasons.update(callers.map(one, turns, [draw.randrange(SUBJECTS) for _ in turns]))
            proxy.drop_connections()
    for rewriter in rewriters:
        rewriter.close()
    return reasons, engine.strangers


async def async_searches(url: str, proxy: Toxiproxy, count: int) -> tuple[Counter[str], list[str]]:
    """Run `count` searches on `AT_ONCE` tasks, one in ten of which is cancelled; return as `sync_searches` does."""
    engine, reasons, draw = AsyncEngine(), Counter[str](), random.Random(8)
    rewriters = [AsyncRewriter(engine, url, _settings(budget_ms), leg_client=engine) for budget_ms in BUDGETS_MS]
    numbers = iter(range(count))

    async def one(number: int, who: int) -> None:
        _who.set(who)
        _, report = await rewriters[number % len(rewriters)].search_details(**_arguments(), subject=subject(who))
        engine.strangers += sorted({boost.value for boost in report.boosts} - likes(who))
        reasons[str(report.reason)] += 1

    async def caller() -> None:
        for number in numbers:
            search = asyncio.create_task(one(number, draw.randrange(SUBJECTS)))
            if number % 10 == 0:
                asyncio.get_running_loop().call_later(draw.uniform(0.0, 0.006), search.cancel)
            await asyncio.wait({search})
            if search.cancelled():
                reasons["cancelled"] += 1
            else:
                search.result()
            if number % RESET_EVERY == 0:
                await asyncio.to_thread(proxy.drop_connections)

    await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
    for rewriter in rewriters:
        await rewriter.close()
    return reasons, engine.strangers


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one shell's searches as a text, and every answer with another subject's signals."""

    text: str
    strangers: list[str]


def outcomes(count: int) -> Iterator[Outcome]:
    """Run `count` searches, half through each shell."""
    with Valkey() as valkey, Toxiproxy(f"127.0.0.1:{valkey.port}") as proxy:
        rewritten(valkey.url)
        url = f"redis://127.0.0.1:{proxy.port}"
        with proxy.toxic("latency", latency=3, jitter=3):
            yield _outcome("sync", *sync_searches(url, proxy, count // 2))
            yield _outcome("async", *asyncio.run(async_searches(url, proxy, count // 2)))


def _outcome(shell: str, reasons: Counter[str], strangers: list[str]) -> Outcome:
    if failed := reasons["search_failed"]:  # nothing here fails a leg but the engine's own judgment
        strangers = [*strangers, f"{failed:,} legs failed in the engine that judges them"]
    by_reason = ", ".join(f"{reason} {number:,}" for reason, number in reasons.most_common())
    return Outcome(f"{shell}: {len(strangers)} in {reasons.total():,} searches ({by_reason})", strangers)
