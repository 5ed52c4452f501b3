"""One search for each way that it can go: what surrounds it, and what must come of it. `test_reasons` runs them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import inf, nan
from pathlib import Path
from typing import Any
from zlib import crc32

from opensearchpy.exceptions import (
    AuthenticationException,
    AuthorizationException,
    ConnectionTimeout,
    RequestError,
    TransportError,
)
from opensearchpy.exceptions import ConnectionError as Refused

from rewriter import Reason, Subject
from rewriter.decide.breaker import Outcome
from rewriter.decide.quarantine import FAILURES, SUBJECTS
from rewriter.report import Source
from rewriter.signals.counters import Counters
from rewriter.signals.store import Keys
from tests.fakes import Act, Harness, waited

NOW_S = 1_800_000_000.0
KEYS = Keys()
ANN = Subject("ann", "s1")
MATCH = {"match": {"title": "shoe"}}
SEARCH: Mapping[str, Any] = {"index": "products", "body": {"query": MATCH, "size": 10}}
HIGHLIGHTED: Mapping[str, Any] = {"index": "products", "body": {"query": MATCH, "highlight": {"fields": {"title": {}}}}}
LIKED = Counters({("item", "p7"): 6.0, ("brand", "b3"): 9.0}, {"item": 6.0, "brand": 9.0}, NOW_S, NOW_S, events=3.0)
CLICKED = replace(LIKED, weights={("item", "p5"): 6.0})
LATE = replace(CLICKED, lag_s=60.0)
COLD_START = (Path(__file__).parents[1] / "docs/cold-start.md").read_text("utf-8")

# Rows of docs/cold-start.md that several cases belong to.
LATENESS = "signals later than `budget.signals_ms`"
LAG = "the pipeline lags, or this session's last event was made visible too late"
TEMPLATE = "template fails, or its body is rejected (400)"
LEG_2 = "the personalized leg fails, or is late"
DIFFERS = "the personalized leg's scores or the number of its hits do not agree with the baseline's"
PARTIAL = "the baseline timed out, or lost shards"
STORE_OPEN = "the breaker of a store is open"
STORE_OPEN_DETAIL = "the breaker of the store is open: 10 failures in a row; the last one: ConnectionError"
POOL = "exploration pool empty, late or broken"
FOR_SOME = (
    '[{% for a in affinities %}{"filter": {{ a.filter }}, "weight": {{ 0.2 if session.events != 3 else "x" }}}'
    "{% if not loop.last %},{% endif %}{% endfor %}]"
)


def nothing(_: Any) -> None:
    """What happens before most cases."""


def raises(error: Exception) -> Act:
    def act(_: dict[str, Any]) -> Any:
        raise error

    return act


EVERY_HIT: dict[str, Any] = {}
"""No change of an answer's hits."""


def gives(**changes: Any) -> Act:
    return lambda answer: {**answer, **changes}


def scored(*scores: Any) -> Act:
    """An answer of so many hits with these scores."""

    def act(answer: dict[str, Any]) -> Any:
        hits = [{**hit, "_score": score} for hit, score in zip(answer["hits"]["hits"], scores, strict=False)]
        return {**answer, "hits": {**answer["hits"], "hits": hits}}

    return act


def flat(answer: dict[str, Any]) -> Any:
    return scored(*[1.0] * 10)(answer)


TOO_LATE = ConnectionTimeout("TIMEOUT", "x", {})
REJECTED = RequestError(400, "parsing_exception", {"error": "x"})


def caused(kind: str) -> dict[str, Any]:
    """An error body as the server gives it."""
    return {"error": {"root_cause": [{"type": kind, "reason": "x"}], "type": "search_phase_execution_exception"}}


def failing(kind: str) -> dict[str, Any]:
    """What an answer says of its shards where one failed."""
    return {
        "total": 2,
        "successful": 1,
        "failed": 1,
        "failures": [{"shard": 0, "reason": {"type": kind, "reason": "x"}}],
    }


def first_two(answer: dict[str, Any]) -> Any:
    """An answer of two of its hits."""
    return {**answer, "hits": {**answer["hits"], "hits": answer["hits"]["hits"][:2]}}


def again(answer: dict[str, Any]) -> Any:
    """An answer of one hit, ten times."""
    return {**answer, "hits": {**answer["hits"], "hits": answer["hits"]["hits"][:1] * 10}}


ONE_REJECTS, ONE_IS_BUSY = failing("query_shard_exception"), failing("circuit_breaking_exception")
TOO_BUSY = raises(TransportError(500, "busy", caused("rejected_execution_exception")))


@dataclass(frozen=True)
class Case:
    """One search, what surrounds it, and what must come of it.

    legs:    those sent: personalized, exploration.
    outcome: what counts for the breaker of the legs, None where it was not asked.
    reads:   what counts for the stores' breakers, one for each store that was read; None: they were all read in time.
    """

    name: str
    reason: Reason
    row: str = ""
    subject: Any = ANN
    arguments: Mapping[str, Any] = field(default_factory=lambda: copy.deepcopy(SEARCH))
    settings: Mapping[str, Any] = field(default_factory=dict)
    policy: Mapping[str, Any] = field(default_factory=dict)
    profile: Counters | None = LIKED
    session: Counters | None = None
    stores: str = "one"
    texts: Mapping[str, str] = field(default_factory=dict)
    template: str = ""
    on: Mapping[str, Act] = field(default_factory=dict)
    blocked: tuple[str, ...] = ()
    state: str = "there"
    before: Callable[[Harness], Any] = nothing
    legs: tuple[int, int] | None = (0, 0)
    source: Source | None = None
    outcome: Outcome | None = None
    reads: tuple[Outcome, ...] | None = None
    detail: str = ""
    errors: tuple[str, ...] = ()
    slots: int = 0

    @property
    def came_of_reads(self) -> tuple[Outcome, ...]:
        """What each store that was read gave its permit back with."""
        if self.reads is not None:
            return self.reads
        read: tuple[Outcome, ...] = ("success", "success")
        return read[: {"none": 0, "one": 1}.get(self.stores, 2)] if self.outcome else ()


def body(**changes: Any) -> Mapping[str, Any]:
    return {"index": "products", "body": {"query": MATCH, "size": 10, **changes}}


def ten_failures(harness: Harness) -> None:
    harness.engine.on["personal"] = raises(TransportError(503, "busy", {}))
    for _ in range(10):
        assert harness.search(ANN, SEARCH)[1].reason is Reason.SEARCH_FAILED


def ten_failures_unseen(harness: Harness) -> None:
    harness.engine.on["personal"] = raises(TransportError(503, "busy", {}))
    for _ in range(10):
        assert harness.search(ANN, SEARCH)[1].reason is Reason.SHADOW


def ten_dead_reads(harness: Harness) -> None:
    assert harness.store is not None
    harness.store.state = "gone"
    for _ in range(10):
        harness.search(ANN, SEARCH)
    assert harness.status().store_breakers["store"]["state"] == "open"


def opened_after_a_page(harness: Harness) -> None:
    a_first_page(harness)
    ten_dead_reads(harness)


def ten_reads_of_the_profile_alone(harness: Harness) -> None:
    ten_dead_reads(harness)
    assert harness.status().store_breakers["profile_store"]["state"] == "closed"


def rejections(harness: Harness, arguments: Mapping[str, Any] = SEARCH) -> None:
    """As many rejections in a row, of as many subjects, as a template is quarantined for."""
    assert harness.store is not None
    harness.engine.on["personal"] = raises(REJECTED)
    for number in range(FAILURES):
        harness.store.write(KEYS.profile(f"u{number % SUBJECTS}"), LIKED, None)
        assert harness.search(Subject(f"u{number % SUBJECTS}"), arguments)[1].reason is Reason.SEARCH_REJECTED
    del harness.engine.on["personal"]
    harness.until(lambda status: status.in_flight == 0)


def highlighted_rejections(harness: Harness) -> None:
    rejections(harness, HIGHLIGHTED)


def one_stuck_leg(harness: Harness) -> None:
    harness.engine.blocked.add("personal")
    assert not harness.search(ANN, SEARCH)[1].boosts


def a_first_page(harness: Harness) -> None:
    assert waited(lambda: bool(harness.search(ANN, SEARCH)[1].slots))  # within 10 ms, where a case says so
    harness.until(lambda status: status.in_flight == 0)


def store_then(state: Any, *, after: Callable[[Harness], Any] = nothing) -> Callable[[Harness], Any]:
    def before(harness: Harness) -> None:
        after(harness)
        assert harness.store is not None
        harness.store.state = state

    return before


def lagging(harness: Harness) -> None:
    harness.until(lambda status: bool(status.lag["lagging"]))


def has_segments(harness: Harness) -> None:
    harness.until(lambda status: status.segments == ("vip",))


BEHIND = {"rw:heartbeat": json.dumps({"at": NOW_S, "lag": 99.0})}
ANN_IN = crc32(b"ann") % 4
HERE, ELSEWHERE = (
    {
        "rw:heartbeat": json.dumps(
            {"at": NOW_S, "lag": 99.0, "lags": [99.0 if (n == ANN_IN) == here else 0.0 for n in range(4)]}
        )
    }
    for here in (True, False)
)
SEGMENTS = {"rw:segments": '["vip"]'}
STALE = {"signals": {"on_late": "stale"}}
SHORT = {"budget": {"signals_ms": 2000, "cutoff_ms": 150}}
BRIEF = {"signals_ms": 10, "cutoff_ms": 2000}
NO_COUNTERS: Any = {"profile": None, "session": None}
SHOWN: Any = {"legs": (1, 1), "outcome": "success", "slots": 1}

CASES = (
    # may we?
    Case("nobody", Reason.NO_SUBJECT, "nobody known", subject=None),
    Case("nobody in particular", Reason.NO_SUBJECT, "nobody known", subject=Subject()),
    Case("no consent", Reason.NO_CONSENT, "no consent", subject=Subject("ann", "s1", consent=False)),
    Case("switched off", Reason.SWITCHED_OFF, settings={"switches": {"personalization": False}}, detail="by settings"),
    Case("rollout 0", Reason.NOT_ROLLED_OUT, settings={"experiment": {"rollout": 0}}, detail="rollout 0"),
    Case("holdout 1", Reason.HOLDOUT, settings={"experiment": {"holdout": 1}}, detail="holdout 1"),
    Case(
        "shadow", Reason.SHADOW, settings={"switches": {"shadow": True}}, legs=(1, 1), outcome="success",
        detail="would be personalized", source="profile", slots=1,
    ),
    Case(
        "shadow, without signals", Reason.SHADOW, settings={"switches": {"shadow": True}}, **NO_COUNTERS, outcome="unused",
        detail="would be no_signals",
    ),
    Case(
        "shadow, breaker open", Reason.SHADOW, settings={"switches": {"shadow": True}}, before=ten_failures_unseen,
        detail="would be breaker_open: 10 failures in a row",
    ),
    Case(
        "shadow, nothing found", Reason.SHADOW, settings={"switches": {"shadow": True}}, legs=None, outcome="unused",
        arguments=body(query={"match": {"title": "nothing"}}), detail="would be no_hits",
    ),
    Case("breaker", Reason.BREAKER_OPEN, "the legs' breaker open", before=ten_failures, detail="10 failures in a row"),
    Case(
        "busy", Reason.BUSY, "in-flight cap reached", before=one_stuck_leg, outcome="unused", reads=(), legs=None,
        settings={"budget": {"signals_ms": 2000, "cutoff_ms": 150, "max_in_flight": 1}}, detail="1 leg in flight",
    ),
    Case("another index", Reason.NO_POLICY, arguments={**SEARCH, "index": "orders"}),
    # can boosts act on this search?
    Case("size 0", Reason.NO_HITS, arguments=body(size=0)),
    Case("nothing found", Reason.NO_HITS, arguments=body(query={"match": {"title": "nothing"}}), legs=None, outcome="unused"),
    Case("by price", Reason.SORTED, arguments=body(sort=[{"price": "asc"}])),
    Case("page 6", Reason.BEYOND_DEPTH, arguments=body(**{"from": 50})),
    Case("a cursor", Reason.UNSUPPORTED, arguments=body(search_after=[1])),
    Case("a body that is no dict", Reason.UNSUPPORTED, arguments={"index": "products", "body": '{"query": {}}'}),
    Case("a subject that is none", Reason.NO_SUBJECT, subject="ann", detail="`subject` is of type str, not a Subject or None"),
    Case("filters alone", Reason.NO_RELEVANCE, arguments=body(query={"bool": {"filter": [MATCH]}})),
    Case("a score of 0", Reason.NO_RELEVANCE, on={"baseline": scored(3.0, 2.0, 0.0)}, legs=None, outcome="unused"),
    *(
        Case(f"a score of {score!r:.20}", Reason.NO_RELEVANCE, on={"baseline": scored(3.0, score)}, legs=None, outcome="unused")
        for score in (nan, inf, None, "3.0", True, 10**400)
    ),
    Case("a score below 0", Reason.NO_RELEVANCE, on={"baseline": scored(3.0, -2.0)}, legs=None, outcome="unused"),
    Case("match_all", Reason.FLAT_SCORES, arguments=body(query={"match_all": {}})),
    Case("flat, refused", Reason.FLAT_SCORES, policy={"flat": "baseline"}, on={"baseline": flat}, legs=None, outcome="unused"),
    Case("page 2 first", Reason.NO_PLAN, "`from > 0` and no plan", arguments=body(**{"from": 10}), outcome="unused"),
    # is there anything to boost by?
    Case("nothing known", Reason.NO_SIGNALS, "nothing at all", **NO_COUNTERS, outcome="unused"),
    Case("no store", Reason.NO_SIGNALS, "nothing at all", stores="none", outcome="unused"),
    Case(
        "brands, and nobody to compare with", Reason.NO_SIGNALS, "no population yet", outcome="unused",
        profile=replace(LIKED, weights={("brand", "b3"): 9.0}), policy={"fields": {"brand": {}}},
    ),
    Case(
        "store hangs", Reason.SIGNALS_LATE, LATENESS, before=store_then("hung"),
        settings={"budget": BRIEF}, outcome="unused", reads=("slow",), detail="late", errors=("signals: late",),
    ),
    Case(
        "store hangs longer than the cut-off", Reason.SIGNALS_LATE, LATENESS,
        before=store_then("hung"), settings=SHORT, outcome="unused", detail="the read had not returned at the cut-off",
    ),
    Case(
        "store gone", Reason.SIGNALS_FAILED, "signals failed", before=store_then("gone"), outcome="unused", reads=("failure",),
        detail="ConnectionError", errors=("signals: ConnectionError",),
    ),
    Case(
        "breaker of the store open", Reason.BREAKER_OPEN, STORE_OPEN, before=ten_dead_reads, outcome="unused", reads=(),
        detail=STORE_OPEN_DETAIL, errors=(f"signals: {STORE_OPEN_DETAIL}",),
    ),
    Case(
        "both stores gone", Reason.SIGNALS_FAILED, "signals failed", stores="both gone", before=store_then("gone"),
        outcome="unused", reads=("failure", "failure"), detail="ConnectionError", errors=("signals: ConnectionError",),
    ),
    Case(
        "a session that became visible late", Reason.LAGGING, LAG,
        profile=None, session=LATE, outcome="unused", detail="the session's latest event took 60 s to become visible",
    ),
    Case(
        "the same, and lag disables", Reason.LAGGING, LAG,
        session=LATE, settings={"signals": {"on_lag": "disable"}}, outcome="unused",
    ),
    Case(
        "the pipeline lags, and lag disables", Reason.LAGGING,
        LAG, texts=BEHIND, before=lagging,
        settings={"signals": {"on_lag": "disable"}}, outcome="unused", reads=(), detail="the pipeline lags 99 s",
    ),
    Case(
        "her partition is stuck, and lag disables", Reason.LAGGING,
        LAG, texts=HERE, before=lagging,
        settings={"signals": {"on_lag": "disable"}}, outcome="unused", reads=(), detail="the pipeline lags 99 s",
    ),
    # did it work?
    Case(
        "a template that fails for some", Reason.TEMPLATE_FAILED, TEMPLATE,
        template=FOR_SOME, session=CLICKED, outcome="unused",
    ),
    Case(
        "400", Reason.SEARCH_REJECTED, TEMPLATE, on={"personal": raises(REJECTED)},
        legs=(1, 1), outcome="unused", detail="RequestError(400, parsing_exception)",
    ),
    Case(
        "after many 400", Reason.QUARANTINED, TEMPLATE, before=rejections, outcome="unused", reads=(),
        detail="template shop",
    ),
    Case(
        "after many 400 of bodies with a highlight", Reason.REJECTED_BEFORE, TEMPLATE, before=highlighted_rejections,
        outcome="unused", reads=(), arguments=HIGHLIGHTED,
    ),
    Case(
        "another body after many 400 of bodies with a highlight", Reason.PERSONALIZED, TEMPLATE, before=highlighted_rejections,
        **SHOWN, source="profile",
    ),
    Case(
        "a shard rejects", Reason.SEARCH_REJECTED, TEMPLATE, on={"personal": gives(_shards=ONE_REJECTS)}, legs=(1, 1),
        outcome="unused", detail="lost 1 shard: query_shard_exception",
    ),
    *(
        Case(
            f"personalized leg: {name}", Reason.SEARCH_REJECTED, TEMPLATE, on={"personal": raises(error)}, legs=(1, 1),
            outcome="unused",
            detail=type(error).__name__,
        )
        for name, error in (
            ("500 of the body", TransportError(500, "search_phase_execution_exception", caused("illegal_argument_exception"))),
            ("403 of the index", AuthorizationException(403, "security_exception", caused("security_exception"))),
            ("413", TransportError(413, "too large", {})),
        )
    ),
    *(
        Case(f"facts: {name}", Reason.NO_FACTS, "index facts not read", arguments={**SEARCH, "index": index}, detail=detail)
        for name, index, detail in (
            ("not read yet", "products,products-new", "still reading index facts"),
            ("another cluster", "products:shoes", "another cluster"),
        )
    ),
    *(
        Case(
            f"the personalized leg: {name}", Reason.SEARCH_FAILED, LEG_2, on={"personal": act}, legs=(1, 1),
            outcome="failure", detail=detail,
        )
        for name, act, detail in (
            ("503", raises(TransportError(503, "busy", {})), "TransportError(503, busy)"),
            ("429", raises(TransportError(429, "busy", {})), "TransportError(429, busy)"),
            ("refused", raises(Refused("N/A", "refused", {})), "ConnectionError(N/A, refused)"),
            ("a bug of its client", raises(ZeroDivisionError()), "ZeroDivisionError"),
            ("timed_out", gives(timed_out=True), "the personalized leg timed out"),
            ("lost shards", gives(_shards={"failed": 2}), "the personalized leg lost 2 shards"),
            ("shards too busy", gives(_shards=ONE_IS_BUSY), "lost 1 shard: circuit_breaking_exception"),
            ("500 of a busy node", TOO_BUSY, "TransportError(500, busy)"),
            ("500 of nobody knows what", raises(TransportError(500, "x", {})), "TransportError(500, x)"),
            ("401", raises(AuthenticationException(401, "x", {})), "AuthenticationException(401, x)"),
            ("the same hit ten times", again, "the personalized leg repeats a hit"),
            ("no hits at all", gives(hits={}), "the answer has no hits"),
            ("no dict", lambda _: "hello", "the answer has no hits"),
            ("hits of an odd form", gives(hits={"hits": [None]}), "internal: AttributeError"),
        )
    ),
    *(
        Case(
            f"the personalized leg: {name}", Reason.ANSWERS_DIFFER, DIFFERS, on={"personal": act}, legs=(1, 1), outcome="unused",
            detail=detail,
        )
        for name, act, detail in (
            ("too few hits", first_two, "shorter than the baseline's"),
            ("a score of NaN", scored(nan), "not a finite number"),
            ("an infinite score", scored(inf), "not a finite number"),
            ("no score", scored(None), "not a finite number"),
            ("a score in words", scored("100.0"), "not a finite number"),
            ("a score beyond every number", scored(10**400), "not a finite number"),
            ("a score below 0", scored(-1.0), "negative"),
            ("below the baseline's", scored(80.0), "0.86 times the baseline's"),
            ("above the limit", scored(150.1), "1.61 times the baseline's"),
        )
    ),
    *(
        Case(
            f"the baseline {name}{why}", Reason.BASELINE_PARTIAL, PARTIAL, on={"baseline": gives(**changes, **empty)}, legs=None,
            outcome="unused", detail=name,
        )
        for why, empty in (("", EVERY_HIT), (", without a hit", {"hits": {"hits": []}}))
        for name, changes in (
            ("timed out", {"timed_out": True}),
            ("was terminated early", {"terminated_early": True}),
            ("lost 1 shard", {"_shards": {"total": 2, "successful": 1, "failed": 1}}),
            ("skipped 1 cluster", {"_clusters": {"total": 2, "successful": 1, "skipped": 1}}),
        )
    ),
    Case(
        "the personalized leg given up", Reason.SEARCH_LATE, LEG_2, on={"personal": raises(TOO_LATE)},
        legs=(1, 1), outcome="slow", detail="given up by its client",
    ),
    Case(
        "the personalized leg never comes", Reason.SEARCH_LATE, LEG_2, blocked=("personal",), settings=SHORT, legs=None,
        outcome="slow", detail="150 ms after the baseline",
    ),
    # personalized, by whatever there is
    Case("profile", Reason.PERSONALIZED, "known user, new session", **SHOWN, source="profile"),
    Case("blend", Reason.PERSONALIZED, "known user, session with events", **SHOWN, session=CLICKED, source="blend"),
    Case(
        "session", Reason.PERSONALIZED, "unknown user, session with events", **SHOWN, profile=None, session=CLICKED,
        subject=Subject(None, "s1"), source="session",
    ),
    Case(
        "segment", Reason.PERSONALIZED, "neither, but a segment is given", **SHOWN, **NO_COUNTERS, texts=SEGMENTS,
        before=has_segments, subject=Subject("new", "s9", ("unheard of", "vip")), source="segment",
    ),
    Case(
        "segment alone", Reason.PERSONALIZED, "neither, but a segment is given", **SHOWN, reads=(), texts=SEGMENTS,
        before=has_segments,
        subject=Subject(segments=("vip",)), source="segment",
    ),
    Case(
        "items, and nobody to compare brands with", Reason.PERSONALIZED, "no population yet", **SHOWN,
        policy={"fields": {"brand": {}}}, source="profile",
    ),
    Case(
        "stale", Reason.PERSONALIZED, LATENESS, settings=STALE | {"budget": BRIEF}, legs=(1, 0), slots=1,
        before=store_then("hung", after=a_first_page), source="stale", outcome="success", reads=("slow",),
        errors=("signals: late",),
    ),
    Case(
        "stale, after an error", Reason.PERSONALIZED, "signals failed", settings=STALE, legs=(1, 0), slots=1,
        before=store_then("gone", after=a_first_page), source="stale", outcome="success", reads=("failure",),
        errors=("signals: ConnectionError",),
    ),
    Case(
        "stale, while the breaker of the store is open", Reason.PERSONALIZED, STORE_OPEN, settings=STALE, legs=(1, 0), slots=1,
        reads=(), before=opened_after_a_page, source="stale", outcome="success",
        errors=(f"signals: {STORE_OPEN_DETAIL}",),
    ),
    Case(
        "a stale session beside the profile", Reason.PERSONALIZED, LATENESS, settings=STALE, stores="two", session=CLICKED,
        before=store_then("gone", after=a_first_page), source="stale", legs=(1, 0), slots=1, outcome="success",
        reads=("failure", "success"), errors=("signals: ConnectionError",),
    ),
    Case(
        "late and never seen, but a segment", Reason.PERSONALIZED, "signals failed", settings=STALE, legs=(1, 1), slots=1,
        texts=SEGMENTS, before=store_then("gone", after=has_segments), subject=Subject("new", segments=("vip",)), source="segment",
        outcome="success", reads=("failure",), errors=("signals: ConnectionError",),
    ),
    Case(
        "session store gone", Reason.PERSONALIZED, "session store dead, profile store of its own alive", legs=(1, 1), slots=1,
        outcome="success", reads=("failure", "success"), stores="two", session=CLICKED, before=store_then("gone"),
        source="profile", errors=("signals: ConnectionError",),
    ),
    Case(
        "breaker of the session store open", Reason.PERSONALIZED, STORE_OPEN, legs=(1, 0), slots=1,
        outcome="success", reads=("success",), stores="two", session=CLICKED, before=ten_reads_of_the_profile_alone,
        source="profile", errors=(f"signals: {STORE_OPEN_DETAIL}",),
    ),
    Case(
        "late session, known user", Reason.PERSONALIZED,
        LAG, **SHOWN, session=LATE, source="profile",
        detail="the session's latest event took 60 s to become visible",
    ),
    Case(
        "late pipeline, known user", Reason.PERSONALIZED,
        LAG, **SHOWN, session=CLICKED, texts=BEHIND,
        before=lagging, source="profile", detail="the pipeline lags 99 s",
    ),
    Case(
        "her partition is stuck", Reason.PERSONALIZED,
        LAG, **SHOWN, session=CLICKED, texts=HERE,
        before=lagging, source="profile", detail="the pipeline lags 99 s",
    ),
    Case(
        "other people's partitions are stuck", Reason.PERSONALIZED,
        LAG, **SHOWN, session=CLICKED, texts=ELSEWHERE, before=lagging, source="blend",
    ),
    Case(
        "other people's partitions are stuck, and lag disables", Reason.PERSONALIZED,
        LAG, **SHOWN, session=CLICKED, texts=ELSEWHERE, before=lagging, source="blend", settings={"signals": {"on_lag": "disable"}},
    ),
    Case(
        "flat, welcome", Reason.PERSONALIZED, **SHOWN, on={"baseline": flat, "personal": flat}, source="profile",
        detail="all scores of the caller's own search are equal",
    ),
    Case("no exploration", Reason.PERSONALIZED, policy={"exploration_share": 0}, legs=(1, 0), source="profile", outcome="success"),
    Case(
        "an empty pool", Reason.PERSONALIZED, POOL, on={"explored": scored()}, legs=(1, 1),
        source="profile", outcome="success",
    ),
    Case(
        "no pool", Reason.PERSONALIZED, POOL, legs=(1, 1), source="profile", outcome="success",
        on={"explored": raises(TransportError(503, "busy", {}))}, errors=("exploration: TransportError(503, busy)",),
    ),
    Case(
        "a late pool", Reason.PERSONALIZED, POOL, legs=None, source="profile", outcome="success",
        blocked=("explored",), settings=SHORT, errors=("exploration: late",),
    ),
    Case(
        "a pool for everyone", Reason.PERSONALIZED, legs=(1, 0), slots=1, before=a_first_page, source="profile", outcome="success",
    ),
    Case("page 2", Reason.PERSONALIZED, **SHOWN, before=a_first_page, arguments=body(**{"from": 10}), source="profile"),
    Case(
        "page 2, the store gone", Reason.PERSONALIZED, before=store_then("gone", after=a_first_page),
        arguments=body(**{"from": 10}), source="profile", legs=(1, 1), slots=1, outcome="success",
        reads=("failure",), errors=("signals: ConnectionError",),
    ),
    Case(
        "page 2, breaker of the store open", Reason.PERSONALIZED, reads=(), before=opened_after_a_page,
        arguments=body(**{"from": 10}), source="profile", legs=(1, 1), slots=1, outcome="success",
        errors=(f"signals: {STORE_OPEN_DETAIL}",),
    ),
)  # fmt: skip
