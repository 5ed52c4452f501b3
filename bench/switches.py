"""Time until a running process follows `rewriter switch`, with a real Valkey and with a kill-switch file.

    python -m bench.switches

Each change starts at another phase of the polls. Two times are measured from the start of the command, in an interpreter that runs
already: until the first search that follows the switch, and until the command confirms the change by the process's report in the
store.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from logging import getLogger
from pathlib import Path
from random import Random
from statistics import median

from opensearchpy import OpenSearch
from rich.console import Console
from rich.table import Table
from typer.testing import CliRunner

from rewriter import Reason, Rewriter, Subject
from rewriter.cli import app
from rewriter_engines import Osmem, Valkey

FLIPS = 40
INDEX = "products"
PACE_S = 0.001
SEED = 11


def search_and_say(toml: str) -> None:
    """Search without end, and print a line when personalization starts or stops. This process is measured."""
    before = None
    getLogger("rewriter").setLevel("ERROR")  # each change logs a warning
    with Rewriter.from_settings(toml) as rewriter:
        while True:
            body = {"query": {"match": {"title": "shoe"}}}
            _, report = rewriter.search_details(index=INDEX, body=body, subject=Subject("u"))
            state = "off" if report.reason is Reason.SWITCHED_OFF else "on"
            if state != before:
                print(state, flush=True)
            before = state
            time.sleep(PACE_S)


@contextmanager
def searching(toml: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that searches, from its first answer on."""
    command = [sys.executable, "-m", "bench.switches", str(toml)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            wait_for_line(process, "on")
            yield process
        finally:
            process.terminate()


def wait_for_line(process: subprocess.Popen[str], state: str) -> None:
    """Wait until a process prints this line."""
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if line != state:
        raise RuntimeError(f"the process printed {line!r}, not {state!r}")


def flipped(toml: Path, value: str, *more: str) -> float:
    """Run the command, and return its start time."""
    began_s = time.monotonic()
    done = CliRunner().invoke(app, ["switch", "personalization", value, "--toml", str(toml), *more])
    if done.exit_code:
        raise RuntimeError(f"rewriter switch: {done.stderr}")
    return began_s


def following(toml: Path, chance: Random) -> list[float]:
    """Return the seconds until the process followed each change."""
    found = []
    with searching(toml) as process:
        for value, _ in zip(cycle(("off", "on")), range(FLIPS), strict=False):
            time.sleep(1.0 + chance.random())
            began_s = flipped(toml, value, "--wait", "0")
            wait_for_line(process, value)
            found.append(time.monotonic() - began_s)
    return found


def confirming(toml: Path, chance: Random) -> list[float]:
    """Return the seconds until the command confirmed each change."""
    found = []
    with searching(toml) as process:
        time.sleep(3.0)  # it has announced itself
        for value, _ in zip(cycle(("off", "on")), range(FLIPS), strict=False):
            time.sleep(1.0 + chance.random())
            began_s = flipped(toml, value)
            found.append(time.monotonic() - began_s)
            wait_for_line(process, value)
    return found


def measured() -> dict[str, list[float]]:
    """Return the times of each row."""
    chance = Random(SEED)
    with Valkey() as valkey, Osmem() as osmem, tempfile.TemporaryDirectory() as name:
        with OpenSearch(osmem.url) as client:
            client.indices.create(index=INDEX)
        engine = f"[opensearch]\nhosts = '{osmem.url}'\n[policies.shop]\nindex = '{INDEX}'\n[experiment]\nholdout = 0\n"
        folder = Path(name)
        by_file, by_store, again = folder / "file.toml", folder / "store.toml", folder / "again.toml"
        by_file.write_text(f"{engine}[switches]\nfile = 'switches'\n")
        by_store.write_text(f"{engine}[store]\nurl = '{valkey.url}'\n")
        # The prefix is new, since the command would report a process that has just ended as not following.
        again.write_text(f"{engine}[store]\nurl = '{valkey.url}'\nprefix = 'again'\n")
        return {
            "only the file": following(by_file, chance),
            "only the store's key": following(by_store, chance),
            "the store's key, until the command confirms it": confirming(again, chance),
        }


def main() -> None:
    """Print the table."""
    table = Table("seconds", "median", "worst", title=f"Following a switch, {FLIPS} flips each")
    for name, times in measured().items():
        table.add_row(name, f"{median(times):.2f}", f"{max(times):.2f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    search_and_say(sys.argv[1]) if len(sys.argv) > 1 else main()
