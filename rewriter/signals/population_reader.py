"""Reader of the two packed values, population and segments: their headers first, then a changed value in small pieces.

Pure except for the given engine, which runs commands on a thread, and `wait`, which pauses between slices of work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rewriter.signals.commands import Command
from rewriter.signals.packed import (
    HEADER_BYTES,
    Header,
    PackedPopulation,
    PackedSegments,
    header_of,
    read_population,
    read_segments,
)
from rewriter.signals.store import Keys

PAUSE_S = 0.004
"""Pause between two slices of work, so that other threads run."""
PIECE_BYTES = 256 * 1024
"""Bytes of one read of a value; it is read in pieces so that each reply stays small."""


class Engine(Protocol):
    """Runs commands on a thread: a CommandStore, or a bridge to one on an event loop."""

    def run(self, wanted: Sequence[Command], *, atomic: bool = False) -> list[Any]:
        """See CommandStore.run."""


class Stopped(Exception):
    """The process is shutting down, so the work ends."""


@dataclass(frozen=True, slots=True)
class Look:
    """The result of a look-up: the headers of both values, and the holder of the builder's lease; each None if there is none."""

    population: Header | None
    segments: Header | None
    maker: str | None


class PackedReader:
    """Reads the two packed values. `wait` is called with seconds between slices; it returns True at shutdown."""

    def __init__(self, engine: Engine, keys: Keys, wait: Callable[[float], bool]) -> None:
        self._engine = engine
        self._keys = keys
        self._wait = wait

    def look(self) -> Look:
        """Look up both headers and the lease: three commands, some 200 bytes. Raises StoreError, or the client's exception."""
        keys = self._keys
        population, segments, maker = self.run(
            [
                ("GETRANGE", keys.whole_population, 0, HEADER_BYTES - 1),
                ("GETRANGE", keys.all_segments, 0, HEADER_BYTES - 1),
                ("GET", keys.maker),
            ]
        )
        return Look(_header(population), _header(segments), maker.decode("utf-8", "replace") if maker else None)

    def population(self, header: Header) -> PackedPopulation:
        """Return the population of a header. Raises ValueError for invalid bytes."""
        return read_population(self._body(self._keys.whole_population, header), self.pause)

    def segments(self, header: Header) -> PackedSegments:
        """Return the segments of a header; see `population`."""
        return read_segments(self._body(self._keys.all_segments, header), self.pause)

    def run(self, wanted: Sequence[Command]) -> list[Any]:
        """Run commands. Raises the first error among the replies."""
        replies = self._engine.run(wanted)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    def pause(self, seconds: float = PAUSE_S) -> None:
        """Let other threads run. Raises Stopped at shutdown."""
        if self._wait(seconds):
            raise Stopped

    def _body(self, key: str, header: Header) -> bytes:
        found, at, end = b"", HEADER_BYTES, HEADER_BYTES + header.size
        while at < end:
            (piece,) = self.run([("GETRANGE", key, at, min(at + PIECE_BYTES, end) - 1)])
            if not piece:
                break
            found += piece
            at += len(piece)
            self.pause()
        return found


def _header(raw: bytes) -> Header | None:
    """Return a value's header; None for an invalid one too, so that the value is built again."""
    try:
        return header_of(raw)
    except ValueError:
        return None
