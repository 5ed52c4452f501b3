"""The client libraries that the rewriter serves: modules and packages of this one, found by the package that defines a client.

A module `x` serves clients whose class, or a base of it, is defined in a package whose name begins with `x`: `opensearch` serves
those of `opensearchpy`. A module is imported when its first client is given, so a library that is not used is not imported.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, cast

from rewriter import client
from rewriter.client.seam import Library, SearchClient

OWN = frozenset({"batch", "faults", "limits", "own_parts", "pieces", "registry", "seam"})
"""The modules of this package that serve no client."""

DEFAULT = "opensearch"
"""The library of a client that no library defines, such as a proxy of another client."""


@cache
def names() -> tuple[str, ...]:
    """Return the names of the client libraries, which are those of their modules."""
    return tuple(sorted(one.name for one in iter_modules(client.__path__) if one.name not in OWN))


def library(name: str) -> Library:
    """Return one client library. Raises ImportError if it is not installed."""
    return cast("Library", import_module(f"rewriter.client.{name}"))


def library_of(raw: object) -> Library | None:
    """Return the library that defines a client's class or one of its bases; None if none does."""
    roots = [base.__module__.partition(".")[0] for base in type(raw).__mro__]
    found = next((name for root in roots for name in names() if root.startswith(name)), None)
    return library(found) if found else None


def around(raw: Any, stands_in_for: Any = None, *, is_async: bool) -> SearchClient:
    """Return the seam around a client. stands_in_for: a client of the library, if `raw` may be a proxy of one."""
    found = library_of(raw) or (library_of(stands_in_for) if stands_in_for is not None else None)
    return (found or library(DEFAULT)).around(raw, is_async=is_async)
