"""The command behind `make faults`: all faults, all proofs and the mix-ups, with tables for docs/safety.md.

On Elasticsearch it makes the faults of the optional legs, with tables for docs/elasticsearch.md.

    python -m bench.faults                                  2,000 searches a fault, 100,000 for the mix-ups
    python -m bench.faults --mode rewrite                   one mode; proofs of processes and mix-ups belong to parallel
    python -m bench.faults --engine elasticsearch           faults of the legs
    python -m bench.faults --searches 200 --only "400" ...  some faults, printed only

The exit code is 0 if every promise held, 1 if one did not, 2 if an engine is missing in CI. OPENSEARCH_URL or
ELASTICSEARCH_URL names the search engine; without it one is started from its jars.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack
from logging import NullHandler, getLogger

from bench.faults import mixups, table
from bench.faults.catalogue import FAULTS, OF_LEGS, Fault
from bench.faults.engine import ENGINES, url_of
from bench.faults.processes import proofs
from bench.faults.suite import rows
from rewriter_engines import EngineUnavailable


def main() -> int:
    """Run the suite with the command's arguments."""
    parser = argparse.ArgumentParser(prog="python -m bench.faults")
    parser.add_argument("--searches", type=int, default=2_000, help="for each fault, half of them through each shell")
    parser.add_argument("--rate", type=float, default=100.0, help="arrivals a second")
    parser.add_argument("--mixups", type=int, default=100_000, help="searches of the hunt for mix-ups")
    parser.add_argument(
        "--tries", type=int, default=3, help="of a row that breaks a promise about times alone; the page says which"
    )
    parser.add_argument("--only", nargs="*", default=[], metavar="TEXT", help="faults whose name holds one of these")
    parser.add_argument("--engine", choices=ENGINES, default="opensearch")
    parser.add_argument("--mode", choices=("parallel", "rewrite", "both"), default="both")
    options = parser.parse_args()
    getLogger("rewriter").addHandler(NullHandler())  # its log lines on each fault would disturb the table
    every = FAULTS if options.engine == "opensearch" else OF_LEGS
    chosen = [fault for fault in every if not options.only or any(text in fault.name for text in options.only)]
    try:
        with ExitStack() as stack:
            url = url_of(options.engine, stack)
            modes = ("parallel", "rewrite") if options.mode == "both" else (options.mode,)
            return max(_run(url, options, chosen, mode) for mode in modes)
    except EngineUnavailable as missing:
        print(f"FAULTS NOT RUN: {missing}", file=sys.stderr)
        return 2 if os.environ.get("CI") else 0


def _run(url: str, options: argparse.Namespace, chosen: list[Fault], mode: str) -> int:
    print("  ".join(table.HEAD_OF_REWRITE if mode == "rewrite" else table.HEAD), flush=True)
    broken: list[str] = []
    found_rows, found_proofs = [], []
    searches, engine = options.searches // 2, options.engine
    for row in rows(
        url, searches=searches, rate=options.rate, faults=chosen, mode=mode, engine=engine, tries=options.tries
    ):
        found_rows.append(row)
        broken += [f"{mode}: {row.fault}, {row.shell}: {text}" for text in row.broken]
        print("  ".join(table.cells(row)), "" if not row.broken else f"BROKEN: {'; '.join(row.broken)}", flush=True)
        for text in row.earlier:
            print(f"    made again, since at first: {text}", flush=True)
    mixed_up: list[str] = []
    if not options.only and mode == "parallel" and options.engine == "opensearch":
        for proof in proofs(url):
            found_proofs.append(proof)
            broken += [f"{proof.name}, {proof.shell}: {text}" for text in proof.broken]
            print(f"{proof.name}  {proof.shell}  {proof.found}  {'; '.join(proof.broken)}", flush=True)
        for outcome in mixups.outcomes(options.mixups):
            mixed_up.append(outcome.text)
            broken += outcome.strangers[:10]
            print(outcome.text, flush=True)
    if not options.only:
        table.write(table.markdown(found_rows, found_proofs, mixed_up, mode), mode, table.PAGES[options.engine])
    for text in broken:
        print(f"BROKEN: {text}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
