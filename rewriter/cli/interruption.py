"""The state after Ctrl-C, by command. Commands write in atomic steps."""

from __future__ import annotations

from rewriter.errors import Fault

READS = "nothing was written to an index or a store; a file is written whole or not at all"
LEAVES = {
    "backfill": "each profile is as it was or as it shall be; the same command, within a day, goes on from there",
    "dead-letters": "each dead letter is where it was or moved; the same command moves the others",
    "demo": "the engines that it started have ended",
    "engines": "`rewriter engines status` shows what runs",
    "forget": "some users may not be removed yet; the same command removes them all",
    "init": "all files are written or none",
    "switch": "some targets may have the new value; `rewriter switch` lists the values in effect",
}
"""The state after an interrupted command that writes more than files."""


def interrupted(command: str) -> Fault:
    """Return the fault of a command that Ctrl-C ended."""
    return Fault("interrupted", f"rewriter {command}: {LEAVES.get(command, READS)}")
