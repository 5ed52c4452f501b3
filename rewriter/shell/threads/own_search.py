"""The caller's own search on its thread, where a rewritten one goes before it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rewriter.client.seam import SearchClient
from rewriter.flow.steps import Sent
from rewriter.shell.own_response import OwnResponse


class OwnSearch(OwnResponse):
    """The caller's own search, which is sent once at most, and whose error reaches the caller as it is."""

    __slots__ = ("_arguments",)

    def __init__(self, client: SearchClient, arguments: Mapping[str, Any]) -> None:
        super().__init__(client)
        self._arguments = arguments

    def sent(self) -> Sent:
        """Send it, and return its answer."""
        self.started_s = time.monotonic()
        try:
            return self.arrived(self._client.raw.search(**self._arguments))
        except Exception as error:
            self.error = error
            raise

    def whatever_happened(self) -> Any:
        """Return its response, and send it where that was not done. Raises what it raised."""
        if self.error is not None:
            raise self.error
        if not self.is_here:
            self.sent()
        return self.response
