"""Deduplication: drops entries whose `event_id` came before, and entries of subjects that were erased since."""

from __future__ import annotations

from collections.abc import Sequence

from rewriter.signals.commands import Command
from rewriter.signals.ingest.batch import Batch, CountingRules, Entry
from rewriter.signals.ingest.contract import StreamKeys, partition_of
from rewriter.signals.ingest.scripts import Engine, ran, with_key
from rewriter.subject import pseudonym

ELSEWHERE = 2048
"""Bit that marks entries of other partitions than a subject's first one, since ids of two streams may be equal."""

MARKS_BELOW = 2**53
"""The store keeps a mark as a double, which is exact below this. Entry ids beyond the year 2039 begin again at 0: a producer chose
one, or the server's clock was once ahead, and all later ids are as high."""


def without_duplicates(
    engine: Engine, keys: StreamKeys, entries: Sequence[tuple[Batch, Entry]], plan: CountingRules, first_partitions: int
) -> tuple[list[tuple[Batch, Entry]], dict[int, Exception]]:
    """Return the entries that are neither duplicates of an earlier entry nor of an erased subject.

    Also returns the partitions whose marks cannot be read, with the exception; their entries are not returned.

    The first entry with an `event_id` writes its mark; the same entry, read again, recognizes its own. Marks are kept with the
    subject's partition among the initial `first_partitions`, so that an event that is sent again finds them even if the number of
    partitions grew and it goes to another stream.
    """
    if not entries:
        return [], {}
    dedupe_keys: dict[int, dict[str, list[int]]] = {}
    own_marks: dict[int, tuple[int, int]] = {}
    for batch, entry in entries:
        if (event_id := entry.counted_event.event_id) is not None:
            home = partition_of(entry.counted_event, first_partitions)
            dedupe_key = entry.dedupe_key % MARKS_BELOW ^ (ELSEWHERE if batch.partition != home else 0)
            own_marks[id(entry)] = home, dedupe_key
            dedupe_keys.setdefault(home, {}).setdefault(pseudonym("e", event_id, ""), []).append(dedupe_key)
    ttl_s = int(2 * plan.settings.ingest.dedupe_s) + 1
    wanted: list[Command] = []
    for number, by_digest in dedupe_keys.items():
        ids = keys.of_stream(number, "ids")
        scored = [part for digest, (first, *_) in by_digest.items() for part in (first, digest)]
        wanted += [("ZADD", ids, "NX", *scored), ("EXPIRE", ids, ttl_s), ("ZMSCORE", ids, *by_digest)]
    salt = plan.settings.store.key_salt.get_secret_value()
    users = [pseudonym("u", entry.counted_event.user or "", salt) for _, entry in entries]
    *replies, forgotten = ran(engine, [*wanted, ("ZMSCORE", keys.forgotten, *users)])
    if isinstance(forgotten, Exception):  # an event of a forgotten user must not be counted
        raise with_key(("ZMSCORE", keys.forgotten), forgotten)
    broken = {}
    for at, number in enumerate(dedupe_keys):
        if error := next((one for one in replies[3 * at : 3 * at + 3] if isinstance(one, Exception)), None):
            broken[number] = error
    failed = {
        batch.partition: broken[own_marks[id(entry)][0]]
        for batch, entry in entries
        if id(entry) in own_marks and own_marks[id(entry)][0] in broken
    }
    repeated = {
        (number, dedupe_key)
        for (number, by_digest), scores in zip(dedupe_keys.items(), replies[2::3], strict=True)
        if number not in broken
        for own, score in zip(by_digest.values(), scores, strict=True)
        for dedupe_key in own
        if score is not None and dedupe_key != int(float(score))
    }
    found = []
    for (batch, entry), forgotten_s in zip(entries, forgotten, strict=True):
        if batch.partition in failed:
            continue
        if own_marks.get(id(entry)) in repeated:
            batch.counted_as("duplicate", entry)
        elif forgotten_s is not None and entry.counted_event.user and entry.at_s <= float(forgotten_s):
            batch.counted_as("forgotten", entry)
        else:
            found.append((batch, entry))
    return found, failed
