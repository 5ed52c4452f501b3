"""The client of the optional legs on threads, and the steps that it performs. No caller's thread uses it."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from threading import Lock
from typing import Any

from rewriter.client.limits import LIMITS, LegLimits
from rewriter.client.seam import LegFault, SearchClient, answer_of
from rewriter.flow.steps import SearchLeg, SendRewritten
from rewriter.settings import Settings
from rewriter.shell.background.sources import GetMapping, GetSettings
from rewriter.shell.legs import FaultsOf, answers_to, failing_as, note_size
from rewriter.shell.threads.job import ThreadJob


class ThreadLegs:
    """The legs of one process.

    caller: the caller's client, from which that of the legs is cloned.
    client: the caller's own client for legs, an unused clone, or None. owned: whether `close` closes it.
    """

    def __init__(self, caller: SearchClient, client: SearchClient | None, settings: Settings, *, owned: bool) -> None:
        self._caller = caller
        self._client = client
        self._settings = settings
        self._owned = owned
        self._making = Lock()  # workers and the background wait for it, callers never

    @property
    def client(self) -> SearchClient:
        """The client, made at first use."""
        if self._client is None:
            with self._making:
                if self._client is None:
                    self._client = self._caller.cloned(self._settings.leg_connections)
        return self._client

    def search(self, step: SearchLeg) -> Any:
        """Send a leg, and return its response. Raises LegFault."""
        limits = LegLimits(time.monotonic() + step.timeout_s, self._settings.budget.max_leg_bytes)
        try:
            with FaultsOf(self._caller):
                client = self.client
                LIMITS.set(limits)
                response = answer_of(client.search(step.search, step.timeout_s, is_leg=True))
                note_size(step, limits.size, response)
        except LegFault as fault:
            if fault.kind == "too_large":
                note_size(step, limits.size)
            raise
        return response

    def search_together(self, steps: Sequence[SearchLeg]) -> list[Any]:
        """Send several legs in one request. Returns the response of each, or its LegFault; raises LegFault for all."""
        timeout_s = max(step.timeout_s for step in steps)
        with FaultsOf(self._caller):
            client = self.client
            LIMITS.set(LegLimits(time.monotonic() + timeout_s, self._settings.budget.max_leg_bytes))
            body = client.multi_search([step.search for step in steps], timeout_s, is_leg=True)
        return answers_to(steps, body)

    def search_rewritten(self, job: ThreadJob, step: SendRewritten) -> Any:
        """Send a rewritten search. Its answer may be as large as the caller's own, which it stands in for."""
        limits = job.limits = LegLimits(time.monotonic() + step.timeout_s, sys.maxsize)
        if job.over:
            raise LegFault("late", "nobody waits for it any more")
        client = self._caller if step.by_caller else self.client
        with FaultsOf(client):
            LIMITS.set(None if step.by_caller else limits)
            job.rewritten = client.search_as_caller(step.search, step.timeout_s)
            return answer_of(client.body_of(job.rewritten))

    def read_facts(self, step: GetMapping | GetSettings) -> Any:
        """Read mappings or settings. Raises RequestFailed, or an error that is none of the client's."""
        client = self.client
        with failing_as(client):
            if isinstance(step, GetMapping):
                return client.get_mapping(step.index, step.params, step.timeout_s)
            return client.get_settings(step.index, step.names, step.params, step.timeout_s)

    def close(self) -> None:
        """Close the client, unless it is the caller's own."""
        if self._owned and self._client is not None:
            self._client.close()
