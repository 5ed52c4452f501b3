"""Events of an index, followed as they come: for teams whose clients write to the UBI plugin's `ubi_events`.

Each shard is read in the order of its sequence numbers, which the server gives to every write: a late clock or a wrong
timestamp hides no event. A write may become visible after one with a higher number, so `OVERLAP` numbers are read again each
time. How far it came is kept in the store, and written after the events were appended: after a crash some come again, under
the same `event_id`, and count once.
"""

from __future__ import annotations

import json
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

from rewriter.errors import Fault, StoreError
from rewriter.signals.absent import is_absent_id
from rewriter.signals.commands import Command
from rewriter.signals.events import Event, parse
from rewriter.signals.ingest.contract import StreamKeys, append_command
from rewriter.signals.ingest.scripts import Engine, sound_replies
from rewriter.subject import pseudonym

AT_ONCE = 1_000
OVERLAP = 500
MAX_SEEN = 20_000
SHOWN_FAULTS = 20


class IndexFollower:
    """Appends the events of an index (or alias, or pattern) to the streams. Several may follow one: each event counts once.

    counts: appended, faulty (no events), no_weight (impressions, as a rule), no_consent. trouble: why the last round read
    nothing.
    """

    def __init__(self, engine: Engine, keys: StreamKeys, client: Any, index: str, weights: Mapping[str, float]) -> None:
        self._engine = engine
        self._position_key = f"{keys.prefix}:follow:{index}"
        self._keys = keys
        self._client = client
        self._index = index
        self._weights = weights
        self._positions: dict[str, int] | None = None
        self._seen: OrderedDict[tuple[str, int], None] = OrderedDict()
        self.counts: Counter[str] = Counter()
        self.faults: list[Fault] = []
        self.trouble = ""

    def feed(self, partitions: int) -> int:
        """Append the next events of each shard; return how many documents were read. Raises nothing that may pass."""
        try:
            if self._positions is None:
                self._positions = self._known()
            shards = list(self._shards())
            read = sum(self._feed(shard, partitions) for shard in shards)
        except Exception as error:  # noqa: BLE001  whatever client or store raise, the next round tries again
            self.trouble = f"{self._index} cannot be followed: {type(error).__name__}"
            return 0
        self.trouble = "" if shards else f"{self._index} names no index"
        return read

    def _known(self) -> dict[str, int]:
        (reply,) = sound_replies(self._engine, [("HGETALL", self._position_key)])
        pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
        return {raw.decode(): int(value) for raw, value in pairs}

    def _shards(self) -> Iterator[tuple[str, int]]:
        """Yield each shard of each index that the name means now."""
        found = self._client.search_shards(index=self._index)
        for group in found["shards"]:
            yield group[0]["index"], int(group[0]["shard"])

    def _feed(self, shard: tuple[str, int], partitions: int) -> int:
        name = f"{shard[0]}/{shard[1]}"
        positions = self._positions if self._positions is not None else {}
        since = positions.get(name, -1)
        read = self._new(shard, since - OVERLAP)
        if not read:
            return 0
        wanted: list[Command] = []
        for number, document in read:
            found = self._event(name, document)
            if found is not None:
                wanted.append(append_command(self._keys, *found, partitions))
            self._seen[name, number] = None
        if wanted:
            replies = self._engine.run(wanted)
            if failed := next((one for one in replies if isinstance(one, Exception)), None):
                for number, _ in read:  # read again, and what was appended counts once
                    self._seen.pop((name, number), None)
                raise StoreError(type(failed).__name__)
            self.counts["appended"] += len(wanted)
        while len(self._seen) > MAX_SEEN:
            self._seen.popitem(last=False)
        positions[name] = max(since, read[-1][0])
        sound_replies(self._engine, [("HSET", self._position_key, name, positions[name])])
        return len(read)

    def _new(self, shard: tuple[str, int], after: int) -> list[tuple[int, Mapping[str, Any]]]:
        """Return the next documents of a shard that were not read before, by sequence number."""
        index, number = shard
        name = f"{index}/{number}"
        while True:
            body = {
                "size": AT_ONCE, "query": {"range": {"_seq_no": {"gt": after}}}, "sort": [{"_seq_no": "asc"}],
                "track_total_hits": False,
            }  # fmt: skip
            hits = self._client.search(index=index, body=body, preference=f"_shards:{number}")["hits"]["hits"]
            new = [(int(hit["sort"][0]), hit) for hit in hits if (name, int(hit["sort"][0])) not in self._seen]
            if new or len(hits) < AT_ONCE:
                return new
            after = int(hits[-1]["sort"][0])

    def _event(self, name: str, hit: Mapping[str, Any]) -> tuple[Event, bytes] | None:
        """Return the event in a document, or None where it is none or counts for nothing."""
        source = hit["_source"]
        if is_absent_id(source.get("event_id")):
            source = {**source, "event_id": pseudonym("document", f"{hit['_index']}\x1f{hit['_id']}", "")}
        raw = json.dumps(source).encode()
        found = parse(raw)
        if isinstance(found, Fault):
            self.counts["faulty"] += 1
            if len(self.faults) < SHOWN_FAULTS:
                self.faults.append(Fault(f"{name}: {found.where}", found.what, found.remedy))
            return None
        if not found.consent or found.action_name not in self._weights:
            self.counts["no_consent" if not found.consent else "no_weight"] += 1
            return None
        return found, raw
