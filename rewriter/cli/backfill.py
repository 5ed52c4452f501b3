"""`rewriter backfill`: replace profiles by the sums of an event history in files."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import TimeRemainingColumn

from rewriter.cli.action_weights import HEAVY, heavy
from rewriter.cli.extras import require_extra
from rewriter.cli.given_stores import objects_of, stores_of
from rewriter.cli.output import UNHEALTHY, faults_refused, print_json, print_line, store_needed
from rewriter.cli.popularity import half_life as seconds_in
from rewriter.cli.popularity import index_for, write_popularity
from rewriter.cli.progress import progress_bars
from rewriter.errors import ConfigurationError, Fault
from rewriter.plural import agreeing, count_of
from rewriter.settings import Settings
from rewriter.signals.backfill.files import Files
from rewriter.signals.backfill.history import History, seconds_of
from rewriter.signals.backfill.row_counts import LIMIT, REASONS
from rewriter.signals.backfill.swap import Swap, forgotten_in
from rewriter.signals.counters import growth
from rewriter.signals.ingest.batch import CountingRules
from rewriter.signals.ingest.contract import StreamKeys, partition_count_commands
from rewriter.signals.ingest.scripts import sound_replies
from rewriter.signals.partitions import partition_count
from rewriter.signals.redis_store import RedisStore

DAY_S = 86_400.0


def backfill(
    files: Annotated[list[Path], typer.Argument(help="Parquet, NDJSON or CSV.", exists=True, dir_okay=False)],
    toml: Annotated[Path, typer.Option(help="The settings file.")] = Path("rewriter.toml"),
    until: Annotated[
        str | None, typer.Option(help="The files hold every event up to this time (ISO 8601); by default their latest.")
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(help="Accept that more than 1 % of the rows are left out for this reason.", metavar="REASON"),
    ] = None,
    popularity: Annotated[
        str | None,
        typer.Option(metavar="FIELD", help="Write each item's decayed popularity into this field of its document."),
    ] = None,
    half_life: Annotated[str, typer.Option(help="Of the popularity: 12h, 20d, 8w.")] = "8w",
    popularity_index: Annotated[
        str | None, typer.Option(help="The index whose documents are updated; by default the settings'.")
    ] = None,
    popularity_file: Annotated[
        Path | None,
        typer.Option(help="Write the updates as NDJSON for `_bulk` into this file instead.", dir_okay=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compute all sums, and write nothing.")] = False,
) -> None:
    """Replace the profiles of the users in the files, the population and the segments by the sums of their history.

    Later events are added from the streams. Workers pause meanwhile. A run that was interrupted continues when it is started again.
    The output counts rows, events, and rows left out by reason. The exit code is 1 if more than 1 % were left out for a reason that
    is not allowed.
    """
    allowed = frozenset(allow or ())
    with faults_refused(), store_needed():
        require_extra("backfill", "backfill", "duckdb")
        _refuse_unknown(allowed)
        settings = Settings.from_toml(toml)
        half_life_s = seconds_in(half_life)
        index = index_for(settings, popularity_index, popularity_file) if popularity else None
        store, profiles = stores_of(settings)
        plan, objects = CountingRules.of(settings), objects_of(settings)
        keys = StreamKeys(settings.store.prefix)
        partitions, forgotten = _found(store, keys, settings.ingest.partitions)
        until_s = _time(until)
        with progress_bars(TimeRemainingColumn()) as progress:
            looked_up = progress.add_task("objects", total=None)
            history = History([str(file) for file in files], plan, partitions, until_s, forgotten)
            _refuse_malformed(history.files, allowed)
            figures: dict[str, Any] = history.add_up(
                objects, lambda done, total: progress.update(looked_up, completed=done, total=total)
            )
            figures["until_s"] = history.until_s
            if not dry_run and figures["events"]:
                swap = Swap(store, profiles, plan, partitions)
                swap.refuse_gap(history.until_s)
                read = progress.add_task("entries of the streams", total=None)
                swap.read_ahead(history, objects, lambda done: progress.update(read, completed=done))
                fingerprint = _fingerprint(files, history.until_s, settings, partitions)
                swap.stage_neighbours(history, fingerprint)
                wrote = progress.add_task("profiles", total=figures["users"])
                with swap:
                    figures |= swap.write(
                        history, objects, fingerprint,
                        lambda done: progress.update(wrote, completed=done),
                    )  # fmt: skip
            is_well = True
            if popularity and not dry_run and figures["events"]:
                updated = progress.add_task("popularity", total=None)
                figures["popularity"], is_well = write_popularity(
                    settings, history, popularity, half_life_s, index, popularity_file,
                    lambda done: progress.update(updated, completed=done),
                )  # fmt: skip
    print_json(figures)
    if not _print_row_counts(history, allowed, plan.settings) or not is_well:
        raise typer.Exit(UNHEALTHY)


def _refuse_unknown(allowed: frozenset[str]) -> None:
    if unknown := sorted(allowed - REASONS.keys()):
        raise ConfigurationError(
            [Fault(f"--allow {one}", "is not a reason for leaving rows out", ", ".join(REASONS)) for one in unknown]
        )


def _refuse_malformed(files: Files, allowed: frozenset[str]) -> None:
    """Raise ConfigurationError for lines that are no rows, unless `--allow malformed` accepts them."""
    if not files.malformed:
        return
    if "malformed" not in allowed:
        more = files.malformed - len(files.faults)
        rest = [Fault("and", count_of(more, "more line"), "--allow malformed leaves them out")] if more > 0 else []
        raise ConfigurationError([*files.faults, *rest])
    for fault in files.faults:
        print_line(fault)


def _print_row_counts(history: History, allowed: frozenset[str], settings: Settings) -> bool:
    """Print the rows left out, the age of an old history, and weights that are too large.

    Return whether there are events and no reason exceeds the limit.
    """
    counts, signals = history.row_counts, settings.signals
    for line in counts.lines():
        print_line(line)
    if too_old := counts.left_out.get("too_old", 0):
        print_line(
            f"{count_of(too_old, 'row')} before {datetime.fromtimestamp(history.until_s - signals.horizon_s, UTC).date()}"
            f" {agreeing(too_old, 'count')} for nothing, since [signals] horizon_s = {signals.horizon_s:g}: by"
            f" profile_half_life_s = {signals.profile_half_life_s:g} less than"
            f" {growth(history.until_s, history.until_s - signals.horizon_s, signals.profile_half_life_s):.2g} of a weight is"
            " left of them; raise horizon_s (and the half-life) to count them"
        )
    age_s = time.time() - history.until_s
    if counts.events and age_s > signals.horizon_s:
        ended = datetime.fromtimestamp(history.until_s, UTC).date()
        print_line(
            f"the history ended on {ended}, {count_of(round(age_s / DAY_S), 'day')} ago: such events would be too old for ingest"
            f" (horizon_s), and with profile_half_life_s = {signals.profile_half_life_s:g} their weights have faded to"
            f" {growth(history.until_s + age_s, history.until_s, signals.profile_half_life_s):.2%}"
        )
    if not counts.events:
        print_line("no row became an event: nothing was written")
        return False
    if counts.mean_weight >= HEAVY:
        print_line(f"an average event {heavy(signals.action_weights, counts.mean_weight)}")
    if reasons := counts.too_many(allowed):
        print_line(
            f"more than {LIMIT:.0%} of the rows were left out for {', '.join(reasons)}:"
            f" correct the files and run it again, or allow it ({' '.join(f'--allow {one}' for one in reasons)})"
        )
        return False
    return True


def _found(store: RedisStore, keys: StreamKeys, wanted: int) -> tuple[int, dict[str, float]]:
    *_, partitions, pairs = sound_replies(
        store, [*partition_count_commands(keys, wanted), ("ZRANGE", keys.forgotten, 0, -1, "WITHSCORES")]
    )
    return partition_count(keys.partitions, partitions), forgotten_in(pairs)


def _time(text: str | None) -> float | None:
    try:
        found = seconds_of(text) if text else None
    except ValueError:
        raise ConfigurationError([Fault("--until", "is not a time", "use ISO 8601")]) from None
    if found is not None and found > time.time():
        raise ConfigurationError([Fault("--until", "is in the future", "later events come through the streams")])
    return found


def _fingerprint(files: list[Path], until_s: float, settings: Settings, partitions: int) -> str:
    """Return a hash that identifies the counters of a history: its files (paths, sizes, times), its end, and what counts in it.

    A run that was interrupted is not continued by other rules: its profiles would be of both.
    """
    stats = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    policies = {name: policy.model_dump_json() for name, policy in sorted(settings.policies.items())}
    salt = settings.store.key_salt.get_secret_value()
    of = (stats, until_s, partitions, salt, settings.signals.model_dump_json(), policies)
    return sha256(repr(of).encode()).hexdigest()
