"""The subject of a context, and a client that behaves as the caller's own but whose searches are personalized."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from inspect import Parameter, signature
from logging import getLogger
from typing import Any, Self

from typing_extensions import TypeVar

from rewriter.client.seam import SearchClient
from rewriter.subject import Subject

_log = getLogger("rewriter")

Client = TypeVar("Client", default=Any)
"""The type of the client that a rewriter is put around, and so of the wrapped one."""


class Unset:
    """The mark of an argument that was not given: `subject=None` means that nobody is known, which differs from it."""


unset = Unset()

CURRENT_SUBJECT: ContextVar[Subject | None] = ContextVar("rewriter_subject", default=None)


def given_or_current(subject: Subject | Unset | None) -> Subject | None:
    """Return the subject of a search: the given one, or that of the enclosing `with subject` if none was given."""
    return CURRENT_SUBJECT.get() if isinstance(subject, Unset) else subject


def searching(subject: Subject | None) -> AbstractContextManager[None]:
    """Return a context manager that sets the subject of the searches within its block; each thread and task has its own.

    Raises ValueError at once if `subject` is neither a Subject nor None. Leaving the block never raises: a block that is left in
    another context than it was entered in (the two halves of a FastAPI dependency, a stream closed by another task) leaves that
    context unchanged.
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


_warned: set[str] = set()


def warn_once(name: str) -> None:
    """Log once in a process that a call of the client's is not personalized."""
    if name not in _warned:
        _warned.add(name)
        _log.warning("%s is sent as it is: such calls cannot be personalized (this is logged once)", name)


Searching = Callable[[SearchClient, Subject | Unset | None, Mapping[str, Any]], Any]
"""A search of the rewriter's: by which client, for whom, with which arguments."""

OWN = frozenset({"_msearch", "_seam", "_search", "msearch", "search"})
"""The attributes that a wrapped client has for itself; all others are the client's."""


def _named(method: Any, positional: tuple[Any, ...], arguments: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return all arguments of a call by name, as the method names them: opensearch-py 2 takes `body` and `index` by position.

    None where they cannot be named, for a call that the client itself refuses.
    """
    if not positional:
        return arguments
    try:
        parameters = signature(method).parameters.values()
    except (TypeError, ValueError):
        return None
    names = [one.name for one in parameters if one.kind is Parameter.POSITIONAL_OR_KEYWORD][: len(positional)]
    if len(names) < len(positional) or not arguments.keys().isdisjoint(names):
        return None
    return {**dict(zip(names, positional, strict=True)), **arguments}


class Wrapped:
    """Behaves as the client that it wraps; `search` and `msearch` go through the rewriter.

    Attributes are the client's, to read, to set and to delete. Methods that return the same client with other options
    (Elasticsearch's `options`) return a wrapped one, whose searches are sent with these options, the optional legs included.
    Calls that search in another way (templates, scrolls) are sent as they are, which is logged once in a process.
    The subclasses have `with` and `async with`: Python looks these up on the type.
    """

    __slots__ = ("__weakref__", "_msearch", "_seam", "_search")

    def __init__(self, client: SearchClient, *, search: Searching, msearch: Searching) -> None:
        object.__setattr__(self, "_seam", client)
        object.__setattr__(self, "_search", search)
        object.__setattr__(self, "_msearch", msearch)

    def search(self, *positional: Any, subject: Subject | Unset | None = unset, **arguments: Any) -> Any:
        """Search as the client would, personalized. See Rewriter.search."""
        named = _named(self._seam.raw.search, positional, arguments)
        if named is None:
            return self._seam.raw.search(*positional, **arguments)
        return self._search(self._seam, subject, named)

    def msearch(self, *positional: Any, subject: Subject | Unset | None = unset, **arguments: Any) -> Any:
        """Search a batch as the client would, each search personalized. See Rewriter.msearch."""
        named = _named(self._seam.raw.msearch, positional, arguments)
        if named is None:
            return self._seam.raw.msearch(*positional, **arguments)
        return self._msearch(self._seam, subject, named)

    def __getattr__(self, name: str) -> Any:
        if name in OWN:  # `copy` or `pickle` has not filled this object yet
            raise AttributeError(name)
        found = getattr(self._seam.raw, name)
        if name in self._seam.passed:
            warn_once(name)
        return self._rewrapping(found) if name in self._seam.rewrapped else found

    def _rewrapping(self, method: Callable[..., Any]) -> Callable[..., Wrapped]:
        def rewrapped(*arguments: Any, **named: Any) -> Wrapped:
            return self._around(self._seam.derived(method(*arguments, **named)))

        return rewrapped

    def _around(self, client: SearchClient) -> Self:
        return type(self)(client, search=self._search, msearch=self._msearch)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in OWN:
            object.__setattr__(self, name, value)
        else:
            setattr(self._seam.raw, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._seam.raw, name)

    def __dir__(self) -> list[str]:
        return sorted({*dir(self._seam.raw), "msearch", "search"})

    def __copy__(self) -> Self:
        return self._around(self._seam.derived(copy.copy(self._seam.raw)))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self._around(self._seam.derived(copy.deepcopy(self._seam.raw, memo)))

    def __repr__(self) -> str:
        kind = type(self._seam.raw)  # its own repr may show the credentials of its hosts
        return f"<rewriter around {kind.__module__}.{kind.__qualname__}>"


class WrappedSync(Wrapped):
    """The wrapper of a sync client. Leaving `with` closes the client, as it does without the rewriter."""

    __slots__ = ()

    def __enter__(self) -> Self:
        self._seam.raw.__enter__()
        return self

    def __exit__(self, *error: object) -> Any:
        return self._seam.raw.__exit__(*error)


class WrappedAsync(Wrapped):
    """The wrapper of an async client. Leaving `async with` closes the client, as it does without the rewriter."""

    __slots__ = ()

    async def __aenter__(self) -> Self:
        await self._seam.raw.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> Any:
        return await self._seam.raw.__aexit__(*error)
