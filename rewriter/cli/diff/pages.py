"""The pages of a diff: each logged search in both versions, on the real index, with the subject's present signals. Read-only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from rewriter.cli.causes import search_cause_of
from rewriter.cli.diff.comparison import Pair, Served
from rewriter.cli.diff.logged import LoggedSearch
from rewriter.cli.preview.page import Fields, text_at, titled
from rewriter.cli.preview.read_only import ReadOnlyStore
from rewriter.cli.preview.searches import READY_S, SWITCHED_ON, UnguardedRewriter, at_leisure, overridden
from rewriter.client.seam import SearchClient
from rewriter.explore.scores import identity
from rewriter.report import FAILURES, Reason, Report
from rewriter.settings import Settings
from rewriter.shell.sync import Rewriter
from rewriter.signals.store import Store

WITHOUT_SLOTS = {**SWITCHED_ON, "REWRITER_SWITCH_EXPLORATION": "off"}
"""Switches of a diff: without exploration, whose random hits would let two runs of one version differ."""
DEFAULT_SIZE = 10


@dataclass(frozen=True, slots=True)
class Failed:
    """A search that the server did not answer: its line, and the cause."""

    line: int
    cause: str


def paired(
    client: SearchClient,
    store: Store,
    profiles: Store | None,
    versions: tuple[Settings, Settings],
    searches: Sequence[LoggedSearch],
    k: int,
) -> Iterator[Pair | Failed]:
    """Yield each search's pages in both versions, or its failure."""
    people: dict[object, int] = {}
    with ExitStack() as stack:
        stack.enter_context(overridden(WITHOUT_SLOTS))
        rewriters = [
            stack.enter_context(
                UnguardedRewriter(
                    client.raw,
                    ReadOnlyStore(store),
                    at_leisure(settings),
                    profile_store=profiles and ReadOnlyStore(profiles),
                )
            )
            for settings in versions
        ]
        _wait(rewriters, versions, searches)
        for one in searches:
            person = people.setdefault((one.subject.unit, one.subject.segments), len(people))
            try:
                yield _pair(client, rewriters, versions, one, person, k)
            except client.errors as error:
                yield Failed(one.line, search_cause_of(error, client.fault_of(error)))


def _wait(rewriters: Sequence[Rewriter[Any]], versions: Sequence[Settings], searches: Sequence[LoggedSearch]) -> None:
    """Wait until both rewriters know the searched indices. Indices that no policy matches need no wait."""
    for rewriter, settings in zip(rewriters, versions, strict=True):
        for index in dict.fromkeys(_index(one, settings) for one in searches):
            try:
                rewriter.wait_ready(READY_S, index=index)
            except ValueError:  # no policy matches it: the search is the caller's own
                continue


def _index(search: LoggedSearch, settings: Settings) -> str:
    return search.index or ",".join(next(iter(settings.policies.values())).index)


def _pair(
    client: SearchClient,
    rewriters: Sequence[Rewriter[Any]],
    versions: Sequence[Settings],
    one: LoggedSearch,
    person: int,
    k: int,
) -> Pair:
    titles: dict[str, str] = {}
    served = []
    for rewriter, settings in zip(rewriters, versions, strict=True):
        response, report = rewriter.search_details(
            index=_index(one, settings), body=dict(one.body), subject=one.subject
        )
        hits = client.body_of(response)["hits"]["hits"][:k]
        fields = titled(hits, Fields(), one.body)
        ids = [_name(hit) for hit in hits]
        titles |= {name: text_at(hit, fields.title) or str(hit.get("_id")) for name, hit in zip(ids, hits, strict=True)}
        served.append(_served(tuple(ids), report, settings))
    return Pair(one.line, one.words, person, served[0], served[1], titles)


def _name(hit: Mapping[str, Any]) -> str:
    """Return INDEX/ID, with the routing if there is one: two indices, or two routings of one, may hold the same id."""
    return "/".join(filter(None, identity(hit)))


def _served(ids: tuple[str, ...], report: Report, settings: Settings) -> Served:
    facts = report.page_facts
    personalized = report.reason is Reason.PERSONALIZED
    policy = settings.policies.get(report.policy or "")
    parallel = policy is not None and policy.mode == "parallel"
    return Served(
        ids,
        str(report.reason),
        len(report.boosts),
        (facts.boosted or 0) if facts else 0,
        (facts.at_limit or 0) if facts else 0,
        2 if personalized and parallel else 1,
        report.timings_ms.get("personalized"),
        ": ".join(filter(None, (str(report.reason), report.detail))) if report.reason in FAILURES else "",
    )
