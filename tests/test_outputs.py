"""Standard output, standard error and files of commands that cannot be written, and Ctrl-C while the command is imported."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rewriter import cli
from rewriter.cli.output import write_whole
from rewriter.errors import ConfigurationError

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


def test_ctrl_c_while_the_command_is_imported_ends_it_without_a_traceback(tmp_path: Path) -> None:
    """A module of the package's that never ends to be imported stands for the second that all of them take."""
    (tmp_path / "typer.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    # A shell has what it runs in the background ignore Ctrl-C, and the tests may run there.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); " + COMMAND[2]
    with subprocess.Popen([*COMMAND[:2], code], stdout=-1, stderr=-1, text=True, env=environment) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "importing\n"
        time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        _, shown = run.communicate(timeout=30)
    assert (run.returncode, shown) == (130, "")


def test_an_error_that_no_command_expects_shows_its_place_and_not_its_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> None:
        raise KeyError("user-17")

    monkeypatch.setattr(cli, "app", fails)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    shown = capsys.readouterr().err
    assert shown.startswith("rewriter: an error of its own: KeyError in fails, line ")
    assert "user-17" not in shown


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
    consoles = [
        call
        for path in Path(cli.__file__).parents[1].rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Console"
    ]
    options = [{one.arg: ast.unparse(one.value) for one in call.keywords} for call in consoles]
    printing = [one for one in options if one.get("stderr") != "True"]
    assert len(printing) >= 5
    assert all((one.get("markup"), one.get("emoji")) == ("False", "False") for one in printing)
