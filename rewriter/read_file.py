"""Reading of small files that other people write: bounded, and without waiting for what is no file."""

from __future__ import annotations

import os
from pathlib import Path
from stat import S_ISFIFO

from rewriter.errors import ConfigurationError, Fault


def read_file(path: Path, max_bytes: int, remedy: str) -> bytes:
    """Return the bytes of a file.

    remedy: what to do about a file that is too large.
    Raises OSError if it cannot be read, ConfigurationError if it is a pipe, a terminal, or has more than `max_bytes` bytes.
    """
    with open(path, "rb", opener=_opened) as file:  # Path.open takes no opener
        raw = None if S_ISFIFO(os.fstat(file.fileno()).st_mode) else file.read(max_bytes + 1)
    if raw is None:  # a terminal answers so while nothing was typed
        what = "is a pipe, from which nothing may ever come"
        raise ConfigurationError([Fault(str(path), what, "make it a file, or remove it")])
    if len(raw) > max_bytes:
        raise ConfigurationError([Fault(str(path), f"has more than {max_bytes:,} bytes", remedy)])
    return raw


def _opened(path: str, flags: int) -> int:
    """Open a file without waiting: opening a pipe would wait for a writer, and the kill switch would not work until then."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
