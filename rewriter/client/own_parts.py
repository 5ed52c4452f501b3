"""Methods and state of a caller's client that its library does not define, and that a clone might lack.

Optional legs are sent by a clone. A subclass whose `search` adds a tenant's filter must filter the legs too, or the page would hold
other tenants' hits: so a clone has the methods of the subclass, and where none can have them the client is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from inspect import signature
from typing import Any


class NotCloned(Exception):
    """No clone can be made that sends as the client does. Its text says why, without any value of the client."""


def library_class(part: Any, classes: Collection[type]) -> Any:
    """Return which of a library's own classes a client or transport is of: a subclass may need other arguments."""
    return next((base for base in type(part).__mro__ if base in classes), type(part))


def own_methods(client: Any, names: Iterable[str], classes: Collection[type]) -> list[str]:
    """Return those of a client's methods that are overridden in a subclass of its library's class.

    A method that a tracing library replaces in the library's class is not one.
    """
    library = library_class(client, classes)
    return [
        name
        for name in names
        if not issubclass(library, next(base for base in type(client).__mro__ if name in vars(base)))
    ]


def set_methods(client: Any, names: Iterable[str]) -> list[str]:
    """Return those of a client's methods that are set on the object itself, as tests and probes do."""
    return [name for name in names if name in getattr(client, "__dict__", {})]


def check_state(given: Any, clone: Any, vanilla: Any) -> None:
    """Raise NotCloned if a clone of an object of the caller's own class lacks state that the caller gave it.

    given, clone: the object and its clone, such as a transport. vanilla: an object of the library's class, which shows what the
                  library itself keeps.
    State is an argument of the class's constructor, a text, or a method that is set on the object.
    """
    arguments = set(_arguments(type(given), type(vanilla)))
    mine, theirs, known = vars(given), vars(clone), vars(vanilla)
    for name, value in mine.items():
        of_constructor = name.strip("_") in arguments
        is_method = name not in known and callable(getattr(type(vanilla), name, None))
        if name in known or not (of_constructor or is_method or isinstance(value, (str, bytes))):
            continue
        if is_method or not _equal(value, theirs.get(name)):
            raise NotCloned(f"the clone's {type(given).__name__} would lack its `{name}`")


def _arguments(kind: type, stops_at: type) -> Iterator[str]:
    """Yield the names of the arguments of the constructors that a class has beside those of the class `stops_at`."""
    for base in kind.__mro__:
        if base is stops_at:
            return
        if "__init__" in vars(base):
            yield from (name.strip("_") for name in signature(base.__init__).parameters)  # type: ignore[misc]


def _equal(one: Any, other: Any) -> bool:
    try:
        return one is other or bool(one == other)
    except Exception:  # noqa: BLE001  an object of the caller's may raise anything
        return False
