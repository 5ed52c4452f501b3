"""Live events: counted entries of the streams that are later than the history.

Most are read while workers run, since entries up to a partition's position are committed and do not change. Those that workers
count until they pause are read afterwards. Reading starts `dedupe_s` before the end of the history, so that duplicates are
recognized.

An entry whose object was not in the index waited, and came again as another entry with the id of the first. Only the second one
counts, and it may still be in the stream.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping

from rewriter.signals.backfill.sums import LiveRow, Sums
from rewriter.signals.counters import SEPARATOR, Value
from rewriter.signals.ingest.batch import Batch, CountingRules, Entry, entry_of
from rewriter.signals.ingest.contract import STREAM_START, StreamKeys
from rewriter.signals.ingest.objects import Objects
from rewriter.signals.ingest.scripts import LOOK, script_command, sound_replies
from rewriter.signals.redis_store import RedisStore
from rewriter.subject import pseudonym

AT_ONCE = 1_000


class Live:
    """Reads the streams into `sums`, in chunks of AT_ONCE entries.

    until_s:     the end of the history (seconds since the epoch); later events count.
    on_progress: called after each chunk with the number of entries read so far.
    """

    def __init__(
        self,
        store: RedisStore,
        plan: CountingRules,
        objects: Objects,
        sums: Sums,
        until_s: float,
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._plan = plan
        self._objects = objects
        self._sums = sums
        self._until_s = until_s
        self._on_progress = on_progress
        self._keys = StreamKeys(plan.settings.store.prefix)
        self._after: dict[int, str] = {}
        self._seen_ids: dict[int, OrderedDict[str, int]] = {}
        self.entries = 0

    def read_to(self, positions: Mapping[int, str]) -> None:
        """Read the entries up to each partition's position that were not read before."""
        for number, position in positions.items():
            start = self._after.get(number) or self._start()
            for entries in self._chunks(number, start, position):
                self._sums.put_live(list(self._counted(number, entries)))
                self._note_waited(number, entries)
            self._after[number] = f"({position}" if position != STREAM_START else start

    def read_waiting(self, positions: Mapping[int, str]) -> None:
        """Read the entries that wait for their object, or that come again after a partition's position: workers will count them."""
        for number, position in positions.items():
            (members,) = sound_replies(self._store, [("ZRANGE", self._keys.of_stream(number, "waiting"), 0, -1)])
            self._sums.put_waited([(number, one.partition(b"\x1f")[0].decode("utf-8", "replace")) for one in members])
            for raw in self._raw_chunks(number, f"({position}", "+"):
                firsts = [parts[b"first"].decode("ascii", "replace") for _, parts in raw if b"first" in parts]
                self._sums.put_waited([(number, first) for first in firsts])

    def _start(self) -> str:
        return f"{max(0, int((self._until_s - self._plan.settings.ingest.dedupe_s) * 1000))}-0"

    def _chunks(self, number: int, start: str, position: str) -> Iterator[list[Entry]]:
        look = script_command(LOOK, [self._keys.of_stream(number, "state"), self._keys.stream(number)], [])
        ((*_, now_ms),) = sound_replies(self._store, [look])
        for raw in self._raw_chunks(number, start, position):
            yield [entry_of(entry_id, parts, self._plan, now_ms) for entry_id, parts in raw]
            self.entries += len(raw)
            self._on_progress(self.entries)

    def _raw_chunks(self, number: int, start: str, end: str) -> Iterator[list[tuple[bytes, Mapping[bytes, bytes]]]]:
        while True:
            wanted = [("XRANGE", self._keys.stream(number), start, end, "COUNT", AT_ONCE)]
            (entries,) = sound_replies(self._store, wanted)
            if entries:
                yield [(one, parts if isinstance(parts, dict) else _pairs(parts)) for one, parts in entries]
            if len(entries) < AT_ONCE:
                return
            start = f"({entries[-1][0].decode()}"

    def _counted(self, number: int, entries: list[Entry]) -> Iterator[LiveRow]:
        """Yield the entries of a chunk that count, by the rules of ingest."""
        weights, salt = (
            self._plan.settings.signals.action_weights,
            self._plan.settings.store.key_salt.get_secret_value(),
        )
        batch = Batch(number, STREAM_START, entries)
        fresh = [one for one in batch.readable() if not self._is_duplicate(number, one) and one.at_s > self._until_s]
        known = self._objects.find({one.object_key for one in fresh if self._plan.document_in(one) is None})
        for entry in fresh:
            document = self._plan.document_in(entry) or known.get(entry.object_key)
            values: tuple[Value, ...] = self._plan.values(document) if document is not None else ()
            if values:
                event = entry.counted_event
                person = None if event.user is None else pseudonym("u", event.user, salt)
                members = [SEPARATOR.join(value) for value in values]
                named = list(event.event_attributes.segments)
                yield number, entry.id, person, entry.at_s, weights[event.action_name], members, named

    def _is_duplicate(self, number: int, entry: Entry) -> bool:
        """Return whether an earlier entry within `dedupe_s` had the same event_id."""
        if (event_id := entry.counted_event.event_id) is None:
            return False
        seen = self._seen_ids.setdefault(number, OrderedDict())
        lowest = int(entry.received_s * 1000 - self._plan.settings.ingest.dedupe_s * 1000) * 4096
        while seen and next(iter(seen.values())) < lowest:
            seen.popitem(last=False)
        return seen.setdefault(event_id, entry.dedupe_key) != entry.dedupe_key

    def _note_waited(self, number: int, entries: list[Entry]) -> None:
        self._sums.put_waited([(number, one.first) for one in entries if one.first is not None])


def _pairs(flat: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
