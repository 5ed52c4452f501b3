"""The command line, one module per command. Standard output holds data, standard error messages, the exit code the outcome."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from rewriter.cli import (
    backfill,
    check,
    dead_letters,
    demo,
    engines,
    explain,
    forget,
    ingest,
    render,
    report,
    settings,
    status,
    tune,
)
from rewriter.cli.about import PROJECT_URL
from rewriter.cli.diff import command as diff_command
from rewriter.cli.evaluate import command as evaluate_command
from rewriter.cli.init import command as init_command
from rewriter.cli.preview import command as preview_command
from rewriter.cli.switch import command as switch_command

app = typer.Typer(
    name="rewriter",
    help="Personalized search for OpenSearch that steps aside.",
    epilog=f"Exit codes: 0 success, 1 a problem was found, 2 faulty arguments or settings. {PROJECT_URL}".strip(),
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # they would show ids
)
for command in (
    init_command.init,
    engines.engines,
    demo.demo,
    check.check,
    render.render,
    preview_command.preview,
    evaluate_command.evaluate,
    diff_command.diff,
    tune.tune,
    ingest.ingest,
    backfill.backfill,
    forget.forget,
    status.status,
    report.report,
    switch_command.switch,
    explain.explain,
    settings.settings,
):
    app.command()(command)
app.command("dead-letters")(dead_letters.dead_letters_command)


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
    """Run the command in the process's arguments."""
    app()
