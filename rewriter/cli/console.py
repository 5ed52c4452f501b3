"""The console that prints names from a catalogue or a file as they are: to rich, `[sale]` is markup and `:fire:` an emoji."""

from __future__ import annotations

from rich.console import Console


def plain_console() -> Console:
    """Return a console on standard output that reads nothing into what it prints."""
    return Console(highlight=False, markup=False, emoji=False)
