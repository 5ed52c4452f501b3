"""Table of neighbours in the store: written by `rewriter backfill` as a new generation, read by ingest workers item by item."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

from rewriter.signals.commands import Command
from rewriter.signals.neighbours import Near, Table, packed_near, table_of, unpacked_near
from rewriter.signals.store import Keys

WRITTEN_AT_ONCE = 2_000
"""Items that one pipeline writes."""
ORPHAN_S = 24 * 3_600
"""For how long the slots of a generation stay whose backfill ended before its table was named."""


class Engine(Protocol):
    """Runs commands on a thread: a CommandStore."""

    def run(self, wanted: list[Command], *, atomic: bool = False) -> list[Any]:
        """See CommandStore.run."""


def read_table(engine: Engine, keys: Keys) -> Table | None:
    """Return the table that workers read, None for none, and for a key that holds something else. Raises what the client raises."""
    (named,) = engine.run([("GET", keys.near)])
    return table_of(named) if isinstance(named, bytes) else None


def read_near(engine: Engine, keys: Keys, items: Collection[str]) -> dict[str, Near]:
    """Return the neighbours of those of `items` that have any: two round trips, one where there is no table.

    Neighbours are optional: a key that holds something else has none. Raises what the client raises.
    """
    if not items:
        return {}
    table = read_table(engine, keys)
    if table is None:
        return {}
    listed = list(items)
    replies = engine.run([("HGET", keys.near_slot(table.slot(one), table.generation), one) for one in listed])
    found = {one: unpacked_near(raw) for one, raw in zip(listed, replies, strict=True) if isinstance(raw, bytes)}
    return {one: near for one, near in found.items() if near}


def write_slots(
    run: Callable[[list[Command]], Sequence[Any]], keys: Keys, table: Table, near: Iterable[tuple[str, Near]]
) -> None:
    """Write the slots of a table that no key names yet. They expire unless `keep_slots` follows.

    run: sends commands and raises for a failed one.
    """
    written: set[int] = set()
    for chunk in _chunks(near):
        commands: list[Command] = []
        for item, others in chunk:
            slot = table.slot(item)
            key = keys.near_slot(slot, table.generation)
            commands.append(("HSET", key, item, packed_near(others)))
            if slot not in written:
                written.add(slot)
                commands.append(("EXPIRE", key, ORPHAN_S))
        run(commands)


def name_table(run: Callable[[list[Command]], Sequence[Any]], keys: Keys, table: Table | None) -> None:
    """Name the table that workers read, whose slots then stay, or none; and delete the tables before it.

    Where that is interrupted, the next call deletes what is left: a table's text names another one that has slots too.
    """
    (named,) = run([("GET", keys.near)])
    before = table_of(named)
    used = None if table is None else table.generation
    former = None if before is None or before.generation == used else (before.generation, before.slots)
    if before is not None and before.former is not None and before.former[0] != used:
        _each_slot(run, keys, before.former, "UNLINK")
    if table is not None:
        slots = table.generation, table.slots
        # No slots stay without a name: those that are to be used are named beside the table in use before they stay.
        named_first = table if before is None or former is None else replace(before, former=slots)
        run([("SET", keys.near, named_first.text())])
        _each_slot(run, keys, slots, "PERSIST")
        run([("SET", keys.near, replace(table, former=former).text())])
    if former is not None:
        _each_slot(run, keys, former, "UNLINK")
    run([("DEL", keys.near) if table is None else ("SET", keys.near, table.text())])


def _each_slot(run: Callable[[list[Command]], Sequence[Any]], keys: Keys, table: tuple[str, int], command: str) -> None:
    generation, count = table
    for start in range(0, count, WRITTEN_AT_ONCE):
        slots = range(start, min(start + WRITTEN_AT_ONCE, count))
        run([(command, keys.near_slot(slot, generation)) for slot in slots])


def _chunks(near: Iterable[tuple[str, Near]]) -> Iterator[list[tuple[str, Near]]]:
    chunk: list[tuple[str, Near]] = []
    for one in near:
        chunk.append(one)
        if len(chunk) == WRITTEN_AT_ONCE:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
