"""Faults of the optional legs alone: a proxy that only they use spoils their answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from bench.faults.rig import Rig


def spoiled(mode: str) -> Callable[[Rig], AbstractContextManager[None]]:
    """Spoil the legs' answers with the proxy."""
    return lambda rig: rig.legs.spoiling(mode)


@contextmanager
def rejected(rig: Rig) -> Iterator[None]:
    """The personalized leg is answered with 400: the template is quarantined until it is accepted or another version is there."""
    with rig.legs.spoiling("400"):
        yield
    template = rig.folder / "templates" / "own" / "boosts.json.j2"
    template.write_text(template.read_text() + "{# another version #}\n")
