"""`rewriter preview`: a page of one's own index, plain beside personalized, for subjects, segments and samples."""

from __future__ import annotations

import logging
import stat
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from rewriter.cli.causes import client_of
from rewriter.cli.console import plain_console
from rewriter.cli.output import UNHEALTHY, faults_refused, print_json, print_line, store_needed, write_whole
from rewriter.cli.preview.drafts import Drafts
from rewriter.cli.preview.html import html_page
from rewriter.cli.preview.page import Fields, PreviewPage
from rewriter.cli.preview.searches import Wanted, newcomer, previewed
from rewriter.cli.preview.terminal import print_page
from rewriter.cli.render import alone, parsed_json
from rewriter.client.seam import SearchClient
from rewriter.errors import ConfigurationError, Fault
from rewriter.expression import parsed_indices
from rewriter.settings import Settings
from rewriter.signals.redis_store import open_stores
from rewriter.subject import Subject

TIMEOUT_S = 30.0
WATCH_S = 0.4
STABLE_S = 0.1
CONNECTIONS = 8


def preview(
    policy: Annotated[str, typer.Argument(help="The policy's name.")],
    words: Annotated[
        str, typer.Argument(help="The search text; it fills `query` of the search template.", show_default=False)
    ] = "",
    body: Annotated[
        Path | None, typer.Option(help="The search: a body as JSON or, with WORDS, a search template in Mustache.")
    ] = None,
    index: Annotated[str | None, typer.Option(help="The index that is searched; by default the policy's.")] = None,
    user: Annotated[
        list[str] | None, typer.Option(help="A subject of the store: its user_id. Several are allowed.")
    ] = None,
    session: Annotated[str | None, typer.Option(help="The session_id of the subject, with --user or alone.")] = None,
    segment: Annotated[list[str] | None, typer.Option(help="A newcomer in this segment. Several are allowed.")] = None,
    sample: Annotated[list[Path] | None, typer.Option(help="A subject described by a file of samples/*.json.")] = None,
    draft: Annotated[
        list[str] | None,
        typer.Option(
            help="Show the pages of this draft too: a template set, a folder with one or with settings, a git revision."
        ),
    ] = None,
    title: Annotated[
        str,
        typer.Option(
            help="The field of `_source` that names a hit; by default title, name or a field that is searched."
        ),
    ] = "",
    category: Annotated[str, typer.Option(help="The field of a hit's category; by default the policy's.")] = "",
    date: Annotated[str, typer.Option(help="The field of a hit's date; by default the policy's.")] = "",
    image: Annotated[str, typer.Option(help="The field of `_source` with the address of a hit's image.")] = "",
    html: Annotated[Path | None, typer.Option(help="Write one self-contained page to this file.")] = None,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Show it again whenever a template, a sample or the body changes, until Ctrl-C."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the pages as JSON.")] = False,
    toml: Annotated[Path, typer.Option(help="The settings file.")] = Path("rewriter.toml"),
) -> None:
    """Show a search plain and personalized, side by side: what moved, by which boosts, and what exploration drew.

    Nothing is written: no plan, no event, no report of a process. The experiment, the switches and the service's budgets do not
    apply, so that a policy can be looked at before it serves anybody.
    """
    logging.getLogger("rewriter").addHandler(logging.NullHandler())  # the preview overrides its switches on purpose
    fields = Fields(title, category, date, image)
    with faults_refused():
        settings, _ = alone(Settings.from_toml(toml), toml, policy)
        wanted = _wanted(user or [], session, segment or [], sample or [])
        names = _index(settings, policy, index)
        drafts = Drafts(draft or [], toml, policy)
        pages: list[PreviewPage] = []

        def show() -> None:
            pages[:] = _pages(drafts, settings, policy, words, body, names, wanted, fields)
            _show(pages, policy, words, body, html, as_json=as_json)

        if watch:
            _watch(show, lambda: _versions(drafts.folders(settings), body, sample or []))
        else:
            show()
    if not any(page.boosts for page in pages):
        raise typer.Exit(UNHEALTHY)


def _watch(show: Callable[[], None], versions: Callable[[], object]) -> None:
    """Show the pages now and after each change of their files, until Ctrl-C. Faults are printed, and the next change is waited for.

    An editor may empty, remove or rename a file while it saves: a change counts once two looks in a row have seen the same files.
    """
    shown: object = None
    with suppress(KeyboardInterrupt):
        while True:
            files = versions()
            if files != shown:
                time.sleep(STABLE_S)
                if versions() != files:
                    continue
                shown = files
                with suppress(typer.Exit), faults_refused():
                    show()
            time.sleep(WATCH_S)


def _wanted(
    users: Sequence[str], session: str | None, segments: Sequence[str], samples: Sequence[Path]
) -> list[Wanted]:
    found = [Wanted(f"user {one}", Subject(one, session)) for one in users]
    if session is not None and not users:
        found.append(Wanted(f"session {session}", Subject(None, session)))
    found += [newcomer(one) for one in segments]
    found += [Wanted(f"sample {one.stem}", sample=one) for one in samples]
    if not found:
        raise ConfigurationError(
            [
                Fault(
                    "preview", "whose page?", "give --user, --session, --segment or --sample, each as often as you like"
                )
            ]
        )
    return found


def _index(settings: Settings, policy: str, index: str | None) -> str:
    name = index or ",".join(settings.policies[policy].index)
    if settings.policies[policy].matches(parsed_indices(name)):
        return name
    raise ConfigurationError([Fault(f"--index {name}", f"policy {policy!r} does not match it", "extend its `index`")])


def _versions(folders: Sequence[Path], body: Path | None, samples: Sequence[Path]) -> tuple[tuple[str, int, int], ...]:
    """Return the files that a preview depends on, with their modification times and inodes."""
    files = [*(one for folder in folders for one in folder.rglob("*")), *([body] if body else []), *samples]
    found = []
    for one in sorted(files):
        with suppress(OSError):  # it is gone again, as an editor's temporary file
            at = one.stat()
            found += [(str(one), at.st_mtime_ns, at.st_ino)] if stat.S_ISREG(at.st_mode) else []
    return tuple(found)


def _pages(
    drafts: Drafts, settings: Settings, policy: str, words: str, body: Path | None, index: str, wanted: Sequence[Wanted],
    fields: Fields,
) -> list[PreviewPage]:  # fmt: skip
    """Return each subject's page, and after it the pages that the drafts would give."""
    with client_of(settings.opensearch, TIMEOUT_S, CONNECTIONS, "try it without rewriter") as client, store_needed():
        arguments = {"index": index, "body": body_of(client, words, body)}
        now_s = time.time()
        every = []
        for label, version in drafts.opened(settings):
            stores = open_stores(*settings.store.plain_urls, connections=CONNECTIONS)  # the preview closes them
            store, profiles = stores.get("store"), stores.get("profile_store")
            own = [replace(one, label=f"{one.label}{label}") for one in wanted]
            every.append(list(previewed(client, store, profiles, version, policy, arguments, own, fields, now_s)))
        return [page for same in zip(*every, strict=True) for page in same]


def body_of(client: SearchClient, words: str, path: Path | None) -> dict[str, Any]:
    """Return the search's body: a file's content, or a search template that the server renders with `query` = WORDS."""
    if path is None:
        raise ConfigurationError(
            [Fault("preview", "what is searched?", "give --body FILE: a search body, or with WORDS a search template")]
        )
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError([Fault(str(path), f"cannot be read: {error}")]) from None
    if words:
        try:
            rendered = client.render_template(text, {"query": words}, TIMEOUT_S)
        except client.errors as error:
            if client.fault_of(error).kind != "unreadable":
                raise
            raise ConfigurationError(
                [
                    Fault(
                        str(path),
                        "is not rendered to JSON with these WORDS",
                        'write "{{query}}", quotation marks included',
                    )
                ]
            ) from None
        found = rendered["template_output"]
    else:
        found = parsed_json(text, path, "give WORDS, if it is a search template" if "{{" in text else "")
    if not isinstance(found, dict):
        raise ConfigurationError(
            [Fault(str(path), "is not a search body", 'a body is a JSON object, such as {"query": …}')]
        )
    return found


def _show(
    pages: Sequence[PreviewPage], policy: str, words: str, body: Path | None, html: Path | None, *, as_json: bool
) -> None:
    if html is not None:
        what = words or (body.stem if body else "")
        made = f"Policy {policy}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC."
        note = f"{made} The page that each person would see; a wide screen shows the plain page beside it."
        write_whole(html, html_page(pages, f"“{what}”: plain and personalized", note))
        print_line(f"written: {html}")
    if as_json:
        print_json([page.as_dict() for page in pages])
    elif html is None:
        console = plain_console()
        for page in pages:
            print_page(console, page)
