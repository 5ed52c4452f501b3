"""Output and exit codes of commands: messages go to standard error, so that standard output holds data alone."""

from __future__ import annotations

import errno
import io
import json
import os
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import typer

from rewriter.encodings import in_utf8
from rewriter.errors import ConfigurationError, Fault, StoreError

UNHEALTHY = 1
FAULTY = 2
NAMED_CHARS = 50
"""Characters of a file's name in the name of its temporary file, which must not grow too long."""
UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE, errno.EBADF, errno.EROFS})
"""Errors of a write: the device is full or broken, or nobody reads."""


def print_line(text: object) -> None:
    """Print a line on standard error. Where that cannot be written, the exit code alone tells the outcome."""
    with suppress(OSError):
        typer.echo(text, err=True)


def characters_escaped() -> None:
    """Escape characters that the encoding of standard output lacks, as Python does on standard error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def drop_undelivered() -> None:
    """Throw away what standard output or standard error did not take, so that the interpreter does not fail over it at its end."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:  # it was closed before the process began
            continue
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def refused(faults: Iterable[Fault]) -> typer.Exit:
    """Print every fault, and return the exception that ends the command with exit code 2."""
    for fault in faults:
        print_line(fault)
    return typer.Exit(FAULTY)


@contextmanager
def faults_refused() -> Iterator[None]:
    """End the command with exit code 2 on ConfigurationError, after printing its faults."""
    try:
        yield
    except ConfigurationError as error:
        raise refused(error.faults) from None


@contextmanager
def interruption_refused(where: str) -> Iterator[None]:
    """End a command with exit code 2 on Ctrl-C, and say that it wrote nothing. Around what precedes its first file alone.

    where: what the command had not reached yet.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise refused([Fault("interrupted", f"before {where}; nothing was written")]) from None


@contextmanager
def store_needed() -> Iterator[None]:
    """End the command with exit code 1 on an error of the store."""
    from redis import RedisError  # noqa: PLC0415  most commands need no store

    from rewriter.signals.store_failures import described  # noqa: PLC0415  as above

    try:
        yield
    except StoreError as error:
        print_line(f"{error.source}: {error}")
        raise typer.Exit(UNHEALTHY) from None
    except RedisError as error:
        print_line(f"store: {described(error)}")
        raise typer.Exit(UNHEALTHY) from None


def write_whole(path: Path, text: str | Iterable[str]) -> None:
    """Write a file in one step: a reader, or a command that was interrupted, leaves the former file or the new one, never a part.

    text: of the file, whole or in parts. A device or pipe is written to, and so is what a process has open (`/dev/stdout`); of a
    symbolic link the file behind it is replaced. Raises ConfigurationError where it cannot be written.
    """
    parts = [text] if isinstance(text, str) else text
    try:
        if _is_open_or_device(path):
            with path.open("w", encoding="utf-8", errors="backslashreplace") as there:
                there.writelines(parts)
            return
        target = Path(os.path.realpath(path))
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o666 & ~_umask()
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:NAMED_CHARS]}-")
    except OSError as error:
        raise ConfigurationError([Fault(str(path), error.strerror or "cannot be written")]) from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as new:
            new.writelines(parts)
        Path(name).chmod(mode)
        Path(name).replace(target)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise ConfigurationError([Fault(str(path), f"cannot be written: {error.strerror}")]) from None
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _is_open_or_device(path: Path) -> bool:
    """Whether a file must be written where it is: a new file in its stead would not be what others read from."""
    return (path.exists() and not path.is_file()) or path.absolute().parts[1:2] in (("dev",), ("proc",))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def print_json(data: Any) -> None:
    """Print data as JSON."""
    text = json.dumps(data, indent=2, ensure_ascii=False, default=os.fspath)
    typer.echo(in_utf8(text))


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows with aligned columns. Lines are never cut, so a pipe gets them whole."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
