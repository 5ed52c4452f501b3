"""The commands by name. Each is imported when it runs, or when its options are asked for: together they take a second."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand
from typer.main import get_command

COMMANDS = {
    "init": ("init.command:init", "Write rewriter.toml, a template set and its samples for an index that exists."),
    "engines": (
        "engines:engines",
        "Keep a local OpenSearch and a Valkey running, without Docker: `up`, `status`, `down`.",
    ),
    "demo": ("demo:demo", "Show plain and personalized pages side by side, then stop the store."),
    "check": ("check:check", "Check settings, templates and samples, and the indices of a cluster that answers."),
    "render": (
        "render:render",
        "Print the boosts that a policy renders for a subject, as JSON; with a search body, the body as it would be sent.",
    ),
    "preview": (
        "preview.command:preview",
        "Show a search plain and personalized, side by side: what moved, by which boosts, and what exploration drew.",
    ),
    "evaluate": (
        "evaluate.command:evaluate",
        "Evaluate policies on judged searches: is the page better than the plain one, for whom, and at what price?",
    ),
    "diff": (
        "diff.command:diff",
        "Compare the pages of two versions on the real index, for logged searches and their subjects.",
    ),
    "tune": ("tune:tune", "Find settings of a policy that rank better. Nothing is edited: the proposal is a diff."),
    "ingest": (
        "ingest:ingest",
        "Count events until stopped. Start one worker for each core that may be busy: they share the partitions.",
    ),
    "backfill": (
        "backfill:backfill",
        "Replace the profiles of the users in the files, the population and the segments by the sums of their history.",
    ),
    "forget": (
        "forget:forget",
        "Remove users: counters, sessions, plans, dead letters. Their earlier events and history are not counted any more.",
    ),
    "status": (
        "status:status",
        "Build a rewriter from the settings, read everything once, and print the state of the service.",
    ),
    "report": (
        "report:report",
        "Report whether personalization helps or harms, or how much longer the experiment must run. You may run it every day.",
    ),
    "switch": ("switch.command:switch", "Set a switch in every process, or list all switches."),
    "explain": (
        "explain:explain",
        "Print what a reason of a report means and what to do: why is nothing personalized?",
    ),
    "settings": (
        "settings:settings",
        "Print every setting: its type, default and range, what it means, and its environment variable.",
    ),
    "dead-letters": (
        "dead_letters:dead_letters_command",
        "Print the events that were set aside and their reasons; with --replay, return them to the workers.",
    ),
}
"""By name: module and function below `rewriter.cli`, and the first paragraph of the function's docstring."""


class LazyCommand(TyperCommand):
    """A command that knows its name and its first paragraph, and imports the rest when it is used."""

    def __init__(self, name: str) -> None:
        self._where, first = COMMANDS[name]
        super().__init__(name, help=first)

    def loaded(self) -> Any:
        """Import the command, and return it with its options."""
        module, _, function = self._where.partition(":")
        one = typer.Typer(add_completion=False)
        one.command(self.name)(getattr(import_module(f"rewriter.cli.{module}"), function))
        return get_command(one)

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Return the context of the imported command, which then runs in it."""
        return self.loaded().make_context(*arguments, **options)
