"""Reading of small files that other people write: bounded, and without waiting for what is no file."""

from __future__ import annotations

import os
import time
from pathlib import Path
from select import select
from stat import S_ISFIFO

from rewriter.errors import ConfigurationError, Fault


def read_file(path: Path, max_bytes: int, remedy: str, pipe_s: float = 0.0) -> bytes:
    """Return the bytes of a file.

    remedy: what to do about a file that is too large.
    pipe_s: seconds in which the writer of a pipe must write everything and close it; 0 refuses every pipe.
    Raises OSError if it cannot be read, ConfigurationError if it is a terminal, has more than `max_bytes` bytes, or is a pipe that
    nobody has opened for writing, or not closed in time.
    """
    with open(path, "rb", opener=_opened) as file:  # Path.open takes no opener
        is_pipe = S_ISFIFO(os.fstat(file.fileno()).st_mode)
        raw = _of_pipe(file.fileno(), max_bytes, time.monotonic() + pipe_s) if is_pipe else file.read(max_bytes + 1)
    if raw is None:  # a terminal answers so while nothing was typed
        what = "is a pipe, from which nothing may ever come"
        raise ConfigurationError([Fault(str(path), what, "make it a file, or remove it")])
    if len(raw) > max_bytes:
        raise ConfigurationError([Fault(str(path), f"has more than {max_bytes:,} bytes", remedy)])
    return raw


def _opened(path: str, flags: int) -> int:
    """Open a file without waiting: opening a pipe would wait for a writer, and the kill switch would not work until then."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _of_pipe(number: int, max_bytes: int, until_s: float) -> bytes | None:
    """Return what a pipe's writer writes before it closes the pipe; None if that is nothing, or does not end in time."""
    raw = b""
    while len(raw) <= max_bytes and (left_s := until_s - time.monotonic()) > 0.0:
        if not select([number], (), (), left_s)[0]:
            return None
        part = os.read(number, 65_536)
        if not part:
            return raw or None
        raw += part
    return raw if len(raw) > max_bytes else None
