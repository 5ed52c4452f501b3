"""Sinks of UBI records: an index of OpenSearch or Elasticsearch, files of NDJSON, a stream of Redis or Valkey.

Each is called by one thread, away from searches. What it raises is tried again with all records of the batch, so that each
sink makes a record that comes twice one: the index by the record's id, the file by one write for a batch. A stream may have
some twice after a lost acknowledgement; readers tell them apart by `query_response_id`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

INDEX_TIMEOUT_S = 10.0
RETRIED = frozenset({429, 500, 502, 503, 504})
MAPPING: dict[str, Any] = {
    "dynamic": False,
    "properties": {
        "timestamp": {"type": "date"},
        "query_id": {"type": "keyword", "ignore_above": 100},
        "query_response_id": {"type": "keyword", "ignore_above": 100},
        "query_response_hit_ids": {"type": "keyword"},
        "user_query": {"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 256}}},
        "query_attributes": {"type": "flat_object"},
        "client_id": {"type": "keyword", "ignore_above": 100},
        "application": {"type": "keyword", "ignore_above": 100},
        "indexes": {"type": "keyword"},
    },
}
"""For an index that does not exist yet; it answers what the plugin's own mapping answers. Elasticsearch says `flattened`."""


class IndexSink:
    """An index, by `_bulk`. client: an opensearch-py client with time-outs of its own; it stays the caller's to close.

    The index is made as the plugin would make it where it does not exist; an existing one is used as it is.
    """

    def __init__(self, client: Any, index: str = "ubi_queries") -> None:
        self._client = client
        self._index = index
        self._exists = False

    def write(self, records: Sequence[tuple[str, str]]) -> int:
        """See Sink. A record that the index refuses is refused for good; one that finds it busy is tried again with its batch."""
        if not self._exists:
            self._make()
        lines = [line for at, text in records for line in (f'{{"create":{{"_id":"{at}"}}}}', text)]
        answer = self._client.bulk(
            body="\n".join([*lines, ""]), index=self._index, params={"request_timeout": INDEX_TIMEOUT_S}
        )
        found = [next(iter(item.values())).get("status", 500) for item in answer.get("items", ())]
        if len(found) != len(records) or RETRIED.intersection(found):
            raise OSError("the index did not take all records")
        return sum(status >= 400 and status != 409 for status in found)  # 409: it was written before

    def close(self) -> None:
        """Nothing: the client is the caller's."""

    def _make(self) -> None:
        if not self._client.indices.exists(index=self._index):
            try:
                self._client.indices.create(index=self._index, body={"mappings": MAPPING})
            except Exception as error:
                if "resource_already_exists" not in str(error):
                    raise
        self._exists = True


class NdjsonSink:
    """Files of NDJSON: `path`, and once it has `max_file_bytes`, `path` with a number. None is ever removed.

    A batch is one write to the file's end, so that several processes may write to the same file. A disk that is full may leave
    part of a line; the next batch begins a line of its own, and its records come again with those that were lost.
    """

    def __init__(self, path: str | Path, max_file_bytes: int = 2**30) -> None:
        self._path = Path(path)
        self._max_file_bytes = max_file_bytes
        self._number = 0
        self._torn = False

    def write(self, records: Sequence[tuple[str, str]]) -> int:
        """See Sink."""
        raw = ("\n" * self._torn + "".join(f"{text}\n" for _, text in records)).encode()
        file = os.open(self._current(), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            written = os.write(file, raw)
        finally:
            os.close(file)
        self._torn = written != len(raw)
        if self._torn:
            raise OSError("the file takes no more")
        return 0

    def close(self) -> None:
        """Nothing: a file is open for as long as a batch takes."""

    def _current(self) -> Path:
        while True:
            path = self._path.with_suffix(f".{self._number}{self._path.suffix}") if self._number else self._path
            if not path.exists() or path.stat().st_size < self._max_file_bytes:
                return path
            self._number += 1


class RedisSink:
    """A stream, in the field `record`. client: a redis-py client, which stays the caller's to close.

    max_entries: about how many the stream keeps; the oldest are trimmed.
    """

    def __init__(self, client: Any, stream: str = "ubi_queries", max_entries: int = 1_000_000) -> None:
        self._client = client
        self._stream = stream
        self._max_entries = max_entries

    def write(self, records: Sequence[tuple[str, str]]) -> int:
        """See Sink."""
        pipeline = self._client.pipeline(transaction=False)
        for _, text in records:
            pipeline.xadd(self._stream, {"record": text}, maxlen=self._max_entries, approximate=True)
        pipeline.execute()
        return 0

    def close(self) -> None:
        """Nothing: the client is the caller's."""
