"""Gain of session signals within a visit: nDCG@10 on simulated visits, ranked by the library's flow on a real OpenSearch.

    python -m season.blending                       2,000 visits of weeks 41 to 46

Each search after the first click of a visit is ranked with the profile alone, with the visit's clicks blended in, and with another
visit's clicks (the placebo). The clicks are those on the caller's own pages, so that all rankings have the same past. The profile
holds the account's real purchases of the weeks before. Blending must help in visits with an intent of their own, and must not harm
the others. Visits and clicks are simulated: see `season/parameters.toml`.
"""

from __future__ import annotations

import argparse
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from opensearchpy import OpenSearch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench.facts import read_facts
from bench.ndcg_table import interval, ndcg
from bench.questions import PastPurchases, Question
from bench.straight import Straight
from rewriter.core import Core
from rewriter.demo.corpus import Corpus, baseline_query, create_index, load, values_of
from rewriter.settings import Settings
from rewriter.shell.template_files import load_templates
from rewriter.signals.counters import Counters, HalfLives, Observation, counted
from rewriter_engines import OpenSearchServer
from season import parameters
from season.clicks import Click, clicks_on
from season.shelf import Shelf, shelf_of
from season.shop import SHOP
from season.visits import OWN_INTENT, Step, Visit, accounts_of, shuffled, visits_of

POLICY = "shop"
CLICK, ORDER = 2.0, 8.0
"""The default weights of the two actions."""
PAGE = 10


@dataclass(frozen=True, slots=True)
class VisitSearch:
    """One search of a visit, `at_s` being its time, and the clicks of the visit before it."""

    visit: Visit
    step: Step
    again: bool
    at_s: float
    before: Sequence[tuple[float, Click]]

    @property
    def group(self) -> str:
        """The row of the table to which the search belongs."""
        return f"{self.visit.kind}{', again' if self.again else ''}"


class Measure:
    """Ranks searches on one index, with one core for each blend."""

    def __init__(self, client: OpenSearch, index: str, shelf: Shelf, accounts: Mapping[str, str]) -> None:
        self._client = client
        self._index = index
        self._shelf = shelf
        renamed = [
            one._replace(household_id=accounts.get(one.household_id, one.household_id))
            for one in shelf.corpus.purchases
        ]
        self._corpus = Corpus(shelf.corpus.products, renamed)
        self._plain: dict[str, list[str]] = {}
        self._answers: dict[str, Any] = {}
        self._past: PastPurchases | None = None

    def plain(self, words: str) -> list[str]:
        """Return the caller's own page."""
        if words not in self._plain:
            found = self._baseline(self._arguments(words))
            self._plain[words] = [hit["_id"] for hit in found["hits"]["hits"]]
        return self._plain[words]

    def ranked(
        self, searches: Sequence[VisitSearch], blend_max: float, clicks: Mapping[int, Sequence[tuple[float, Click]]],
        progress: Progress, name: str, weeks: range,
    ) -> list[list[str]]:  # fmt: skip
        """Return the page of each search. clicks: those of the visit so far, by the search's number."""
        core = self._core(blend_max)
        fields = core.snapshot.fields[POLICY]
        if self._past is None:
            people = {one.visit.account for one in searches}
            self._past = PastPurchases(
                self._corpus, weeks, people, fields, core.profile_half_lives, core.class_combinations
            )
        past = self._past
        values = {name: values_of(product, fields) for name, product in self._shelf.corpus.products.items()}
        half_lives = HalfLives(core.settings.signals.session_half_life_s)
        pages = []
        for number, one in enumerate(progress.track(searches, description=name)):
            week = self._shelf.baskets[one.visit.number].week
            question = Question(one.visit.account, week, int(one.at_s), one.step.need.words, frozenset(), frozenset())
            core.snapshot = replace(core.snapshot, population=past.populations[week])
            seen = [
                Observation(values[click.product_id], weight, one.at_s - ago_s)
                for ago_s, click in clicks[number]
                for weight in ((CLICK, ORDER) if click.ordered else (CLICK,))
            ]
            session: Counters | None = counted(seen, half_lives, one.at_s) if blend_max else None
            shell = Straight(
                self._arguments(one.step.need.words), partial(past.read, question),
                partial(past.classes, question), self._baseline, self._search, session,
            )  # fmt: skip
            response, report = shell.run(core, one.visit.account, seed=number, now_s=one.at_s)
            if report.errors:
                raise RuntimeError(f"{name}: {report.reason} {report.detail} {', '.join(report.errors)}")
            pages.append([hit["_id"] for hit in response["hits"]["hits"]])
        return pages

    def _arguments(self, words: str) -> dict[str, Any]:
        return {"index": self._index, "body": {"query": baseline_query(words), "_source": False, "size": PAGE}}

    def _baseline(self, arguments: Mapping[str, Any]) -> Any:
        key = str(arguments["body"])
        if key not in self._answers:
            self._answers[key] = self._search(arguments)
        return self._answers[key]

    def _search(self, arguments: Mapping[str, Any]) -> Any:
        return self._client.search(**arguments)

    def _core(self, blend_max: float) -> Core:
        settings = Settings.model_validate({
            "policies": {POLICY: {"index": [self._index], "exploration_share": 0, **SHOP}}, "experiment": {"holdout": 0},
            "signals": {"blend_max": blend_max}, "budget": {"cutoff_ms": 60_000},
        })  # fmt: skip
        core = Core(settings, load_templates(settings), ("store",))
        indices = self._client.indices
        read_facts(
            core,
            indices.get_mapping(index=self._index),
            indices.get_settings(index=self._index, params={"flat_settings": "true"}),
        )
        return core


def searches_after_clicks(
    visits: Sequence[Visit], measure: Measure, given: parameters.Parameters
) -> Iterator[VisitSearch]:
    """Yield each search that has clicks before it, made on the caller's own pages."""
    for visit in visits:
        before: list[tuple[float, Click]] = []
        searched: set[str] = set()
        for number, step in enumerate(visit.steps):
            words = step.need.words
            at_s = visit.at_s + step.after_s
            if before:
                ago = [(step.after_s - at, click) for at, click in before]
                yield VisitSearch(visit, step, words in searched, at_s, ago)
            searched.add(words)
            mood = f"{visit.session_id} {number}"
            before += [
                (step.after_s + 3.0, one) for one in clicks_on(measure.plain(words), step.need, given.clicks, mood)
            ]


def main() -> int:
    """Print the table; on OPENSEARCH_URL, else on a server of its own."""
    parser = argparse.ArgumentParser(
        prog="python -m season.blending", description="Gain of session signals within a visit."
    )
    given = parameters.read()
    parser.add_argument("--visits", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=given.season.seed)
    parser.add_argument("--blend-max", type=float, nargs="+", default=[0.5])
    options = parser.parse_args()
    with ExitStack() as stack:
        url = os.environ.get("OPENSEARCH_URL") or stack.enter_context(OpenSearchServer()).url
        client = stack.enter_context(OpenSearch(hosts=[url], timeout=60))
        progress = stack.enter_context(Progress(console=Console(stderr=True), transient=True))
        shelf = shelf_of(load(popularity_until_week=given.catalogue.history_weeks), given.catalogue)
        index = f"rewriter-season-{uuid.uuid4().hex[:8]}"
        stack.callback(client.indices.delete, index=index, ignore_unavailable=True)
        create_index(client, index, shelf.corpus.products.values())
        visits = visits_of(shelf, given.visits, options.visits, options.seed)
        accounts = accounts_of(sorted({one.household_id for one in shelf.baskets}), given.visits.shared, options.seed)
        measure = Measure(client, index, shelf, accounts)
        searches = list(searches_after_clicks(visits, measure, given))
        own = {number: one.before for number, one in enumerate(searches)}
        weeks = given.catalogue.weeks
        pages = {"profile alone": measure.ranked(searches, 0.0, own, progress, "profile alone", weeks)}
        for blend in options.blend_max:
            pages[f"blended, {blend:g}"] = measure.ranked(searches, blend, own, progress, f"blended {blend:g}", weeks)
        moved = shuffled(own, options.seed)
        pages["placebo"] = measure.ranked(searches, options.blend_max[0], moved, progress, "placebo", weeks)
        plain = [measure.plain(one.step.need.words) for one in searches]
    printed(searches, {"the caller's own": plain, **pages})
    return 0


def printed(searches: Sequence[VisitSearch], pages: Mapping[str, Sequence[Sequence[str]]]) -> None:
    """Print nDCG@10 of each ranking for each kind of visit, and its ratio to the profile alone."""
    found = {name: ndcg(own, [one.step.need.wanted for one in searches]) for name, own in pages.items()}
    accounts = np.array([one.visit.account for one in searches])
    kinds = np.array([one.visit.kind for one in searches])
    groups = np.array([one.group for one in searches])
    rows = {
        "all": np.ones(len(searches), dtype=bool),
        "an intent of its own": np.isin(kinds, sorted(OWN_INTENT)),
        "none of its own": kinds == "habit",
        **{name: groups == name for name in sorted(set(groups))},
    }
    table = Table(title="Simulated visits: nDCG@10 of searches after a visit's first click", title_justify="left")
    for column in ("visits", "searches", *found):
        table.add_column(column, justify="left" if column == "visits" else "right")
    for group, mask in rows.items():
        if not mask.any():
            continue
        cells = []
        for name, values in found.items():
            text = f"{values[mask].mean():.3f}"
            if name not in ("the caller's own", "profile alone"):
                share, low, high = interval(values[mask], accounts[mask], found["profile alone"][mask], seed=1)
                text += f"  × {share:.3f} [{low:.3f}, {high:.3f}]"
            cells.append(text)
        table.add_row(group, f"{int(mask.sum()):,}", *cells)
    Console(width=170).print(table)


if __name__ == "__main__":
    raise SystemExit(main())
