"""Output and exit codes of commands: messages go to standard error, so that standard output holds data alone."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from redis import RedisError

from rewriter.errors import ConfigurationError, Fault, StoreError

UNHEALTHY = 1
FAULTY = 2


def print_line(text: object) -> None:
    """Print a line on standard error."""
    typer.echo(text, err=True)


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
def store_needed() -> Iterator[None]:
    """End the command with exit code 1 on an error of the store."""
    try:
        yield
    except StoreError as error:
        print_line(f"store: {error}")
        raise typer.Exit(UNHEALTHY) from None
    except RedisError as error:
        print_line(f"store: {type(error).__name__}: {error}")
        raise typer.Exit(UNHEALTHY) from None


def write_whole(path: Path, text: str) -> None:
    """Write a file in one step: a reader, or a command that was interrupted, leaves the former file or the new one, never a part.

    Raises ConfigurationError where it cannot be written.
    """
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    except OSError as error:
        raise ConfigurationError([Fault(str(path), error.strerror or "cannot be written")]) from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as new:
            new.write(text)
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def print_json(data: Any) -> None:
    """Print data as JSON."""
    text = json.dumps(data, indent=2, ensure_ascii=False, default=os.fspath)
    typer.echo(
        text.encode("utf-8", "backslashreplace").decode()
    )  # a lone surrogate is no UTF-8, so it is printed as an escape


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows with aligned columns. Lines are never cut, so a pipe gets them whole."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
