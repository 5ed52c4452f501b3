"""Every reason, and every row of docs/cold-start.md, through both shells.

Whatever happens beside it, the caller's own search is sent once, as it came; nothing is sent twice; a search that is not
personalized is answered with the very object that the caller's client gave; every permit comes back, with the outcome that
counts; nothing stays in flight. And both shells say the same.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rewriter import Reason, Report, Settings
from rewriter.decide.breaker import Breaker, Outcome, Permit
from tests.fakes import HARNESSES, FakeStore, Harness
from tests.reason_cases import CASES, KEYS, LIKED, NOW_S, Case

COLD_START = (Path(__file__).parents[2] / "docs/cold-start.md").read_text("utf-8")


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
    """The permits that were given, and what came back, with the breaker whose they are."""

    given: list[tuple[Breaker, Permit]] = field(default_factory=list)
    back: list[tuple[Breaker, Permit, Outcome]] = field(default_factory=list)

    def outcomes(self, *breakers: Breaker) -> tuple[Outcome, ...]:
        """What was given back, breaker by breaker."""
        return tuple(outcome for breaker in breakers for one, _, outcome in self.back if one is breaker)


@pytest.fixture
def permits(monkeypatch: pytest.MonkeyPatch) -> Permits:
    seen, permit, give_back = Permits(), Breaker.permit, Breaker.give_back

    def permitted(self: Breaker, now_s: float) -> Permit | None:
        if given := permit(self, now_s):
            seen.given.append((self, given))
        return given

    def given_back(self: Breaker, given: Permit, outcome: Outcome, now_s: float, cause: str = "") -> None:
        seen.back.append((self, given, outcome))
        give_back(self, given, outcome, now_s, cause)

    monkeypatch.setattr(Breaker, "permit", permitted)
    monkeypatch.setattr(Breaker, "give_back", given_back)
    return seen


@pytest.fixture(autouse=True)
def one_seed_and_one_time(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setattr("rewriter.shell.job.randbits", lambda _: 7)
    monkeypatch.setattr("rewriter.shell.job.time", SimpleNamespace(time=lambda: NOW_S, monotonic=time.monotonic))


def settings_of(case: Case, folder: Path) -> Settings:
    given: dict[str, Any] = {"experiment": {"holdout": 0}, "budget": {"signals_ms": 2000, "cutoff_ms": 5000}}
    given |= case.settings
    given["policies"] = {"shop": {"index": "products*", "item_repeat_share": 1.0, "named_share": 1, **case.policy}}
    if case.template:
        (folder / "default").mkdir(exist_ok=True)
        (folder / "default/boosts.json.j2").write_text(case.template)
        given["templates_dir"] = folder
    return Settings.model_validate(given)


def written(case: Case) -> FakeStore:
    store = FakeStore()
    for base, counters in ((KEYS.profile("ann"), case.profile), (KEYS.session("s1"), case.session)):
        if counters is not None:
            store.write(base, counters, None)
    store.write(KEYS.segment("vip"), LIKED, None)
    for key, text in case.texts.items():
        store.write_text(key, text)
    return store


def opened(case: Case, harness: type[Harness], folder: Path) -> Harness:
    store = None if case.stores == "none" else written(case)
    profiles = written(case) if case.stores in ("two", "both gone") else None
    if profiles and case.stores == "both gone":
        profiles.state = "gone"
    return harness(settings_of(case, folder), store, profiles)


def search_once(
    case: Case, harness: Harness, permits: Permits
) -> tuple[dict[str, Any], Any, Report, dict[str, list[Any]]]:
    """Search once as the case says. Returns the arguments, the answer, the report, and what was sent, by leg.

    Without a person nothing is read.
    """
    harness.engine.on |= case.on
    harness.engine.blocked |= set(case.blocked)
    case.before(harness)
    sent_before = {leg: len(asked) for leg, asked in harness.engine.asked.items()}
    del permits.given[:], permits.back[:]
    reads = harness.store.reads if harness.store else 0
    arguments = copy.deepcopy(dict(case.arguments))
    response, report = harness.search(case.subject, arguments)
    sent = {leg: asked[sent_before[leg] :] for leg, asked in harness.engine.asked.items()}
    if report.reason in (Reason.HOLDOUT, Reason.NO_CONSENT, Reason.NO_SUBJECT):
        assert harness.store is not None
        assert harness.store.reads == reads
    return arguments, response, report, sent


def all_end(harness: Harness, permits: Permits) -> None:
    """Release what waits, and check that each permit was given back once, to whom it was of."""
    harness.engine.released.set()
    for store in filter(None, (harness.store,)):
        store.released.set()
    harness.until(lambda status: status.in_flight == status.rewritten_in_flight == 0)
    assert {(id(one), permit) for one, permit, _ in permits.back} == {
        (id(one), permit) for one, permit in permits.given
    }
    assert len(permits.back) == len(permits.given)


def searched(case: Case, kind: type[Harness], folder: Path, permits: Permits) -> tuple[Any, Report]:
    """Search once as the case says, and check all that holds whatever comes of it."""
    with opened(case, kind, folder) as harness:
        arguments, response, report, sent = search_once(case, harness, permits)
        baseline, personal, explored = sent.values()
        assert baseline == [arguments] == [case.arguments]
        assert baseline[0]["body"] is arguments["body"]
        assert len(personal) <= 1
        assert len(explored) <= 1
        if case.legs is not None:
            assert len(personal) == case.legs[0]
            # The exploration leg of a search that is over is no longer sent.
            assert len(explored) == case.legs[1] or (not explored and report.variant != "personalized")
        if report.variant != "personalized":
            assert response is harness.engine.sent[-1]
        all_end(harness, permits)
        core = harness.core
        assert permits.outcomes(core.breakers["shop"]) == (() if case.outcome is None else (case.outcome,))
        assert permits.outcomes(*core.store_breakers.values()) == case.came_of_reads
        return response, report


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.reason}: {case.name}")
def test_both_shells_say_the_same_of(case: Case, tmp_path: Path, permits: Permits) -> None:
    (response, report), (other_response, other_report) = (searched(case, kind, tmp_path, permits) for kind in HARNESSES)
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
    # Without a page, the exploration leg may be there or not: nobody waits for it.
    unwaited = set() if report.variant == "personalized" else {"exploration"}
    assert report.timings_ms.keys() - unwaited == other_report.timings_ms.keys() - unwaited
