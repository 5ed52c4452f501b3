"""Reading of the next entries of the partitions that a worker holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rewriter.signals.events import MAX_EVENT_BYTES
from rewriter.signals.ingest.ailing import Ailing
from rewriter.signals.ingest.batch import Batch, CountingRules, entry_of
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
    positions = {number: position for number, position in sorted(held.items()) if number not in ailing}
    each = min(READ_ENTRIES, max(LEAST_READ, plan.settings.ingest.batch // max(1, len(positions))))
    each_bytes = min(READ_BYTES, plan.settings.ingest.batch_bytes // max(1, len(positions)))
    keys = StreamKeys(plan.settings.store.prefix)
    wanted = [
        script_command(READ, [keys.stream(number)], [position, each, each_bytes, MAX_EVENT_BYTES])
        for number, position in positions.items()
    ]
    found = []
    for (number, position), reply in zip(positions.items(), ran(engine, wanted), strict=True):
        if isinstance(reply, Exception):
            ailing.pause(number, reply)
            continue
        server_ms, entries = reply
        if entries:
            read = [entry_of(entry_id, pairs(parts), plan, server_ms) for entry_id, parts in entries]
            found.append(Batch(number, position, read))
    return found


def pairs(parts: Any) -> Mapping[bytes, bytes]:
    """Return the fields of an entry: RESP2 through a pipeline returns a mapping or a flat list."""
    if type(parts) is not list and isinstance(parts, Mapping):  # the second check alone takes as long as the rest
        return parts
    return dict(zip(parts[::2], parts[1::2], strict=True))
