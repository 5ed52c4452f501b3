"""What a rewriter holds on to: a walk over all containers that its objects can reach, and the memory of each.

Objects of other packages end the walk: clients, stores, threads. So do settings, templates and code, which no search adds to.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import partial
from sys import getsizeof
from types import FunctionType, MethodType
from typing import Any, NamedTuple

from pydantic import BaseModel

CONTAINERS = (dict, list, tuple, set, frozenset, deque)
ATOMS = (str, bytes, bytearray, int, float)


class Held(NamedTuple):
    """A container: the class and the attribute that hold it, and itself."""

    owner: str
    container: Any


def containers(root: object) -> Iterator[Held]:
    """Yield every container that can be reached from a rewriter's object, each once."""
    seen: set[int] = set()
    waiting: list[tuple[str, object]] = [("", root)]
    while waiting:
        owner, one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, CONTAINERS):
            yield Held(owner, one)
        waiting += [(name or owner, part) for name, part in _parts(one)]


def objects(root: object) -> list[object]:
    """Return everything that can be reached from an object, itself included."""
    found: dict[int, object] = {}
    waiting = [root]
    while waiting:
        one = waiting.pop()
        if id(one) not in found:
            found[id(one)] = one
            waiting += [part for _, part in _parts(one)]
    return list(found.values())


def memory_of(root: object, *, without: tuple[type, ...] = ()) -> int:
    """Return the bytes of memory that an object takes with all that it holds; types, functions' code and `without` left out."""
    seen: set[int] = set()
    waiting, size = [root], 0
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, without):
            continue
        seen.add(id(one))
        if isinstance(one, (*CONTAINERS, *ATOMS)) or _ours(one):
            size += getsizeof(one)
        waiting += [part for _, part in _parts(one)]
    return size


def _ours(one: object) -> bool:
    return type(one).__module__.startswith("rewriter.") and not isinstance(one, BaseModel)


def _parts(one: object) -> Iterator[tuple[str, object]]:
    """Yield what an object holds, each part with the class and the attribute that hold it, "" for a container's parts."""
    if isinstance(one, dict):
        for key, value in list(one.items()):
            yield "", key
            yield "", value
    elif isinstance(one, CONTAINERS):
        yield from (("", part) for part in list(one))
    elif isinstance(one, partial):
        yield from (("", part) for part in (one.func, one.args, one.keywords))
    elif isinstance(one, MethodType):
        yield "", one.__self__
    elif isinstance(one, FunctionType):
        yield from (("", cell.cell_contents) for cell in one.__closure__ or () if _filled(cell))
    elif _ours(one):
        named = dict(getattr(one, "__dict__", {}))
        for kind in type(one).__mro__:
            slots = getattr(kind, "__slots__", ())
            for slot in (slots,) if isinstance(slots, str) else slots:
                name = f"_{kind.__name__.lstrip('_')}{slot}" if slot.startswith("__") else slot
                if hasattr(one, name):
                    named[name] = getattr(one, name)
        yield from ((f"{type(one).__name__}.{name}", part) for name, part in named.items())


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
