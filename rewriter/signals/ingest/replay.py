"""Replay of events from an NDJSON file: appends them to the streams as a producer does, and reports their fates.

Each appended entry has the replay's token. When a worker commits a batch, it counts the fates of such entries in the state of their
partition, under that token, in the same step. The replay reads these counts, and removes them at its end.
"""

from __future__ import annotations

import io
import json
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from secrets import token_hex
from typing import Any

from redis.exceptions import RedisError

from rewriter.encodings import SAMPLE_BYTES, encoding_of
from rewriter.errors import Fault, StoreError
from rewriter.signals.commands import Command
from rewriter.signals.events import Event, parse, read_json
from rewriter.signals.ingest.commit import FATE, REPLAYED, WAITING, WHY
from rewriter.signals.ingest.contract import STREAM_START, StreamKeys, append_command, partition_of
from rewriter.signals.ingest.scripts import Engine, sound_replies
from rewriter.subject import pseudonym

AT_ONCE = 1_000
MAX_BACKLOG = 100_000
"""Backlog above which the replay pauses, so that the store need not hold the whole file."""
SHOWN_FAULTS = 20
LEFT_OVER_S = 7 * 24 * 3600.0
"""Age at which a killed replay's counts are removed by the next replay."""
MARK = b"\xef\xbb\xbf"


class Replay:
    """Appends a file's events in chunks. Events that the store did not accept are sent again, so that none is left out.

    An event without an `event_id` gets one from the file's name, the line's number and its text: equal lines are different events,
    and an aborted replay can be started again within `dedupe_s`.

    appended: number of appended events.
    faulty:   number of lines that are no events; `faults` are the first of them.
    """

    def __init__(self, engine: Engine, keys: StreamKeys, path: Path) -> None:
        self._engine = engine
        self._keys = keys
        self._path = path
        self._token = f"{int(time.time()):08x}{token_hex(4)}"
        self._lines = self._events()
        self._chunk: list[tuple[Event, bytes]] = []
        self._last: dict[int, tuple[int, int]] = {}  # by partition, the id of the last entry that was appended
        self.size_bytes = path.stat().st_size
        self.read_bytes = 0
        self.appended = 0
        self.done = False
        self.faulty = 0
        self.faults: list[Fault] = []

    def feed(self, partitions: int) -> int:
        """Append the next chunk; return the number of appended events, 0 at the end or while the store does not accept them."""
        if not self._chunk:
            self._chunk = list(islice(self._lines, AT_ONCE))
            self.done = not self._chunk
        wanted: list[Command] = [
            (*append_command(self._keys, event, raw, partitions), "replay", self._token) for event, raw in self._chunk
        ]
        try:
            replies: list[Any] = self._engine.run(wanted) if wanted else []
        except (RedisError, StoreError, OSError):
            return 0
        refused = []
        for one, reply in zip(self._chunk, replies, strict=True):
            if isinstance(reply, Exception):
                refused.append(one)
            else:
                number = partition_of(one[0], partitions)
                self._last[number] = max(self._last.get(number, (0, 0)), _position(reply))
        taken, self._chunk = len(self._chunk) - len(refused), refused
        self.appended += taken
        return taken

    def is_done(self) -> bool:
        """Whether all events were appended and have their final fate. False while the store does not answer."""
        if not self.done:
            return False
        try:
            wanted = [("HGET", self._keys.of_stream(number, "state"), "position") for number in self._last]
            positions = sound_replies(self._engine, wanted)
            if any(_position(one) < last for one, last in zip(positions, self._last.values(), strict=True)):
                return False
            return self._counts()[WAITING] <= 0
        except (RedisError, StoreError, OSError):
            return False

    def fates(self) -> tuple[Counter[str], Counter[str]]:
        """Return the number of events by fate, and of refused ones by reason. Raises the client's exception.

        `unknown` events were counted by no worker: trimmed before they were read, or passed by a worker of an older version.
        """
        counts = self._counts()
        fates = Counter({name.removeprefix(FATE): n for name, n in counts.items() if name.startswith(FATE)})
        fates["waiting"] = counts[WAITING]
        fates["unknown"] = max(0, self.appended - fates.total())
        reasons = Counter({name.removeprefix(WHY): n for name, n in counts.items() if name.startswith(WHY)})
        return +fates, reasons

    def close(self) -> None:
        """Remove this replay's counts from the store, and those of replays that were killed more than LEFT_OVER_S ago."""
        old = time.time() - LEFT_OVER_S
        for number in self._last:
            state = self._keys.of_stream(number, "state")
            (names,) = sound_replies(self._engine, [("HKEYS", state)])
            gone = [name for name in names if name.startswith(REPLAYED.encode()) and self._is_over(name, old)]
            if gone:
                sound_replies(self._engine, [("HDEL", state, *gone)])

    def _is_over(self, name: bytes, old: float) -> bool:
        token = name.decode("utf-8", "replace").removeprefix(REPLAYED)[:16]
        try:
            return token == self._token or int(token[:8], 16) < old
        except ValueError:
            return True

    def _counts(self) -> Counter[str]:
        """Return the workers' counts of this replay, summed over all partitions."""
        found: Counter[str] = Counter()
        prefix = f"{REPLAYED}{self._token}:"
        for reply in sound_replies(
            self._engine, [("HGETALL", self._keys.of_stream(number, "state")) for number in self._last]
        ):
            pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
            for raw, value in pairs:
                name = raw.decode("utf-8", "replace")
                if name.startswith(prefix):
                    found[name.removeprefix(prefix)] += int(value)
        return found

    def _events(self) -> Iterator[tuple[Event, bytes]]:
        for number, line in enumerate(self._raw_lines(), 1):
            if not (raw := line.removeprefix(MARK).strip()):
                continue
            found = parse(raw)
            if isinstance(found, Fault):
                self.faulty += 1
                if len(self.faults) < SHOWN_FAULTS:
                    self.faults.append(Fault(f"{self._path}:{number}: {found.where}", found.what, found.remedy))
            elif found.event_id is None:
                text = raw.decode("utf-8", "backslashreplace")
                event_id = pseudonym("line", f"{self._path.name}\x1f{number}\x1f{text}", "")
                yield found, json.dumps(read_json(raw) | {"event_id": event_id}).encode()
            else:
                yield found, raw

    def _raw_lines(self) -> Iterator[bytes]:
        """Yield the lines in UTF-8, whatever the file's encoding."""
        with self._path.open("rb") as file:
            encoding = encoding_of(file.read(SAMPLE_BYTES))
            file.seek(0)
            lines: Iterator[bytes] = iter(file)
            if not encoding.startswith("utf-8"):
                text = io.TextIOWrapper(file, encoding, errors="replace", newline="\n")
                lines = (line.encode() for line in text)
            for line in lines:
                self.read_bytes = file.tell()
                yield line


def _position(raw: bytes | None) -> tuple[int, int]:
    ms, _, sequence = (raw.decode() if raw else STREAM_START).partition("-")
    return int(ms), int(sequence or 0)
