"""The long run, `make full`: every part that `make test` leaves out, with its date and result in docs/full.md.

    python -m tests.full_run                    all parts, one after the other
    python -m tests.full_run --only soak        the parts whose name contains a text

A part that was not run keeps its row. The exit code is 1 where a part failed.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.versions import TESTS

PAGE = Path(__file__).parents[1] / "docs/full.md"
HEAD = "| part | command | run on | with | took | result |\n|---|---|---|---|---|---|\n"
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its name, the arguments after `python -m`, and the environment that it adds."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def command(self) -> str:
        """The command as one types it."""
        return " ".join(
            [*(f"{name}={value}" for name, value in self.environment.items()), "python -m", *self.arguments]
        )


PARTS = (
    Part("tests marked full", ("pytest", "-m", "full", *(f"--ignore={one}" for one in TESTS))),
    Part("versions", ("tests.versions", "--run")),
    Part(
        "soak: ten kills of a worker", ("pytest", "tests/live/test_ingest_faults.py", "-k", "killed"), {"SOAK_EVENTS": "100000"}
    ),
    Part("soak: a year of history beside live events", ("pytest", "tests/live/test_backfill_soak.py"), {"SOAK_YEAR": "1"}),
    Part("soak: memory over a million searches", ("bench.cost.soak",)),
    Part("a simulated season", ("season",)),
    Part("faults under load", ("bench.faults",)),
    Part("faults of the legs on Elasticsearch", ("bench.faults", "--engine", "elasticsearch")),
)  # fmt: skip


def row(part: Part, began: datetime, seconds: float, result: str) -> str:
    """Return the row of a part that was run."""
    machine = f"Python {platform.python_version()}, rewriter {version('rewriter')}, {os.cpu_count()} cores"
    return f"| {part.name} | `{part.command}` | {began:%Y-%m-%d} | {machine} | {seconds:,.0f} s | {result} |"


def page_with(page: str, part: Part, new: str) -> str:
    """Return the page with the part's row replaced, or added at its end."""
    start = f"| {part.name} |"
    lines = page.rstrip("\n").split("\n")
    if any(line.startswith(start) for line in lines):
        return "\n".join(new if line.startswith(start) else line for line in lines) + "\n"
    return "\n".join([*lines, new]) + "\n"


def summary_of(output: str, code: int) -> str:
    """Return the last line that a part printed, as its result, and its exit code where that is not 0."""
    lines = [ESCAPES.sub("", line).strip(" =") for line in output.splitlines() if line.strip(" =")]
    last = (lines[-1] if lines else "nothing was printed").replace("|", "/")
    return last if code == 0 else f"**failed, exit code {code}**: {last}"


def run(part: Part) -> tuple[int, str]:
    """Run a part, show its output as it comes, and return its exit code and its output."""
    process = subprocess.Popen(
        [sys.executable, "-m", *part.arguments], env={**os.environ, **part.environment},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    lines: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        sys.stdout.write(line)
        lines.append(line)
    return process.wait(), "".join(lines)


def main() -> int:
    """Run the parts that were chosen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="run the parts whose name contains this")
    chosen = [part for part in PARTS if parser.parse_args().only in part.name]
    failed = 0
    for part in chosen:
        sys.stdout.write(f"--- {part.name}: {part.command}\n")
        sys.stdout.flush()
        began, began_s = datetime.now(UTC), time.monotonic()
        code, output = run(part)
        failed += code != 0
        new = row(part, began, time.monotonic() - began_s, summary_of(output, code))
        PAGE.write_text(page_with(PAGE.read_text("utf-8"), part, new), "utf-8")
    sys.stdout.write(f"{len(chosen) - failed} of {len(chosen)} parts passed; {PAGE.name} is written\n")
    return int(failed > 0 or not chosen)


if __name__ == "__main__":
    raise SystemExit(main())
