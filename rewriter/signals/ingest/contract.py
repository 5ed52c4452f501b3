"""Contract with producers: keys of the streams, the partition of an event, and the commands that append it.

    partition = CRC-32 (of zlib, PNG, Ethernet) of the subject's UTF-8 bytes, modulo the number of partitions
    subject   = user_id, else client_id, else session_id

    XADD rw:{stream:PARTITION} * event JSON

The key rw:partitions holds the number of partitions. It may grow but never shrink, since streams above it would not be read. While
producers use different numbers no event is lost or counted twice, since a key keeps a watermark for each partition that feeds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rewriter.signals.commands import Command
from rewriter.signals.events import Event
from rewriter.subject import partition_of_unit

STREAM_START = "0-0"
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
"""Segments of one store."""


@dataclass(frozen=True, slots=True)
class StreamKeys:
    """The keys of the streams. Those of one partition share a hash tag."""

    prefix: str

    @property
    def partitions(self) -> str:
        """The number of partitions."""
        return f"{self.prefix}:partitions"

    @property
    def first_partitions(self) -> str:
        """The initial number of partitions."""
        return f"{self.prefix}:partitions:first"

    @property
    def heartbeat(self) -> str:
        """The workers' latest heartbeat."""
        return f"{self.prefix}:heartbeat"

    @property
    def segments(self) -> str:
        """The names of the segments, as JSON."""
        return f"{self.prefix}:segments"

    @property
    def workers(self) -> str:
        """The live workers by the time of their last beat."""
        return f"{self.prefix}:workers"

    @property
    def pause(self) -> str:
        """The pause: while this key exists, workers hold no partitions. It expires."""
        return f"{self.prefix}:pause"

    @property
    def backfill(self) -> str:
        """The progress of an aborted backfill."""
        return f"{self.prefix}:backfill"

    @property
    def forgotten(self) -> str:
        """The tombstones: pseudonyms of erased users by time."""
        return f"{self.prefix}:forgotten"

    @property
    def forgets(self) -> str:
        """A text that changes with every erasure: processes that see it change drop their cached signals and plans."""
        return f"{self.prefix}:forgets"

    def stream(self, partition: int) -> str:
        """Return the stream of a partition."""
        return f"{self.prefix}:{{stream:{partition}}}"

    def of_stream(self, partition: int, part: str) -> str:
        """Return a key of a partition: its `lease`, `state`, `dead` letters, `waiting` entries or event `ids`."""
        return f"{self.stream(partition)}:{part}"


def partition_of(event: Event, partitions: int) -> int:
    """Return the partition of an event's subject."""
    return partition_of_unit(event.user or event.session_id or "", partitions)


def append_command(keys: StreamKeys, event: Event, raw: bytes, partitions: int) -> Command:
    """Return the command that appends an event; its reply, the entry's id, is the acknowledgement."""
    return ("XADD", keys.stream(partition_of(event, partitions)), "*", "event", raw)


def append_many_command(keys: StreamKeys, partition: int, events: Sequence[bytes]) -> Command:
    """Return the command that appends events of one partition; its reply is how many were appended, in their order.

    It is one command, since redis-py retries each command to a hung cluster node by itself, for a second or two each.
    """
    return ("EVAL", APPEND_MANY, 1, keys.stream(partition), *events)


def partition_count_commands(keys: StreamKeys, wanted: int) -> list[Command]:
    """Return the commands that set the number of partitions to `wanted` if there is none, and read it."""
    return [("SET", keys.partitions, wanted, "NX"), ("GET", keys.partitions)]
