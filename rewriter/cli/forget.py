"""`rewriter forget`: remove somebody from everything that is kept."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from rewriter.cli.ingest import stores_of
from rewriter.cli.verdict import UNHEALTHY, faults_refused, print_json, say, store_needed
from rewriter.settings import Settings
from rewriter.signals.ingest.batch import Plan
from rewriter.signals.ingest.forgetting import forget as forgotten


def forget(
    user: Annotated[str, typer.Argument(help="The user_id; the client_id of somebody who has none.", metavar="USER")],
    toml: Annotated[Path, typer.Option(help="The settings file.")] = Path("rewriter.toml"),
) -> None:
    """Remove a user: counters, sessions, plans, stream entries, dead letters. A backfill will leave them out, too.

    What was removed is printed. The exit code is 1 where entries are left that a worker has still to pass: run it again.
    """
    with faults_refused():
        settings = Settings.from_toml(toml)
        store, profiles = stores_of(settings)
    with store_needed():
        done = forgotten(store, profiles, Plan.of(settings), user, time.time())
    print_json(dict(sorted(done.items())))
    if done["left"]:
        say("some entries are still ahead of a worker; run it again")
        raise typer.Exit(UNHEALTHY)
