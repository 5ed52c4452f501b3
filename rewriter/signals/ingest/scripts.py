"""Lua scripts, which the server runs atomically: sent by their hash, or with their text to a server that does not know them yet."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from pathlib import Path
from typing import Any, Protocol

from redis.exceptions import NoScriptError, ResponseError

from rewriter.signals.commands import Command


class Engine(Protocol):
    """Runs commands: a RedisStore."""

    def run(self, wanted: Sequence[Command], *, atomic: bool = False) -> list[Any]:
        """See CommandStore.run."""


_BEFORE = {
    "apply": ("decay", "classes"),
    "age": ("decay",),
    **dict.fromkeys(("commit", "retry", "requeue", "forget", "replace", "fit"), ("rights",)),
}
"""Files that scripts begin with."""


def text_of(name: str) -> str:
    """Return the script of that name as the server gets it."""
    parts = (*_BEFORE.get(name, ()), name)
    return "".join(Path(__file__).with_name(f"{part}.lua").read_text("utf-8") for part in parts)


NAMES = (
    "apply",
    "age",
    "commit",
    "retry",
    "look",
    "gap",
    "enroll",
    "release",
    "renew",
    "replace",
    "segments",
    "forget",
    "read",
    "letters",
    "requeue",
    "unapplied",
    "fit",
)
_TEXTS = {sha1(text.encode(), usedforsecurity=False).hexdigest(): text for text in map(text_of, NAMES)}
(
    APPLY,
    AGE,
    COMMIT,
    RETRY,
    LOOK,
    GAP,
    ENROLL,
    RELEASE,
    RENEW,
    REPLACE,
    SEGMENTS,
    FORGET,
    READ,
    LETTERS,
    REQUEUE,
    UNAPPLIED,
    FIT,
) = _TEXTS


def digest_of(name: str) -> str:
    """Return the SHA-1 digest by which the server identifies a script."""
    return list(_TEXTS)[NAMES.index(name)]


def script_command(digest: str, keys: Sequence[str], arguments: Sequence[Any]) -> Command:
    """Return the command that runs a script."""
    return ("EVALSHA", digest, len(keys), *keys, *arguments)


def ran(engine: Engine, wanted: Sequence[Command]) -> list[Any]:
    """Run commands, including scripts, and return their replies; the reply of a failed command is its exception.

    A script that the server does not know was not run, so it is sent again with its text. Raises the client's exception.
    """
    if not wanted:
        return []
    replies = engine.run(wanted)
    again = [number for number, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if again:
        texts = [("EVAL", _TEXTS[wanted[number][1]], *wanted[number][2:]) for number in again]
        for number, reply in zip(again, engine.run(texts), strict=True):
            replies[number] = reply
    return replies


def sound_replies(engine: Engine, wanted: Sequence[Command]) -> list[Any]:
    """Run commands and return their replies. Raises the first that is an exception."""
    replies = ran(engine, wanted)
    for command, reply in zip(wanted, replies, strict=True):
        if isinstance(reply, Exception):
            raise with_key(command, reply)
    return replies


def with_key(command: Command, error: Exception) -> Exception:
    """Return an error that names the key of the command that failed, where a key holds something else: the server does not."""
    if type(error) is not ResponseError or not str(error).startswith("WRONGTYPE Operation"):
        return error
    key = command[3] if command[0] in ("EVAL", "EVALSHA") else command[1]
    return ResponseError(f"WRONGTYPE {key} holds something else than it should: restore or delete it")
