"""Sinks of UBI records: an index of OpenSearch or Elasticsearch, files of NDJSON, a stream of Redis or Valkey.

One thread, which is not a search's, calls each sink. If a sink raises, the whole batch is tried again, so a record may come twice.
The index stores it once, by the record's id; the file writes a batch in one write. A stream may hold duplicates after a lost
acknowledgement; readers recognize them by `query_response_id`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

INDEX_TIMEOUT_S = 10.0
RETRIED = frozenset({429, 500, 502, 503, 504})
UNREADABLE = frozenset({400, 413})
"""A whole batch with this status holds a record that the server cannot read, or is too large: its halves are tried."""
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
"""The mapping of an index that does not exist yet, equivalent to the plugin's. Elasticsearch's type is `flattened`."""


class IndexSink:
    """An index, written by `_bulk`. client: an opensearch-py client with time-outs of its own; the caller closes it.

    A missing index is created as the plugin would create it; an existing one is used unchanged.
    """

    def __init__(self, client: Any, index: str = "ubi_queries") -> None:
        self._client = client
        self._index = index
        self._exists = False

    def write(self, records: Sequence[tuple[str, str]]) -> int:
        """See Sink. A record that the index refuses is refused for good; if the index is busy, the batch is tried again.

        If the server refuses a whole batch, the record that it cannot read is found by halves, and costs no other record.
        """
        if not self._exists:
            self._make()
        lines = [line for at, text in records for line in (f'{{"create":{{"_id":"{at}"}}}}', text)]
        try:
            answer = self._client.bulk(
                body="\n".join([*lines, ""]), index=self._index, params={"request_timeout": INDEX_TIMEOUT_S}
            )
        except Exception as error:
            if getattr(error, "status_code", None) not in UNREADABLE:
                raise
            middle = len(records) // 2
            return 1 if not middle else self.write(records[:middle]) + self.write(records[middle:])
        found = [next(iter(item.values())).get("status", 500) for item in answer.get("items", ())]
        if len(found) != len(records) or RETRIED.intersection(found):
            raise OSError(errno.EBUSY, "the index did not accept all records")
        return sum(status >= 400 and status != 409 for status in found)  # 409: it was written before

    def close(self) -> None:
        """Do nothing: the caller closes the client."""

    def _make(self) -> None:
        if not self._client.indices.exists(index=self._index):
            try:
                self._client.indices.create(index=self._index, body={"mappings": MAPPING})
            except Exception as error:
                if "resource_already_exists" not in str(error):
                    raise
        self._exists = True


class NdjsonSink:
    """Files of NDJSON: `path`, and `path` with a number once a file has `max_file_bytes`. No file is ever removed.

    A batch is appended in one write, so several processes may write to the same file. A full disk may leave part of a line, also of
    another process or of one that has ended; the next batch begins a line of its own.
    """

    def __init__(self, path: str | Path, max_file_bytes: int = 2**30) -> None:
        self._path = Path(path)
        self._max_file_bytes = max_file_bytes
        self._number = 0

    def write(self, records: Sequence[tuple[str, str]]) -> int:
        """See Sink."""
        raw = "".join(f"{text}\n" for _, text in records).encode()
        file = os.open(self._current(), os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":
                raw = b"\n" + raw
            written = os.write(file, raw)
        finally:
            os.close(file)
        if written != len(raw):
            raise OSError(errno.ENOSPC, "the file could not be written whole, is the disk full?")
        return 0

    def close(self) -> None:
        """Do nothing: a file is open only while a batch is written."""

    def _current(self) -> Path:
        while True:
            path = self._path.with_suffix(f".{self._number}{self._path.suffix}") if self._number else self._path
            if not path.exists() or path.stat().st_size < self._max_file_bytes:
                return path
            self._number += 1


class RedisSink:
    """A stream, whose entries hold the record in the field `record`. client: a redis-py client; the caller closes it.

    max_entries: about the number of entries that the stream keeps; the oldest are trimmed.
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
        """Do nothing: the caller closes the client."""
