"""Who said which word, and when: the last changes, kept in the store for whoever asks afterwards.

A JSON list under one key, the latest last. Each process also logs what changed in it; this is the view of those who changed it.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rewriter.cli.output import print_json, print_table, say
from rewriter.cli.switch.target import written_as
from rewriter.decide.switches import SwitchValue
from rewriter.settings import Settings
from rewriter.shell.fleet import printable
from rewriter.signals.commands import MAX_TEXT_BYTES
from rewriter.signals.store import Store

KEPT = 100
MAX_ODD = 1_000
"""Characters kept of what stood there and was no list."""


def log_key(settings: Settings) -> str:
    """Return the store's key for the log of changes."""
    return f"{settings.store.prefix}:switches:log"


def now() -> str:
    """Return the moment, as the audit lines write it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def who() -> str:
    """Return who runs this, and where. A container's user may have no name."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def logged(
    store: Store,
    key: str,
    at: str,
    by: str,
    name: str,
    value: SwitchValue | None,
    written: Mapping[str, SwitchValue | None],
) -> None:
    """Append a change. Another command may do so at the same moment; neither loses the other's."""
    entry = {"at": at, "who": by, "switch": name, "word": value, "places": written}

    def appended(text: str | None) -> str:
        entries = [*_entries(text, key), entry][-KEPT:]
        while len(new := json.dumps(entries)) > MAX_TEXT_BYTES:
            del entries[0]
        return new

    store.change_text(key, appended)


def print_log(store: Store, key: str, *, as_json: bool) -> None:
    """Print the changes, the latest first."""
    entries = _entries(store.read_text(key), key)[::-1]
    if as_json:
        print_json(entries)
    elif entries:
        print_table([("at", "who", "switch", "said", "in"), *map(_row, entries)])
    else:
        say(f"{key}: no change is kept")


def _entries(text: str | None, key: str) -> list[Any]:
    """Return what is kept. What is no list becomes an entry of its own, so that it is neither lost nor in the way."""
    if not text:
        return []
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, list):
        return found
    say(f"note: {key}: is not a list of changes; its first {MAX_ODD:,} characters are kept as an entry")
    return [text[:MAX_ODD]]


def _row(entry: Any) -> tuple[str, str, str, str, str]:
    match entry:
        case {
            "at": str(at),
            "who": str(by),
            "switch": str(name),
            "word": None | bool() | int() | float() as value,
            "places": dict(targets),
        }:
            where = ", ".join(f"{printable(one)} (was {_printable(before)})" for one, before in targets.items())
            return printable(at), printable(by), printable(name), _printable(value), where
    return "?", "?", "?", "?", printable(json.dumps(entry))


def _printable(value: Any) -> str:
    return printable(written_as(value))
