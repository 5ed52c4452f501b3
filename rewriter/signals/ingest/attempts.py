"""Entries that an attempt at their batch has applied, before it failed or its commit was lost."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from rewriter.signals.commands import Command
from rewriter.signals.ingest.ailing import is_of_one
from rewriter.signals.ingest.batch import Batch, CountingRules, Entry
from rewriter.signals.ingest.leases import order
from rewriter.signals.ingest.scripts import Engine, ran


def applied_before(
    engine: Engine, profiles: Engine, plan: CountingRules, entries: Sequence[tuple[Batch, Entry]]
) -> AbstractSet[tuple[int, str]]:
    """Return the entries that were applied, by partition and id: those that the watermark of their user or session has passed.

    entries: entries whose objects are not found, without those that an attempt noted as not applied.
    The objects of applied entries were found then. If they waited for their objects, they would count again, as new entries.
    """
    found: set[tuple[int, str]] = set()
    with_user = [one for one in entries if one[1].counted_event.user is not None]
    without = [one for one in entries if one[1].counted_event.user is None]
    for store, those in ((profiles, with_user), (engine, without)):
        replies = ran(store, [_watermark(plan, batch, entry) for batch, entry in those])
        for (batch, entry), reply in zip(those, replies, strict=True):
            if isinstance(reply, Exception):
                if not is_of_one(reply):
                    raise reply
            elif reply is not None and order(entry.id) <= order(reply.decode("utf-8", "replace")):
                found.add((batch.partition, entry.id))
    return found


def _watermark(plan: CountingRules, batch: Batch, entry: Entry) -> Command:
    """Return the command that reads how far the entry's user, or else its session, has counted the entries of its partition."""
    event, keys = entry.counted_event, plan.keys
    base = keys.session(event.session_id or "") if event.user is None else keys.profile(event.user)
    return ("HGET", f"{base}:m", f"watermark:{batch.partition}")
