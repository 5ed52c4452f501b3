"""Entry point of the command `rewriter`, outside the package, so that Ctrl-C ends it quietly while the package is imported too."""

from __future__ import annotations

import sys

INTERRUPTED = 2
"""The exit code of a command that Ctrl-C ended."""


def main() -> None:
    """Run the command in the process's arguments."""
    try:
        from rewriter.cli import main as run  # noqa: PLC0415  it takes a second

        run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
