"""`rewriter diff`: the pages that change between two versions of settings and templates, by how much, for whom, at what cost."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track

from rewriter.cli.causes import client_of
from rewriter.cli.console import plain_console
from rewriter.cli.diff.comparison import Pair, figures
from rewriter.cli.diff.html import html_page
from rewriter.cli.diff.logged import read_logged
from rewriter.cli.diff.pages import Failed, paired
from rewriter.cli.diff.terminal import failures_in_words, print_diff, problem
from rewriter.cli.diff.versions import Version, opened
from rewriter.cli.output import (
    UNHEALTHY,
    faults_refused,
    interruption_refused,
    print_json,
    print_line,
    store_needed,
    write_whole,
)
from rewriter.cli.preview.command import body_of
from rewriter.client.seam import SearchClient
from rewriter.errors import ConfigurationError, Fault
from rewriter.plural import count_of
from rewriter.settings import Settings
from rewriter.signals.redis_store import open_stores

TIMEOUT_S = 30.0
CONNECTIONS = 8
FAILED_SHOWN = 10
LATER_PAGE = "asks for a later page"


def diff(
    a: Annotated[str, typer.Argument(help="A folder with settings, a template set's folder, or a git revision.")],
    b: Annotated[str, typer.Argument(help="The other one; `.` for the working directory.")],
    searches: Annotated[
        Path, typer.Option(help="Logged searches and their subjects, as NDJSON.", exists=True, dir_okay=False)
    ],
    body: Annotated[
        Path | None, typer.Option(help="A search template in Mustache, for searches that only have words.")
    ] = None,
    policy: Annotated[str | None, typer.Option(help="Compare only this policy.")] = None,
    k: Annotated[int, typer.Option("-k", "--depth", help="Hits of a page that are compared.", min=1, max=200)] = 10,
    max_changed: Annotated[
        str | None, typer.Option(help="Exit with 1 if more pages change: 10%, or a share like 0.1.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write one self-contained page to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures and all changed pages as JSON.")] = False,
    toml: Annotated[Path, typer.Option(help="The settings file; its cluster and stores are read.")] = Path(
        "rewriter.toml"
    ),
) -> None:
    """Compare the pages of two versions on the real index, for logged searches and their subjects.

    Both versions see the signals that the subjects have now. Nothing is written to a store or an index. Exploration hits are drawn,
    so pages are compared without them. The exit code is 1 if more pages change than --max-changed allows, if B fails in a search in
    which A does not, if both fail in every search, or if the server refused a search.
    """
    logging.getLogger("rewriter").addHandler(logging.NullHandler())  # the diff overrides its switches on purpose
    with faults_refused():
        limit = _share(max_changed)
        with interruption_refused("there were figures"), TemporaryDirectory(prefix="rewriter-diff-") as scratch:
            versions = _versions((a, b), toml, policy, Path(scratch))
            present = Settings.from_toml(toml) if toml.is_file() else versions[1].settings
            found = _compared(versions, present, searches, body, k)
        found["problem"] = problem(found, limit)
        if html is not None:
            made = f"With the signals that people have now, without exploration hits. Made {datetime.now(UTC):%Y-%m-%d %H:%M} UTC."
            write_whole(html, html_page(found, made))
            print_line(f"written: {html}")
    for one in found["failed"][:FAILED_SHOWN]:
        print_line(Fault(f"{searches}:{one['line']}", f"not compared: {one['cause']}"))
    if len(found["failed"]) > FAILED_SHOWN:
        print_line(f"and {count_of(len(found['failed']) - FAILED_SHOWN, 'more search')} that failed")
    for why, count in found["left_out"].items():
        print_line(f"note: {count:,} not compared: {why}")
    if as_json or html is not None:
        for line in failures_in_words(found):
            print_line(f"note: {line}")
    if as_json:
        print_json(found)
    elif html is None:
        print_diff(plain_console(), found)
    if found["problem"]:
        print_line(found["problem"])
        raise typer.Exit(UNHEALTHY)


def _share(given: str | None) -> float | None:
    if given is None:
        return None
    try:
        share = float(given.removesuffix("%")) / (100.0 if given.endswith("%") else 1.0)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise ConfigurationError([Fault(f"--max-changed {given}", "is not a share", "write 10%, or 0.1")])
    return share


def _versions(given: Sequence[str], toml: Path, policy: str | None, scratch: Path) -> list[Version]:
    """Return both versions. The faults of both are reported at once."""
    found: list[Version] = []
    faults: list[Fault] = []
    for name, one in zip(("a", "b"), given, strict=True):
        folder = scratch / name
        folder.mkdir()
        try:
            found.append(opened(one, toml, policy, folder))
        except ConfigurationError as error:
            faults += error.faults
    if faults:
        raise ConfigurationError(faults)
    return found


def _compared(
    versions: Sequence[Version], present: Settings, searches: Path, template: Path | None, k: int
) -> dict[str, Any]:
    here = {"opensearch": present.opensearch, "store": present.store}
    a, b = (one.settings.model_copy(update=here) for one in versions)
    with client_of(present.opensearch, TIMEOUT_S, CONNECTIONS) as client, store_needed():
        logged = read_logged(searches, _template(client, template))
        stores = open_stores(*present.store.plain_urls, connections=CONNECTIONS)
        store = stores.get("store")
        if store is None:
            raise ConfigurationError([Fault("store.url", "is not set, so that no subject is known", "set [store] url")])
        first = [one for one in logged if one.first_page]
        pairs: list[Pair] = []
        failed: list[Failed] = []
        for one in _shown(paired(client, store, stores.get("profile_store"), (a, b), first, k), len(first)):
            (pairs if isinstance(one, Pair) else failed).append(one)  # type: ignore[arg-type]
    if not pairs:
        causes = Counter(one.cause for one in failed) or Counter({LATER_PAGE: len(logged)})
        what = "; ".join(f"{cause} ({count:,})" for cause, count in causes.most_common(3))
        raise ConfigurationError([Fault(str(searches), f"no search could be compared: {what}")])
    later = len(logged) - len(first)
    return {
        "a": versions[0].label,
        "b": versions[1].label,
        "templates": {"a": versions[0].templates, "b": versions[1].templates},
        "searches": len(logged),
        "failed": [{"line": one.line, "cause": one.cause} for one in failed],
        "left_out": {LATER_PAGE: later} if later else {},
        **figures(pairs, k),
    }


def _template(client: SearchClient, path: Path | None) -> Callable[[str], Mapping[str, Any]] | None:
    """Return the function that makes a body of words and renders each different text once; None without a template."""
    if path is None:
        return None
    known: dict[str, str] = {}

    def rendered(words: str) -> Mapping[str, Any]:
        if words not in known:
            known[words] = json.dumps(body_of(client, words, path))
        found: dict[str, Any] = json.loads(known[words])
        return found

    return rendered


def _shown(pairs: Iterator[Pair | Failed], total: int) -> Iterator[Pair | Failed]:
    """Show the run's progress on standard error, if that is a terminal."""
    console = Console(stderr=True)
    return iter(track(pairs, "compare", total, console=console, transient=True, disable=not console.is_terminal))
