"""Reading of the next entries of the partitions that a worker holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rewriter.signals.events import MAX_EVENT_BYTES
from rewriter.signals.ingest.ailing import Ailing
from rewriter.signals.ingest.batch import Batch, CountingRules, Entry, entry_of
from rewriter.signals.ingest.contract import StreamKeys
from rewriter.signals.ingest.scripts import READ, Engine, ran, script_command

READ_ENTRIES, READ_BYTES = 250, 2**20
"""Limits of one read of one partition, which bound the time that it blocks the server."""
LEAST_READ = 10
"""Entries that each partition is read by at least, however many a worker holds."""


def read_batches(engine: Engine, plan: CountingRules, held: Mapping[int, str], ailing: Ailing) -> list[Batch]:
    """Return the next entries of the held partitions, an equal share each.

    A fuller partition gets no more: larger batches lost more of what the repeat guard counts of visits without a session, where
    replies of the store were lost (in 7 of 11 runs instead of 3).
    held: positions by partition. A partition that cannot be read is paused in `ailing` and left out. Raises the client's exception.
    """
    before = {number: position for number, position in sorted(held.items()) if number not in ailing}
    each = min(READ_ENTRIES, max(LEAST_READ, plan.settings.ingest.batch // max(1, len(before))))
    each_bytes = min(READ_BYTES, plan.settings.ingest.batch_bytes // max(1, len(before)))
    found = _next_entries(engine, plan, before, each, each_bytes, ailing)
    return [Batch(number, before[number], read) for number, read in found.items() if read]


def _next_entries(
    engine: Engine, plan: CountingRules, after: Mapping[int, str], most: int, most_bytes: int, ailing: Ailing
) -> dict[int, list[Entry]]:
    """Read the next entries of partitions after a position each."""
    keys = StreamKeys(plan.settings.store.prefix)
    wanted = [
        script_command(READ, [keys.stream(number)], [position, most, most_bytes, MAX_EVENT_BYTES])
        for number, position in after.items()
    ]
    found = {}
    for number, reply in zip(after, ran(engine, wanted), strict=True):
        if isinstance(reply, Exception):
            ailing.pause(number, reply)
            continue
        server_ms, entries = reply
        found[number] = [entry_of(entry_id, pairs(parts), plan, server_ms) for entry_id, parts in entries]
    return found


def pairs(parts: Any) -> Mapping[bytes, bytes]:
    """Return the fields of an entry: RESP2 through a pipeline returns a mapping or a flat list."""
    if type(parts) is not list and isinstance(parts, Mapping):  # the second check alone takes as long as the rest
        return parts
    return dict(zip(parts[::2], parts[1::2], strict=True))
