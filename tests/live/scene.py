"""Faults and harnesses of live tests: a relay that drips, names that resolve slowly, legs that hang, and a side for each shell."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import Event, Lock, Thread, current_thread
from typing import Any, Self
from urllib.parse import urlsplit

import pytest

from rewriter import AsyncRewriter, Report, Rewriter, Settings, Subject
from rewriter.client.seam import Search, SearchClient
from tests.fakes import knowing, known
from tests.live.engine import Intercepted, async_search_client, intercept, search_client
from tests.live.shelf import MATCH

ANN = Subject("ann", "s1")
BODY = {"query": MATCH, "size": 10}
HOST, QUICK = "slow.invalid", "quick.invalid"


class Relay:
    """Stands between client and store; once `dripping`, answers pass a byte at a time."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._upstream = (parts.hostname or "", parts.port or 0)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listening.getsockname()[1]}"
        self.dripping = Event()
        Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.dripping.clear()
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.create_connection(self._upstream)
            for one, other, drips in ((client, server, False), (server, client, True)):
                Thread(target=self._pass, args=(one, other, drips), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket, drips: bool) -> None:
        with one, other:
            try:
                while said := one.recv(65_536):
                    while drips and self.dripping.is_set() and said:
                        other.sendall(said[:1])
                        said = said[1:]
                        time.sleep(0.02)  # this is the drip
                    other.sendall(said)
            except OSError:
                return


class SlowNames:
    """While `slow`, looking up `HOST` takes `took_s`, or until it is slow no more; `QUICK` is found at once.

    on: the names of the threads that looked `HOST` up; most_at_once: how many did so at the same time.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, took_s: float = 1.0) -> None:
        self.slow = Event()
        self.on: list[str] = []
        self.most_at_once = self._now = 0
        self._lock = Lock()
        self._took_s = took_s
        self._known = {HOST: "127.0.0.1", QUICK: "127.0.0.1"}
        self._look_up = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._getaddrinfo)

    def under(self, name: str, url: str) -> str:
        """Return a URL with its host, or the one that all of its hosts are, under a name."""
        host = urlsplit(url.partition(",")[0]).hostname or ""
        self._known[name] = host
        return url.replace(host, name)

    def _getaddrinfo(self, host: Any, *more: Any, **others: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name == HOST:
            with self._lock:
                self.on.append(current_thread().name)
                self._now += 1
                self.most_at_once = max(self.most_at_once, self._now)
            until_s = time.monotonic() + self._took_s
            while self.slow.is_set() and time.monotonic() < until_s:
                time.sleep(0.02)  # this is the slow DNS
            with self._lock:
                self._now -= 1
        return self._look_up(self._known.get(name, host), *more, **others)


@contextmanager
def stalls() -> Iterator[list[float]]:
    """How much later than asked, in ms, a thread woke that slept again and again: what the machine does to all that waits."""
    late_ms, ended = [0.0], Event()

    def sleep() -> None:
        while not ended.is_set():
            before_s = time.perf_counter()
            time.sleep(0.002)
            late_ms.append((time.perf_counter() - before_s) * 1000.0 - 2.0)

    sleeper = Thread(target=sleep, daemon=True)
    sleeper.start()
    try:
        yield late_ms
    finally:
        ended.set()
        sleeper.join()


class Timed:
    """The caller's client, and when its latest answer was asked for and arrived; `slowest_ms` is of all."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.took_ms = self.arrived_s = self.slowest_ms = 0.0

    def search(self, **arguments: Any) -> Any:
        started_s = time.perf_counter()
        answer = self._client.search(**arguments)
        self._note(started_s)
        return answer

    def _note(self, started_s: float) -> None:
        self.arrived_s = time.perf_counter()
        self.took_ms = (self.arrived_s - started_s) * 1000.0
        self.slowest_ms = max(self.slowest_ms, self.took_ms)


class AsyncTimed(Timed):
    """The same, awaited."""

    async def search(self, **arguments: Any) -> Any:
        started_s = time.perf_counter()
        answer = await self._client.search(**arguments)
        self._note(started_s)
        return answer


class Legs(Intercepted):
    """The client of the optional legs; while `stuck`, nothing comes back."""

    def __init__(self, seam: SearchClient) -> None:
        super().__init__(seam)
        self.stuck = Event()

    def search(self, search: Search, timeout_s: float, *, is_leg: bool = False) -> Any:
        while self.stuck.is_set():
            time.sleep(0.005)
        return self.seam.search(search, timeout_s, is_leg=is_leg)


class AsyncLegs(Legs):
    """The same, awaited."""

    async def search(self, search: Search, timeout_s: float, *, is_leg: bool = False) -> Any:
        while self.stuck.is_set():  # noqa: ASYNC110  a thread sets it
            await asyncio.sleep(0.005)
        return await self.seam.search(search, timeout_s, is_leg=is_leg)


class SyncSide:
    """A Rewriter on the real server."""

    def __init__(self, url: str, settings: Settings) -> None:
        self.client = Timed(search_client(url))
        self.leg_client = search_client(url, 16, max_retries=0)
        self.rewriter = Rewriter(self.client, settings=settings, leg_client=self.leg_client)
        given = self.rewriter._runtimes._given
        assert given.leg_client is not None
        self.legs = Legs(given.leg_client)
        intercept(self.rewriter, self.legs)

    def plain(self, index: str) -> Any:
        return self.client.search(index=index, body=BODY)

    def search(self, index: str) -> tuple[Any, Report]:
        return self.rewriter.search_details(index=index, body=BODY, subject=ANN)

    def knows(self, index: str) -> None:
        """Wait until the facts of an index that a policy names were read."""
        known(self.rewriter, index)

    def in_flight(self) -> int:
        return self.rewriter._runtime.in_flight.count if self.rewriter._runtime else 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.rewriter.close()
        self.leg_client.close()
        self.client._client.close()


class AsyncSide:
    """An AsyncRewriter on the real server, on a loop that runs while something is asked of it."""

    def __init__(self, url: str, settings: Settings) -> None:
        self._url = url
        self.runner = asyncio.Runner()
        self.client = AsyncTimed(async_search_client(url))
        self.leg_client = async_search_client(url, 16, max_retries=0)
        self.rewriter = AsyncRewriter(self.client, settings=settings, leg_client=self.leg_client)
        given = self.rewriter._runtimes._given
        assert given.leg_client is not None
        self.legs = AsyncLegs(given.leg_client)
        self.rewriter._runtimes._given = replace(given, leg_client=self.legs)  # no loop has it yet

    def plain(self, index: str) -> Any:
        return self.runner.run(self.client.search(index=index, body=BODY))

    def search(self, index: str) -> tuple[Any, Report]:
        return self.runner.run(self.rewriter.search_details(index=index, body=BODY, subject=ANN))

    def search_at_once(self, index: str, count: int) -> list[tuple[Any, Report]]:
        """Search `count` times at once, on a client that has no connection and knows no address any more."""

        async def searches() -> list[tuple[Any, Report]]:
            await self.client._client.close()
            self.client._client = async_search_client(self._url)
            searching = (self.rewriter.search_details(index=index, body=BODY, subject=ANN) for _ in range(count))
            return await asyncio.gather(*searching)

        return self.runner.run(searches())

    def knows(self, index: str) -> None:
        """Wait until the facts of an index that a policy names were read."""
        self.runner.run(knowing(self.rewriter, index))

    def in_flight(self) -> int:
        self.runner.run(asyncio.sleep(0.002))
        return self.rewriter._runtime.in_flight.count if self.rewriter._runtime else 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.runner.run(self.rewriter.close())
        self.runner.run(self.leg_client.close())
        self.runner.run(self.client._client.close())
        self.runner.close()


Side = SyncSide | AsyncSide
