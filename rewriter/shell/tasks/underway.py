"""The caller's own search on an event loop, beside which something begins once it is under way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any


class Underway:
    """An awaitable around a search that calls `beside` once the search is under way: when it first waits.

    So the rewriter does nothing before the caller's own search, whatever the event loop's task factory does with tasks.
    """

    def __init__(self, search: Awaitable[Any], beside: Callable[[], None]) -> None:
        self._search = search
        self._beside = beside

    def __await__(self) -> Generator[Any, Any, Any]:
        """Return what the search returns. The search runs in the task that awaits it, and receives all that is sent to it."""
        search = awaiting(self._search)
        try:
            waits_for = search.send(None)
            self._beside()
            while True:
                try:
                    sent = yield waits_for
                except BaseException as error:  # noqa: BLE001  mostly a cancellation, which the search handles itself
                    waits_for = search.throw(error)
                else:
                    waits_for = search.send(sent)
        except StopIteration as stop:
            return stop.value
        finally:
            search.close()


async def awaiting(search: Awaitable[Any]) -> Any:
    """Return what a search returns, as a coroutine."""
    return await search
