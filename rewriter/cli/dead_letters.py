"""`rewriter dead-letters`: list the events that were set aside, with their reasons, and replay them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from redis.exceptions import RedisError

from rewriter.cli.given_stores import stores_of
from rewriter.cli.output import UNHEALTHY, faults_refused, print_json, print_line, print_table, store_needed
from rewriter.errors import StoreError
from rewriter.plural import count_of
from rewriter.settings import Settings
from rewriter.shell.fleet import printable
from rewriter.signals.ingest.contract import StreamKeys
from rewriter.signals.ingest.dead_letters import DeadLetter, dead_letter_counts, dead_letters, left_out, requeue
from rewriter.signals.redis_store import RedisStore

WHAT_LEFT = {
    "lost": "events that were trimmed or deleted from a stream before they were read",
    "letters_dropped": "dead letters beyond dead_letters or dead_letter_bytes",
    "segments_refused": "times a segment beyond max_segments: the event counts elsewhere",
}
"""The events and letters that are counted but not kept as dead letters, by the name of their counter."""


def dead_letters_command(
    reasons: Annotated[bool, typer.Option("--reasons", help="Print the number of dead letters by reason.")] = False,
    replay: Annotated[
        bool, typer.Option("--replay", help="Append the events to the streams again, and remove the dead letters.")
    ] = False,
    reason: Annotated[str | None, typer.Option(help="Only dead letters whose reason contains this text.")] = None,
    events: Annotated[
        bool, typer.Option("--events", help="Print the events too. They hold identifiers of people.")
    ] = False,
    last: Annotated[int, typer.Option(help="Print this many of each partition, the latest.", min=1)] = 20,
    toml: Annotated[Path, typer.Option(help="The settings file.")] = Path("rewriter.toml"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the events that were set aside and their reasons; with --replay, return them to the workers.

    A replayed event that is refused again becomes a dead letter again. The exit code is 1 if some could not be replayed.
    """
    with faults_refused():
        settings = Settings.from_toml(toml)
        store, _ = stores_of(settings)
    keys = StreamKeys(settings.store.prefix)
    with store_needed():
        unreadable: list[str] = []
        every = dead_letters(store, keys, unreadable)
        found = (letter for letter in every if reason is None or reason in letter.reason)
        if replay:
            _replay(store, keys, found)
        elif reasons:
            _print_reasons(found, as_json=as_json)
        else:
            _print(found, last, events=events, as_json=as_json)
    for fault in unreadable:
        print_line(f"the dead letters of a partition cannot be read: {fault}")
    if unreadable:
        raise typer.Exit(UNHEALTHY)


def dead_letter_rows(settings: Settings) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return what was set aside (dead letters by partition) and left out, and the rows of `rewriter status`.

    Without an answer of the store, there are no rows.
    """
    url, _ = settings.store.plain_urls
    nothing: dict[str, Any] = {"dead_letters": {}, "left_out": {}}
    if url in (None, "memory://"):
        return nothing, []
    store, keys = RedisStore(str(url)), StreamKeys(settings.store.prefix)
    unreadable: list[str] = []
    try:
        counts, gone = dead_letter_counts(store, keys, unreadable), left_out(store, keys)
    except (RedisError, StoreError, OSError):
        return nothing, []
    finally:
        store.close()
    rows = [("dead letters", f"of a partition, cannot be read: {fault}") for fault in unreadable]
    if counts:
        total = f"{sum(counts.values()):,} in {count_of(len(counts), 'partition')}"
        rows.insert(0, ("dead letters", f"{total}: `rewriter dead-letters --reasons` counts the reasons"))
    elif not rows:
        rows = [("dead letters", "none")]
    rows += [("left out", f"{count:,} {WHAT_LEFT[name]}") for name, count in gone.items()]
    return {"dead_letters": counts, "left_out": gone}, rows


def _replay(store: Any, keys: StreamKeys, found: Iterator[DeadLetter]) -> None:
    kept: Counter[str] = Counter()

    def sound() -> Iterator[DeadLetter]:
        for letter in found:
            if letter.can_be_replayed:
                yield letter
            else:
                kept[letter.kind] += 1

    moved = requeue(store, keys, sound())
    print_json({"replayed": moved, "kept": kept.total()})
    for kind, count in kept.most_common():
        print_line(f"kept {count:,}: {printable(kind)}")
    if kept:
        print_line("dead letters without an event, and events that were counted in part, are not replayed")
        raise typer.Exit(UNHEALTHY)


def _print_reasons(found: Iterator[DeadLetter], *, as_json: bool) -> None:
    counts: Counter[str] = Counter()
    latest: dict[str, str] = {}
    for letter in found:
        counts[letter.kind] += 1
        latest[letter.kind] = max(letter.at, latest.get(letter.kind, ""))
    rows = [(kind, count, latest[kind]) for kind, count in counts.most_common()]
    if as_json:
        print_json([{"reason": kind, "count": count, "latest": at} for kind, count, at in rows])
    elif rows:
        print_table([("count", "latest", "reason"), *((f"{count:,}", at, printable(kind)) for kind, count, at in rows)])
    else:
        print_line("no dead letters")


def _print(found: Iterator[DeadLetter], last: int, *, events: bool, as_json: bool) -> None:
    kept: dict[int, list[DeadLetter]] = {}
    for letter in found:
        own = kept.setdefault(letter.partition, [])
        own.append(letter)
        del own[:-last]
    letters = sorted((one for own in kept.values() for one in own), key=lambda one: one.at, reverse=True)
    if as_json:
        print_json([_as_dict(one, events=events) for one in letters])
    elif letters:
        head = ("at", "partition", "entry", "reason", *(["event"] if events else []))
        print_table([head, *(_row(one, events=events) for one in letters)])
    else:
        print_line("no dead letters")


def _as_dict(letter: DeadLetter, *, events: bool) -> dict[str, Any]:
    event = {"event": letter.event.decode("utf-8", "replace")} if events else {}
    return {"at": letter.at, "partition": letter.partition, "entry": letter.entry, "reason": letter.reason} | event


def _row(letter: DeadLetter, *, events: bool) -> tuple[str, ...]:
    event = [printable(letter.event.decode("utf-8", "replace"))] if events else []
    return (letter.at, str(letter.partition), letter.entry, printable(letter.reason), *event)
