"""One evaluation: every judged search answered by the baseline and by each variant, with signals as of the search.

Searches are taken by person, the people in the order of their pseudonyms: a run that is interrupted has seen a random part of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import groupby
from math import inf
from typing import Any

from rewriter.client.seam import LegFault, Search, SearchArguments, SearchClient
from rewriter.core import Core
from rewriter.decide.quarantine import NoQuarantine
from rewriter.errors import ConfigurationError, Fault
from rewriter.evaluate.answers import AT_ONCE, Job, OnceEach, Send, answered, at_once
from rewriter.evaluate.facts import read_facts
from rewriter.evaluate.hit_facts import shown_fields
from rewriter.evaluate.judged import JudgedSearch
from rewriter.evaluate.outcome import Outcome, Prepared, Result
from rewriter.evaluate.past import Past
from rewriter.evaluate.shared import Shared
from rewriter.evaluate.subject_replay import SubjectReplay
from rewriter.evaluate.variants import POLICY, Variant
from rewriter.index_facts import IndexFacts
from rewriter.plural import count_of
from rewriter.report import Reason, Report
from rewriter.shell.template_files import load_templates
from rewriter.signals.query_classes import FIRST_HITS, QueryClasses, heaviest
from rewriter.signals.store import Signals, SignalsQuery
from rewriter.subject import Subject, pseudonym

GROUPS_AHEAD = 2
FIRST_BATCH, BATCH = AT_ONCE, 4 * AT_ONCE
"""Searches after which progress is reported, and to which a run that is interrupted is complete: few at first, so that a short run
has figures too, then twice as many each time up to the second number, since the server waits between batches."""
CHECKPOINTS = 12
"""Number of times at which the population is computed: a search reads the latest one that is not after it."""
UNDATED_S = 1.0
"""Seconds after the end of the history at which a search without a time runs."""
MAX_FAULTS, SHOWN_IDS = 20, 5


class _Ranker:
    """One running variant: its core, and its replay of the present person."""

    def __init__(
        self,
        variant: Variant,
        past: Past,
        client: SearchClient,
        bodies: Sequence[SearchArguments],
        shared: Shared,
        *,
        remembers: bool,
        near_s: float,
    ) -> None:
        self.variant = variant
        self._near_s = near_s
        self.past, self._memory = shared.of(variant, past)
        self._remembers = remembers
        self.core = Core(variant.settings, load_templates(variant.settings), ("store",))
        self.core.quarantine = NoQuarantine(self.core.journal)
        self.result = Result()
        if remembers:
            self.core.query_classes = shared.classes
        read_facts(self.core, client, bodies)

    def warm(self, firsts: Sequence[tuple[int, Prepared, Mapping[str, Any]]], send: Send) -> None:
        """Answer first searches for a text of words, whose classes are not known yet; afterwards they are known."""
        if not self.variant.policy.class_field:
            return
        known, self.core.query_classes = self.core.query_classes, _Unknowing(self.core.query_classes)
        for number, ids, _, _ in self.ranked(firsts, send):
            self.result.firsts[number] = ids
        self.core.query_classes = known

    def ranked(
        self, searches: Sequence[tuple[int, Prepared, Mapping[str, Any]]], send: Send
    ) -> Iterator[tuple[int, list[str], Sequence[Mapping[str, Any]], Report]]:
        """Yield number, ids, hits and report of searches that are in the order of person and time."""
        jobs: list[Job] = []
        replays: dict[int, SubjectReplay] = {}
        for _, one, baseline in searches:
            read = self._reading(replays, one)
            everybody = self.past.population(one.population_s)
            named = self.past.segments(one.judged.subject.segments, one.population_s)
            jobs.append(Job(one.arguments, one.judged.subject, baseline, read, everybody, one.seed, one.at_s, named))
        for (number, _, _), (response, report) in zip(searches, self._answered(jobs, send), strict=True):
            hits = response["hits"]["hits"]
            yield number, [hit["_id"] for hit in hits], hits, report

    def _answered(self, jobs: Sequence[Job], send: Send) -> list[tuple[Any, Report]]:
        """Answer jobs. A server is waited for in a thread; evaluations that share results mostly compute them here."""
        if self._remembers:
            return answered(self.core, jobs, at_once(send))
        with ThreadPoolExecutor(1) as thread:
            return answered(self.core, jobs, lambda searches: thread.submit(send, searches).result, GROUPS_AHEAD)

    def _signals_of(self, one: Prepared) -> int | None:
        """Return the person whose signals a search reads: for the placebo, the next person who has any."""
        if not self.variant.placebo or one.known is None:
            return one.known
        return (one.known + max(1, len(self.past.past.people) // 2)) % len(self.past.past.people)

    def _reading(self, replays: dict[int, SubjectReplay], one: Prepared) -> Callable[[SignalsQuery], Signals]:
        """Return the read of a search's signals. replays: by person, each made by the first read that nobody remembers."""
        session = self.past.past.sessions.get(one.judged.subject.session_id or "", -1)

        def read(query: SignalsQuery) -> Signals:
            key = (one.seed, query.limit, query.classes, self.variant.placebo)
            found = self._memory.get(key)
            if found is None:
                if (replay := replays.get(one.person)) is None:
                    near = self.past.near(self._near_s) if self.variant.policy.has_neighbours else None
                    replay = replays[one.person] = self.past.replay(self._signals_of(one), near)
                replay.advance(one.at_s)
                found = self._memory[key] = replay.signals(query.limit, query.classes, session)
            return found

        return read

    def forget(self) -> None:
        """Forget the signals that variants which count alike have shared."""
        self._memory.clear()


class _Unknowing(QueryClasses):
    """Classes of queries that are learned, but never returned."""

    def __init__(self, learned: QueryClasses) -> None:
        super().__init__()
        self._learned = learned

    def get(self, key: str, now_s: float) -> tuple[str, ...]:  # noqa: ARG002  none is known yet
        """Return nothing."""
        return ()

    def put(self, key: str, classes: tuple[str, ...], now_s: float) -> None:
        """Keep the classes for later."""
        self._learned.put(key, classes, now_s)


class Evaluation:
    """The evaluation of variants on judged searches.

    bodies: by search, the body to send. index: the index of searches that name none.
    k:      depth of the measures; a body with a smaller `size` is sent with k.
    """

    def __init__(
        self,
        client: SearchClient,
        send: Send,
        variants: Sequence[Variant],
        past: Past,
        judged: Sequence[JudgedSearch],
        bodies: Sequence[Mapping[str, Any]],
        *,
        index: str,
        k: int,
        seed: int,
        shared: Shared | None = None,
    ) -> None:
        self._once = OnceEach(send)
        self._shared = shared or Shared()
        self._remembers = shared is not None
        self._send = send if self._remembers else self._once
        self._past, self._k = past, k
        self._shown = shown_fields([one.policy for one in variants])
        self.prepared = self._shared.prepared or _prepared(judged, bodies, past, index, k, seed, self._shown.source)
        self._shared.prepared = self.prepared
        arguments = [one.arguments for one in self.prepared]
        near_s = min((one.population_s for one in self.prepared), default=0.0)
        self._rankers = [
            _Ranker(one, past, client, arguments, self._shared, remembers=self._remembers, near_s=near_s)
            for one in variants
        ]
        for at_s in sorted({one.population_s for one in self.prepared}):
            for one in self._rankers:
                one.past.population(at_s)
        self.facts: Mapping[str, IndexFacts] = self._rankers[0].core.snapshot.facts
        self.template_versions = {
            one.variant.name: one.core.snapshot.templates[POLICY].version for one in self._rankers
        }

    def run(self, on_progress: Callable[[int, int], None]) -> Outcome:
        """Answer all searches. After KeyboardInterrupt the outcome holds the finished ones, and `interrupted` is set.

        Raises ConfigurationError if the server rejects every search, and the client's errors.
        """
        found = Outcome(self.prepared, Result(), {one.variant.name: one.result for one in self._rankers})
        found.segments = frozenset(self._past.in_segment)
        began_s = time.perf_counter()
        try:
            baselines = self._baselines(found)
            self._run(found, baselines, on_progress)
        except KeyboardInterrupt:
            found.interrupted = True
        found.spent_s = time.perf_counter() - began_s
        return found

    def _run(
        self, found: Outcome, baselines: Mapping[int, Mapping[str, Any]], on_progress: Callable[[int, int], None]
    ) -> None:
        searches = [(at, one, baselines[at]) for at, one in enumerate(self.prepared) if at in baselines]
        if not self._shared.knows_classes:
            firsts = [one for one in searches if one[1].is_first]
            for start in range(0, len(firsts), BATCH):
                for ranker in self._rankers:
                    ranker.warm(firsts[start : start + BATCH], self._send)
                self._forget()
            self._shared.knows_classes = self._remembers
        done = 0
        for batch in _batches(searches):
            for number, one, baseline in batch:
                self._describe(found, number, one, baseline)
            for ranker in self._rankers:
                for number, ids, hits, report in ranker.ranked(batch, self._send):
                    _note(ranker.result, number, ids, report)
                    self._show(ranker.result, number, hits)
            for number, _, baseline in batch:
                found.baseline.pages[number] = [hit["_id"] for hit in baseline["hits"]["hits"]]
                self._show(found.baseline, number, baseline["hits"]["hits"])
            self._forget()
            done += len(batch)
            on_progress(done, len(searches))

    def _forget(self) -> None:
        """Forget what variants have shared of a batch; evaluations that share results go on with it."""
        if not self._remembers:
            self._once.forget()
            for ranker in self._rankers:
                ranker.forget()

    def _show(self, result: Result, number: int, hits: Sequence[Mapping[str, Any]]) -> None:
        """Note what a page shows, which evaluations that share results do not report."""
        if not self._remembers:
            self._shown.note(result, number, hits, self.prepared[number].at_s, self._k)

    def _baselines(self, found: Outcome) -> dict[int, Mapping[str, Any]]:
        """Return the answer to the caller's own search, for each search that the server accepts."""
        answers: dict[int, Mapping[str, Any]] = {}
        rejected: dict[str, list[str]] = {}
        kept = self._shared.answers
        for start in range(0, len(self.prepared), AT_ONCE):
            chunk = self.prepared[start : start + AT_ONCE]
            missing = {one.key: one for one in chunk if one.key not in kept}
            sent = [Search(one.arguments.index, one.arguments.body) for one in missing.values()]
            kept |= dict(zip(missing, self._send(sent) if sent else [], strict=True))
            for number, one in enumerate(chunk, start):
                answer = kept[one.key]
                if isinstance(answer, LegFault):
                    rejected.setdefault(answer.cause or answer.detail, []).append(one.judged.search_id)
                else:
                    answers[number] = answer
        if rejected:
            found.left_out["rejected by the server"] += sum(map(len, rejected.values()))
            found.faults += [Fault(_named(ids), cause) for cause, ids in list(rejected.items())[:MAX_FAULTS]]
        if self.prepared and not answers:
            raise ConfigurationError(found.faults)
        return answers

    def _describe(self, found: Outcome, number: int, one: Prepared, baseline: Mapping[str, Any]) -> None:
        """Note facts of a search before it runs: earlier events, relevant items that are new, the class of its query."""
        if number not in self._shared.described:
            self._shared.described[number] = self._description(one, baseline)
        found.events[number], found.new[number], found.classes[number] = self._shared.described[number]

    def _description(self, one: Prepared, baseline: Mapping[str, Any]) -> tuple[int, frozenset[str], str]:
        used: set[str] = set()
        events = 0
        if one.known is not None:
            past, own = self._past, self._past.events_of(one.known)
            own = own[: int(past.at_s[own].searchsorted(one.at_s))]
            events = len(own)
            docs = set(past.doc[own[past.weight[own] > 0.0]].tolist())
            used = {one_id for one_id in one.judged.positive if not docs.isdisjoint(past.docs_of.get(one_id, ()))}
        hits = baseline["hits"]["hits"][:FIRST_HITS]
        classes = heaviest(self._shown.categories(hits), [hit.get("_score") or 0.0 for hit in hits])
        return events, one.judged.positive - used, classes[0] if classes else ""


def _batches(
    searches: Sequence[tuple[int, Prepared, Mapping[str, Any]]],
) -> Iterator[list[tuple[int, Prepared, Mapping[str, Any]]]]:
    """Yield searches by person, some people at a time, and each person's searches in the order of time."""
    batch: list[tuple[int, Prepared, Mapping[str, Any]]] = []
    enough = FIRST_BATCH
    for _, own in groupby(searches, key=lambda one: one[1].person):
        batch += own
        if len(batch) >= enough:
            yield batch
            batch, enough = [], min(2 * enough, BATCH)
    if batch:
        yield batch


def _prepared(
    judged: Sequence[JudgedSearch],
    bodies: Sequence[Mapping[str, Any]],
    past: Past,
    index: str,
    k: int,
    seed: int,
    shown: Sequence[str],
) -> list[Prepared]:
    """Return the searches by person and time, each with the time of the population that it reads."""
    times = [one.at_s if one.at_s is not None else past.until_s + UNDATED_S for one in judged]
    earliest, latest = (min(times), max(times)) if times else (0.0, 0.0)
    step_s = (latest - earliest) / CHECKPOINTS
    order = sorted(range(len(judged)), key=lambda at: (_who(judged[at].subject), times[at], at))
    people: dict[str, int] = {}
    first_s: dict[str, tuple[float, int]] = {}
    rows = []
    for at in order:
        one = judged[at]
        body = {
            **bodies[at],
            "from": 0,
            "size": max(k, int(bodies[at].get("size", 10))),
            "_source": list(shown) or False,
        }
        arguments = SearchArguments(one.index or index, body)
        key = repr((arguments.index, sorted(body.items(), key=lambda pair: pair[0])))
        first_s[key] = min(first_s.get(key, (inf, 0)), (times[at], at))
        person = people.setdefault(_who(one.subject), len(people))
        block = int((times[at] - earliest) / step_s) if step_s else 0
        population_s = earliest + min(block, CHECKPOINTS - 1) * step_s
        known = past.number_of(one.subject.user_id)
        rows.append(
            (at, Prepared(one, arguments, person, known, times[at], population_s, seed * 1_000_003 + at, key, False))
        )
    return [replace(one, is_first=first_s[one.key][1] == at) for at, one in rows]


def _named(ids: Sequence[str]) -> str:
    """Return searches by their ids, of many the first ones."""
    first = ", ".join(ids[:SHOWN_IDS])
    return (
        f"search {first}"
        if len(ids) == 1
        else f"{count_of(len(ids), 'search')} ({first}{', …' if len(ids) > SHOWN_IDS else ''})"
    )


def _who(subject: Subject) -> str:
    return pseudonym("e", f"{subject.user_id or ''}\x1f{'' if subject.user_id else subject.session_id or ''}", "")


def _note(result: Result, number: int, ids: list[str], report: Report) -> None:
    result.pages[number] = ids
    result.reasons[number] = report.reason
    result.functions[number] = len(report.boosts)
    result.slots[number] = len(report.slots)
    if report.reason is not Reason.PERSONALIZED:
        result.details[f"{report.reason}: {report.detail}" if report.detail else f"{report.reason}"] += 1
