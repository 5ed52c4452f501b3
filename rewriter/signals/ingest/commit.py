"""Commit of a batch: commands that move the position, count the entries, and write dead letters and waiting entries.

A batch is committed in runs. Each run is atomic, and bounded in the entries that it writes elsewhere, since the server runs one
script at a time.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from rewriter.settings import IngestSettings
from rewriter.signals.commands import Command
from rewriter.signals.ingest.batch import Batch, Entry
from rewriter.signals.ingest.contract import StreamKeys
from rewriter.signals.ingest.dedupe import MARKS_BELOW
from rewriter.signals.ingest.scripts import COMMIT, script_command

REPLAYED, FATE, WHY, WAITING = "replay:", "fate:", "why:", "waiting"
"""Names of counters of a partition's state: `replay:TOKEN:fate:counted`, `replay:TOKEN:why:REASON`, `replay:TOKEN:waiting`."""
MAX_KIND = 200
RUN_ENTRIES = 100
RUN_BYTES = 256 * 1024
"""Limits of the dead letters and waiting entries of one run, in number and bytes."""


def runs(batch: Batch) -> Iterator[Batch]:
    """Yield the batch in consecutive runs, each with the fates of its entries; there is at least one, even without entries."""
    letters: dict[str, list[tuple[Entry, object]]] = {}
    for entry, fault in batch.dead:
        letters.setdefault(entry.id, []).append((entry, fault))
    waiting = {entry.id for entry in batch.waiting}
    run = Batch(batch.partition, batch.before, [], other=Counter(batch.other), beside=batch.beside, note=batch.note)
    entries: list[Entry] = []
    moved = size = 0
    for entry in batch.entries:
        copies = len(letters.get(entry.id, ())) + (entry.id in waiting)
        taken = copies * (len(entry.raw) + 200)
        if entries and (moved + copies > RUN_ENTRIES or size + taken > RUN_BYTES):
            yield _filled(run, entries, batch, letters, waiting)
            run, entries, moved, size = Batch(batch.partition, entries[-1].id, []), [], 0, 0
        entries.append(entry)
        moved, size = moved + copies, size + taken
    yield _filled(run, entries, batch, letters, waiting)


def _filled(
    run: Batch, entries: list[Entry], batch: Batch, letters: dict[str, list[tuple[Entry, object]]], waiting: set[str]
) -> Batch:
    run.entries = entries
    run.fates = {entry.id: batch.fates[entry.id] for entry in entries if entry.id in batch.fates}
    run.dead = [letter for entry in entries for letter in letters.get(entry.id, ())]  # type: ignore[misc]
    run.waiting = [entry for entry in entries if entry.id in waiting]
    return run


def _replayed(run: Batch) -> Counter[str]:
    """Return the fates of entries that replays appended, as counters under the names that `replay` reads."""
    counts: Counter[str] = Counter()
    for entry in run.entries:
        if entry.replay is None or entry.id not in run.fates:
            continue
        name, fate = f"{REPLAYED}{entry.replay}:", run.fates[entry.id]
        counts[name + (WAITING if fate == "waiting" else FATE + fate)] += 1
        if entry.first is not None:
            counts[name + WAITING] -= 1
    for entry, fault in run.dead:
        if entry.replay is not None:
            counts[f"{REPLAYED}{entry.replay}:{WHY}{kind_of(str(fault))}"] += 1
    return counts


def kind_of(reason: str) -> str:
    """Return a reason without its numbers: `is 3601 s old` and `is 90 s old` are the same kind."""
    return re.sub(r"\d[\d.,]*", "N", reason)[:MAX_KIND]


def _waiting_name(entry: Entry) -> bytes:
    return (entry.id if entry.replay is None else f"{entry.id} {entry.replay}").encode()


def commit_command(
    keys: StreamKeys, run: Batch, token: str, lease_ms: int, settings: IngestSettings, lag_s: float
) -> Command:
    """Return the command of commit.lua for one run.

    lease_ms: how long the lease is renewed, in milliseconds.
    lag_s:    the largest lag of all partitions in seconds. The `event_id` marks of a lagging partition may be kept with this one,
              so marks are kept longer by this time.
    """
    at_ms = int(run.after.partition("-")[0])
    lowest = max(0, int(at_ms - (settings.dedupe_s + lag_s) * 1000)) * 4096 % MARKS_BELOW
    counts = {"passed": len(run.entries), **run.counts, **run.beside, **_replayed(run)}
    letters = [part for entry, fault in run.dead for part in (entry.first or entry.id, str(fault), entry.raw)]
    letters += ("", run.note, "") if run.note else ()
    waiting = [b"%s\x1f%s" % (_waiting_name(entry), entry.raw) for entry in run.waiting]
    names = ("lease", "state", "", "dead", "waiting", "ids")
    number = run.partition
    arguments = [
        *(token, lease_ms, run.before, run.after, run.entries[0].id if run.entries else ""),
        *(int(settings.retention_s * 1000), lowest, settings.dead_letters, int(settings.retry_s * 1000)),
        *(len(counts), *(part for pair in counts.items() for part in pair)),
        *(len(letters) // 3, *letters),
        *(len(waiting), *waiting),
    ]
    return script_command(
        COMMIT, [keys.of_stream(number, name) if name else keys.stream(number) for name in names], arguments
    )
