"""`rewriter engines`: a search engine and a Valkey on this machine, kept running between commands, without Docker."""

from __future__ import annotations

import socket
from dataclasses import asdict
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console

from rewriter.cli.extras import require_extra
from rewriter.cli.output import UNHEALTHY, faults_refused, print_json, print_line, print_table
from rewriter.demo.launching import launching
from rewriter.errors import RewriterError
from rewriter.plural import agreeing

if TYPE_CHECKING:
    from rewriter_engines.kept import Kept, Order


class Action(StrEnum):
    """What to do with the engines."""

    UP = "up"
    STATUS = "status"
    DOWN = "down"


class Engine(StrEnum):
    """The search engine to start."""

    AUTO = "auto"
    OPENSEARCH = "opensearch"
    ELASTICSEARCH = "elasticsearch"
    OSMEM = "osmem"


def engines(
    action: Annotated[Action, typer.Argument(help="Start them, show where they are, or end them.")],
    hours: Annotated[float, typer.Option(help="After how long they end by themselves.", min=0.001, max=168)] = 8.0,
    engine: Annotated[
        Engine, typer.Option(help="auto is a real OpenSearch where this machine can run one, else osmem-server.")
    ] = Engine.AUTO,
    search_port: Annotated[
        int, typer.Option(help="Used if it is free, else another.", envvar="OPENSEARCH_PORT", min=0, max=65_535)
    ] = 9200,
    store_port: Annotated[
        int, typer.Option(help="Used if it is free, else another.", envvar="VALKEY_PORT", min=0, max=65_535)
    ] = 6379,
    name: Annotated[str, typer.Option(help="One set of engines beside others.")] = "default",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Keep a local OpenSearch and a Valkey running, without Docker: `up`, `status`, `down`.

    Both listen on 127.0.0.1 alone, without passwords. They end with `down`, after --hours, or with the machine; what they hold is
    removed then. A real OpenSearch needs mvn and a JDK from 21 on; its jars come from Maven Central the first time.
    `eval "$(rewriter engines up)"` sets OPENSEARCH_URL (of an Elasticsearch ELASTICSEARCH_URL too) and REDIS_URL.
    """
    if not name.replace("-", "").replace("_", "").isalnum():
        raise typer.BadParameter("a name is of letters, digits, - and _", param_hint="--name")
    with faults_refused():
        require_extra("engines", "engines", "rewriter_engines")
    try:
        with launching():
            from rewriter_engines import kept  # noqa: PLC0415  an extra

            folder = kept.folder_of(name)
            if action is Action.UP:
                order = kept.Order(engine.value, hours, search_port, store_port)
                _print_up(*_started(folder, order), as_json=as_json)
            elif action is Action.STATUS:
                _print_status(kept.kept_in(folder), is_starting=kept.keeper_of(folder) is not None, as_json=as_json)
            else:
                ended = kept.end(folder)
                print_line("no engines run" if ended is None else f"ended process {ended} and both engines")
    except RewriterError as error:
        print_line(f"engines: {error}")
        raise typer.Exit(UNHEALTHY) from None


def _started(folder: Path, order: Order) -> tuple[Kept, bool]:
    from rewriter_engines import kept  # noqa: PLC0415

    if found := kept.kept_in(folder):
        _refuse_dead(found)
        _refuse_other(found, order.engine)
        return found, False
    console = Console(stderr=True)
    print_line("starting; the first time, Maven brings about 60 MB of jars")
    with console.status("") as status:
        return kept.start(folder, order, lambda waited_s: status.update(f"starting, {waited_s:.0f} s"))


def _refuse_other(found: Kept, engine: str) -> None:
    """Raise RewriterError if another engine was named than the one that is kept."""
    if engine != Engine.AUTO and not found.search.name.lower().startswith(engine):
        remedy = f"`--name {engine}` starts another set beside it, `rewriter engines down` ends this one"
        raise RewriterError(f"{found.search.name} runs already, not {engine}: {remedy}")


def _refuse_dead(found: Kept) -> None:
    """Raise RewriterError if one of the engines that are kept no longer answers: its URL would be of no use."""
    dead = [f"{one.name} at {one.url}" for one in (found.search, found.store) if not _listens(one.url)]
    if dead:
        remedy = "`rewriter engines down` ends the set, then `rewriter engines up` starts a new one without its data"
        raise RewriterError(f"{' and '.join(dead)} {agreeing(len(dead), 'do')} not answer any more: {remedy}")


def _print_up(found: Kept, is_new: bool, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(found))
    else:
        typer.echo(f"export OPENSEARCH_URL={found.search.url}")
        if found.search.name == "Elasticsearch":
            typer.echo(f"export ELASTICSEARCH_URL={found.search.url}")
        typer.echo(f"export REDIS_URL={found.store.url}")
    print_line("started:" if is_new else "these run already:")
    for server in (found.search, found.store):
        print_line(f"  {server.name} {server.version} at {server.url}, process {server.process}")
    if found.why_no_opensearch:
        print_line(
            f"  no real OpenSearch: {found.why_no_opensearch}. osmem-server stands in: pages are real, timings mean nothing"
        )
    print_line(f"they end by themselves at {_clock(found.until_s)}, or with `rewriter engines down`")


def _print_status(found: Kept | None, *, is_starting: bool, as_json: bool) -> None:
    if found is None:
        print_line(
            "the engines are still starting" if is_starting else "no engines run; `rewriter engines up` starts them"
        )
        raise typer.Exit(UNHEALTHY)
    servers = {"search": found.search, "store": found.store}
    answers = {role: _listens(server.url) for role, server in servers.items()}
    if as_json:
        print_json(asdict(found) | {"answers": answers})
    else:
        rows = [["", "server", "url", "process", "answers"]]
        rows += [
            [role, f"{server.name} {server.version}", server.url, str(server.process), "yes" if answers[role] else "no"]
            for role, server in servers.items()
        ]
        print_table(rows)
        print_line(f"kept by process {found.process} until {_clock(found.until_s)}")
    if not all(answers.values()):
        raise typer.Exit(UNHEALTHY)


def _listens(url: str) -> bool:
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=1.0):
            return True
    except OSError:
        return False


def _clock(at_s: float) -> str:
    return datetime.fromtimestamp(at_s).astimezone().strftime("%Y-%m-%d %H:%M %Z")
