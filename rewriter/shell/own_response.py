"""The response to the caller's own search where a rewritten one goes before it, and which of the two responses is served."""

from __future__ import annotations

from typing import Any

from rewriter.client.seam import SearchClient
from rewriter.flow.steps import Sent
from rewriter.report import Report


class OwnResponse:
    """What one search of the caller's own was answered with, if it was sent.

    error:     what it raised. started_s: when it was sent (monotonic).
    is_here:   whether it was answered, with `response`, as the client gave it.
    """

    __slots__ = ("_body", "_client", "error", "is_here", "response", "started_s")

    def __init__(self, client: SearchClient) -> None:
        self._client = client
        self._body: Any = None
        self.response: Any = None
        self.is_here = False
        self.started_s = 0.0
        self.error: Exception | None = None

    def arrived(self, response: Any) -> Sent:
        """Note the response, and return it as the flow takes it."""
        self.response, self.is_here = response, True
        try:
            self._body = self._client.body_of(response)
        except Exception:  # noqa: BLE001  of an odd form: it is the caller's as it is
            self._body = None
        return Sent(self._body, self.started_s)

    def response_with(self, shown: Any, rewritten: Any, report: Report) -> Any:
        """Return the response that holds the body `shown`: the rewritten one where that is served, else the caller's own.

        rewritten: the response to the rewritten search, as its client gave it.
        """
        if self.is_here and report.variant != "personalized":
            return self.response if shown is self._body else self._client.with_body(self.response, shown)
        if self.is_here and report.mode == "parallel":
            return self._client.with_body(self.response, shown)
        return self._client.with_body(rewritten, shown)
