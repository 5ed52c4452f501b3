"""Blocks of searches, and what each block cost: the times of its searches, CPU of client and server, and the time that it took.

Ways take turns, block by block and in alternating order, so that a machine whose speed changes does so for all of them. CPU of the
client is that of this process, of all its threads. CPU of the server is that of its process, from /proc where it runs on this
machine, else from its own statistics; both count in steps of 1 to 10 ms, which the number of blocks makes up for.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opensearchpy import OpenSearch

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Way:
    """A way to search. `one` sends the search of a number, and returns whether its page is personalized.

    base:    the name of the way that it is compared with.
    pause_s: the pause before each search, which no time contains. A server that waits between searches, as it does while a client
             computes, spends more CPU on each of them.
    """

    name: str
    one: Callable[[int], Any]
    base: str = "plain"
    is_async: bool = False
    pause_s: float = 0.0


@dataclass(slots=True)
class Block:
    """The searches of one block: times in ms, whole time and CPU in seconds, which were personalized, and what failed ones raised.

    Several threads append.
    """

    times_ms: list[float] = field(default_factory=list)
    took_s: float = 0.0
    client_s: float = 0.0
    server_s: float = 0.0
    flags: list[bool] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


class ServerClock:
    """The CPU time of the search engine's process."""

    def __init__(self, client: OpenSearch) -> None:
        self._client = client
        (node,) = client.transport.perform_request("GET", "/_nodes/process")["nodes"].values()
        host = client.transport.hosts[0].get("host")
        stat = Path(f"/proc/{node['process']['id']}/stat")
        self._stat = stat if host in ("127.0.0.1", "localhost") and stat.exists() else None

    def seconds(self) -> float:
        """Return the CPU seconds used so far."""
        if self._stat is not None:
            parts = self._stat.read_text().rpartition(")")[2].split()
            return (int(parts[11]) + int(parts[12])) / TICKS
        found = self._client.nodes.stats(metric="process")["nodes"]
        return float(sum(node["process"]["cpu"]["total_in_millis"] for node in found.values())) / 1e3


def measured(
    ways: Sequence[Way],
    clock: ServerClock,
    loop: asyncio.AbstractEventLoop,
    *,
    callers: int,
    rounds: int,
    searches: int,
    warm_up: int = 2,
) -> dict[str, list[Block]]:
    """Return `rounds` blocks of about `searches` searches of each way, in the order of the rounds."""
    found: dict[str, list[Block]] = {way.name: [] for way in ways}
    with ThreadPoolExecutor(callers) as threads:
        for number in range(-warm_up, rounds):
            for way in ways if number % 2 else reversed(ways):
                block = _block(way, clock, loop, threads, callers, searches, (number + warm_up) * searches)
                if number >= 0:
                    found[way.name].append(block)
    return found


def _block(
    way: Way,
    clock: ServerClock,
    loop: asyncio.AbstractEventLoop,
    threads: ThreadPoolExecutor,
    callers: int,
    searches: int,
    first: int,
) -> Block:
    each = max(1, searches // callers)
    numbers = [range(first + caller * each, first + (caller + 1) * each) for caller in range(callers)]
    block = Block()
    server_s, client_s, started_s = clock.seconds(), time.process_time(), time.perf_counter()
    if way.is_async:
        loop.run_until_complete(_tasks(way, numbers, block))
    elif callers == 1:
        _calls(way, numbers[0], block)
    else:
        for done in [threads.submit(_calls, way, some, block) for some in numbers]:
            done.result()
    block.took_s = time.perf_counter() - started_s - each * way.pause_s
    block.client_s, block.server_s = time.process_time() - client_s, clock.seconds() - server_s
    return block


def _calls(way: Way, numbers: Sequence[int], block: Block) -> None:
    for number in numbers:
        if way.pause_s:
            time.sleep(way.pause_s)
        started_s = time.perf_counter()
        try:
            personalized = way.one(number)
        except Exception as error:  # noqa: BLE001  counted, and printed beside the figures
            block.errors.append(type(error).__name__)
            continue
        block.times_ms.append((time.perf_counter() - started_s) * 1e3)
        block.flags.append(bool(personalized))


async def _tasks(way: Way, numbers: Sequence[Sequence[int]], block: Block) -> None:
    async def calls(some: Sequence[int]) -> None:
        for number in some:
            started_s = time.perf_counter()
            try:
                personalized = await _awaited(way.one(number))
            except Exception as error:  # noqa: BLE001  as above
                block.errors.append(type(error).__name__)
                continue
            block.times_ms.append((time.perf_counter() - started_s) * 1e3)
            block.flags.append(bool(personalized))

    await asyncio.gather(*map(calls, numbers))


async def _awaited(search: Awaitable[Any]) -> Any:
    return await search
