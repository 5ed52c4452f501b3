"""Progress bars of long commands, on standard error while that is a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn


def progress_bars(*more: ProgressColumn) -> Progress:
    """Return bars that vanish at the end: name, bar and amounts, then the columns `more`. Off a terminal they show nothing."""
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *more
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
