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

from rewriter.cli.switch_place import said
from rewriter.cli.verdict import print_json, print_table, say
from rewriter.decide.switches import Word
from rewriter.settings import Settings
from rewriter.shell.fleet import printable
from rewriter.signals.commands import MAX_TEXT_BYTES
from rewriter.signals.store import Store

KEPT = 100
TRIES = 3
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
    store: Store, key: str, at: str, by: str, name: str, word: Word | None, written: Mapping[str, Word | None]
) -> None:
    """Append a change. Another command may write at the same moment, so it is looked up whether this one stands there."""
    entry = {"at": at, "who": by, "switch": name, "word": word, "places": written}
    for _ in range(TRIES):
        entries = [*_entries(store, key), entry][-KEPT:]
        while len(text := json.dumps(entries)) > MAX_TEXT_BYTES:
            del entries[0]
        store.write_text(key, text)
        if entry in _entries(store, key):
            return
    say(f"note: {key}: somebody else writes there, and this change is not in it")


def print_log(store: Store, key: str, *, as_json: bool) -> None:
    """Print the changes, the latest first."""
    entries = _entries(store, key)[::-1]
    if as_json:
        print_json(entries)
    elif entries:
        print_table([("at", "who", "switch", "said", "in"), *map(_row, entries)])
    else:
        say(f"{key}: no change is kept")


def _entries(store: Store, key: str) -> list[Any]:
    """Return what is kept. What is no list becomes an entry of its own, so that it is neither lost nor in the way."""
    text = store.read_text(key)
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
            "word": None | bool() | int() | float() as word,
            "places": dict(places),
        }:
            where = ", ".join(f"{printable(one)} (was {_said(before)})" for one, before in places.items())
            return printable(at), printable(by), printable(name), _said(word), where
    return "?", "?", "?", "?", printable(json.dumps(entry))


def _said(word: Any) -> str:
    return printable(said(word))
