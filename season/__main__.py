"""`make season`: every variant of the season, and docs/season.md with their reports.

    python -m season                                  all variants, on OPENSEARCH_URL or a server of its own
    python -m season --share 0.1 --only lift          a tenth of one, which writes no page

Each variant is a process of its own, two at a time. The exit code is 1 if a report's verdict is not one that its season allows.
"""

from __future__ import annotations

import argparse
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from rewriter_engines import OpenSearchServer, Valkey
from season import parameters
from season.page import DOCS, terminal, write
from season.run import Outcome, Season
from season.stage import VARIANTS, opened, reopened

OUTCOME = "outcome"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the variants that were chosen."""
    parser = argparse.ArgumentParser(
        prog="python -m season", description="A simulated season through the real pipeline."
    )
    given = parameters.read()
    parser.add_argument("--share", type=float, default=1.0, help="of the visits in season/parameters.toml")
    parser.add_argument("--seed", type=int, default=given.season.seed)
    parser.add_argument("--only", default="", help="the variants whose name contains this; no page is written then")
    parser.add_argument("--keep", type=Path, help="keep records and reports in this folder, which is created")
    parser.add_argument("--at-once", type=int, default=2, help="variants at the same time")
    parser.add_argument("--variant", nargs=2, metavar=("FOLDER", "NAME"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.variant:
        return _one(Path(options.variant[0]), options.variant[1], options.share)
    chosen = [one.name for one in VARIANTS if options.only in one.name]
    given = replace(given, season=replace(given.season, seed=options.seed))
    began_s = time.monotonic()
    with ExitStack() as stack:
        url = os.environ.get("OPENSEARCH_URL") or stack.enter_context(OpenSearchServer()).url
        store = stack.enter_context(Valkey())
        if options.keep:
            options.keep.mkdir(parents=True)
        folder = options.keep or Path(stack.enter_context(TemporaryDirectory(prefix="rewriter-season-")))
        stack.enter_context(opened(given, url, store.url, folder))
        command = [sys.executable, "-m", "season", "--share", str(options.share), "--variant", str(folder)]
        with ThreadPoolExecutor(options.at_once) as pool:
            codes = list(pool.map(lambda name: subprocess.run([*command, name], check=False).returncode, chosen))
        if any(codes):
            return 2
        outcomes: list[Outcome] = [pickle.loads((folder / name / OUTCOME).read_bytes()) for name in chosen]  # noqa: S301  ours
        if len(chosen) == len(VARIANTS) and options.share == 1.0:
            write(outcomes, given, folder, time.monotonic() - began_s)
            print(f"{DOCS / 'season.md'} is written")
    return int(not chosen or not all(one.as_expected for one in outcomes))


def _one(folder: Path, name: str, share: float) -> int:
    """Run one variant on the stage that another process opened, and write its outcome to its folder."""
    variant = next(one for one in VARIANTS if one.name == name)
    stage = reopened(folder)
    outcome = Season(stage, variant, max(1, round(share * stage.given.season.visits[name]))).run()
    (folder / name / OUTCOME).write_bytes(pickle.dumps(outcome))
    print(terminal(outcome), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
