"""Cost of a personalized search, measured in parts that run and resume one by one.

    python -m bench.cost                                  every part that has no result yet, on 1.0 million products
    python -m bench.cost --part ways-1 --part uncached    these parts, again where they have a result
    python -m bench.cost --documents 20000 --rounds 4     small: to try it out; results go where --results says
    python -m bench.cost --goals                          the table of goals, measured anew (`make bench` prints it too)
    python -m bench.cost --page                           docs/cost.md and its plots from the results
    python -m bench.cost --list                           the parts, with the date of their result

Results are JSON, one file a part, with date, versions and machine. Parts that are asked for together share servers and index.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.cost import page
from bench.cost.goals import PARTS_OF_GOALS
from bench.cost.parts import PARTS
from bench.cost.scene import Scene, Size, scene

RESULTS = Path(__file__).with_name("results")
DOCUMENTS = 1_000_000


def about(found: Scene, size: Size, took_s: float) -> dict[str, Any]:
    """Return what a result is of."""
    load_1 = os.getloadavg()[0]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "documents": found.documents,
        "rounds": size.rounds,
        "searches": size.searches,
        "took_s": round(took_s),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores for client and servers together",
        "load_average": round(load_1, 1),
        "opensearch": found.client.info()["version"]["number"],
        "store": found.store.info("server").get("valkey_version") or found.store.info("server")["redis_version"],
        "python": platform.python_version(),
        **{name: version(name) for name in ("opensearch-py", "redis", "rewriter")},
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure what is asked for, and write the results."""
    parser = argparse.ArgumentParser(
        prog="bench.cost", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", action="append", choices=list(PARTS), default=[], help="once for each part")
    parser.add_argument("--documents", type=int, default=DOCUMENTS)
    parser.add_argument("--rounds", type=int, default=20, help="blocks of each way")
    parser.add_argument("--searches", type=int, default=30, help="in a block")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument(
        "--goals", action="store_true", help="measure again what the table of goals is made of, and print it"
    )
    parser.add_argument("--page", action="store_true", help="write docs/cost.md from the results")
    parser.add_argument("--list", action="store_true")
    given = parser.parse_args(arguments)
    done = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(given.results.glob("*.json"))}
    if given.list:
        for name in PARTS:
            print(f"{name:20}{done[name]['about']['date'] if name in done else '–'}")
        return 0
    if given.page:
        page.write(done)
        return 0
    wanted = given.part or (PARTS_OF_GOALS if given.goals else [name for name in PARTS if name not in done])
    size = Size(given.rounds, given.searches)
    given.results.mkdir(exist_ok=True)
    failed = 0
    with scene(given.documents) as found:
        for name in wanted:
            started_s = time.monotonic()
            try:
                figures = PARTS[name](found, size)
            except Exception as error:  # noqa: BLE001  the other parts are measured all the same
                print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
                failed += 1
                continue
            result = {"part": name, "about": about(found, size, time.monotonic() - started_s), **figures}
            done[name] = result
            (given.results / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
            print(f"{name}: {time.monotonic() - started_s:.0f} s", *page.lines(result), sep="\n", flush=True)
    if given.goals:
        print("", "What a search costs ÷ the plain search, and the goals:", *page.goals(done), sep="\n", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
