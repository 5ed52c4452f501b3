"""The client of the optional legs on an event loop, and the steps that it performs."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from rewriter.client.limits import LIMITS, LegLimits
from rewriter.client.seam import LegFault, SearchClient, answer_of
from rewriter.flow.steps import SearchLeg, SendRewritten
from rewriter.settings import Settings
from rewriter.shell.background.sources import GetMapping, GetSettings
from rewriter.shell.legs import FaultsOf, answers_to, failing_as, note_size
from rewriter.shell.tasks.job import TaskJob


class TaskLegs:
    """The legs of one event loop.

    caller: the caller's client, from which that of the legs is cloned.
    client: the caller's own client for legs, or None.
    on_a_thread: runs a function on a thread. keep: starts a task, and holds it.
    """

    def __init__(
        self,
        caller: SearchClient,
        client: SearchClient | None,
        settings: Settings,
        *,
        on_a_thread: Callable[[Callable[[], SearchClient]], Awaitable[SearchClient]],
        keep: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self._caller = caller
        self._client = client
        self._owned = client is None
        self._settings = settings
        self._on_a_thread = on_a_thread
        self._keep = keep
        self._making: asyncio.Task[None] | None = None

    async def client(self) -> SearchClient:
        """Return the client. It is made once, on a thread, since certificates are read from disk."""
        if self._client is None:
            if self._making is None or self._making.done():
                self._making = self._keep(self._make())
            await asyncio.shield(self._making)
            assert self._client is not None
        return self._client

    async def _make(self) -> None:
        def made() -> SearchClient:
            client = self._caller.cloned(self._settings.leg_connections)
            client.prepare()
            return client

        self._client = await self._on_a_thread(made)

    async def search(self, step: SearchLeg) -> Any:
        """Send a leg, and return its response. Raises LegFault."""
        limits = LegLimits(time.monotonic() + step.timeout_s, self._settings.budget.max_leg_bytes)
        try:
            with FaultsOf(self._caller):
                client = await self.client()
                LIMITS.set(limits)
                response = answer_of(await client.search(step.search, step.timeout_s, is_leg=True))
                note_size(step, limits.size, response)
        except LegFault as fault:
            if fault.kind == "too_large":
                note_size(step, limits.size)
            raise
        return response

    async def search_together(self, steps: Sequence[SearchLeg]) -> list[Any]:
        """Send several legs in one request. Returns the response of each, or its LegFault; raises LegFault for all."""
        timeout_s = max(step.timeout_s for step in steps)
        with FaultsOf(self._caller):
            client = await self.client()
            LIMITS.set(LegLimits(time.monotonic() + timeout_s, self._settings.budget.max_leg_bytes))
            body = await client.multi_search([step.search for step in steps], timeout_s, is_leg=True)
        return answers_to(steps, body)

    async def search_rewritten(self, job: TaskJob, step: SendRewritten) -> Any:
        """Send a rewritten search. Its answer may be as large as the caller's own, which it stands in for."""
        client = self._caller if step.by_caller else await self.client()
        with FaultsOf(client):
            LIMITS.set(None if step.by_caller else LegLimits(time.monotonic() + step.timeout_s, sys.maxsize))
            job.rewritten = await client.search_as_caller(step.search, step.timeout_s)
            return answer_of(client.body_of(job.rewritten))

    async def read_facts(self, step: GetMapping | GetSettings) -> Any:
        """Read mappings or settings. Raises RequestFailed, or an error that is none of the client's."""
        client = await self.client()
        with failing_as(client):
            if isinstance(step, GetMapping):
                return await client.get_mapping(step.index, step.params, step.timeout_s)
            return await client.get_settings(step.index, step.names, step.params, step.timeout_s)

    async def close(self) -> None:
        """Close the client, unless it is the caller's own. Never raises."""
        if self._owned and self._client is not None:
            with suppress(Exception):
                await self._client.close()
