"""Memory of a process over many searches, above that of a process that has its client alone, without the library.

    python -m bench.cost.soak                        a million searches in each mode, for docs/cost.md (about two hours)
    python -m bench.cost.soak --searches 20000       fewer; --mode parallel; --minutes 30 (at most, for each mode);
                                                     --results FOLDER

A server of made-up answers stands for the cluster, a real Valkey holds the signals. People, visits and queries are many, every
tenth search asks for a second page, and every hundredth names another index expression: so whatever the library keeps by person,
visit, list, query or expression is filled and bounded. The searches go through the sync shell, from one thread. The result is
written at each point, so a run that is stopped leaves what it has measured, and a mode that a run leaves out keeps its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import linear_regression
from typing import Any

from opensearchpy import OpenSearch

from bench.cost.scene import MODES, NEVER
from bench.cost.stub import INDEX, Stub
from rewriter import Rewriter, Settings, Subject
from rewriter.signals.counters import Counters, Value
from rewriter.signals.redis_store import open_store
from rewriter.signals.store import Keys
from rewriter_engines import Valkey

RESULTS = Path(__file__).with_name("results")
ALONE = """
import sys
from pathlib import Path
from opensearchpy import OpenSearch
with OpenSearch(sys.argv[1], pool_maxsize=32, timeout=60) as client:
    for number in range(2_000):
        client.search(index=sys.argv[2], body={"query": {"match": {"title": f"word{number} shoe"}}, "size": 10})
    print(Path("/proc/self/statm").read_text().split()[1])
"""
"""The client alone, in a process that never imports the library; prints its resident pages."""
PEOPLE, KNOWN, QUERIES = 100_000, 2_000, 50_000
EXPRESSIONS = 200
SAMPLES = 20
MINUTES = 90.0
GOAL_MIB, GOAL_GROWTH_MIB = 120, 0.5
"""Of the memory above the client's, and of its growth in the second half of the searches, per 100,000 of them."""

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def resident_mib() -> float:
    """Return the memory of this process that is resident."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES / 2**20


def settings(mode: str) -> Settings:
    """Return settings under which a busy machine switches nothing off, and whose pools fill their memory at any speed.

    By default pools are dropped after 15 s, so that their number, and the memory, would follow the searches a second.
    """
    policy = {
        "index": f"{INDEX}*", "fields": {"brand": {}}, "item_repeat_share": 1.0, "mode": mode, "hedge_ms": 30_000,
        "parallel_share": 0.0, "exploration_stale_s": 600.0,
    }  # fmt: skip
    budget = {"signals_ms": 2_000, "cutoff_ms": 10_000}
    given = {"experiment": {"holdout": 0.0}, "breaker": NEVER, "budget": budget, "policies": {"shop": policy}}
    return Settings.model_validate(given)


def write_signals(store_url: str) -> None:
    """Write the profiles of KNOWN people and the population."""
    store, keys, now_s = open_store(store_url), Keys(), time.time()
    assert store is not None
    brands: dict[Value, float] = {("brand", f"b{n}"): 100.0 for n in range(50)}
    store.write(keys.population(), Counters(brands, {"brand": 5_000.0}, now_s, now_s, 5_000.0), None)
    for number in range(KNOWN):
        weights: dict[Value, float] = {("item", f"{number * 7 % 900 + n}"): 2.0 + n / 40 for n in range(40)}
        weights |= {("brand", f"b{(number + n) % 50}"): 3.0 for n in range(6)}
        totals = {"item": 120.0, "brand": 18.0}
        store.write(keys.profile(f"u{number}"), Counters(weights, totals, now_s, now_s, 120.0), None)
    store.close()


def searched(mode: str, url: str, store_url: str, searches: int, most_s: float) -> Iterator[dict[str, Any]]:
    """Send so many searches, for `most_s` at most; yield what is known at SAMPLES points.

    That is: the memory at the points so far, the share of known people's searches that were personalized, the time and the CPU.
    """
    chance = random.Random(1)
    points: list[list[float]] = []
    personalized = known = 0
    with ExitStack() as stack:
        client = stack.enter_context(OpenSearch(url, pool_maxsize=32, timeout=60))
        rewriter = stack.enter_context(Rewriter(client, store_url, settings(mode)))
        rewriter.wait_ready(30.0, index=INDEX)
        started_s, begun_cpu_s, each = time.monotonic(), time.process_time(), max(1, searches // SAMPLES)
        for number in range(1, searches + 1):
            is_known = number % 2 == 0
            person = chance.randrange(KNOWN) if is_known else KNOWN + chance.randrange(PEOPLE)
            text = f"word{int(QUERIES * chance.random() ** 3)} shoe"  # some queries are sent far more often than others
            body = {"query": {"match": {"title": text}}, "size": 10}
            other = number % 100 == 1
            index = f"{INDEX},{INDEX}-{chance.randrange(EXPRESSIONS)}" if other else INDEX
            for from_ in (0, 10) if number % 10 == 0 else (0,):
                subject = Subject(f"u{person}", f"s{person}-{number // 50_000}")
                _, report = rewriter.search_details(index=index, body={**body, "from": from_}, subject=subject)
                counts = is_known and not other  # the facts of another expression are read after its first search
                known += counts
                personalized += counts and report.reason == "personalized"
            late = time.monotonic() - started_s > most_s
            if number % each == 0 or late:
                points.append([number, round(resident_mib(), 1)])
                yield {
                    "points": points, "personalized": round(personalized / known, 4) if known else None,
                    "took_s": round(time.monotonic() - started_s),
                    "client_cpu_ms": round((time.process_time() - begun_cpu_s) * 1e3 / number, 3),
                }  # fmt: skip
            if late:
                return


def judged(alone_mib: float, own: dict[str, Any]) -> dict[str, Any]:
    """Return the most memory above the client's, and its growth in the second half in MiB per 100,000 searches."""
    late = own["points"][len(own["points"]) // 2 :]
    slope = linear_regression(*zip(*late, strict=True)).slope if len(late) > 1 else 0.0
    most = max(mib for _, mib in own["points"])
    return {
        "alone_mib": round(alone_mib, 1),
        "above_mib": round(most - alone_mib, 1),
        "growth_mib": round(slope * 1e5, 3),
    }


def reached(result: dict[str, Any]) -> bool:
    """Whether the memory of one mode is within the goals."""
    return bool(result["above_mib"] <= GOAL_MIB and result["growth_mib"] <= GOAL_GROWTH_MIB)


def _alone_mib(url: str) -> float:
    command = [sys.executable, "-c", ALONE, url, INDEX]
    pages = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    return int(pages) * PAGE_BYTES / 2**20


def _measured(arguments: list[str]) -> Iterator[dict[str, Any]]:
    """Measure in a process of its own, and yield what it has found at each point."""
    command = [sys.executable, "-m", __spec__.name, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield from map(json.loads, process.stdout)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def main(arguments: list[str] | None = None) -> int:
    """Measure each mode in a process of its own, one after the other, and write the result at each point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", type=int, default=1_000_000)
    parser.add_argument("--mode", choices=MODES, help="by default one mode after the other")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="at most, for each mode")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument(
        "--here", nargs=3, metavar=("MODE", "URL", "STORE"), help="measure in this process; prints lines of JSON"
    )
    given = parser.parse_args(arguments)
    if given.here:
        mode, url, store_url = given.here
        for found in searched(mode, url, store_url, given.searches, given.minutes * 60.0):
            print(json.dumps(found), flush=True)
        return 0
    about = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"), "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores for client and servers together",
        "load_average": round(os.getloadavg()[0], 1),
        **{name: version(name) for name in ("opensearch-py", "redis", "rewriter")},
    }  # fmt: skip
    given.results.mkdir(parents=True, exist_ok=True)
    path = given.results / "soak.json"
    chosen = (given.mode,) if given.mode else MODES
    before = json.loads(path.read_text("utf-8"))["modes"] if path.exists() else {}
    modes: dict[str, dict[str, Any]] = {mode: one for mode, one in before.items() if mode not in chosen}
    for mode in chosen:
        with Stub() as stub, Valkey() as valkey:
            write_signals(valkey.url)
            alone_mib = _alone_mib(stub.url)
            options = ["--searches", f"{given.searches}", "--minutes", f"{given.minutes}"]
            for found in _measured([*options, "--here", mode, stub.url, valkey.url]):
                modes[mode] = {"date": about["date"], **judged(alone_mib, found), **found}
                text = json.dumps({"part": "soak", "about": about, "modes": modes}, indent=1)
                path.write_text(text + "\n", "utf-8")
                searches, mib = found["points"][-1]
                print(f"{mode}: {searches:,} searches in {found['took_s']:,} s, {mib} MiB", file=sys.stderr, flush=True)
    for mode, one in ((mode, modes[mode]) for mode in chosen):
        print(
            f"{mode}, {one['points'][-1][0]:,} searches: {one['above_mib']} MiB above the client (goal {GOAL_MIB}); "
            f"growth: {one['growth_mib']} MiB per 100,000 searches (goal {GOAL_GROWTH_MIB})"
        )
    return 0 if all(reached(modes[mode]) for mode in chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
