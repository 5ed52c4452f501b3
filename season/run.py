"""One season: visits of several weeks through the real pipeline, in virtual time, and the `rewriter report` on their records.

The visits of a day take turns: each makes its next search, then a worker counts all clicks before the next turn. So a visit's next
search knows its earlier clicks, as it would half a minute later.
"""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from opensearchpy import OpenSearch

from rewriter import Report, Rewriter, Subject
from rewriter.cli.given_stores import stores_of
from rewriter.cli.ingest import worker_of
from rewriter.measures.bubble import PageDistance
from rewriter.observe.hooks import Hook
from rewriter.observe.ubi import UbiRecords, timestamp, ubi_query
from rewriter.observe.ubi_sinks import NdjsonSink
from rewriter.settings import Settings
from rewriter.signals.ingest.worker import Worker
from season.clicks import Click, clicks_on, expected_clicks
from season.clock import Virtual, virtual
from season.stage import Stage, Variant, rewriter_command, search_of, toml_of
from season.twins import mean_distance
from season.visits import Visit

DAY_S = 86_400
READY_S, COUNTED_S = 60.0, 60.0
PAUSE_S = 0.002


@dataclass(slots=True)
class Outcome:
    """The outcome of a season: the report as JSON, the distances of twins by week, and counts.

    clicks_shown, clicks_plain: the clicks that the click model expects in the treated arm's searches, on the shown pages and on the
    caller's own pages.
    """

    variant: Variant
    report: dict[str, Any] = field(default_factory=dict)
    distances: list[PageDistance] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    searches: int = 0
    events: int = 0
    clicks_shown: float = 0.0
    clicks_plain: float = 0.0
    took_s: float = 0.0
    cpu_s: float = 0.0

    @property
    def true_lift(self) -> float:
        """The true lift of clicks per search: on the same searches, without the noise of clicks."""
        return self.clicks_shown / self.clicks_plain - 1.0 if self.clicks_plain else 0.0

    @property
    def as_expected(self) -> bool:
        """Whether the verdict is one that the variant allows."""
        return self.report["verdict"] in self.variant.verdicts


class Season:
    """One run of one variant. `hooks` also receive every search. `on_ready` gets rewriter and worker before the first search."""

    def __init__(
        self,
        stage: Stage,
        variant: Variant,
        visits: int,
        hooks: Sequence[Hook] = (),
        on_ready: Callable[[Rewriter[OpenSearch], Worker], None] = lambda *_: None,
    ) -> None:
        self._stage = stage
        self._visits = stage.visits(visits)
        self._plain: dict[str, list[str]] = {}
        self._toml = toml_of(stage, variant)
        self._folder = self._toml.parent
        self._hooks, self._on_ready = hooks, on_ready
        self._waiting: list[dict[str, Any]] = []
        self._sent = 0
        self.outcome = Outcome(variant)

    def run(self, on_progress: Callable[[int, int], None] = lambda _done, _of: None) -> Outcome:
        """Run the variant, and return its outcome."""
        began_s, cpu_s = time.monotonic(), time.process_time()
        rewriter_command("backfill", self._stage.history, "--toml", self._toml)
        settings = Settings.from_toml(self._toml)
        with ExitStack() as stack:
            records = UbiRecords(NdjsonSink(self._folder / "queries.ndjson"), settings, application="season")
            stack.callback(records.close)
            self._client = stack.enter_context(OpenSearch(hosts=[self._stage.url], timeout=60))
            self._virtual: Virtual = stack.enter_context(virtual(self._stage.starts_s))
            self._rewriter: Rewriter[OpenSearch] = stack.enter_context(
                Rewriter(self._client, settings=settings, hooks=[records, *self._hooks])
            )
            nobody_out = settings.experiment.model_copy(update={"holdout": 0.0, "interleaved": 0.0})
            everybody = settings.model_copy(update={"experiment": nobody_out})
            self._mirror: Rewriter[OpenSearch] = stack.enter_context(Rewriter(self._client, settings=everybody))
            self._events = stack.enter_context((self._folder / "events.ndjson").open("w", encoding="utf-8"))
            self._worker: Worker = worker_of(settings, *stores_of(settings))
            stack.callback(self._worker.close)
            for one in (self._rewriter, self._mirror):
                if not one.wait_ready(READY_S, index=self._stage.index):
                    raise RuntimeError(f"the rewriter is not ready: {one.status().missing}")
            self._on_ready(self._rewriter, self._worker)
            self._play(on_progress)
            if not records.flush(READY_S) or records.counts["written"] != self.outcome.searches:
                raise RuntimeError(f"not all searches have a record: {records.counts}")
        self.outcome.took_s, self.outcome.cpu_s = time.monotonic() - began_s, time.process_time() - cpu_s
        self._report()
        return self.outcome

    def _play(self, on_progress: Callable[[int, int], None]) -> None:
        days: dict[int, list[Visit]] = defaultdict(list)
        for visit in self._visits:
            days[int(visit.at_s - self._stage.starts_s) // DAY_S].append(visit)
        for number in range(max(days) + 1):
            self._virtual.begin_day(self._stage.starts_s + number * DAY_S)
            if number % 7 == 0 and self.outcome.variant.is_personalized:
                self._twins(number // 7)
            for turn in _turns(days[number]):
                for visit, at in turn:
                    self._search(visit, at)
                self._count()
            on_progress(number + 1, max(days) + 1)

    def _search(self, visit: Visit, at: int) -> None:
        step = visit.steps[at]
        self._virtual.clock.now_s = visit.at_s + step.after_s
        mood = f"{visit.session_id} {at}"
        self._virtual.draws.seed(mood)
        query_id = f"{visit.session_id}-{at}"
        subject = Subject(visit.account, visit.session_id)
        with ubi_query(query_id, user_query=step.need.words, client_id=visit.account):
            page, report = self._page(self._rewriter, step.need.words, subject)
        self.outcome.searches += 1
        self.outcome.reasons[str(report.reason)] += 1
        model = self._stage.given.clicks
        if report.exposure is not None and report.exposure.arm == "treatment":
            self.outcome.clicks_shown += expected_clicks(page, step.need, model)
            self.outcome.clicks_plain += expected_clicks(self._plain_page(step.need.words), step.need, model)
        for click in clicks_on(page, step.need, model, mood):
            self._acted(
                visit.account, visit.session_id, query_id, click, visit.at_s + step.after_s + 4.0 * click.position
            )

    def _page(self, rewriter: Rewriter[OpenSearch], words: str, subject: Subject) -> tuple[list[str], Report]:
        body = search_of(words, self._virtual.clock.now_s)
        response, report = rewriter.search_details(index=self._stage.index, body=body, subject=subject)
        self._virtual.await_classes()
        return [hit["_id"] for hit in response["hits"]["hits"]], report

    def _plain_page(self, words: str) -> list[str]:
        if words not in self._plain:
            found = self._client.search(index=self._stage.index, body=search_of(words, self._stage.starts_s))
            self._plain[words] = [hit["_id"] for hit in found["hits"]["hits"]]
        return self._plain[words]

    def _acted(self, account: str, session_id: str | None, query_id: str | None, click: Click, at_s: float) -> None:
        """Track a click, and the order that may follow it; the report's events are the same."""
        for action, after_s in (("click", 0.0), *((("purchase", 2.0),) if click.ordered else ())):
            event = {
                "action_name": action, "timestamp": timestamp(at_s + after_s), "client_id": account, "user_id": account,
                "session_id": session_id, "query_id": query_id, "event_id": f"{query_id}-{action}-{click.position}",
                "event_attributes": {
                    "object": {"object_id": click.product_id, "object_id_field": "_id"},
                    "position": {"ordinal": click.position},
                },
            }  # fmt: skip
            if session_id is not None:
                self._events.write(f"{json.dumps(event)}\n")
                self.outcome.events += 1
            if not self._rewriter.track(event):
                raise RuntimeError("an event was not accepted")
            self._sent += 1

    def _count(self) -> None:
        """Wait until every event is in the store and counted."""
        until_s = time.monotonic() + COUNTED_S
        while self._rewriter.local_status().tracked.get("accepted", 0) < self._sent:
            _wait(until_s, "events were not appended")
        while self._worker.counts.total() < self._sent:
            if not self._worker.step():
                _wait(until_s, f"events were not counted: {self._worker.trouble} {dict(self._worker.counts)}")
        if lost := {name: n for name, n in self._worker.counts.items() if name not in ("counted", "waiting") and n}:
            raise RuntimeError(f"events were not counted: {lost}")

    def _twins(self, week: int) -> None:
        pages = []
        for number, pair in enumerate(self._stage.twins):
            both = []
            for twin in pair:
                self._virtual.draws.seed(f"twins {week} {number}")
                page, _ = self._page(self._mirror, twin.product_type.lower(), Subject(twin.user_id))
                both.append(page)
                position = next((at for at, one in enumerate(page, 1) if one in twin.makes), 0)
                if position:
                    click = Click(position, page[position - 1], ordered=True)
                    self._acted(twin.user_id, None, f"{twin.user_id}-{week}", click, self._virtual.clock.now_s + 30.0)
            pages.append((both[0], both[1]))
        makers: dict[Hashable, Hashable] = {
            name: one.manufacturer for name, one in self._stage.shelf.corpus.products.items()
        }
        self.outcome.distances.append(mean_distance(pages, makers))
        self._count()

    def _report(self) -> None:
        season = self._stage.given.season
        since = datetime.fromtimestamp(self._stage.starts_s, UTC).isoformat()
        output = rewriter_command(
            "report", "--queries", self._folder / "queries.ndjson", "--events", self._folder / "events.ndjson", "--since", since,
            "--primary", season.primary, "--planned-people", season.planned_people, "--max-added-ms", 5_000, "--json",
            "--html", self._folder / "report.html", codes=(0, 1),
        )  # fmt: skip
        self.outcome.report = json.loads(output)


def _turns(visits: Sequence[Visit]) -> Iterator[list[tuple[Visit, int]]]:
    for at in range(max((len(one.steps) for one in visits), default=0)):
        yield [(one, at) for one in visits if len(one.steps) > at]


def _wait(until_s: float, why: str) -> None:
    if time.monotonic() >= until_s:
        raise RuntimeError(why)
    time.sleep(PAUSE_S)
