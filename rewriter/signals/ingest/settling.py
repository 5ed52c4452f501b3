"""The command that ends a batch: position, counts, dead letters and what waits, all of it or nothing."""

from __future__ import annotations

from rewriter.settings import IngestSettings
from rewriter.signals.commands import Command
from rewriter.signals.ingest.batch import Batch
from rewriter.signals.ingest.contract import StreamKeys
from rewriter.signals.ingest.scripts import SETTLE, script_command


def settle_command(
    keys: StreamKeys, batch: Batch, token: str, lease_ms: int, settings: IngestSettings, now_s: float
) -> Command:
    """Return the command for settle.lua. What is not read yet is never trimmed, however old it is."""
    at_ms = int(batch.after.partition("-")[0])
    retained_ms = max(0, int((now_s - settings.retention_s) * 1000))
    oldest = retained_ms if retained_ms <= at_ms else batch.after
    lowest = int(at_ms - settings.dedupe_s * 1000) * 4096
    counts = {"passed": len(batch.entries), **batch.counts}
    letters = [part for entry, fault in batch.dead for part in (entry.id, str(fault), entry.raw)]
    letters += ("", batch.note, "") if batch.note else ()
    due_ms = int((now_s + settings.retry_s) * 1000)
    waiting = [part for entry in batch.waiting for part in (due_ms, b"%s\x1f%s" % (entry.id.encode(), entry.raw))]
    names = ("lease", "state", "", "dead", "waiting", "ids")
    number = batch.partition
    arguments = [
        *(token, lease_ms, batch.before, batch.after, oldest, lowest, settings.dead_letters),
        *(len(counts), *(part for pair in counts.items() for part in pair)),
        *(len(letters) // 3, *letters),
        *(len(batch.waiting), *waiting),
    ]
    return script_command(
        SETTLE, [keys.of_stream(number, name) if name else keys.stream(number) for name in names], arguments
    )
