"""Gain of personalization: nDCG@10 on the purchases of Complete Journey, ranked by the library's flow on a real OpenSearch.

"new" counts only products that the household had never bought before. Parameters were chosen on the weeks up to 46; later weeks are
used for the report alone.

    python -m bench.ndcg                              the report, on weeks 47 to 53
    python -m bench.ndcg --weeks 41 46 --seed 5       on weeks that were tuned on
"""

from __future__ import annotations

import argparse
import json
import os
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from statistics import median
from typing import Any

from opensearchpy import OpenSearch
from rich.console import Console
from rich.progress import Progress

from bench.facts import read_facts
from bench.ndcg_table import Measured, interval, ndcg, printed
from bench.questions import PastPurchases, Question, drawn
from bench.straight import Straight
from rewriter.boost.validation import compile_set
from rewriter.core import Core
from rewriter.demo.corpus import LAST_TUNING_WEEK, Corpus, baseline_query, create_index, load
from rewriter.report import Reason, Report
from rewriter.settings import Settings
from rewriter.signals.query_classes import QueryClasses
from rewriter_engines import OpenSearchServer

TEMPLATES = Path(__file__).parents[1] / "templates" / "default"
POLICY = "shop"
MANUFACTURER = {"manufacturer": {"scale": 0.3}}
STRONG = {"manufacturer": {"scale": 1.0}}
COMBINATION = {"type_manufacturer": {"of": ["product_type", "manufacturer"], "scale": 0.3}}
CLASS = "product_type"
WITHIN = {
    name: {"of": [CLASS, of], "scale": 0.6, "pseudo_count": 2}
    for name, of in (("type_size", "package_size"), ("type_maker", "manufacturer"), ("type_brand", "brand"))
}
"""Attributes within their class."""
BOUGHT_AGAIN = {"class_field": CLASS, "max_boost": 2, "fields": WITHIN}
AGAIN = "by class: item, and size, maker, brand within it, max_boost 2"
UNEXPLORED, EXPLORED = "item + manufacturer, max_boost 1.5", "  … with exploration_share 0.15"
# Any other reason is a fault of the benchmark, and no figure is printed.
EXPECTED = frozenset({Reason.PERSONALIZED, Reason.NO_SIGNALS, Reason.NO_RELEVANCE, Reason.NO_HITS})

Ranking = list[list[str]]


def weighted_query(words: str) -> dict[str, Any]:
    """Return the shop's query with a flatter base: BM25 × (1.5 + log(1 + popularity))."""
    query = baseline_query(words)["function_score"]
    popularity = {"field_value_factor": query["field_value_factor"]}
    functions = [{"weight": 1.5}, popularity]
    return {
        "function_score": {
            "query": query["query"],
            "functions": functions,
            "score_mode": "sum",
            "boost_mode": "multiply",
        }
    }


@dataclass(frozen=True, slots=True)
class Variant:
    """One line of the table: the settings in which it differs from the defaults.

    query:   the shop's own. first: each search is the first one for its words, so that its classes are unknown.
    placebo: each household has the history of another one.
    """

    name: str
    policy: Mapping[str, Any]
    signals: Mapping[str, Any] = field(default_factory=dict)
    query: Callable[[str], dict[str, Any]] = baseline_query
    first: bool = False
    placebo: bool = False


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
    Variant("by class: item, max_boost 2", {"class_field": CLASS, "max_boost": 2}),
    Variant(AGAIN, BOUGHT_AGAIN),
    Variant("  … the first search for its words", BOUGHT_AGAIN, first=True),
    Variant("  … with another household's history (placebo)", BOUGHT_AGAIN, placebo=True),
    Variant("  … item_scale 0.4: spare new items", BOUGHT_AGAIN | {"item_scale": 0.4}),
    Variant("  … on the base with a bare weight of 1.5", BOUGHT_AGAIN, query=weighted_query),
)  # fmt: skip


@dataclass
class Shop:
    """The index on its server, and the questions. All variants share the baseline's answers, which are kept."""

    client: OpenSearch
    index: str
    corpus: Corpus
    weeks: range
    asked: Sequence[Question]
    seed: int
    baselines: dict[str, Any] = field(default_factory=dict)
    known: dict[tuple[Any, ...], PastPurchases] = field(default_factory=dict)

    def plain(self, query: Callable[[str], dict[str, Any]], progress: Progress, name: str) -> Ranking:
        """Return the ids on the page of every question, without the library."""
        asked = progress.track(self.asked, description=name)
        return [_ids(self._search(self._arguments(query(one.words)))) for one in asked]

    def personalized(self, variant: Variant, progress: Progress) -> tuple[Ranking, float, float]:
        """Return the page of every question, the share of them that were personalized, and the median of functions sent."""
        core = self._core(variant)
        known = self._known(core)
        if core.settings.class_field and not variant.first:
            self._warm(variant, core, known)
        pages, reasons, functions = [], Counter[Reason](), []
        for number, question in enumerate(progress.track(self.asked, description=variant.name.strip())):
            if variant.first:
                core.query_classes = QueryClasses()
            subject = self.asked[(number + len(self.asked) // 2) % len(self.asked)] if variant.placebo else question
            response, report = self._search_as(variant, core, known, question, subject.household_id, number)
            reasons[report.reason] += 1
            functions.append(len(report.boosts))
            pages.append(_ids(response))
        return pages, reasons[Reason.PERSONALIZED] / reasons.total(), float(median(functions))

    def _warm(self, variant: Variant, core: Core, known: PastPurchases) -> None:
        """Have the classes of all queries known, as they are but for the first search for some words."""
        for words in dict.fromkeys(one.words for one in self.asked):
            question = next(one for one in self.asked if one.words == words)
            self._search_as(variant, core, known, question, question.household_id, 0)

    def _search_as(
        self, variant: Variant, core: Core, known: PastPurchases, question: Question, household_id: str, number: int
    ) -> tuple[Any, Report]:
        core.snapshot = replace(core.snapshot, population=known.populations[question.week])
        whose = replace(question, household_id=household_id)
        shell = Straight(
            self._arguments(variant.query(question.words)),
            partial(known.profile, whose),
            partial(known.classes, whose),
            self._baseline,
            self._search,
        )
        seed = self.seed * 1_000_003 + number
        response, report = shell.run(core, household_id, seed=seed, now_s=question.at_s)
        if report.reason not in EXPECTED or report.errors:
            raise RuntimeError(f"{variant.name}: {report.reason} {report.detail} {', '.join(report.errors)}")
        return response, report

    def _arguments(self, query: Mapping[str, Any]) -> dict[str, Any]:
        return {"index": self.index, "body": {"query": query, "_source": False}}

    def _baseline(self, arguments: Mapping[str, Any]) -> Any:
        key = json.dumps(arguments["body"], sort_keys=True)
        if key not in self.baselines:
            self.baselines[key] = self._search(arguments)
        return self.baselines[key]

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
        core = Core(settings, {POLICY: templates}, ("store",))
        read_facts(core, *self._index_answers)
        return core

    @cached_property
    def _index_answers(self) -> tuple[Any, Any]:
        indices = self.client.indices
        settings = indices.get_settings(index=self.index, params={"flat_settings": "true"})
        return indices.get_mapping(index=self.index), settings

    def _known(self, core: Core) -> PastPurchases:
        fields = core.snapshot.fields[POLICY]
        names = (*sorted(fields), core.settings.class_field)
        if names not in self.known:
            households = {one.household_id for one in self.asked}
            self.known[names] = PastPurchases(
                self.corpus, self.weeks, households, fields, core.profile_half_lives, core.class_combinations
            )
        return self.known[names]


def _ids(response: Mapping[str, Any]) -> list[str]:
    return [hit["_id"] for hit in response["hits"]["hits"]]


def measured(shop: Shop, progress: Progress, only: str = "") -> list[Measured]:
    """Rank every question in every way. The first line is the baseline."""
    every, new = [one.relevant for one in shop.asked], [one.new for one in shop.asked]
    found = []
    for name, query in (
        ("BM25 × log1p(popularity): the baseline", baseline_query),
        ("BM25 alone", lambda words: {"match": {"title": words}}),
        ("BM25 × (1.5 + log1p(popularity))", weighted_query),
    ):
        pages = shop.plain(query, progress, name)
        found.append(Measured(name, ndcg(pages, every), ndcg(pages, new)))
    for variant in VARIANTS:
        if not re.search(only, variant.name):
            continue
        pages, share, functions = shop.personalized(variant, progress)
        found.append(Measured(variant.name, ndcg(pages, every), ndcg(pages, new), share, functions))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark on OPENSEARCH_URL, else on a server of its own; standard output is the table."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.ndcg", description="What personalization is worth in nDCG@10."
    )
    parser.add_argument("--weeks", nargs=2, type=int, default=(LAST_TUNING_WEEK + 1, 53), metavar=("FIRST", "LAST"))
    parser.add_argument("--questions", type=int, default=1_500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", metavar="REGEX", help="rank only the ways whose name matches")
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
        lines = measured(Shop(client, index, corpus, weeks, asked, given.seed), progress, given.only)
    console = Console(width=160)
    title = (
        f"nDCG@10 with 95 % intervals · Complete Journey, weeks {weeks.start} to {weeks.stop - 1},"
        f" {len(lines[0].every):,} questions ({len(lines[0].new):,} with new products), seed {given.seed}"
    )
    printed(title, lines, given.seed, console)
    named = {line.name: line for line in lines}
    if EXPLORED in named and UNEXPLORED in named:
        kept, low, high = interval(named[EXPLORED].every, named[UNEXPLORED].every, seed=given.seed)
        console.print(f"Exploration costs {1 - kept:.1%} of nDCG@10 [{1 - high:.1%}, {1 - low:.1%}].")
    console.print("The package's README calls these purchases simulated on real shopping patterns.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
