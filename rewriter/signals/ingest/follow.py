"""Events of an index, followed as they come: for teams whose clients write to the UBI plugin's `ubi_events`.

Each shard is read in the order of its sequence numbers, which the server gives to every write: a late clock or a wrong
timestamp hides no event. A write may become visible after one with a higher number, so the last `OVERLAP` numbers are looked
through again each time. How far it came, and which of these numbers it has not seen, is kept in the store, and written after
the events were appended: after a crash some come again, under the same `event_id`, and count once. It is kept by the index's
UUID, so that an index that is deleted and created again, whose numbers begin anew, is read from its beginning. An alias is read
as an alias, with its filter. A shard that cannot be read, and one whose events the store does not take, keeps no other waiting.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError

from rewriter.errors import Fault, StoreError
from rewriter.plural import count_of
from rewriter.signals.absent import is_absent_id
from rewriter.signals.commands import Command
from rewriter.signals.events import Event, parse
from rewriter.signals.ingest.contract import StreamKeys, append_command
from rewriter.signals.ingest.scripts import Engine, sound_replies
from rewriter.signals.store_failures import described
from rewriter.subject import pseudonym

AT_ONCE = 1_000
OVERLAP = 500
SHOWN_FAULTS = 20
SHOWN_TROUBLES = 3


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


@dataclass(frozen=True, slots=True)
class _Position:
    """How far a shard was read: the highest number, and those of the last `OVERLAP` below it that were seen."""

    at: int = -1
    seen: frozenset[int] = frozenset()

    @classmethod
    def read(cls, raw: bytes) -> _Position:
        """Read it as `text` writes it: `2599 2101,2105`. Raises ValueError."""
        at, _, unseen = raw.decode().partition(" ")
        seen = frozenset(range(max(0, int(at) - OVERLAP + 1), int(at) + 1))
        return cls(int(at), seen.difference(map(int, filter(None, unseen.split(",")))))

    @property
    def text(self) -> str:
        """The highest number, and those below it that were not seen."""
        unseen = sorted(set(range(max(0, self.at - OVERLAP + 1), self.at + 1)) - self.seen)
        return f"{self.at} {','.join(map(str, unseen))}".rstrip()

    def with_seen(self, numbers: Collection[int]) -> _Position:
        """Return the position after these numbers were seen too."""
        at = max(self.at, *numbers) if numbers else self.at
        return _Position(at, frozenset(one for one in self.seen.union(numbers) if one > at - OVERLAP))


@dataclass(frozen=True, slots=True)
class _Round:
    """The documents of a shard that are under way: their numbers, and the events that the store did not take yet."""

    numbers: frozenset[int]
    events: Sequence[tuple[Event, bytes]]


class IndexFollower:
    """Appends the events of an index (or alias, or pattern) to the streams. Several may follow one: each event counts once.

    counts: appended, faulty (no events), no_weight (impressions, as a rule), no_consent. trouble: what is not read, and why.
    """

    def __init__(self, engine: Engine, keys: StreamKeys, client: Any, index: str, weights: Mapping[str, float]) -> None:
        self._engine = engine
        self._position_key = f"{keys.prefix}:follow:{index}"
        self._keys = keys
        self._client = client
        self._index = index
        self._weights = weights
        self._positions: dict[str, _Position] = {}
        self._rounds: dict[str, _Round] = {}
        self._copy = "|_primary"
        self.counts: Counter[str] = Counter()
        self.faults: list[Fault] = []
        self.trouble = ""

    def feed(self, partitions: int) -> int:
        """Append the next events of each shard; return how many documents were read. Raises nothing that may pass."""
        troubles: list[str] = []
        read = 0
        try:
            shards, unreadable = self._shards()
            known = self._known()
        except Exception as error:  # noqa: BLE001  whatever client or store raise, the next round tries again
            self.trouble = f"{self._index} cannot be followed: {self._cause(error)}"
            return 0
        for shard in shards:
            try:
                read += self._feed(shard, known.get(shard.name, _Position()), partitions)
            except Exception as error:  # noqa: BLE001  see above
                troubles.append(f"shard {shard.number} of {shard.index} cannot be followed: {self._cause(error)}")
        names = {shard.name for shard in shards}
        self._positions = {name: one for name, one in self._positions.items() if name in names}
        self._rounds = {name: one for name, one in self._rounds.items() if name in names}
        if unreadable:
            what = count_of(unreadable, "shard", "have")
            troubles.append(f"{what} no copy that can be read: the index is closed, or its data is away")
        if not shards and not unreadable:
            troubles.append(f"{self._index} names no index")
        self.trouble = "; ".join(troubles[:SHOWN_TROUBLES])
        if len(troubles) > SHOWN_TROUBLES:
            self.trouble += f"; and {len(troubles) - SHOWN_TROUBLES} more"
        return read

    def _cause(self, error: Exception) -> str:
        if isinstance(error, RedisError):
            return described(error)
        return str(error) if isinstance(error, StoreError) else type(error).__name__

    def _known(self) -> dict[str, _Position]:
        """Return the positions by shard, as this follower or another one wrote them."""
        (reply,) = sound_replies(self._engine, [("HGETALL", self._position_key)])
        pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
        try:
            return {raw.decode(): _Position.read(value) for raw, value in pairs}
        except ValueError:
            raise StoreError(f"{self._position_key} holds something else than positions: delete it") from None

    def _shards(self) -> tuple[list[_Shard], int]:
        """Return the shards of the indices that the name means now, and the number of those of which no copy can be read."""
        groups = self._client.search_shards(index=self._index)["shards"]
        known = self._settings() if groups else {}
        found = []
        for group in filter(None, groups):
            index = group[0]["index"]
            if index in known:  # it may have been deleted meanwhile
                found.append(_Shard(index, int(group[0]["shard"]), known[index]["settings"]["index"]["uuid"]))
        return found, sum(not group for group in groups)

    def _settings(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._client.indices.get_settings(
            index=self._index, name="index.uuid", ignore_unavailable=True
        )
        return found

    def _feed(self, shard: _Shard, stored: _Position, partitions: int) -> int:
        """Append a shard's next events. What the store did not take is sent again before more is read."""
        name = shard.name
        position = self._positions.get(name, _Position())
        position = position.with_seen(stored.seen)
        self._positions[name] = position
        under_way = self._rounds.get(name) or self._read(shard, position)
        if not under_way.numbers:
            return 0
        self._rounds[name] = under_way
        wanted: list[Command] = [append_command(self._keys, *one, partitions) for one in under_way.events]
        replies = self._engine.run(wanted) if wanted else []
        failed = [one for one in replies if isinstance(one, Exception)]
        self.counts["appended"] += len(replies) - len(failed)
        if failed:
            left = [one for one, reply in zip(under_way.events, replies, strict=True) if isinstance(reply, Exception)]
            self._rounds[name] = _Round(under_way.numbers, left)
            raise StoreError(f"the store takes {count_of(len(left), 'event')} not yet: {type(failed[0]).__name__}")
        position = position.with_seen(under_way.numbers)
        self._positions[name] = position
        del self._rounds[name]
        sound_replies(self._engine, [("HSET", self._position_key, name, position.text)])
        return len(under_way.numbers)

    def _read(self, shard: _Shard, position: _Position) -> _Round:
        """Read a shard's next documents."""
        read = self._new(shard, position)
        found = [self._event(f"{shard.index}/{shard.number}", document) for _, document in read]
        return _Round(frozenset(number for number, _ in read), [one for one in found if one is not None])

    def _new(self, shard: _Shard, position: _Position) -> list[tuple[int, Mapping[str, Any]]]:
        """Return the next documents of a shard that were not read before, by sequence number."""
        after = position.at - OVERLAP
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
            new = [(int(hit["sort"][0]), hit) for hit in hits if int(hit["sort"][0]) not in position.seen]
            if new or len(hits) < AT_ONCE:
                return new
            after = int(hits[-1]["sort"][0])

    def _hits(self, number: int, body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """Search one shard, its primary where the server can choose it: replicas get the writes in any order."""
        try:
            found = self._client.search(
                index=self._index, body=body, preference=f"_shards:{number}{self._copy}", ignore_unavailable=True
            )
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
