"""The caller's own search on an event loop, where a rewritten one goes before it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from rewriter.client.seam import SearchClient
from rewriter.flow.steps import Sent
from rewriter.shell.own_response import OwnResponse
from rewriter.shell.tasks.job import TaskJob
from rewriter.shell.tasks.underway import Underway


class OwnSearch(OwnResponse):
    """Sent once at most; its error is handed on as it is.

    It runs on the caller's task, or on one of its own while it races a rewritten search.
    """

    __slots__ = ("_arguments", "_job")

    def __init__(self, client: SearchClient, arguments: Mapping[str, Any], job: TaskJob) -> None:
        super().__init__(client)
        self._arguments = arguments
        self._job = job

    async def sent(self, beside: Callable[[], None] = lambda: None) -> Sent:
        """Send it, call `beside` once it is under way, and return its answer."""
        self.started_s, begun = time.monotonic(), False

        def begin() -> None:
            nonlocal begun
            begun = True
            beside()

        try:
            response = await Underway(self._client.raw.search(**self._arguments), begin)
        except Exception as error:
            self.error = error
            raise
        if not begun:  # the search had nothing to wait for
            beside()
        return self.arrived(response)

    async def raced(self) -> Sent | None:
        """Send it, and return its answer, or None where the part of the rewritten search has ended first."""
        job = self._job
        if job.runtime is None or job.personal is None:
            return await self.sent()
        self.started_s = time.monotonic()
        job.own = job.runtime.send_own(self._client.raw.search(**self._arguments))
        await asyncio.wait({job.own, job.personal}, return_when=asyncio.FIRST_COMPLETED)
        return await self.awaited() if job.own.done() else None

    async def awaited(self) -> Sent:
        """Wait for what `raced` has sent."""
        assert self._job.own is not None
        try:
            return self.arrived(await self._job.own)
        except Exception as error:
            self.error = error
            raise

    async def whatever_happened(self) -> Any:
        """Return its response, and send it where that was not done. Raises what it raised."""
        if self.error is not None:
            raise self.error
        if not self.is_here:
            own = self._job.own
            await (self.awaited() if own is not None and not own.cancelled() else self.sent())
        return self.response
