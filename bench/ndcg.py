"""Gain of personalization: nDCG@10 on the purchases of Complete Journey, ranked by the library's flow on a real OpenSearch.

"new" counts only products that the household had never bought before. Parameters were chosen on the weeks up to 46; later weeks are
used for the report alone.

    python -m bench.ndcg                              the report, on weeks 47 to 53
    python -m bench.ndcg --weeks 41 46 --seed 5       on weeks that were tuned on
"""

from __future__ import annotations

import argparse
import os
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from opensearchpy import OpenSearch
from rich.console import Console
from rich.progress import Progress

from bench.ndcg_table import Measured, interval, ndcg, printed
from bench.questions import PastPurchases, Question, drawn
from bench.straight import Straight
from rewriter.boost.validation import compile_set
from rewriter.core import Core
from rewriter.demo.corpus import LAST_TUNING_WEEK, Corpus, baseline_query, create_index, load
from rewriter.demo.engines import OpenSearchServer
from rewriter.report import Reason
from rewriter.settings import Settings

TEMPLATES = Path(__file__).parents[1] / "templates" / "default"
POLICY = "shop"
MANUFACTURER = {"manufacturer": {"scale": 0.3}}
STRONG = {"manufacturer": {"scale": 1.0}}
COMBINATION = {"type_manufacturer": {"of": ["product_type", "manufacturer"], "scale": 0.3}}
UNEXPLORED, EXPLORED = "item + manufacturer, max_boost 1.5", "  … with exploration_share 0.15"
# Any other reason is a fault of the benchmark, and no figure is printed.
EXPECTED = frozenset({Reason.PERSONALIZED, Reason.NO_SIGNALS, Reason.NO_RELEVANCE, Reason.NO_HITS})

Ranking = list[list[str]]


@dataclass(frozen=True, slots=True)
class Variant:
    """One line of the table: the settings in which it differs from the defaults."""

    name: str
    policy: Mapping[str, Any]
    signals: Mapping[str, Any] = field(default_factory=dict)


VARIANTS = (
    Variant("item, max_boost 1.5: the default policy", {}),
    Variant("item, max_boost 2", {"max_boost": 2}),
    Variant("manufacturer, max_boost 1.5", {"item_field": None, "fields": MANUFACTURER}),
    Variant("manufacturer at scale 1, max_boost 2", {"item_field": None, "fields": STRONG, "max_boost": 2}),
    Variant("type × manufacturer, max_boost 1.5", {"item_field": None, "fields": COMBINATION}),
    Variant("item + manufacturer, max_boost 1.25", {"fields": MANUFACTURER, "max_boost": 1.25}),
    Variant(UNEXPLORED, {"fields": MANUFACTURER}),
    Variant(EXPLORED, {"fields": MANUFACTURER, "exploration_share": 0.15}),
    Variant("item + manufacturer, max_boost 2", {"fields": MANUFACTURER, "max_boost": 2}),
    Variant("  … with max_counters 64", {"fields": MANUFACTURER, "max_boost": 2}, {"max_counters": 64}),
    Variant("  … with max_counters 256", {"fields": MANUFACTURER, "max_boost": 2}, {"max_counters": 256}),
    Variant("  … and type × manufacturer", {"fields": MANUFACTURER | COMBINATION, "max_boost": 2}),
)  # fmt: skip


@dataclass(slots=True)
class Shop:
    """The index on its server, and the questions. All variants share the baseline's answers, which are kept."""

    client: OpenSearch
    index: str
    corpus: Corpus
    weeks: range
    asked: Sequence[Question]
    seed: int
    baselines: dict[str, Any] = field(default_factory=dict)
    known: dict[tuple[str, ...], PastPurchases] = field(default_factory=dict)

    def plain(self, query: Callable[[str], dict[str, Any]], progress: Progress, name: str) -> Ranking:
        """Return the ids on the page of every question, without the library."""
        asked = progress.track(self.asked, description=name)
        return [_ids(self._search(self._arguments(query(one.words)))) for one in asked]

    def personalized(self, variant: Variant, progress: Progress) -> tuple[Ranking, float]:
        """Return the ids on the page of every question, and the share of the questions that were personalized."""
        core = self._core(variant)
        known = self._known(core)
        pages, reasons = [], Counter[Reason]()
        for number, question in enumerate(progress.track(self.asked, description=variant.name.strip())):
            core.snapshot = replace(core.snapshot, population=known.populations[question.week])
            shell = Straight(
                self._arguments(baseline_query(question.words)),
                known.profile(question, core.settings.signals.max_counters),
                partial(self._baseline, question.words),
                self._search,
            )
            seed = self.seed * 1_000_003 + number
            response, report = shell.run(core, question.household_id, seed=seed, now_s=question.at_s)
            if report.reason not in EXPECTED or report.errors:
                raise RuntimeError(f"{variant.name}: {report.reason} {report.detail} {', '.join(report.errors)}")
            reasons[report.reason] += 1
            pages.append(_ids(response))
        return pages, reasons[Reason.PERSONALIZED] / reasons.total()

    def _arguments(self, query: Mapping[str, Any]) -> dict[str, Any]:
        return {"index": self.index, "body": {"query": query, "_source": False}}

    def _baseline(self, words: str, arguments: Mapping[str, Any]) -> Any:
        if words not in self.baselines:
            self.baselines[words] = self._search(arguments)
        return self.baselines[words]

    def _search(self, arguments: Mapping[str, Any]) -> Any:
        return self.client.search(**arguments)

    def _core(self, variant: Variant) -> Core:
        settings = Settings.model_validate(
            {
                "policies": {POLICY: {"index": [self.index], "exploration_share": 0, **variant.policy}},
                "signals": dict(variant.signals),
                "experiment": {"holdout": 0},
                "budget": {"cutoff_ms": 60_000},  # the server, too, is to cancel nothing
            }
        )
        files = {str(path.relative_to(TEMPLATES)): path.read_text("utf-8") for path in TEMPLATES.rglob("*.j*")}
        templates = compile_set("default", files, settings.policies[POLICY], time.perf_counter)
        return Core(settings, {POLICY: templates}, ("store",))

    def _known(self, core: Core) -> PastPurchases:
        fields = core.snapshot.fields[POLICY]
        names = tuple(sorted(fields))
        if names not in self.known:
            households = {one.household_id for one in self.asked}
            self.known[names] = PastPurchases(self.corpus, self.weeks, households, fields, core.profile_half_lives)
        return self.known[names]


def _ids(response: Mapping[str, Any]) -> list[str]:
    return [hit["_id"] for hit in response["hits"]["hits"]]


def measured(shop: Shop, progress: Progress) -> list[Measured]:
    """Rank every question in every way. The first line is the baseline."""
    every, new = [one.relevant for one in shop.asked], [one.new for one in shop.asked]
    found = []
    for name, query in (
        ("BM25 × log1p(popularity): the baseline", baseline_query),
        ("BM25 alone", lambda words: {"match": {"title": words}}),
    ):
        pages = shop.plain(query, progress, name)
        found.append(Measured(name, ndcg(pages, every), ndcg(pages, new)))
    for variant in VARIANTS:
        pages, share = shop.personalized(variant, progress)
        found.append(Measured(variant.name, ndcg(pages, every), ndcg(pages, new), share))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark on OPENSEARCH_URL, else on a server of its own; standard output is the table."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.ndcg", description="What personalization is worth in nDCG@10."
    )
    parser.add_argument("--weeks", nargs=2, type=int, default=(LAST_TUNING_WEEK + 1, 53), metavar=("FIRST", "LAST"))
    parser.add_argument("--questions", type=int, default=1_500)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(argv)
    weeks = range(given.weeks[0], given.weeks[1] + 1)
    if not (2 <= weeks.start < weeks.stop <= 54 and given.questions > 1):
        parser.error("--weeks are two of 2 to 53, the first not after the last; --questions at least 2")
    with ExitStack() as stack:
        url = os.environ.get("OPENSEARCH_URL") or stack.enter_context(OpenSearchServer()).url
        client = stack.enter_context(OpenSearch(hosts=[url], timeout=60))
        progress = stack.enter_context(Progress(console=Console(stderr=True), transient=True))
        index = f"rewriter-bench-{uuid.uuid4().hex[:8]}"
        # The index holds no facts from the weeks of the questions.
        corpus = load(popularity_until_week=weeks.start - 1)
        stack.callback(client.indices.delete, index=index, ignore_unavailable=True)
        task = progress.add_task("products", total=len(corpus.products))
        create_index(
            client, index, corpus.products.values(), on_progress=lambda at: progress.update(task, completed=at)
        )
        asked = drawn(corpus, weeks, given.questions, given.seed)
        lines = measured(Shop(client, index, corpus, weeks, asked, given.seed), progress)
    console = Console(width=160)
    title = (
        f"nDCG@10 with 95 % intervals · Complete Journey, weeks {weeks.start} to {weeks.stop - 1},"
        f" {len(lines[0].every):,} questions ({len(lines[0].new):,} with new products), seed {given.seed}"
    )
    printed(title, lines, given.seed, console)
    named = {line.name: line for line in lines}
    kept, low, high = interval(named[EXPLORED].every, named[UNEXPLORED].every, seed=given.seed)
    console.print(f"Exploration costs {1 - kept:.1%} of nDCG@10 [{1 - high:.1%}, {1 - low:.1%}].")
    console.print("The package's README calls these purchases simulated on real shopping patterns.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
