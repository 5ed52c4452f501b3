"""Every reason, and every row of docs/cold-start.md, through both shells.

Whatever happens beside it, the caller's own search is sent once, as it came; nothing is sent twice; a search that is not
personalised is answered with the very object that the caller's client gave; every permit comes back, with the outcome that
counts; nothing stays in flight. And both shells say the same.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opensearchpy.exceptions import ConnectionError as Refused
from opensearchpy.exceptions import ConnectionTimeout, RequestError, TransportError

from rewriter import Reason, Report, Settings, Subject
from rewriter.decide.breaker import Breaker, Outcome, Permit
from rewriter.report import Source
from rewriter.signals.counters import Counters
from rewriter.signals.store import Keys
from tests.played import DESKS, Act, Desk, PlayedStore

NOW_S = 1_800_000_000.0
KEYS = Keys()
ANN = Subject("ann", "s1")
MATCH = {"match": {"title": "shoe"}}
SEARCH: Mapping[str, Any] = {"index": "products", "body": {"query": MATCH, "size": 10}}
LIKED = Counters({("item", "p7"): 6.0, ("brand", "b3"): 9.0}, {"item": 6.0, "brand": 9.0}, NOW_S, NOW_S, events=3.0)
CLICKED = replace(LIKED, weights={("item", "p5"): 6.0})
LATE = replace(CLICKED, lag_s=60.0)
COLD_START = (Path(__file__).parents[1] / "docs/cold-start.md").read_text("utf-8")

# Rows of docs/cold-start.md that several cases belong to.
LATENESS = "signals later than `budget.signals_ms`"
LAG = "the pipeline lags, or this session's last event was made visible too late"
TEMPLATE = "template fails, or its body is rejected (400)"
LEG_2 = "leg 2 fails, or is late"
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


def gives(**changes: Any) -> Act:
    return lambda answer: {**answer, **changes}


def scored(*scores: float) -> Act:
    """An answer of so many hits with these scores."""

    def act(answer: dict[str, Any]) -> Any:
        hits = [{**hit, "_score": score} for hit, score in zip(answer["hits"]["hits"], scores, strict=False)]
        return {**answer, "hits": {**answer["hits"], "hits": hits}}

    return act


def flat(answer: dict[str, Any]) -> Any:
    return scored(*[1.0] * 10)(answer)


TOO_LATE = ConnectionTimeout("TIMEOUT", "x", {})
REJECTED = RequestError(400, "parsing_exception", {"error": "x"})


@dataclass(frozen=True)
class Case:
    """One search, what surrounds it, and what must come of it. `legs` are those sent: personalised, exploration."""

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
    before: Callable[[Desk], Any] = nothing
    legs: tuple[int, int] | None = (0, 0)
    source: Source | None = None
    outcome: Outcome | None = None
    detail: str = ""
    errors: tuple[str, ...] = ()
    slots: int = 0


def body(**changes: Any) -> Mapping[str, Any]:
    return {"index": "products", "body": {"query": MATCH, "size": 10, **changes}}


def ten_failures(desk: Desk) -> None:
    desk.engine.on["personal"] = raises(TransportError(503, "busy", {}))
    for _ in range(10):
        assert desk.search(ANN, SEARCH)[1].reason is Reason.SEARCH_FAILED


def one_rejection(desk: Desk) -> None:
    desk.search(ANN, SEARCH)
    desk.until(lambda status: "products" in status.indices)
    desk.engine.on["personal"] = raises(REJECTED)
    assert desk.search(ANN, SEARCH)[1].reason is Reason.SEARCH_REJECTED
    del desk.engine.on["personal"]


def one_stuck_leg(desk: Desk) -> None:
    desk.engine.blocked.add("personal")
    assert not desk.search(ANN, SEARCH)[1].boosts


def a_first_page(desk: Desk) -> None:
    assert desk.search(ANN, SEARCH)[1].slots
    desk.until(lambda status: status.in_flight == 0)


def store_then(state: Any, *, after: Callable[[Desk], Any] = nothing) -> Callable[[Desk], Any]:
    def before(desk: Desk) -> None:
        after(desk)
        assert desk.store is not None
        desk.store.state = state

    return before


def lagging(desk: Desk) -> None:
    desk.until(lambda status: bool(status.lag["lagging"]))


def has_segments(desk: Desk) -> None:
    desk.until(lambda status: status.segments == ("vip",))


BEHIND = {"rw:heartbeat": json.dumps({"at": NOW_S, "lag": 99.0})}
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
    Case("breaker", Reason.BREAKER_OPEN, "breaker open", before=ten_failures, detail="10 failures in a row"),
    Case(
        "busy", Reason.BUSY, "in-flight cap reached", before=one_stuck_leg, outcome="unused", legs=None,
        settings={"budget": {"signals_ms": 2000, "cutoff_ms": 150, "max_in_flight": 1}}, detail="1 legs and reads in flight",
    ),
    Case("another index", Reason.NO_POLICY, arguments={**SEARCH, "index": "orders"}),
    # can boosts act on this search?
    Case("size 0", Reason.NO_HITS, arguments=body(size=0)),
    Case("nothing found", Reason.NO_HITS, arguments=body(query={"match": {"title": "nothing"}}), legs=None, outcome="unused"),
    Case("by price", Reason.SORTED, arguments=body(sort=[{"price": "asc"}])),
    Case("page 6", Reason.BEYOND_DEPTH, arguments=body(**{"from": 50})),
    Case("a cursor", Reason.UNSUPPORTED, arguments=body(search_after=[1])),
    Case("a body that is no dict", Reason.UNSUPPORTED, arguments={"index": "products", "body": '{"query": {}}'}),
    Case("a subject that is none", Reason.UNSUPPORTED, subject="ann", detail="internal: AttributeError"),
    Case("filters alone", Reason.NO_RELEVANCE, arguments=body(query={"bool": {"filter": [MATCH]}})),
    Case("a score of 0", Reason.NO_RELEVANCE, on={"baseline": scored(3.0, 2.0, 0.0)}, legs=None, outcome="unused"),
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
        settings={"budget": BRIEF}, outcome="slow", detail="late", errors=("signals: late",),
    ),
    Case(
        "store hangs longer than the cut-off", Reason.SIGNALS_LATE, LATENESS,
        before=store_then("hung"), settings=SHORT, outcome="slow", detail="the read had not come back at the cut-off",
    ),
    Case(
        "store gone", Reason.SIGNALS_FAILED, "signals failed", before=store_then("gone"), outcome="failure",
        detail="ConnectionError", errors=("signals: ConnectionError",),
    ),
    Case(
        "both stores gone", Reason.SIGNALS_FAILED, "signals failed", stores="both gone", before=store_then("gone"),
        outcome="failure", detail="ConnectionError", errors=("signals: ConnectionError",),
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
        settings={"signals": {"on_lag": "disable"}}, outcome="unused", detail="the pipeline lags 99 s",
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
        "after a 400", Reason.QUARANTINED, TEMPLATE, before=one_rejection, outcome="unused",
    ),
    *(
        Case(
            f"leg 2: {name}", Reason.SEARCH_FAILED, LEG_2, on={"personal": act}, legs=(1, 1),
            outcome="failure", detail=detail,
        )
        for name, act, detail in (
            ("503", raises(TransportError(503, "busy", {})), "TransportError(503, busy)"),
            ("429", raises(TransportError(429, "busy", {})), "TransportError(429, busy)"),
            ("refused", raises(Refused("N/A", "refused", {})), "ConnectionError(N/A, refused)"),
            ("a bug of its client", raises(ZeroDivisionError()), "ZeroDivisionError"),
            ("timed_out", gives(timed_out=True), "leg 2 says `timed_out`"),
            ("lost shards", gives(_shards={"failed": 2}), "2 shards of leg 2 failed"),
            ("no hits at all", gives(hits={}), "the answer has no hits"),
            ("no dict", lambda _: "hello", "the answer has no hits"),
            ("hits of an odd form", gives(hits={"hits": [None]}), "internal: TypeError"),
            ("too few hits", scored(1.0, 1.0), "the personalised page was shorter than the baseline's"),
        )
    ),
    Case(
        "leg 2 given up", Reason.SEARCH_LATE, LEG_2, on={"personal": raises(TOO_LATE)},
        legs=(1, 1), outcome="slow", detail="given up by its client",
    ),
    Case(
        "leg 2 never comes", Reason.SEARCH_LATE, LEG_2, blocked=("personal",), settings=SHORT, legs=None,
        outcome="slow", detail="150 ms after the baseline",
    ),
    # personalised, by whatever there is
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
        "segment alone", Reason.PERSONALIZED, "neither, but a segment is given", **SHOWN, texts=SEGMENTS, before=has_segments,
        subject=Subject(segments=("vip",)), source="segment",
    ),
    Case(
        "items, and nobody to compare brands with", Reason.PERSONALIZED, "no population yet", **SHOWN,
        policy={"fields": {"brand": {}}}, source="profile",
    ),
    Case(
        "stale", Reason.PERSONALIZED, LATENESS, settings=STALE | {"budget": BRIEF}, legs=(1, 0), slots=1,
        before=store_then("hung", after=a_first_page), source="stale", outcome="slow", errors=("signals: late",),
    ),
    Case(
        "stale, after an error", Reason.PERSONALIZED, "signals failed", settings=STALE, legs=(1, 0), slots=1,
        before=store_then("gone", after=a_first_page), source="stale", outcome="slow", errors=("signals: ConnectionError",),
    ),
    Case(
        "late and never seen, but a segment", Reason.PERSONALIZED, "signals failed", settings=STALE, legs=(1, 1), slots=1,
        texts=SEGMENTS, before=store_then("gone", after=has_segments), subject=Subject("new", segments=("vip",)), source="segment",
        outcome="slow", errors=("signals: ConnectionError",),
    ),
    Case(
        "session store gone", Reason.PERSONALIZED, "session store dead, profile store of its own alive", **SHOWN, stores="two",
        session=CLICKED, before=store_then("gone"), source="profile",
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
        "flat, welcome", Reason.PERSONALIZED, **SHOWN, on={"baseline": flat}, source="profile",
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
        arguments=body(**{"from": 10}), source="profile", legs=(1, 1), slots=1, outcome="slow",
        errors=("signals: ConnectionError",),
    ),
)  # fmt: skip


def test_every_reason_has_a_case() -> None:
    assert {case.reason for case in CASES} == set(Reason)


def test_every_row_of_the_documented_table_has_a_case() -> None:
    table = COLD_START.partition("|---|---|---|\n")[2].partition("\n\n")[0]
    rows = {line.split("|")[1].strip(): line.split("|")[3] for line in table.splitlines()}
    cases = {case.row: [str(one.reason) for one in CASES if one.row == case.row] for case in CASES if case.row}
    assert cases.keys() == rows.keys()
    assert {row for row, reasons in cases.items() if any(reason not in rows[row] for reason in reasons)} == set()


@dataclass
class Permits:
    """The permits that were given, and what came back."""

    given: list[Permit] = field(default_factory=list)
    back: list[tuple[Permit, Outcome]] = field(default_factory=list)


@pytest.fixture
def permits(monkeypatch: pytest.MonkeyPatch) -> Permits:
    seen, permit, give_back = Permits(), Breaker.permit, Breaker.give_back

    def permitted(self: Breaker, now_s: float) -> Permit | None:
        if given := permit(self, now_s):
            seen.given.append(given)
        return given

    def given_back(self: Breaker, given: Permit, outcome: Outcome, now_s: float) -> None:
        seen.back.append((given, outcome))
        give_back(self, given, outcome, now_s)

    monkeypatch.setattr(Breaker, "permit", permitted)
    monkeypatch.setattr(Breaker, "give_back", given_back)
    return seen


@pytest.fixture(autouse=True)
def one_seed_and_one_time(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    for shell in ("sync", "aio"):
        monkeypatch.setattr(f"rewriter.shell.{shell}.randbits", lambda _: 7)
        clocks = SimpleNamespace(time=lambda: NOW_S, monotonic=time.monotonic)
        monkeypatch.setattr(f"rewriter.shell.{shell}.time", clocks)


def settings_of(case: Case, folder: Path) -> Settings:
    given: dict[str, Any] = {"experiment": {"holdout": 0}, "budget": {"signals_ms": 2000, "cutoff_ms": 5000}}
    given |= case.settings
    given["policies"] = {"shop": {"index": "products*", **case.policy}}
    if case.template:
        (folder / "default").mkdir(exist_ok=True)
        (folder / "default/boosts.json.j2").write_text(case.template)
        given["templates_dir"] = folder
    return Settings.model_validate(given)


def written(case: Case) -> PlayedStore:
    store = PlayedStore()
    for base, counters in ((KEYS.profile("ann"), case.profile), (KEYS.session("s1"), case.session)):
        if counters is not None:
            store.write(base, counters, None)
    store.write(KEYS.segment("vip"), LIKED, None)
    for key, text in case.texts.items():
        store.write_text(key, text)
    return store


def opened(case: Case, desk: type[Desk], folder: Path) -> Desk:
    store = None if case.stores == "none" else written(case)
    profiles = written(case) if case.stores in ("two", "both gone") else None
    if profiles and case.stores == "both gone":
        profiles.state = "gone"
    return desk(settings_of(case, folder), store, profiles)


def searched(case: Case, kind: type[Desk], folder: Path, permits: Permits) -> tuple[Any, Report]:
    """Search once as the case says, and check all that holds whatever comes of it."""
    with opened(case, kind, folder) as desk:
        desk.engine.on |= case.on
        desk.engine.blocked |= set(case.blocked)
        case.before(desk)
        sent_before = {leg: len(asked) for leg, asked in desk.engine.asked.items()}
        del permits.given[:], permits.back[:]
        reads = desk.store.reads if desk.store else 0

        arguments = copy.deepcopy(dict(case.arguments))
        response, report = desk.search(case.subject, arguments)

        baseline, personal, explored = (asked[sent_before[leg] :] for leg, asked in desk.engine.asked.items())
        assert baseline == [arguments] == [case.arguments]
        assert baseline[0]["body"] is arguments["body"]
        assert len(personal) <= 1
        assert len(explored) <= 1
        assert case.legs is None or (len(personal), len(explored)) == case.legs
        if report.variant != "personalized":
            assert response is desk.engine.sent[-1]
        if report.reason in (Reason.HOLDOUT, Reason.NO_CONSENT, Reason.NO_SUBJECT):
            assert desk.store is not None
            assert desk.store.reads == reads

        assert [outcome for _, outcome in permits.back] == ([] if case.outcome is None else [case.outcome])
        assert [permit for permit, _ in permits.back] == permits.given
        desk.engine.released.set()
        for store in filter(None, (desk.store,)):
            store.released.set()
        desk.until(lambda status: status.in_flight == 0)
        return response, report


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.reason}: {case.name}")
def test_both_shells_say_the_same_of(case: Case, tmp_path: Path, permits: Permits) -> None:
    (response, report), (other_response, other_report) = (searched(case, kind, tmp_path, permits) for kind in DESKS)
    assert report.reason is case.reason
    assert case.detail in report.detail
    assert (report.source, report.errors, len(report.slots)) == (case.source, case.errors, case.slots)
    assert all(took_ms >= 0.0 for took_ms in report.timings_ms.values())
    if report.variant == "personalized":
        hits = response["hits"]["hits"]
        assert len({hit["_id"] for hit in hits}) == len(hits) == 10
        assert not any("matched_queries" in hit for hit in hits)
        assert max(boost.weight for boost in report.boosts) <= 0.5

    assert response == other_response
    assert report.moves == other_report.moves
    assert replace(report, timings_ms={}) == replace(other_report, timings_ms={})
    assert report.timings_ms.keys() == other_report.timings_ms.keys()
