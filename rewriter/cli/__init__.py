"""The command line, one module per command. Standard output holds data, standard error messages, the exit code the outcome."""

from __future__ import annotations

import sys
import traceback
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from rewriter.cli.about import PROJECT_URL
from rewriter.cli.commands import COMMANDS, LazyCommand
from rewriter.cli.interruption import interrupted
from rewriter.cli.output import (
    FAULTY,
    UNHEALTHY,
    UNWRITABLE,
    characters_escaped,
    drop_undelivered,
    print_line,
    refused,
)
from rewriter.errors import Fault


class _Commands(TyperGroup):
    """The commands. Each ends with exit code 2 on Ctrl-C, and with a line that tells the state that it leaves."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = {name: LazyCommand(name) for name in COMMANDS}

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Return the context. typer imports modules for it; Ctrl-C during that ends the command without a message."""
        try:
            return super().make_context(*arguments, **options)
        except KeyboardInterrupt:
            raise typer.Exit(FAULTY) from None

    def invoke(self, ctx: Any) -> Any:  # a context of click, or of the copy of it that newer versions of typer bring
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise refused([interrupted(ctx.invoked_subcommand or "rewriter")]) from None


app = typer.Typer(
    name="rewriter",
    cls=_Commands,
    help="Personalized search around the queries that you have, on OpenSearch and Elasticsearch.",
    epilog=f"Exit codes: 0 success, 1 a problem was found, 2 faulty arguments or settings, or Ctrl-C. {PROJECT_URL}".strip(),
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # they would show ids
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rewriter {version('rewriter')}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take the options that stand before a command."""


def main() -> None:
    """Run the command in the process's arguments, and end the process.

    An output that cannot be written, a server that failed meanwhile, or an error of our own, is a line.

    `python -X dev -m rewriter` shows the traceback of an error.
    """
    characters_escaped()
    try:
        app()
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        print_line(_fault_of(error))
        sys.exit(UNHEALTHY)
    finally:
        drop_undelivered()


def _fault_of(error: Exception) -> Fault:
    """Return an error that no command expects as a fault: without the message of one of our own, which may quote an identifier."""
    if isinstance(error, OSError) and error.errno in UNWRITABLE:
        return Fault(str(error.filename or "output"), f"cannot be written: {error.strerror}")
    from rewriter.signals.ingest.objects import LookUpFailed  # noqa: PLC0415  most commands need no index

    if isinstance(error, LookUpFailed):  # its message quotes no identifier
        return Fault(error.source, str(error), "try it again once it answers; `rewriter check` says whether it does")
    at = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{type(error).__name__} in {at.name}, line {at.lineno} of {Path(at.filename).name}"
    return Fault(
        "rewriter", f"an error of its own: {where}", "`python -X dev -m rewriter …` shows more; please report it"
    )
