"""CPU time of the library's own computation in a search, in both modes, without any I/O.

    python -m bench.pure

The flow runs with prepared answers: 64 counters of a profile, 10 hits of each leg, exploration from the cache. Its index facts are
those that a live process has read. Stages are timed separately: `decide` is the flow until the first step, `whole search` the whole
flow.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.facts import read_facts
from rewriter.boost.body import bounded_body, optional_leg
from rewriter.boost.templates import render_boosts
from rewriter.client.seam import SearchArguments
from rewriter.core import Core
from rewriter.explore.merge import candidates_of, merged_page
from rewriter.flow.answer import answer
from rewriter.flow.steps import (
    AwaitPart,
    AwaitPool,
    Baseline,
    Collect,
    Collected,
    FetchSignals,
    Launch,
    SearchLeg,
    SendOnce,
    SendRewritten,
    Sent,
    first_step,
)
from rewriter.parsed_search import parse_search
from rewriter.settings import Settings
from rewriter.shell.template_files import load_templates
from rewriter.signals.affinities import Population, blended, guard_of, preferences, strongest
from rewriter.signals.counters import Counters, Value
from rewriter.signals.repeats import AGAIN, USES
from rewriter.signals.store import Signals
from rewriter.subject import Subject

ROUNDS = 2_000
NOW_S = 1.8e9
TEMPLATES = Path(__file__).parents[1] / "templates" / "default"
SUBJECT = Subject(user_id="u", session_id="s")
MAPPING = {
    "title": {"type": "text"},
    "brand": {"type": "keyword"},
    "type": {"type": "keyword"},
    "in_stock": {"type": "boolean"},
}
MODES = ("parallel", "rewrite")
BODY = {
    "query": {"bool": {"must": [{"match": {"title": "trail shoe"}}], "filter": [{"term": {"in_stock": True}}]}},
    "size": 10,
    "aggs": {"brands": {"terms": {"field": "brand"}}},
}


def hits(start: int, count: int) -> list[dict[str, Any]]:
    """Return hits in the form of a server's answer."""
    return [
        {
            "_index": "products",
            "_id": str(n),
            "_score": 9.0 - n / 100,
            "_source": {"title": "a shoe", "brand": f"b{n % 7}"},
        }
        for n in range(start, start + count)
    ]


def response(start: int, count: int) -> dict[str, Any]:
    """Return a response in the form of a server's answer."""
    shards = {"total": 1, "successful": 1, "skipped": 0, "failed": 0}
    return {"took": 3, "timed_out": False, "_shards": shards, "hits": {"max_score": 9.0, "hits": hits(start, count)}}


class Scene:
    """A core with a population, and one subject's signals: 64 counters in the profile, 5 in the session."""

    def __init__(self, mode: str = "parallel") -> None:
        self.mode = mode
        policy = {
            "index": "products",
            "fields": {"brand": {}, "type_brand": {"of": ["type", "brand"]}},
            "category_field": "brand",
            "mode": mode,
            "parallel_share": 0.0,
            "hedge_ms": 50.0,
        }
        self.settings = Settings.model_validate({"policies": {"shop": policy}, "experiment": {"holdout": 0.0}})
        self.policy = self.settings.policies["shop"]
        self.core = Core(self.settings, load_templates(self.settings), ("store",))
        weights: dict[Value, float] = {("item", str(n)): 3.0 - n / 50 for n in range(32)}
        weights |= {("brand", f"b{n}"): 9.0 - n / 4 for n in range(24)}
        weights |= {("type_brand", "shoe", f"b{n}"): 4.0 - n / 4 for n in range(8)}
        totals = {"item": 80.0, "brand": 120.0, "type_brand": 40.0}
        profile = Counters(weights, totals, NOW_S - 1e5, NOW_S - 1e5, 90.0)
        session = Counters(dict(list(weights.items())[:5]), totals, NOW_S - 60, NOW_S - 60, 5.0)
        self.signals = Signals(session, profile)
        everybody = dict.fromkeys(weights, 1000.0)
        uses = {USES: 1e6, AGAIN: 4e5}
        self.core.swap(population=Population(everybody, dict.fromkeys(totals, 1e6) | uses))
        read_facts(self.core, {"products": {"mappings": {"properties": MAPPING}}}, {"products": {"settings": {}}})
        self.leg_1, self.leg_2, self.leg_3 = response(0, 10), response(2, 10), response(10, 20)

    def flow(self) -> Generator[Any, Any, Any]:
        """Return the flow of one search."""
        given = SearchArguments("products", BODY)
        return answer(self.core, given, SUBJECT, seed=7, now_s=NOW_S, clock_s=time.monotonic)

    def decide(self) -> None:
        """Run one search until its first step."""
        flow = self.flow()
        first_step(flow)
        flow.close()

    def search(self) -> None:
        """Run one search through the whole flow, one part after the other."""
        _, report = run(self.flow(), _Performing(self).perform)
        assert report.reason == "personalized", report
        assert report.mode == self.mode, report


class _Performing:
    """The steps of one search with the scene's answers. An object, since a closure that calls itself is left to the collector."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._personal: Any = None
        self._explored: Any = None

    def perform(self, step: Any) -> Any:
        """Return the result of a step."""
        match step:
            case Baseline(beside):
                self._personal = run(beside, self.perform) if beside else None
                return Sent(self._scene.leg_1, time.monotonic())
            case SendOnce(part):
                self._personal = run(part, self.perform)
                return ""
            case Launch(part):
                self._explored = run(part, self.perform)
            case FetchSignals():
                return [self._scene.signals]
            case SearchLeg(search):
                return self._scene.leg_2 if search.body["from"] == 0 else self._scene.leg_3
            case SendRewritten():
                return self._scene.leg_2
            case AwaitPart():
                return self._personal
            case AwaitPool():
                return self._explored
            case Collect():
                return Collected(self._personal, self._explored)
        return None


def run(flow: Generator[Any, Any, Any], perform: Callable[[Any], Any]) -> Any:
    """Run a generator to its end."""
    try:
        step = next(flow)
        while True:
            step = flow.send(perform(step))
    except StopIteration as stop:
        return stop.value


def stages(scene: Scene) -> dict[str, Callable[[], Any]]:
    """Return the parts of the pure work by name, each on the same input as in the whole."""
    core, policy = scene.core, scene.policy
    fields, population = core.snapshot.fields["shop"], core.snapshot.population
    templates = core.snapshot.templates["shop"]
    request = parse_search(SearchArguments("products", BODY), scene.settings, {})

    def affinities() -> Any:
        liked = [
            preferences(
                counters, half_lives, fields, population, guard_of(population, policy), policy.saturation, NOW_S
            )
            for counters, half_lives in (
                (scene.signals.session, core.session_half_lives),
                (scene.signals.profile, core.profile_half_lives),
            )
            if counters
        ]
        return strongest(blended(liked[0], liked[1], 0.25), fields, policy.max_functions)

    found, pool = affinities(), candidates_of(scene.leg_3["hits"]["hits"], None, "brand")
    facts = {"indices": ["products"], "from": 0, "size": 10, "body": BODY}
    boosts = render_boosts(templates, found, {"events": 5.0}, facts, policy)
    return {
        "decide": scene.decide,
        "shape": lambda: parse_search(SearchArguments("products", BODY), scene.settings, {}),
        "affinities": affinities,
        "template": lambda: render_boosts(templates, found, {"events": 5.0}, facts, policy),
        "body": lambda: bounded_body(optional_leg(request.body, 0, 10), boosts, 1.5, "rescore", 200),
        "merge": lambda: merged_page(
            personalized=scene.leg_2["hits"]["hits"], pool=pool, decided=(), from_=0,
            size=10, block=7, seed=7, collapse_field=None, category_field="brand",
        ),
    }  # fmt: skip


def additions() -> int:
    """Add ten thousand numbers: with its time, figures of two machines can be compared."""
    total = 0
    for number in range(10_000):
        total += number
    return total


def timed_us(work: Callable[[], Any], rounds: int = ROUNDS) -> tuple[float, float]:
    """Return p50 and p99 of `work` in microseconds of CPU, so that another process's work does not count."""
    times = []
    for _ in range(rounds):
        started = time.thread_time()
        work()
        times.append((time.thread_time() - started) * 1e6)
    return median(times), quantiles(times, n=100)[98]


def main() -> None:
    """Print the time of each part."""
    scenes = {mode: Scene(mode) for mode in MODES}
    table = Table(title="pure work per search, µs (64 + 5 counters, 10 hits)")
    table.add_column("stage")
    for mode in MODES:
        for column in ("p50", "p99"):
            table.add_column(f"{mode}, {column}", justify="right")
    of_stages = {mode: stages(scene) for mode, scene in scenes.items()}
    for name in of_stages["parallel"]:
        found = [timed_us(of_stages[mode][name]) for mode in MODES]
        table.add_row(name, *(f"{one:.0f}" for pair in found for one in pair), end_section=name == "merge")
    found = [timed_us(scene.search) for scene in scenes.values()]
    table.add_row("whole search", *(f"{one:.0f}" for pair in found for one in pair))
    Console().print(table)


if __name__ == "__main__":
    main()
