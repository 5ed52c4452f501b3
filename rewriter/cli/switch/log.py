"""The log of the last changes of switches, kept in the store: time, person, switch, value, and the targets written.

It is a JSON list under one key, the latest last. Each process also logs the changes that take effect in it; this log holds the
commands.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rewriter.cli.output import print_json, print_line, print_table
from rewriter.cli.switch.target import written_as
from rewriter.decide.switches import SwitchValue
from rewriter.settings import Settings
from rewriter.shell.fleet import printable
from rewriter.signals.commands import MAX_TEXT_BYTES
from rewriter.signals.store import Store

KEPT = 100
MAX_ODD = 1_000
"""How many characters are kept of a value that is no list."""


def log_key(settings: Settings) -> str:
    """Return the store's key for the log of changes."""
    return f"{settings.store.prefix}:switches:log"


def now() -> str:
    """Return the present time in the form of audit lines."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def who() -> str:
    """Return user and machine of this process. A container's user may have no name."""
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
    """Append a change. If another command appends at the same time, both entries are kept.

    written: the earlier value by name of each target that was written.
    """
    entry = {"at": at, "who": by, "switch": name, "value": value, "targets": written}

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
        print_table([("at", "who", "switch", "value", "written to"), *map(_row, entries)])
    else:
        print_line(f"{key}: no change is logged")


def _entries(text: str | None, key: str) -> list[Any]:
    """Return the logged entries. A value that is no list becomes an entry, so that it is kept and the log still works."""
    if not text:
        return []
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, list):
        return found
    print_line(f"note: {key}: is not a list of changes; its first {MAX_ODD:,} characters are kept as an entry")
    return [text[:MAX_ODD]]


def _row(entry: Any) -> tuple[str, str, str, str, str]:
    match entry:
        case {
            "at": str(at),
            "who": str(by),
            "switch": str(name),
            "value": None | bool() | int() | float() as value,
            "targets": dict(targets),
        }:
            where = ", ".join(f"{printable(one)} (was {_printable(before)})" for one, before in targets.items())
            return printable(at), printable(by), printable(name), _printable(value), where
    return "?", "?", "?", "?", printable(json.dumps(entry))


def _printable(value: Any) -> str:
    return printable(written_as(value))
