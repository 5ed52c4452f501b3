"""Proofs on a whole process: many callers at a half-open breaker, a fork, SIGTERM, and the caller's own error."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Barrier, Event
from typing import Any

from opensearchpy import AsyncOpenSearch, OpenSearch

from bench.faults.mixups import AsyncEngine, Engine
from bench.faults.rig import rewritten
from bench.faults.scene import BODIES, PREFIX, SUBJECTS, Judge, settings, shop, subject, write_signals
from rewriter import AsyncRewriter, Rewriter, Settings
from rewriter.settings import BudgetSettings
from rewriter.signals.memory_store import MemoryStore
from rewriter_engines import Valkey
from rewriter_engines.process import free_port

CALLERS = 1_000
PERMITS = 10
FORKS = 5
TERM_DEADLINE_S = 5.0
WRONG: dict[str, Any] = {"query": {"no_such_query": {}}}


@dataclass(frozen=True, slots=True)
class Proof:
    """One proof: its name, its shell, the result, and the broken promises."""

    name: str
    shell: str
    found: str
    broken: tuple[str, ...]


class _SlowLegs:
    """A client of legs that outlive every cut-off; it counts them."""

    def __init__(self) -> None:
        self.sent = 0
        self.transport = Engine.transport
        self.indices: Engine = Engine()
        self.done = Event()

    def search(self, **_: Any) -> Any:
        self.sent += 1
        self.done.wait(2.0)
        return {}

    def close(self) -> None:
        self.done.set()


class _AsyncSlowLegs(_SlowLegs):
    def __init__(self) -> None:
        super().__init__()
        self.indices = AsyncEngine()

    async def search(self, **_: Any) -> Any:
        self.sent += 1
        await asyncio.to_thread(self.done.wait, 2.0)
        return {}

    async def close(self) -> None:  # type: ignore[override]
        self.done.set()


def _half_open_settings() -> Settings:
    return Settings.model_validate(
        {
            "store": {"prefix": PREFIX},
            "experiment": {"holdout": 0.0},
            "budget": {"signals_ms": 5_000, "cutoff_ms": 200, "max_in_flight": 1024},
            "breaker": {"open_s": 1.0, "half_open_permits": PERMITS, "permit_lease_s": 60},
            "policies": {"all": {"index": "i", "item_repeat_share": 1.0, "exploration_share": 0.0}},
        }
    )


def _opened(core: Any) -> None:
    """Open the breaker as ten failures do, and wait until it is half open."""
    breaker = core.breakers["all"]
    for _ in range(10):
        breaker.give_back(breaker.permit(time.monotonic()), "failure", time.monotonic())
    while breaker.status(time.monotonic()).state != "half_open":
        time.sleep(1e-3)


def _judged(shell: str, legs: _SlowLegs, reasons: Counter[str]) -> Proof:
    broken = [] if 0 < legs.sent <= PERMITS else [f"{legs.sent} legs were sent"]
    broken += [] if reasons.total() == CALLERS else [f"{reasons.total()} answers"]
    broken += [f"{reason}" for reason in reasons if reason not in ("breaker_open", "search_late", "signals_late")]
    return Proof(
        f"{CALLERS:,} callers at a half-open breaker",
        shell,
        f"{legs.sent} legs sent, {CALLERS:,} answers",
        tuple(broken),
    )


def half_open_sync() -> Proof:
    """Start a thousand threads at once, and check that there are no more legs than permits."""
    store, legs = MemoryStore(), _SlowLegs()
    write_signals(store)
    barrier = Barrier(CALLERS)
    with Rewriter(Engine(), store, _half_open_settings(), leg_client=legs) as rewriter:
        while "i" not in rewriter.status().indices:
            time.sleep(0.01)
        _opened(rewriter._runtime.core)  # type: ignore[union-attr]  # noqa: SLF001  what no caller has a use for

        def one(number: int) -> str:
            barrier.wait()
            _, report = rewriter.search_details(index="i", body=BODIES[0], subject=subject(number % SUBJECTS))
            return str(report.reason)

        with ThreadPoolExecutor(CALLERS) as callers:
            reasons = Counter(callers.map(one, range(CALLERS)))
        legs.done.set()
    return _judged("sync", legs, reasons)


async def half_open_async() -> Proof:
    """Start a thousand tasks at once, and check that there are no more legs than permits."""
    store, legs = MemoryStore(), _AsyncSlowLegs()
    write_signals(store)
    async with AsyncRewriter(AsyncEngine(), store, _half_open_settings(), leg_client=legs) as rewriter:
        while "i" not in (await rewriter.status()).indices:  # noqa: ASYNC110  there is no event for it
            await asyncio.sleep(0.01)
        _opened(rewriter._runtime.core)  # type: ignore[union-attr]  # noqa: SLF001  as above
        searches = (
            rewriter.search_details(index="i", body=BODIES[0], subject=subject(number % SUBJECTS))
            for number in range(CALLERS)
        )
        reasons = Counter(str(report.reason) for _, report in await asyncio.gather(*searches))
        legs.done.set()
    return _judged("async", legs, reasons)


def fork(url: str, store_url: str, index: str, own: Settings, judge: Judge) -> Proof:
    """Fork children after the first search, and check that each personalizes with threads and connections of its own."""
    broken: list[str] = []
    roomy = own.model_copy(update={"budget": BudgetSettings(signals_ms=2_000, cutoff_ms=5_000)})  # not a matter of time
    with OpenSearch(url) as client, Rewriter(client, store_url, roomy) as rewriter:

        def wrong(count: int) -> int:
            found = 0
            for number in range(count):
                answer, report = rewriter.search_details(
                    index=index, body=BODIES[0], subject=subject(number % SUBJECTS)
                )
                found += report.reason != "personalized" or bool(judge.fault(0, number % SUBJECTS, answer, report))
            return found

        while rewriter.search_details(index=index, body=BODIES[0], subject=subject(0))[1].reason == "no_facts":
            time.sleep(0.01)
        broken += ["before the first fork"] if wrong(20) else []
        for _ in range(FORKS):
            child = os.fork()
            if child == 0:
                os._exit(min(100, wrong(20)))
            _, code = os.waitpid(child, 0)
            if os.waitstatus_to_exitcode(code):
                broken.append(f"{os.waitstatus_to_exitcode(code)} of 20 searches in a child were not personalized")
        broken += ["in the parent afterwards"] if wrong(20) else []
    return Proof("fork after first use", "sync", f"{FORKS} children, 20 searches each", tuple(broken))


def own_errors(url: str, store_url: str, index: str, own: Settings) -> Iterator[Proof]:
    """Check that errors of the caller's own search reach the caller unchanged: a wrong body, a missing index, no server."""
    refused = ((url, {"index": index, "body": WRONG}), (url, {"index": f"{index}-not", "body": BODIES[0]}))
    gone = f"http://127.0.0.1:{free_port()}"
    searches = (*refused, (gone, {"index": index, "body": BODIES[0]}))

    def pair(where: str, arguments: dict[str, Any]) -> tuple[str, str]:
        with OpenSearch(where, max_retries=0) as client, Rewriter(client, store_url, own) as rewriter:
            return _raised(lambda: client.search(**arguments)), _raised(
                lambda: rewriter.search(**arguments, subject=subject(1))
            )

    async def async_pair(where: str, arguments: dict[str, Any]) -> tuple[str, str]:
        async with AsyncOpenSearch(where, max_retries=0) as client, AsyncRewriter(client, store_url, own) as rewriter:
            return await _raised_awaiting(client.search(**arguments)), await _raised_awaiting(
                rewriter.search(**arguments, subject=subject(1))
            )

    yield _compared("sync", [pair(*one) for one in searches])
    yield _compared("async", [asyncio.run(async_pair(*one)) for one in searches])


def _raised(search: Any) -> str:
    try:
        search()
    except Exception as error:  # noqa: BLE001  whatever it is, it must be the same
        return _error_text(error)
    return "nothing"


async def _raised_awaiting(search: Any) -> str:
    try:
        await search
    except Exception as error:  # noqa: BLE001  whatever it is, it must be the same
        return _error_text(error)
    return "nothing"


def _error_text(error: Exception) -> str:
    return re.sub("0x[0-9a-f]+", "", f"{type(error).__qualname__}{error.args}")


def _compared(shell: str, pairs: list[tuple[str, str]]) -> Proof:
    broken = tuple(f"alone {alone}, through {through}" for alone, through in pairs if not alone == through != "nothing")
    return Proof("the baseline's own errors", shell, ", ".join(alone.partition("(")[0] for alone, _ in pairs), broken)


def sigterm(url: str, store: Valkey, index: str, shell: str) -> Proof:
    """Check that a process ends without output on SIGTERM while the store hangs and a search is under way."""
    command = [sys.executable, "-m", "bench.faults.until_sigterm", url, store.url, index, shell]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()  # it searches
        store.pause()
        try:
            child.stdout.readline()  # it still does
            signalled_s = time.monotonic()
            child.send_signal(signal.SIGTERM)
            _, output = child.communicate(timeout=60)
            took_s = time.monotonic() - signalled_s
        finally:
            store.resume()
    broken = [f"ended with {child.returncode}"] if child.returncode else []
    broken += [f"printed {output[-300:]!r}"] if output else []
    broken += [f"took {took_s:.1f} s"] if took_s > TERM_DEADLINE_S else []
    return Proof("SIGTERM in mid-search, the store hung", shell, f"ended after {took_s:.1f} s", tuple(broken))


def proofs(url: str) -> Iterator[Proof]:
    """Yield all of them."""
    yield half_open_sync()
    yield asyncio.run(half_open_async())
    index = f"faults-processes-{os.getpid()}"
    with (
        OpenSearch(url) as client,
        Valkey() as store,
        TemporaryDirectory(prefix="faults-") as folder,
        shop(client, index),
    ):
        rewritten(store.url)
        own = settings(Path(folder), index, open_s=5.0)
        yield from own_errors(url, store.url, index, own)
        yield fork(url, store.url, index, own, Judge(client, index))
        for shell in ("sync", "async"):
            yield sigterm(url, store, index, shell)
