"""The contract with producers: where an event goes, and how it is appended.

    partition = CRC-32 (of zlib, PNG, Ethernet) of the subject's UTF-8 bytes, modulo the number of partitions
    subject   = user_id, else client_id, else session_id

    XADD rw:{stream:PARTITION} * event JSON

The number of partitions is under rw:partitions. It may grow, and never shrinks: the streams above it would not be read. While
producers differ about it nothing is lost or doubled, since a key keeps a watermark for each partition that feeds it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rewriter.errors import StoreError
from rewriter.signals.commands import Command
from rewriter.signals.events import Event
from rewriter.subject import partition_of_unit

STREAM_START = "0-0"
MAX_PARTITIONS = 4_096
APPEND_MANY = """
for i = 1, #ARGV do
  local reply = redis.pcall('XADD', KEYS[1], '*', 'event', ARGV[i])
  if type(reply) == 'table' and reply.err then
    if i == 1 then return reply end
    return i - 1
  end
end
return #ARGV
"""
MAX_SEGMENTS = 1_000
"""Of one store."""


@dataclass(frozen=True, slots=True)
class StreamKeys:
    """Names the keys of the streams. Those of one partition share a hash tag."""

    prefix: str

    @property
    def partitions(self) -> str:
        """The number of partitions."""
        return f"{self.prefix}:partitions"

    @property
    def first_partitions(self) -> str:
        """How many partitions there were to begin with."""
        return f"{self.prefix}:partitions:first"

    @property
    def heartbeat(self) -> str:
        """What the workers last published."""
        return f"{self.prefix}:heartbeat"

    @property
    def segments(self) -> str:
        """The names of the segments, as JSON."""
        return f"{self.prefix}:segments"

    @property
    def workers(self) -> str:
        """Which workers were last seen when."""
        return f"{self.prefix}:workers"

    @property
    def pause(self) -> str:
        """While there is such a key, which expires, workers hold no partitions."""
        return f"{self.prefix}:pause"

    @property
    def backfill(self) -> str:
        """How far a backfill came that broke off."""
        return f"{self.prefix}:backfill"

    @property
    def forgotten(self) -> str:
        """Who was to be forgotten when: pseudonyms by time."""
        return f"{self.prefix}:forgotten"

    @property
    def forgets(self) -> str:
        """Another text each time that somebody is forgotten: processes that see it change drop what they keep of people."""
        return f"{self.prefix}:forgets"

    def stream(self, partition: int) -> str:
        """The entries of a partition."""
        return f"{self.prefix}:{{stream:{partition}}}"

    def of_stream(self, partition: int, part: str) -> str:
        """What belongs to a partition: its `lease`, `state`, `dead` letters, `waiting` entries, event `ids`."""
        return f"{self.stream(partition)}:{part}"


def partition_of(event: Event, partitions: int) -> int:
    """Return the partition of an event's subject."""
    return partition_of_unit(event.user or event.session_id or "", partitions)


def append_command(keys: StreamKeys, event: Event, raw: bytes, partitions: int) -> Command:
    """Return the command that appends an event; its reply, the entry's id, is the acknowledgement."""
    return ("XADD", keys.stream(partition_of(event, partitions)), "*", "event", raw)


def append_many_command(keys: StreamKeys, partition: int, events: Sequence[bytes]) -> Command:
    """Return the command that appends events of one partition; its reply is how many were, in their order.

    One command for all: behind a cluster's node that hangs, redis-py tries each command again by itself, a second or two each.
    """
    return ("EVAL", APPEND_MANY, 1, keys.stream(partition), *events)


def partition_count_commands(keys: StreamKeys, wanted: int) -> list[Command]:
    """Return the commands that set the number of partitions where there is none, and read it."""
    return [("SET", keys.partitions, wanted, "NX"), ("GET", keys.partitions)]


def partition_count(key: str, reply: object) -> int:
    """Return the number of partitions in the reply to a GET of `key`. Raises StoreError for what anybody may have written there."""
    if isinstance(reply, Exception):
        raise StoreError(f"{key} cannot be read: {type(reply).__name__}")
    text = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else str(reply)
    if re.fullmatch("[1-9][0-9]{0,3}", text) and int(text) <= MAX_PARTITIONS:
        return int(text)
    what = f"{key} holds {text[:20]!r}, not a number from 1 to {MAX_PARTITIONS:,}"
    raise StoreError(f"{what}: set it to the number of streams")
