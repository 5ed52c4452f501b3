"""Events from a file (NDJSON), appended as a producer would."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from rewriter.errors import Fault, StoreError
from rewriter.signals.commands import Command
from rewriter.signals.events import Event, parse
from rewriter.signals.ingest.contract import StreamKeys, append_command
from rewriter.signals.ingest.scripts import Engine
from rewriter.subject import pseudonym

AT_ONCE = 1_000
MAX_BACKLOG = 100_000
"""Entries that may wait before the file has to: what is in the file need not be in memory."""


class Replay:
    """Appends a file's events a chunk at a time. What the store did not take is sent again, so that none is left out.

    An event without an `event_id` gets one from its line: a replay that broke off can be begun anew within `dedupe_s`.
    `read` and `appended` count lines and events; `faults` are the lines that are no events.
    """

    def __init__(self, engine: Engine, keys: StreamKeys, path: Path) -> None:
        self._engine = engine
        self._keys = keys
        self._path = path
        self._lines = self._events()
        self._chunk: list[tuple[Event, bytes]] = []
        self.size_bytes = path.stat().st_size
        self.read_bytes = 0
        self.appended = 0
        self.done = False
        self.faults: list[Fault] = []

    def feed(self, partitions: int) -> int:
        """Append the next chunk and return how many events it had; 0 at the end, or while the store does not take it."""
        if not self._chunk:
            self._chunk = list(islice(self._lines, AT_ONCE))
            self.done = not self._chunk
        wanted: list[Command] = [append_command(self._keys, event, raw, partitions) for event, raw in self._chunk]
        try:
            replies: list[Any] = self._engine.run(wanted) if wanted else []
        except (RedisError, StoreError, OSError):
            return 0
        taken = sum(not isinstance(reply, Exception) for reply in replies)
        self._chunk = [one for one, reply in zip(self._chunk, replies, strict=True) if isinstance(reply, Exception)]
        self.appended += taken
        return taken

    def _events(self) -> Iterator[tuple[Event, bytes]]:
        with self._path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                self.read_bytes += len(line)
                if not (raw := line.strip()):
                    continue
                found = parse(raw)
                if isinstance(found, Fault):
                    self.faults.append(Fault(f"{self._path}:{number}: {found.where}", found.what, found.remedy))
                elif found.event_id is None:
                    named = json.loads(raw) | {"event_id": pseudonym("line", raw.decode(), "")}
                    yield found, json.dumps(named).encode()
                else:
                    yield found, raw
