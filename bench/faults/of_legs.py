"""What befalls the optional legs alone: their answers are spoiled by a proxy that only they go through."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from bench.faults.place import Place


def spoiled(mode: str) -> Callable[[Place], AbstractContextManager[None]]:
    """The legs' answers are spoiled by the proxy that only they go through."""
    return lambda place: place.legs.spoiling(mode)


@contextmanager
def rejected(place: Place) -> Iterator[None]:
    """The personalized leg is answered with 400: the template is quarantined until it is accepted or another version is there."""
    with place.legs.spoiling("400"):
        yield
    template = place.folder / "templates" / "own" / "boosts.json.j2"
    template.write_text(template.read_text() + "{# another version #}\n")
