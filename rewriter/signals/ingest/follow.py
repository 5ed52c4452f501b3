"""Events of an index, followed as they come: for teams whose clients write to the UBI plugin's `ubi_events`.

Each shard is read in the order of its sequence numbers, which the server gives to every write: a late clock or a wrong
timestamp hides no event. A write may become visible after one with a higher number, so `OVERLAP` numbers are read again each
time. How far it came is kept in the store, and written after the events were appended: after a crash some come again, under
the same `event_id`, and count once. It is kept by the index's UUID, so that an index that is deleted and created again, whose
numbers begin anew, is read from its beginning. An alias is read as an alias, with its filter.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
SHOWN_FAULTS = 20


@dataclass(frozen=True, slots=True)
class _Shard:
    """A shard of an index, by its number; uuid: of the index, which another index of the same name does not have."""

    index: str
    number: int
    uuid: str

    @property
    def name(self) -> str:
        """The name of its position in the store."""
        return f"{self.uuid}/{self.number}"


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
        self._seen: dict[str, set[int]] = {}
        self._copy = "|_primary"
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

    def _shards(self) -> Iterator[_Shard]:
        """Yield each shard of each index that the name means now."""
        found = self._client.search_shards(index=self._index)
        known = self._client.indices.get_settings(index=self._index, name="index.uuid") if found["shards"] else {}
        for group in found["shards"]:
            index = group[0]["index"]
            yield _Shard(index, int(group[0]["shard"]), known[index]["settings"]["index"]["uuid"])

    def _feed(self, shard: _Shard, partitions: int) -> int:
        name = shard.name
        positions = self._positions if self._positions is not None else {}
        since = positions.get(name, -1)
        read = self._new(shard, since - OVERLAP)
        if not read:
            return 0
        wanted: list[Command] = []
        seen = self._seen.setdefault(name, set())
        for number, document in read:
            found = self._event(f"{shard.index}/{shard.number}", document)
            if found is not None:
                wanted.append(append_command(self._keys, *found, partitions))
            seen.add(number)
        if wanted:
            replies = self._engine.run(wanted)
            if failed := next((one for one in replies if isinstance(one, Exception)), None):
                seen.difference_update(number for number, _ in read)  # read again, and what was appended counts once
                raise StoreError(type(failed).__name__)
            self.counts["appended"] += len(wanted)
        positions[name] = max(since, read[-1][0])
        self._seen[name] = {number for number in seen if number > positions[name] - OVERLAP}
        sound_replies(self._engine, [("HSET", self._position_key, name, positions[name])])
        return len(read)

    def _new(self, shard: _Shard, after: int) -> list[tuple[int, Mapping[str, Any]]]:
        """Return the next documents of a shard that were not read before, by sequence number."""
        seen = self._seen.get(shard.name, set())
        while True:
            of_shard = [{"term": {"_index": shard.index}}, {"range": {"_seq_no": {"gt": after}}}]
            hits = self._hits(
                shard.number,
                {
                    "size": AT_ONCE,
                    "query": {"bool": {"filter": of_shard}},
                    "sort": [{"_seq_no": "asc"}],
                    "track_total_hits": False,
                },
            )
            new = [(int(hit["sort"][0]), hit) for hit in hits if int(hit["sort"][0]) not in seen]
            if new or len(hits) < AT_ONCE:
                return new
            after = int(hits[-1]["sort"][0])

    def _hits(self, number: int, body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """Search one shard, its primary where the server can choose it: replicas get the writes in any order."""
        try:
            found = self._client.search(index=self._index, body=body, preference=f"_shards:{number}{self._copy}")
        except Exception as error:
            if not self._copy or "_primary" not in str(error):
                raise
            self._copy = ""  # Elasticsearch has no such preference
            return self._hits(number, body)
        hits: list[Mapping[str, Any]] = found["hits"]["hits"]
        return hits

    def _event(self, name: str, hit: Mapping[str, Any]) -> tuple[Event, bytes] | None:
        """Return the event in a document, or None where it is none or counts for nothing."""
        source = hit.get("_source")
        if isinstance(source, dict) and is_absent_id(source.get("event_id")):
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
