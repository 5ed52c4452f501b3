"""Partitions that cannot be worked on, since a key of theirs holds something else than it should: they delay only their own people.

Anybody who reaches the store may have written there: a string where a stream belongs, a text where a number does. Such a partition
rests until the worker's next beat, and is then tried again; all others go on.
"""

from __future__ import annotations

from logging import getLogger

from redis.exceptions import ResponseError

from rewriter.signals.ingest.contract import StreamKeys

OF_THE_SERVER = frozenset({"BUSY", "MASTERDOWN", "MISCONF", "NOREPLICAS", "UNKILLABLE"})
"""Codes of errors that any command would get now."""

_log = getLogger("rewriter")


class Ailing:
    """The partitions that rest, as one worker knows them. Each reason is logged once, and so is the end of it."""

    def __init__(self, keys: StreamKeys) -> None:
        self._keys = keys
        self._resting: set[int] = set()
        self._said: dict[int, str] = {}

    def __contains__(self, number: int) -> bool:
        return number in self._resting

    def rest(self, number: int, error: object) -> None:
        """Leave a partition alone until `wake`. Raises the error where it is none of the partition's own."""
        if not is_of_one(error):
            raise error if isinstance(error, BaseException) else TypeError(str(error))
        self._resting.add(number)
        what = str(error)[:300]
        if self._said.get(number) != what:
            self._said[number] = what
            _log.error("partition %d waits, the others go on: a key %s… %s", number, self._keys.stream(number), what)

    def wake(self) -> None:
        """Have every partition tried again."""
        self._resting.clear()

    def well(self, number: int) -> None:
        """Note that a batch of a partition was settled."""
        if self._said.pop(number, None) is not None:
            _log.warning("partition %d goes on", number)


def is_of_one(error: object) -> bool:
    """Whether an error is about what one key holds: redis-py has classes of their own for most that are the server's."""
    if isinstance(error, ValueError):
        return True
    return type(error) is ResponseError and str(error).partition(" ")[0] not in OF_THE_SERVER
