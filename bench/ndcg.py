"""Gain of personalization: nDCG@10 on the purchases of Complete Journey, ranked by the library's flow on a real OpenSearch.

The counters are those of a shop that was set up by `rewriter init --history`: a history of purchases alone, each of which counts 1.
"new" counts only products that the household had never bought before. Parameters were chosen on the weeks up to 46; later weeks are
used only for the report.

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
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from statistics import median
from typing import Any

from opensearchpy import OpenSearch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench.facts import read_facts
from bench.ndcg_table import Group, Measured, interval, printed
from bench.questions import PURCHASE, PastPurchases, Question, drawn
from bench.straight import Straight
from rewriter.core import Core
from rewriter.demo.corpus import LAST_TUNING_WEEK, Corpus, Product, Purchase, baseline_query, create_index, load
from rewriter.report import Reason, Report
from rewriter.settings import Settings
from rewriter.shell.template_files import load_templates
from rewriter.signals.kinds.neighbour import NEIGHBOUR
from rewriter.signals.query_classes import QueryClasses
from rewriter_engines import OpenSearchServer

POLICY = "shop"
MANUFACTURER = {"manufacturer": {"scale": 0.3}}
CLASS = "product_type"
WITHIN = {
    name: {"of": [CLASS, of], "scale": 0.6, "pseudo_count": 2}
    for name, of in (("type_size", "package_size"), ("type_maker", "manufacturer"), ("type_brand", "brand"))
}
"""Attributes within their class."""
BOUGHT_AGAIN = {"class_field": CLASS, "max_boost": 2, "fields": WITHIN}
BASELINE = "BM25 × log1p(popularity): the baseline"
FLATTER = "BM25 × (1.5 + log1p(popularity))"
RECENT = "BM25 × (2.5 + log1p(popularity of 8 weeks))"
AGAIN = "by class: item, and size, maker, brand within it, max_boost 2"
SPARING, ON_FLATTER, ON_RECENT = (
    "  … discovery 1: spare new items",
    "  … on a bare weight, discovery 0.67",
    "  … on recent, discovery 0.5",
)
PLACEBO = "  … with another household's history (placebo)"
LAST_FOUR = "  … of each household, its last 4 purchases alone"
UNEXPLORED, EXPLORED = "item + manufacturer, max_boost 1.5", "  … with exploration_share 0.15"
GOALS = (
    (AGAIN, "all", 0.535, 1.30, "own base, max_boost 2, default"),
    (AGAIN, "new", None, 0.95, ""),
    (SPARING, "all", 0.51, 1.24, "the same, discovery at 'spare new items'"),
    (SPARING, "new", None, 1.00, ""),
    (ON_FLATTER, "all", 0.535, None, "own base with one bare weight"),
    (ON_FLATTER, "new", None, 1.00, ""),
    (ON_RECENT, "all", 0.56, 1.36, "base with decayed popularity"),
    (ON_RECENT, "new", None, 1.00, ""),
    (AGAIN, "first", 0.51, None, "first search of a query"),
    (AGAIN, "first new", None, 0.95, ""),
)
"""Ranking, group, nDCG@10 and ratio to the baseline that are the goals, and the name of each."""
LAMBDAMART = 0.589
"""nDCG@10 of LambdaMART with 66 features on the same questions: the result of a model server."""
LEG_SAMPLE, COLD = 100, 5
HALF_LIFE_WEEKS = 8
# Any other reason is a fault of the benchmark, and no figure is printed.
EXPECTED = frozenset({Reason.PERSONALIZED, Reason.NO_SIGNALS, Reason.NO_RELEVANCE, Reason.NO_HITS})

Ranking = list[list[str]]


def own_query(words: str, _: int) -> dict[str, Any]:
    """Return the shop's query, in any week."""
    return baseline_query(words)


def flatter_query(words: str, _: int) -> dict[str, Any]:
    """Return the shop's query with a bare weight: BM25 × (1.5 + log(1 + popularity))."""
    return _weighted(words, 1.5, "popularity")


def recent_query(words: str, week: int) -> dict[str, Any]:
    """Return a query by a popularity of half-life 8 weeks, as a weekly `rewriter backfill --popularity` would compute it."""
    return _weighted(words, 2.5, recent_field(week))


def recent_field(week: int) -> str:
    """Return the field with the popularity before a week."""
    return f"recent_{week}"


def _weighted(words: str, weight: float, field_name: str) -> dict[str, Any]:
    query = baseline_query(words)["function_score"]
    functions = [{"weight": weight}, {"field_value_factor": {**query["field_value_factor"], "field": field_name}}]
    return {
        "function_score": {
            "query": query["query"],
            "functions": functions,
            "score_mode": "sum",
            "boost_mode": "multiply",
        }
    }


ShopQuery = Callable[[str, int], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Variant:
    """One line of the table: the settings in which it differs from the defaults.

    query:   the shop's own query, a function of words and week. base: the name of its ranking.
    first:   also measured with each search as the first one for its words, so that its classes are unknown.
    placebo: each household has the history of another one. last: only so many of the last purchases of each history.
    """

    name: str
    policy: Mapping[str, Any]
    query: ShopQuery = own_query
    base: str = BASELINE
    first: bool = False
    placebo: bool = False
    last: int | None = None


BASES: tuple[tuple[str, ShopQuery], ...] = (
    (BASELINE, own_query),
    ("BM25 alone", lambda words, _: {"match": {"title": words}}),
    (FLATTER, flatter_query),
    (RECENT, recent_query),
)
VARIANTS = (
    Variant("item, max_boost 1.5: the default policy", {}),
    Variant("item, max_boost 2", {"max_boost": 2}),
    Variant(UNEXPLORED, {"fields": MANUFACTURER}),
    Variant(EXPLORED, {"fields": MANUFACTURER, "exploration_share": 0.15}),
    Variant(AGAIN, BOUGHT_AGAIN, first=True),
    Variant("  … discovery 0.5", BOUGHT_AGAIN | {"discovery": 0.5}),
    Variant(SPARING, BOUGHT_AGAIN | {"discovery": 1}),
    Variant(ON_FLATTER, BOUGHT_AGAIN | {"discovery": 0.67}, flatter_query, FLATTER),
    Variant(ON_RECENT, BOUGHT_AGAIN | {"discovery": 0.5}, recent_query, RECENT),
    Variant(LAST_FOUR, BOUGHT_AGAIN | {"discovery": 1}, last=4),
    Variant(PLACEBO, BOUGHT_AGAIN, placebo=True),
)  # fmt: skip


@dataclass(slots=True)
class Passed:
    """One pass over the questions: pages, reasons, functions sent, bytes read, and the personalized legs that were sent."""

    pages: Ranking = field(default_factory=list)
    reasons: Counter[Reason] = field(default_factory=Counter)
    functions: list[int] = field(default_factory=list)
    bytes_read: list[int] = field(default_factory=list)
    legs: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = field(default_factory=list)


@dataclass
class Shop:
    """The index on its server, and the questions. All variants share the baseline's answers, which are kept."""

    client: OpenSearch
    index: str
    corpus: Corpus
    weeks: range
    questions: Sequence[Question]
    seed: int
    baselines: dict[str, Any] = field(default_factory=dict)
    known: dict[tuple[Any, ...], PastPurchases] = field(default_factory=dict)

    def plain(self, query: ShopQuery, progress: Progress, name: str) -> Ranking:
        """Return the ids on the page of every question, without the library."""
        questions = progress.track(self.questions, description=name)
        return [_ids(self._baseline(self._arguments(query(one.words, one.week)))) for one in questions]

    def personalized(self, variant: Variant, progress: Progress, *, first: bool = False) -> Passed:
        """Search for every question; with `first`, as the first search for its words."""
        core = self._core(variant)
        known = self._known(core)
        if core.settings.class_field and not first:
            self._warm(variant, core, known)
        found = Passed()
        for number, question in enumerate(progress.track(self.questions, description=variant.name.strip())):
            if first:
                core.query_classes = QueryClasses()
            subject = (
                self.questions[(number + len(self.questions) // 2) % len(self.questions)]
                if variant.placebo
                else question
            )
            response, report, shell = self._search_as(variant, core, known, question, subject.household_id, number)
            found.reasons[report.reason] += 1
            found.functions.append(len(report.boosts))
            found.bytes_read.append(shell.bytes_read)
            found.pages.append(_ids(response))
            if shell.sent and len(found.legs) < LEG_SAMPLE:
                found.legs.append((shell.arguments, shell.sent[0]))
        return found

    def slower(self, legs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> float | None:
        """Return the median of a personalized leg's time over that of its plain search, both sent thrice in turn."""
        taken: dict[bool, list[float]] = {False: [], True: []}
        for plain, personal in legs:
            for arguments in (plain, personal) * 3:
                started_s = time.perf_counter()
                self._search(arguments)
                taken[arguments is personal].append(time.perf_counter() - started_s)
        return median(taken[True]) / median(taken[False]) if legs else None

    def _warm(self, variant: Variant, core: Core, known: PastPurchases) -> None:
        """Store the classes of all queries, as they are known after the first search for the words."""
        for words in dict.fromkeys(one.words for one in self.questions):
            question = next(one for one in self.questions if one.words == words)
            self._search_as(variant, core, known, question, question.household_id, 0)

    def _search_as(
        self, variant: Variant, core: Core, known: PastPurchases, question: Question, household_id: str, number: int
    ) -> tuple[Any, Report, Straight]:
        core.snapshot = replace(core.snapshot, population=known.populations[question.week])
        whose = replace(question, household_id=household_id)
        shell = Straight(
            self._arguments(variant.query(question.words, question.week)),
            partial(known.read, whose, last=variant.last),
            partial(known.classes, whose, last=variant.last),
            self._baseline,
            self._search,
        )
        seed = self.seed * 1_000_003 + number
        response, report = shell.run(core, household_id, seed=seed, now_s=question.at_s)
        if report.reason not in EXPECTED or report.errors:
            raise RuntimeError(f"{variant.name}: {report.reason} {report.detail} {', '.join(report.errors)}")
        return response, report, shell

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
                "experiment": {"holdout": 0},
                "budget": {"cutoff_ms": 60_000},  # the server must not cancel searches either
            }
        )
        core = Core(settings, load_templates(settings), ("store",))
        read_facts(core, *self._index_answers)
        return core

    @cached_property
    def _index_answers(self) -> tuple[Any, Any]:
        indices = self.client.indices
        settings = indices.get_settings(index=self.index, params={"flat_settings": "true"})
        return indices.get_mapping(index=self.index), settings

    def _known(self, core: Core) -> PastPurchases:
        fields = core.snapshot.fields[POLICY]
        names = (*sorted(fields.keys() - {NEIGHBOUR}), core.settings.class_field)
        if names not in self.known:
            households = {one.household_id for one in self.questions}
            self.known[names] = PastPurchases(
                self.corpus, self.weeks, households, fields, core.profile_half_lives, core.class_combinations
            )
        return self.known[names]


def _ids(response: Mapping[str, Any]) -> list[str]:
    return [hit["_id"] for hit in response["hits"]["hits"]]


def groups_of(shop: Shop, events: Mapping[str, int]) -> dict[str, Group]:
    """Return the groups of questions: all, those with products new to the household, those of households of few events.

    events: each household's number of events before the first week.
    """

    def group(name: str, wanted: Sequence[AbstractSet[str]], *, cold: bool = False) -> Group:
        numbers = tuple(
            at
            for at, one in enumerate(shop.questions)
            if wanted[at] and not (cold and events[one.household_id] >= COLD)
        )
        return Group(
            name, numbers, tuple(wanted[at] for at in numbers), tuple(shop.questions[at].household_id for at in numbers)
        )

    every = [one.relevant for one in shop.questions]
    return {
        "all": group("all", every),
        "new": group("new", [one.new for one in shop.questions]),
        "cold": group("cold", every, cold=True),
    }


def measured(shop: Shop, groups: Mapping[str, Group], progress: Progress, only: str = "") -> list[Measured]:
    """Rank every question in every way. The first line is the baseline."""

    def values(pages: Ranking) -> dict[str, Any]:
        return {name: group.measured(pages) for name, group in groups.items() if group.numbers}

    bases = {name: shop.plain(query, progress, name) for name, query in BASES}
    found = [Measured(name, values(pages), coverage=covered(pages)) for name, pages in bases.items()]
    for variant in VARIANTS:
        if not re.search(only, variant.name):
            continue
        known = shop.personalized(variant, progress)
        first = shop.personalized(variant, progress, first=True).pages if variant.first else None
        found.append(
            Measured(
                variant.name,
                values(known.pages),
                variant.base,
                known.reasons[Reason.PERSONALIZED] / known.reasons.total(),
                float(median(known.functions)),
                float(median(known.bytes_read)),
                covered(known.pages),
                displaced(known.pages, bases[variant.base]),
                None if variant.placebo else shop.slower(known.legs),
                values(first) if first is not None else {},
            )
        )
    return found


def covered(pages: Ranking) -> int:
    """Return the number of distinct products on all pages."""
    return len({name for page in pages for name in page})


def displaced(pages: Ranking, before: Ranking) -> float:
    """Return the mean number of products of a page of `before` that the page replacing it lacks."""
    return sum(len(set(old) - set(new)) for new, old in zip(pages, before, strict=True)) / max(1, len(before))


def goals(lines: Mapping[str, Measured], groups: Mapping[str, Group], seed: int) -> Table:
    """Return the table of the goals with the measured values."""
    table = Table(title="Goals of nDCG@10: reached, with the 95 % interval", title_justify="left")
    for name in ("ranking", "group", "goal", "measured", "÷ baseline", "reached"):
        table.add_column(name)
    base = lines[BASELINE]
    for name, group, least, ratio_least, title in GOALS:
        if name not in lines:
            continue
        of = "new" if group.endswith("new") else "all"
        named = lines[name].first if group.startswith("first") else lines[name].values
        if of not in named:
            continue
        values, before, people = named[of]["nDCG@10"], base.values[of]["nDCG@10"], groups[of].households
        mean, low, high = interval(values, people, seed=seed)
        ratio, ratio_low, ratio_high = interval(values, people, before, seed=seed)
        reached = (least is None or round(mean, 3) >= least) and (ratio_least is None or round(ratio, 2) >= ratio_least)
        goal = " ".join([f"≥ {least}"] * (least is not None) + [f"× ≥ {ratio_least}"] * (ratio_least is not None))
        table.add_row(
            title, group, goal, f"{mean:.3f} [{low:.3f}, {high:.3f}]", f"{ratio:.3f} [{ratio_low:.3f}, {ratio_high:.3f}]",
            "yes" if reached else "NO",
        )  # fmt: skip
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark on OPENSEARCH_URL, else on a server of its own; standard output is the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.ndcg", description="The gain of personalization in nDCG@10.")
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
        # The index holds no data from the weeks of the questions.
        corpus = load(popularity_until_week=weeks.start - 1)
        stack.callback(client.indices.delete, index=index, ignore_unavailable=True)
        task = progress.add_task("products", total=len(corpus.products))
        create_index(
            client, index, with_recent(corpus, weeks), on_progress=lambda at: progress.update(task, completed=at),
            more={recent_field(week): {"type": "float"} for week in weeks},
        )  # fmt: skip
        questions = drawn(corpus, weeks, given.questions, given.seed)
        shop = Shop(client, index, corpus, weeks, questions, given.seed)
        events = Counter(one.household_id for one in corpus.purchases if one.week < weeks.start)
        groups = groups_of(shop, events)
        lines = measured(shop, groups, progress, given.only)
    console = Console(width=200)
    title = (
        f"Complete Journey, weeks {weeks.start} to {weeks.stop - 1}, {len(questions):,} questions, seed {given.seed}"
    )
    printed(title, lines, groups, given.seed, console)
    named, people = {line.name: line for line in lines}, groups["all"].households

    def of(name: str) -> Any:
        return named[name].values["all"]["nDCG@10"]

    console.print(goals(named, groups, given.seed))
    if EXPLORED in named and UNEXPLORED in named:
        kept, low, high = interval(of(EXPLORED), people, of(UNEXPLORED), seed=given.seed)
        console.print(f"Exploration costs {1 - kept:.1%} of nDCG@10 [{1 - high:.1%}, {1 - low:.1%}].")
    if PLACEBO in named:
        ratio, low, high = interval(of(PLACEBO), people, of(BASELINE), seed=given.seed)
        verdict = "below its base, as it must be" if high < 1 else "NOT BELOW ITS BASE: the gain is not personal"
        console.print(f"Placebo: {ratio:.3f} [{low:.3f}, {high:.3f}] of its base: {verdict}.")
    best = max((one for one in lines if one.functions is not None), key=lambda one: one.values["all"]["nDCG@10"].mean())
    way = (best.values["all"]["nDCG@10"].mean() - of(BASELINE).mean()) / (LAMBDAMART - of(BASELINE).mean())
    console.print(f"Best: {best.name.strip()}, {way:.0%} of the way from the baseline to LambdaMART's {LAMBDAMART}.")
    console.print(
        f"cold: households with fewer than {COLD} purchases before. first: no class of the query is known."
        f" A purchase counts {PURCHASE:g}, as `rewriter init --history` sets it for purchases alone."
        " The package's README calls these purchases simulated on real shopping patterns."
    )
    return 0


@dataclass(frozen=True, slots=True)
class Described:
    """A product with the popularity that it had before each week."""

    product: Product
    recent: Mapping[str, float]

    @property
    def product_id(self) -> str:
        """The product's id."""
        return self.product.product_id

    def document(self) -> dict[str, Any]:
        """Return the product's document, with its popularities."""
        return {**self.product.document(), **self.recent}


def with_recent(corpus: Corpus, weeks: range) -> Iterator[Described]:
    """Yield each product with its purchases before each week, decayed with a half-life of 8 weeks to the week's first purchase."""
    starts_s: dict[int, int] = {}
    for one in corpus.purchases:
        starts_s.setdefault(one.week, one.at_s)
    bought: dict[str, list[Purchase]] = defaultdict(list)
    for one in corpus.purchases:
        bought[one.product_id].append(one)
    half_life_s = HALF_LIFE_WEEKS * 7 * 86_400
    for name, product in corpus.products.items():
        recent = {
            recent_field(week): sum(
                2.0 ** ((one.at_s - starts_s[week]) / half_life_s) for one in bought.get(name, ()) if one.week < week
            )
            for week in weeks
        }
        yield Described(product, recent)


if __name__ == "__main__":
    raise SystemExit(main())
