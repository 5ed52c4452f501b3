"""Who searches, by context; and a client that looks like the caller's own, but whose `search` is personalised."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from rewriter.subject import Subject


class Unset:
    """Marks an argument that was not given: `subject=None` says "nobody", which is something else."""


unset = Unset()

CURRENT_SUBJECT: ContextVar[Subject | None] = ContextVar("rewriter_subject", default=None)


class Wrapped:
    """Behaves as the client that it wraps; `search` goes through the rewriter."""

    def __init__(self, client: Any, search: Callable[..., Any]) -> None:
        self._client = client
        self.search = search

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def __repr__(self) -> str:
        return f"<rewriter around {self._client!r}>"
