"""How a command ends, and what it says of it: talk goes to standard error, so that standard output stays data."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from redis import RedisError

from rewriter.errors import ConfigurationError, Fault, StoreError

UNHEALTHY = 1
FAULTY = 2


def say(text: object) -> None:
    """Say something to the person at the terminal."""
    typer.echo(text, err=True)


def refused(faults: Iterable[Fault]) -> typer.Exit:
    """Say every fault, and return the end of the command."""
    for fault in faults:
        say(fault)
    return typer.Exit(FAULTY)


@contextmanager
def faults_refused() -> Iterator[None]:
    """End the command where what was given has faults."""
    try:
        yield
    except ConfigurationError as error:
        raise refused(error.faults) from None


@contextmanager
def store_needed() -> Iterator[None]:
    """End the command where the store does not do what was asked."""
    try:
        yield
    except StoreError as error:
        say(f"store: {error}")
        raise typer.Exit(UNHEALTHY) from None
    except RedisError as error:
        say(f"store: {type(error).__name__}: {error}")
        raise typer.Exit(UNHEALTHY) from None


def print_json(data: Any) -> None:
    """Print data for machines."""
    text = json.dumps(data, indent=2, ensure_ascii=False, default=os.fspath)
    typer.echo(
        text.encode("utf-8", "backslashreplace").decode()
    )  # half a surrogate pair is no UTF-8, but JSON escapes it


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows with their columns aligned, as wide as they are: a pipe gets whole lines."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
