"""The registry of signal kinds: the modules of this package that define a `KIND`, found by their files."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from rewriter.signals import kinds
from rewriter.signals.kinds.kind import SignalKind

OWN = frozenset({"kind", "registry"})
"""The modules of this package that define no kind."""


@cache
def every_kind() -> Mapping[str, SignalKind]:
    """Return the kinds by name, in the order of their files."""
    modules = sorted(one.name for one in iter_modules(kinds.__path__) if one.name not in OWN)
    found: list[SignalKind] = [import_module(f"{kinds.__name__}.{name}").KIND for name in modules]
    return {kind.name: kind for kind in found}


def known_kind(name: str) -> str:
    """Return `name` if a kind has it. Raises ValueError, for pydantic's messages."""
    if name not in every_kind():
        raise ValueError(f"is not a kind of signal; the kinds are {', '.join(every_kind())}")
    return name
