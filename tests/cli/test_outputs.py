"""Standard output, standard error and files of commands that cannot be written, and Ctrl-C while the command is imported."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer

from rewriter import cli
from rewriter.cli.console import plain_console
from rewriter.cli.output import store_needed, write_whole
from rewriter.errors import ConfigurationError, StoreError
from rewriter.signals.ingest.objects import LookUpFailed

COMMAND = [sys.executable, "-c", "from rewriter_command import main; main()"]
FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_output_is_a_line_and_exit_code_1(unbuffered: str) -> None:
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with FULL.open("w") as full:
        ran = subprocess.run(
            [*COMMAND, "explain", "--json"], stdout=full, stderr=-1, text=True, check=False, env=environment
        )
    assert (ran.returncode, ran.stderr) == (1, "output: cannot be written: No space left on device\n")
    with FULL.open("w") as full:
        ran = subprocess.run(
            [*COMMAND, "explain", "nonsense"], stderr=full, stdout=-1, text=True, check=False, env=environment
        )
    assert (ran.returncode, ran.stdout) == (2, ""), "messages are lost, the exit code tells the outcome"


def test_a_pipe_that_nobody_reads_ends_the_command_without_a_word() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        ran = subprocess.run([*COMMAND, "explain", "--json"], stdout=pipe, stderr=-1, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (1, "")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_characters_that_the_terminal_lacks_are_escaped(encoding: str) -> None:
    environment = os.environ | {"PYTHONIOENCODING": f"{encoding}:strict"}
    code = "from rewriter import cli; cli.app = lambda: cli.plain_console().print('лёгкая ×1.2'); cli.main()"
    code = code.replace("cli.plain_console", "__import__('rewriter.cli.console').cli.console.plain_console")
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, env=environment)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert ran.stdout.decode(encoding).strip() == "лёгкая ×1.2".encode(encoding, "backslashreplace").decode(encoding)


@pytest.mark.parametrize("arguments", [COMMAND[1:], ["-m", "rewriter"]], ids=["rewriter", "python -m rewriter"])
@pytest.mark.parametrize("module", ["pydantic", "typer"])
def test_ctrl_c_while_the_command_is_imported_ends_it_without_a_traceback(
    tmp_path: Path, arguments: list[str], module: str
) -> None:
    """A module of another package that never ends to be imported stands for the second that all of them take.

    typer is imported with the command line, pydantic when typer reads the arguments.
    """
    # A shell has what it runs in the background ignore Ctrl-C, and the tests may run there.
    slow = (
        "import signal, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "print('importing', flush=True)\ntime.sleep(60)\n"
    )
    (tmp_path / f"{module}.py").write_text(slow)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, *arguments, "check"], stdout=-1, stderr=-1, text=True, env=environment
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "importing\n"
        time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        _, shown = run.communicate(timeout=30)
    assert (run.returncode, shown) == (2, "")


@pytest.fixture
def shown_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[Exception], str]:
    """What the command line prints of an error that a command raises; it ends with 1."""

    def shown(error: Exception) -> str:
        def fails() -> None:
            raise error

        monkeypatch.setattr(cli, "app", fails)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 1
        return capsys.readouterr().err

    return shown


def test_an_error_that_no_command_expects_shows_its_place_and_not_its_message(
    shown_of: Callable[[Exception], str],
) -> None:
    shown = shown_of(KeyError("user-17"))
    assert shown.startswith("rewriter: an error of its own: KeyError in fails, line ")
    assert "user-17" not in shown


def test_an_index_that_does_not_answer_meanwhile_is_no_error_of_the_command_s_own(
    shown_of: Callable[[Exception], str],
) -> None:
    shown = shown_of(LookUpFailed("objects cannot be looked up in films: ConnectionTimeout"))
    assert shown.startswith("search engine: objects cannot be looked up in films: ConnectionTimeout (try it again")


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
def test_a_file_that_cannot_be_written_whole_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "page.html"
    path.write_text("before")
    write_whole(path, "a lone surrogate: \ud83d")
    assert path.read_text() == "a lone surrogate: \\ud83d"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ConfigurationError, match="cannot be written: No space left on device"):
        write_whole(path, "after")
    assert path.read_text() == "a lone surrogate: \\ud83d"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ConfigurationError, match="No space left on device"):
        write_whole(FULL, "text")


def test_a_name_in_brackets_is_printed_as_it_is() -> None:
    """To rich, `[sale]` in a text is markup and `:fire:` an emoji, and it prints neither as it is written."""
    console = plain_console()
    with console.capture() as captured:
        console.print("shoes [sale] :fire: 42")
    assert captured.get() == "shoes [sale] :fire: 42\n"
    printing = {
        path.name
        for path in Path(cli.__file__).parents[1].rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(call, ast.Call)
        and ast.unparse(call.func) == "Console"
        and ast.unparse(call) != "Console(stderr=True)"
    }
    assert printing == {"console.py"}


def test_a_file_whose_parts_end_too_early_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "updates.ndjson"
    path.write_text("before")

    def parts() -> Iterator[str]:
        yield "after\n" * 10_000
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, parts())
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_behind_a_link_is_replaced_and_keeps_its_mode(tmp_path: Path) -> None:
    (there := tmp_path / ("n" * 250)).write_text("before")
    there.chmod(0o640)
    (link := tmp_path / "link").symlink_to(there.name)
    write_whole(link, iter(["af", "ter"]))
    assert (link.is_symlink(), there.read_text(), there.stat().st_mode & 0o777) == (True, "after", 0o640)


@pytest.mark.skipif(not Path("/dev/stdout").is_symlink(), reason="there is no /dev/stdout")
def test_a_page_for_standard_output_goes_there(tmp_path: Path) -> None:
    """It is a link to a file where the shell redirects it. As root a file in its stead would be the machine's `/dev/stdout`."""
    code = "from pathlib import Path; from rewriter.cli.output import write_whole; write_whole(Path('/dev/stdout'), 'page')"
    with (tmp_path / "out").open("w") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    assert (tmp_path / "out").read_text() == "page"
    assert Path("/dev/stdout").is_symlink()


@pytest.mark.parametrize(("error", "source"), [(StoreError("away"), "store"), (LookUpFailed("away"), "search engine")])
def test_what_failed_is_named_and_not_always_the_store(
    error: StoreError, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit), store_needed():
        raise error
    assert capsys.readouterr().err == f"{source}: away\n"
