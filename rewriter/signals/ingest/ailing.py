"""Ailing partitions: those with a key of a wrong type or content, which a worker pauses so that they delay only their own subjects.

Any client of the store may have written such a key: a string instead of a stream, a text instead of a number. The worker skips the
partition until its next beat and then retries it; all other partitions go on.
"""

from __future__ import annotations

from logging import getLogger

from redis.exceptions import NoPermissionError, ResponseError

from rewriter.signals.ingest.contract import StreamKeys

OF_THE_SERVER = frozenset({"BUSY", "MASTERDOWN", "MISCONF", "NOPERM", "NOREPLICAS", "UNKILLABLE"})
"""Codes of errors that concern the whole server, so that any command would fail now."""
OF_THE_ROLE = (
    "ACL failure in script",
    "Unknown Redis command called from script",
    "unknown command",
    "Unknown command",
)
"""How errors begin that a command of a script is refused for, whatever the key: they have no code of their own."""

_log = getLogger("rewriter")


class Ailing:
    """The paused partitions of one worker. Each cause is logged once, and so is the recovery."""

    def __init__(self, keys: StreamKeys) -> None:
        self._keys = keys
        self._paused: set[int] = set()
        self._logged: dict[int, str] = {}

    def __contains__(self, number: int) -> bool:
        return number in self._paused

    def pause(self, number: int, error: object) -> None:
        """Pause a partition until `retry`. Raises the error if it is not about a key of the partition."""
        if not is_of_one(error):
            raise error if isinstance(error, BaseException) else TypeError(str(error))
        self._paused.add(number)
        what = str(error)[:300]
        if self._logged.get(number) != what:
            self._logged[number] = what
            _log.error(
                "partition %d is paused, the others go on: a key %s… %s", number, self._keys.stream(number), what
            )

    def retry(self) -> None:
        """End the pause of every partition."""
        self._paused.clear()

    def recovered(self, number: int) -> None:
        """Note that a batch of a partition was committed."""
        if self._logged.pop(number, None) is not None:
            _log.warning("partition %d goes on", number)


def is_of_one(error: object) -> bool:
    """Whether an error is about the content of one key. For most errors of the whole server redis-py has other classes."""
    if isinstance(error, ValueError):
        return True
    return type(error) is ResponseError and str(error).partition(" ")[0] not in OF_THE_SERVER and not is_refusal(error)


def is_refusal(error: object) -> bool:
    """Whether the server does not know a command, or refuses it to the role of the store: alone, or within a script."""
    return isinstance(error, NoPermissionError) or (type(error) is ResponseError and str(error).startswith(OF_THE_ROLE))
