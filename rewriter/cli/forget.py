"""`rewriter forget`: remove all data about users from the stores."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from rewriter.cli.given_stores import stores_of
from rewriter.cli.output import UNHEALTHY, faults_refused, print_json, print_line, store_needed
from rewriter.encodings import decoded, encoding_of
from rewriter.errors import ConfigurationError, Fault
from rewriter.plural import count_of
from rewriter.settings import Settings
from rewriter.signals.ingest.batch import CountingRules
from rewriter.signals.ingest.erasure import forget_all

SHOWN = 20


def forget(
    users: Annotated[
        list[str] | None, typer.Argument(help="A user_id, or a client_id for users without one.", metavar="USER…")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="A file with one such identifier per line.", exists=True, dir_okay=False, allow_dash=True),
    ] = None,
    toml: Annotated[Path, typer.Option(help="The settings file.")] = Path("rewriter.toml"),
) -> None:
    """Remove users: counters, sessions, plans, dead letters. Their earlier events and history are not counted any more.

    It prints the numbers of removed items. The exit code is 1 if a user had none: the identifier may be mistyped.
    """
    with faults_refused():
        named = [*(users or ()), *(_lines(file) if file else ())]
        if not named:
            raise ConfigurationError([Fault("USER", "is missing", "name users, or a file of them with --file")])
        if "" in named:
            raise ConfigurationError([Fault("USER", "is empty", "a script's variable may not be set")])
        settings = Settings.from_toml(toml)
        store, profiles = stores_of(settings)
    with store_needed():
        done, unknown = forget_all(store, profiles, CountingRules.of(settings), named)
    print_json(dict(sorted(done.items())))
    if unknown:
        numbers = ", ".join(str(at + 1) for at in unknown[:SHOWN]) + (", …" if len(unknown) > SHOWN else "")
        print_line(
            f"{len(unknown)} of {count_of(len(named), 'user')} had no data (number {numbers}): is the identifier as in the events?"
        )
        print_line("their earlier events in the streams will not be counted")
        raise typer.Exit(UNHEALTHY)


def _lines(file: Path) -> list[str]:
    """Return the identifiers in a file, each once. Only the end of a line is removed from them."""
    raw = typer.get_binary_stream("stdin").read() if str(file) == "-" else file.read_bytes()
    try:
        text = decoded(raw)
    except UnicodeDecodeError:
        raise ConfigurationError(
            [Fault(str(file), f"is not {encoding_of(raw).upper()}", "convert it to UTF-8")]
        ) from None
    return list(dict.fromkeys(line for line in re.split("\r\n|\n|\r", text) if line))
