"""Each command imports its own modules only, and the list of commands none of them."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module

import pytest
from typer.testing import CliRunner

from rewriter.cli import app
from rewriter.cli.commands import COMMANDS, LazyCommand

MODULES = {name: f"rewriter.cli.{where.partition(':')[0]}" for name, (where, _) in COMMANDS.items()}
CODE = """
import sys
from rewriter.cli import app
try:
    app({arguments!r})
except SystemExit:
    print(*sorted(sys.modules), sep="\\n", file=sys.stderr)
"""
HEAVY = {"opensearchpy", "redis", "pydantic", "jinja2", "aiohttp", "numpy", "duckdb"}


def imported(*arguments: str) -> set[str]:
    """The modules that a command imports."""
    command = [sys.executable, "-c", CODE.format(arguments=list(arguments))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize("arguments", [("--version",), ("--help",)])
def test_the_list_of_commands_imports_none_of_them(arguments: tuple[str, ...]) -> None:
    there = imported(*arguments)
    assert there & {*MODULES.values(), *HEAVY} == set()
    assert len({one for one in there if one.partition(".")[0] == "rewriter"}) <= 15


@pytest.mark.parametrize("command", ["explain", "engines", "switch", "forget"])
def test_a_command_imports_no_other(command: str) -> None:
    there = imported(command, "--help")
    others = {module for name, module in MODULES.items() if name != command}
    assert MODULES[command] in there
    assert there & others == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_what_the_command_itself_says(name: str) -> None:
    where, first = COMMANDS[name]
    module, _, function = where.partition(":")
    said = inspect.getdoc(getattr(import_module(f"rewriter.cli.{module}"), function)) or ""
    assert first == " ".join(said.partition("\n\n")[0].split())
    assert LazyCommand(name).loaded().name == name
    assert f"Usage: rewriter {name}" in CliRunner().invoke(app, [name, "--help"], prog_name="rewriter").stdout


def test_the_package_imports_a_shell_when_it_is_asked_for() -> None:
    code = (
        "import sys, rewriter; print(len([m for m in sys.modules if m.startswith('rewriter.')])); rewriter.Rewriter; "
        "print('rewriter.shell.sync' in sys.modules, 'rewriter.shell.aio' in sys.modules); "
        "print(set(rewriter.__all__) <= set(dir(rewriter)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["0", "True", "False", "True"]
    with pytest.raises(AttributeError, match="module 'rewriter' has no attribute 'Rewriterr'"):
        import_module("rewriter").Rewriterr  # noqa: B018  the access is the test
