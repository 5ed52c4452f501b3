"""`rewriter dead-letters`: the events that were set aside, why, and their replay once the cause is mended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from redis.exceptions import RedisError

from rewriter.cli.ingest import stores_of
from rewriter.cli.output import UNHEALTHY, faults_refused, print_json, print_table, say, store_needed
from rewriter.errors import StoreError
from rewriter.settings import Settings
from rewriter.shell.fleet import printable
from rewriter.signals.ingest.contract import StreamKeys
from rewriter.signals.ingest.dead_letters import DeadLetter, dead_letter_counts, dead_letters, requeue
from rewriter.signals.redis_store import RedisStore


def dead_letters_command(
    reasons: Annotated[bool, typer.Option("--reasons", help="Print how many there are for each reason.")] = False,
    replay: Annotated[
        bool, typer.Option("--replay", help="Append them again for a worker to count, and remove them.")
    ] = False,
    reason: Annotated[str | None, typer.Option(help="Only those whose reason has this text.")] = None,
    events: Annotated[
        bool, typer.Option("--events", help="Print the events, too: they hold identifiers of people.")
    ] = False,
    last: Annotated[int, typer.Option(help="Print so many of each partition, the latest.", min=1)] = 20,
    toml: Annotated[Path, typer.Option(help="The settings file.")] = Path("rewriter.toml"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the events that were set aside, and why; with --replay, give them back to the workers.

    A replayed event that is refused again is a dead letter again. The exit code is 1 where some could not be replayed.
    """
    with faults_refused():
        settings = Settings.from_toml(toml)
        store, _ = stores_of(settings)
    keys = StreamKeys(settings.store.prefix)
    with store_needed():
        found = (letter for letter in dead_letters(store, keys) if reason is None or reason in letter.reason)
        if replay:
            _replay(store, keys, found)
        elif reasons:
            _print_reasons(found, as_json=as_json)
        else:
            _print(found, last, events=events, as_json=as_json)


def dead_letter_rows(settings: Settings) -> tuple[dict[int, int], list[tuple[str, str]]]:
    """Return for `rewriter status` how many there are, by partition, and the row that says so; nothing where no store answers."""
    url, _ = settings.store.plain_urls
    if url in (None, "memory://"):
        return {}, []
    store = RedisStore(str(url))
    try:
        counts = dead_letter_counts(store, StreamKeys(settings.store.prefix))
    except (RedisError, StoreError, OSError):
        return {}, []
    finally:
        store.close()
    if not counts:
        return counts, [("dead letters", "none")]
    said = f"{sum(counts.values()):,} in {len(counts)} partition{'' if len(counts) == 1 else 's'}"
    return counts, [("dead letters", f"{said}: `rewriter dead-letters --reasons` says why")]


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
        say(f"kept {count:,}: {printable(kind)}")
    if kept:
        say("what is about no event, or was counted in part, is not replayed")
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
        say("no dead letters")


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
        say("no dead letters")


def _as_dict(letter: DeadLetter, *, events: bool) -> dict[str, Any]:
    event = {"event": letter.event.decode("utf-8", "replace")} if events else {}
    return {"at": letter.at, "partition": letter.partition, "entry": letter.entry, "reason": letter.reason} | event


def _row(letter: DeadLetter, *, events: bool) -> tuple[str, ...]:
    event = [printable(letter.event.decode("utf-8", "replace"))] if events else []
    return (letter.at, str(letter.partition), letter.entry, printable(letter.reason), *event)
