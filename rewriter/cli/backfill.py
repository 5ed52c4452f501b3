"""`rewriter backfill`: months of history become profiles."""

from __future__ import annotations

import time
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rewriter.cli.ingest import objects_of, stores_of
from rewriter.cli.verdict import FAULTY, faults_refused, print_json, say, store_needed
from rewriter.errors import ConfigurationError, Fault
from rewriter.settings import Settings
from rewriter.signals.backfill.history import History, seconds_of
from rewriter.signals.backfill.swap import Swap
from rewriter.signals.ingest.batch import Plan
from rewriter.signals.ingest.contract import StreamKeys, partition_count_commands
from rewriter.signals.ingest.scripts import sound_replies
from rewriter.signals.redis_store import RedisStore


def backfill(
    files: Annotated[list[Path], typer.Argument(help="Parquet, NDJSON or CSV.", exists=True, dir_okay=False)],
    toml: Annotated[Path, typer.Option(help="The settings file.")] = Path("rewriter.toml"),
    until: Annotated[
        str | None, typer.Option(help="Up to when the files are whole (ISO 8601); by default their latest event.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Add everything up, and write nothing.")] = False,
) -> None:
    """Replace the profiles of the users in the files, population and segments by what their history adds up to.

    What the streams hold from after the history is added to it. Workers pause meanwhile. Run again, it goes on where it broke off.
    """
    with faults_refused(), store_needed():
        settings = Settings.from_toml(toml)
        store, profiles = stores_of(settings)
        plan, objects = Plan.of(settings), objects_of(settings)
        keys = StreamKeys(settings.store.prefix)
        partitions, forgotten = _found(store, keys, settings.ingest.partitions)
        until_s = _time(until)
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            looked_up = progress.add_task("objects", total=None)
            history = _history([str(file) for file in files], plan, partitions, until_s, forgotten)
            said: dict[str, Any] = history.add_up(
                objects, lambda done, total: progress.update(looked_up, completed=done, total=total)
            )
            said["until_s"] = history.until_s
            if not dry_run:
                wrote = progress.add_task("profiles", total=said["users"])
                with Swap(store, profiles, plan, partitions) as swap:
                    swap.refuse_gap(history.until_s)
                    said |= swap.write(
                        history, objects, _fingerprint(files, history.until_s),
                        lambda done: progress.update(wrote, completed=done),
                    )  # fmt: skip
    print_json(said)


def _found(store: RedisStore, keys: StreamKeys, wanted: int) -> tuple[int, dict[str, float]]:
    *_, partitions, pairs = sound_replies(
        store, [*partition_count_commands(keys, wanted), ("ZRANGE", keys.forgotten, 0, -1, "WITHSCORES")]
    )
    flat = [part for pair in pairs for part in pair] if pairs and isinstance(pairs[0], list) else list(pairs)
    return int(partitions), {name.decode(): float(at) for name, at in zip(flat[::2], flat[1::2], strict=True)}


def _time(text: str | None) -> float | None:
    try:
        found = seconds_of(text) if text else None
    except ValueError:
        raise ConfigurationError([Fault("--until", "is no time", "use ISO 8601")]) from None
    if found is not None and found > time.time():
        raise ConfigurationError([Fault("--until", "lies ahead", "events until then will come through the streams")])
    return found


def _history(
    files: list[str], plan: Plan, partitions: int, until_s: float | None, forgotten: dict[str, float]
) -> History:
    try:
        return History(files, plan, partitions, until_s, forgotten)
    except ImportError:
        say("duckdb is not installed: pip install 'rewriter[backfill]'")
        raise typer.Exit(FAULTY) from None


def _fingerprint(files: list[Path], until_s: float) -> str:
    """What tells one history from another."""
    stats = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return sha256(repr((stats, until_s)).encode()).hexdigest()
