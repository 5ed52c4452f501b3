"""The subject of a context, and a client that behaves as the caller's own but whose `search` is personalized."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Self

from rewriter.subject import Subject


class Unset:
    """Marks an argument that was not given: `subject=None` says "nobody", which is something else."""


unset = Unset()

CURRENT_SUBJECT: ContextVar[Subject | None] = ContextVar("rewriter_subject", default=None)


def searching(subject: Subject | None) -> AbstractContextManager[None]:
    """Return a context manager within which `subject` searches; threads and tasks are apart.

    Raises ValueError at once for what is no Subject. Leaving the block never raises: a block that is left in another context
    than it was entered in (the two halves of a FastAPI dependency, a stream closed by another task) leaves that context as it is.
    """
    if not isinstance(subject, Subject | None):
        raise ValueError(f"subject is of type {type(subject).__qualname__}, not a Subject or None")  # noqa: TRY004
    return _searching(subject)


@contextmanager
def _searching(subject: Subject | None) -> Iterator[None]:
    token = CURRENT_SUBJECT.set(subject)
    try:
        yield
    finally:
        with suppress(ValueError):
            CURRENT_SUBJECT.reset(token)


OWN = frozenset({"_client", "search"})
"""The attributes that a wrapped client has for itself; all others are the client's."""


class Wrapped:
    """Behaves as the client that it wraps; `search` goes through the rewriter.

    Attributes are the client's, to read, to set and to delete. The subclasses have `with` and `async with`: Python looks these
    up on the type.
    """

    __slots__ = ("__weakref__", "_client", "search")

    def __init__(self, client: Any, search: Callable[..., Any]) -> None:
        object.__setattr__(self, "_client", client)
        object.__setattr__(self, "search", search)

    def __getattr__(self, name: str) -> Any:
        if name in OWN:  # an object that `copy` or `pickle` has only begun to make
            raise AttributeError(name)
        return getattr(self._client, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in OWN:
            object.__setattr__(self, name, value)
        else:
            setattr(self._client, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._client, name)

    def __dir__(self) -> list[str]:
        return sorted({*dir(self._client), "search"})

    def __copy__(self) -> Self:
        return type(self)(copy.copy(self._client), self.search)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)(copy.deepcopy(self._client, memo), self.search)

    def __repr__(self) -> str:
        kind = type(self._client)  # its own repr may show the credentials of its hosts
        return f"<rewriter around {kind.__module__}.{kind.__qualname__}>"


class WrappedSync(Wrapped):
    """Around a client of threads. Leaving `with` closes the client, as it does without the rewriter."""

    __slots__ = ()

    def __enter__(self) -> Self:
        self._client.__enter__()
        return self

    def __exit__(self, *error: object) -> Any:
        return self._client.__exit__(*error)


class WrappedAsync(Wrapped):
    """Around a client of the event loop. Leaving `async with` closes the client, as it does without the rewriter."""

    __slots__ = ()

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> Any:
        return await self._client.__aexit__(*error)
