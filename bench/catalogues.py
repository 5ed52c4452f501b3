"""Gains of the shipped defaults on generated catalogues of three kinds: `python -m bench.catalogues`.

For each kind: the default policy, the same policy without the repeat guard of item boosts, the set that `rewriter init` chooses,
and every shipped set by name; for category pages, the set `browse`. Everything is simulated (`bench.made_catalogues`).

    python -m bench.catalogues                    the table of docs/template-sets.md (about 20 minutes)
    python -m bench.catalogues --people 60        a small one
    python -m bench.catalogues --again            item boosts with and without the guard, by how often people use items again
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

from opensearchpy import OpenSearch
from rich.console import Console
from rich.table import Table

from bench.catalogue_runs import (
    Difference,
    compared,
    indexed,
    initialized,
    personalized,
    plain,
    run,
    untuned,
    write_history,
)
from bench.made_catalogues import GROCERIES, KINDS, SHAPES, Kind, Made, make
from rewriter.cli.init.template_sets import SETS
from rewriter_engines import OpenSearchServer, Valkey

UNGUARDED, UNEXPLORED = "item_repeat_share = 1", "exploration_share = 0"
AGAIN = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.45)


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers of the benchmark, and a folder of its own."""

    client: OpenSearch
    url: str
    store_url: str
    folder: Path


@dataclass
class Catalogue:
    """One generated catalogue on its servers, with the baseline's pages."""

    servers: Servers
    index: str
    made: Made
    count: int
    seed: int
    is_flat: bool = False

    def __post_init__(self) -> None:
        self.questions = self.made.questions[: self.count]
        self.history = write_history(self.made, self.servers.folder / f"{self.index}.ndjson")
        self.base = plain(self.servers.client, self.index, self.made, self.questions, is_flat=self.is_flat)

    def default(self, *lines: str) -> Difference:
        """Rank by the default policy, with settings of its own."""
        return self._ranked(untuned(self._folder(), self.servers.url, self.servers.store_url, *lines))

    def of_init(self, *options: str) -> tuple[str, Difference]:
        """Rank by the settings of `rewriter init`; return the name of its set too."""
        toml, name = initialized(
            self._folder(),
            self.servers.url,
            self.servers.store_url,
            self.index,
            "--history",
            str(self.history),
            *options,
        )
        return name, self._ranked(toml)

    def _folder(self) -> Path:
        return self.servers.folder / uuid.uuid4().hex[:8]

    def _ranked(self, toml: Path) -> Difference:
        with patch.dict(os.environ, {"REWRITER_STORE__PREFIX": toml.parent.name}):
            run("backfill", str(self.history), "--toml", str(toml))
            ranked = personalized(toml, self.index, self.made, self.questions, self.seed, is_flat=self.is_flat)
        return compared(self.questions, self.base, ranked, self.seed)


def rows_of(catalogue: Catalogue) -> Iterator[tuple[str, Difference]]:
    """Yield each way of ranking a catalogue with its result."""
    if catalogue.is_flat:
        yield "browse", catalogue.of_init("--set", "browse")[1]
        return
    yield "the default policy", catalogue.default()
    yield "  … without exploration", catalogue.default(UNEXPLORED)
    yield "  … item boosts without the guard", catalogue.default(UNEXPLORED, UNGUARDED)
    name, found = catalogue.of_init()
    yield f"what init picks: {name}", found
    for one in SETS:
        if one not in (name, "browse"):
            yield f"init --set {one}", catalogue.of_init("--set", one)[1]


def swept(servers: Servers, kind: Kind, count: int, seed: int) -> Iterator[tuple[str, Difference]]:
    """Yield the default policy's result with and without the guard, by how often people use an item again."""
    for again in AGAIN:
        with _catalogue(servers, replace(kind, again=again), count, seed) as catalogue:
            share = guard_share(catalogue.made)
            yield f"again {share:.2f}, guarded", catalogue.default(UNEXPLORED)
            yield f"again {share:.2f}, not guarded", catalogue.default(UNEXPLORED, UNGUARDED)


def shapes(servers: Servers, count: int, seed: int) -> Iterator[tuple[str, Difference]]:
    """Yield the results of the default policy and of what init picks, on catalogues between the kinds."""
    for kind in SHAPES:
        with _catalogue(servers, kind, count, seed) as catalogue:
            title = f"{kind.name} ({guard_share(catalogue.made):.2f})"
            yield f"{title}: default", catalogue.default()
            name, found = catalogue.of_init()
            yield f"{title}: {name}", found


def guard_share(made: Made) -> float:
    """Return the share of the uses that fell on an item that the same person had used before."""
    seen: set[tuple[str, str]] = set()
    again = 0
    for one in made.history:
        again += (one.person, one.item) in seen
        seen.add((one.person, one.item))
    return again / len(made.history)


class _catalogue:  # noqa: N801  a context manager by its use
    """One catalogue as an index that the block's end removes."""

    def __init__(self, servers: Servers, kind: Kind, count: int, seed: int, *, is_flat: bool = False) -> None:
        self._stack = ExitStack()
        self._arguments = servers, kind, count, seed, is_flat

    def __enter__(self) -> Catalogue:
        servers, kind, count, seed, is_flat = self._arguments
        made = make(kind, time.time(), seed)
        index = self._stack.enter_context(indexed(servers.client, f"rewriter-bench-{uuid.uuid4().hex[:8]}", made))
        return Catalogue(servers, index, made, count, seed, is_flat)

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark on OPENSEARCH_URL, else on a server of its own; standard output is the table."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.catalogues", description="Gains of the shipped template sets."
    )
    parser.add_argument("--people", type=int, default=500)
    parser.add_argument("--questions", type=int, default=1_500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", metavar="REGEX", help="the kinds whose name matches")
    parser.add_argument("--again", action="store_true", help="vary how often people use items again")
    parser.add_argument("--shapes", action="store_true", help="small catalogues between the kinds")
    given = parser.parse_args(argv)
    console = Console(width=140)
    quiet = {
        "REWRITER_BUDGET__SIGNALS_MS": "5000", "REWRITER_BUDGET__CUTOFF_MS": "20000", "REWRITER_EXPERIMENT__HOLDOUT": "0",
    }  # fmt: skip
    with ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ, quiet))
        url = os.environ.get("OPENSEARCH_URL") or stack.enter_context(OpenSearchServer()).url
        client = stack.enter_context(OpenSearch(hosts=[url], timeout=60))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rewriter-bench-")))
        servers = Servers(client, url, stack.enter_context(Valkey()).url, folder)
        kinds = [replace(kind, people=given.people) for kind in KINDS]
        if given.again:
            sweep = swept(servers, replace(GROCERIES, people=given.people), given.questions, given.seed)
            _print(console, "how often people use items again", sweep)
            return 0
        if given.shapes:
            _print(console, "between the kinds", shapes(servers, given.questions, given.seed))
            return 0
        for kind, is_flat in [*((one, False) for one in kinds), *((one, True) for one in kinds)]:
            name = f"{kind.name}, category pages" if is_flat else kind.name
            if not re.search(given.only, name):
                continue
            with _catalogue(servers, kind, given.questions, given.seed, is_flat=is_flat) as catalogue:
                title = f"{name}: {len(catalogue.made.history):,} uses, {len(catalogue.questions):,} questions"
                _print(console, title, rows_of(catalogue))
    console.print("All of it is simulated: bench/made_catalogues.py.")
    return 0


def _print(console: Console, title: str, rows: Iterator[tuple[str, Difference]]) -> None:
    table = Table(title=title, title_justify="left")
    table.add_column("ranking")
    for name in ("baseline", "nDCG@10", "÷ baseline", "difference, 95 %", "people", "personalized", "functions"):
        table.add_column(name, justify="right")
    for name, one in rows:
        table.add_row(
            name, f"{one.base:.4f}", f"{one.other:.4f}", f"{one.other / one.base:.3f}",
            f"{one.gain:+.4f} [{one.low:+.4f}, {one.high:+.4f}]", f"{one.people:,}", f"{one.personalized:.0%}",
            f"{one.functions:.0f}",
        )  # fmt: skip
    console.print(table)


if __name__ == "__main__":
    raise SystemExit(main())
