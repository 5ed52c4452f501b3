"""The record of the versions that tests ran on (tests/versions.json), and the tables of docs/versions.md, which are made from it.

    python -m tests.versions           write the tables from the record; `make docs` does this
    python -m tests.versions --run     first run again what the record holds, on each server, client and Python; part of `make full`

A test that ran on given versions calls `ran`. With RECORD_VERSIONS set, that writes the record. Otherwise it fails if the record,
and with it the table, states another version: the major and minor one of a part that the tests choose, the major one of a part of
which the newest release is installed, since a release elsewhere is no fault of a change here.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from urllib.request import urlopen

import redis

from bench.markers import replaced
from tests.pages import ROOT

RECORD, PAGE = ROOT / "tests" / "versions.json", ROOT / "docs" / "versions.md"
BEGIN, END = "<!-- versions: begin -->", "<!-- versions: end -->"
VARIABLE = "RECORD_VERSIONS"
WHOLE = "the whole suite"
COMMAND = "python -m tests.versions --run"
TESTS = ("tests/live/test_versions.py", "tests/live/test_other_versions.py", "tests/live/test_elasticsearch_suites.py")
CLIENTS = "import importlib.metadata as m; print(*(f'{n} {m.version(n)}' for n in ('opensearch-py', 'elasticsearch')), sep='|')"
PRODUCTS = ("OpenSearch", "Elasticsearch", "opensearch-py", "elasticsearch-py", "Valkey", "Python")


@dataclass(frozen=True, slots=True)
class Run:
    """One run: product and version of its parts, "" for what had no part in it, the suites, and their result.

    chosen: the parts whose version the tests choose.
    """

    server: str
    client: str
    store: str
    python: str
    suites: str
    result: str = ""
    chosen: tuple[str, ...] = ()
    on: str = ""

    @property
    def versions(self) -> Iterator[tuple[str, str]]:
        """The products of this run and their versions."""
        for one in (self.server, self.client, self.store, f"Python {self.python}"):
            if one:
                product, _, version = one.partition(" ")
                yield product, version


def server_version(url: str) -> str:
    """Return the product and version of a search server, such as `OpenSearch 3.8.0`."""
    with urlopen(url, timeout=30) as answer:
        version = json.load(answer)["version"]
    return f"{'OpenSearch' if version.get('distribution') == 'opensearch' else 'Elasticsearch'} {version['number']}"


def store_version(url: str) -> str:
    """Return the product and version of a store, such as `Valkey 9.1.2`."""
    with redis.Redis.from_url(url) as client:
        found = client.info("server")
    is_valkey = "valkey_version" in found
    return f"Valkey {found['valkey_version']}" if is_valkey else f"Redis {found['redis_version']}"


def client_version(product: str, environment: Mapping[str, str] | None = None) -> str:
    """Return the client that a Python finds with this environment, such as `opensearch-py 3.2.0`."""
    command = [sys.executable, "-c", CLIENTS]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=True
    )
    name = "elasticsearch" if product == "elasticsearch-py" else product
    (version,) = (one.split()[1] for one in done.stdout.strip().split("|") if one.startswith(f"{name} "))
    return f"{product} {version}"


def record() -> dict[str, Run]:
    """Return the recorded runs by name."""
    found = json.loads(RECORD.read_text("utf-8"))
    return {name: Run(**{**one, "chosen": tuple(one["chosen"])}) for name, one in found.items()}


def ran(name: str, run: Run) -> None:
    """Record a run, or fail where the record states other versions or suites."""
    known = record()
    if os.environ.get(VARIABLE):
        known[name] = Run(**{**asdict(run), "on": f"{datetime.now(UTC):%Y-%m-%d}"})
        text = json.dumps({one: asdict(every) for one, every in sorted(known.items())}, indent=2, ensure_ascii=False)
        RECORD.write_text(f"{text}\n", "utf-8")
    elif wrong := differences(known.get(name), run):
        raise AssertionError(f"docs/versions.md is not what ran: {'; '.join(wrong)}: run {COMMAND}")


def differences(known: Run | None, run: Run) -> list[str]:
    """Return where a run differs from its record."""
    if known is None:
        return ["this run is not recorded"]
    found = [] if known.suites == run.suites else [f"suites {known.suites!r}, ran {run.suites!r}"]
    for part in ("server", "client", "store"):
        depth = 2 if part in run.chosen else 1
        one, other = getattr(known, part), getattr(run, part)
        if one.partition(" ")[0] != other.partition(" ")[0] or short(one, depth) != short(other, depth):
            found.append(f"{part} {one}, ran {other}")
    return found


def numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version."""
    return tuple(int(one) for one in re.findall(r"\d+", version.rpartition(" ")[2]))


def short(version: str, depth: int = 2) -> str:
    """Return the first numbers of a version."""
    return ".".join(map(str, numbers(version)[:depth]))


def tables() -> str:
    """Return the table of the oldest and newest versions, and the table of runs."""
    runs = record()
    every: dict[str, list[str]] = {}
    for run in runs.values():
        for product, version in run.versions:
            every.setdefault(product, []).append(version)
    lines = ["| what | oldest that ran | newest that ran |", "|---|---|---|"]
    for product in sorted(every, key=PRODUCTS.index):
        oldest, *_, newest = sorted(every[product] * 2, key=numbers)
        lines.append(f"| {product} | {oldest} | {newest} |")
    lines += ["", "| run | server | client | store | Python | suites | result |", "|---|---|---|---|---|---|---|"]
    for name, run in sorted(runs.items(), key=lambda one: (one[0] != WHOLE, one[0])):
        cells = (
            name,
            run.server,
            run.client,
            run.store,
            run.python,
            run.suites,
            f"{run.result}, {run.on}".lstrip(", "),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def written(page: str) -> str:
    """Return a page's text with the tables between its markers."""
    return replaced(page, BEGIN, END, tables(), PAGE)


def main() -> int:
    """Run the tests that record, if that is asked for, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="store_true", help="run the tests that write the record first")
    parser.add_argument("-k", default="", help="with --run: only tests with this in their name")
    given = parser.parse_args()
    code = 0
    if given.run:
        command = [sys.executable, "-m", "pytest", "-q", "-m", "full or not full", *TESTS, "-k", given.k]
        code = subprocess.run(command, cwd=ROOT, env={**os.environ, VARIABLE: "1"}, check=False).returncode
    PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
    return code


def python_version() -> str:
    """Return the version of this Python."""
    return platform.python_version()


if __name__ == "__main__":
    raise SystemExit(main())
