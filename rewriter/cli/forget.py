"""`rewriter forget`: remove people from everything that is kept."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from rewriter.cli.ingest import stores_of
from rewriter.cli.output import UNHEALTHY, faults_refused, print_json, say, store_needed
from rewriter.encodings import decoded, encoding_of
from rewriter.errors import ConfigurationError, Fault
from rewriter.settings import Settings
from rewriter.signals.ingest.batch import CountingRules
from rewriter.signals.ingest.erasure import forget_all

SHOWN = 20


def forget(
    users: Annotated[
        list[str] | None, typer.Argument(help="The user_id; the client_id of somebody who has none.", metavar="USER…")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="A file with one such identifier a line.", exists=True, dir_okay=False, allow_dash=True),
    ] = None,
    toml: Annotated[Path, typer.Option(help="The settings file.")] = Path("rewriter.toml"),
) -> None:
    """Remove users: counters, sessions, plans, dead letters. Events and history from before now count no more.

    What was removed is printed. The exit code is 1 where nothing was kept of a user: the identifier may be mistyped.
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
        places = ", ".join(str(at + 1) for at in unknown[:SHOWN]) + (", …" if len(unknown) > SHOWN else "")
        say(
            f"nothing was kept of {len(unknown)} of {len(named)} users (number {places}): is the identifier as in the events?"
        )
        say("events of theirs that the streams hold from before now will not be counted")
        raise typer.Exit(UNHEALTHY)


def _lines(file: Path) -> list[str]:
    """Return the identifiers in a file, each once. They are taken as they are, without the end of the line."""
    raw = typer.get_binary_stream("stdin").read() if str(file) == "-" else file.read_bytes()
    try:
        text = decoded(raw)
    except UnicodeDecodeError:
        raise ConfigurationError(
            [Fault(str(file), f"is not {encoding_of(raw).upper()}", "convert it to UTF-8")]
        ) from None
    return list(dict.fromkeys(line for line in re.split("\r\n|\n|\r", text) if line))
