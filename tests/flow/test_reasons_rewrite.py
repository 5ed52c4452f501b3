"""Every reason again, where the search is sent once (`mode = "rewrite"`), through both shells.

The cases are those of tests/reason_cases.py. Where the search is sent once there is no baseline that an answer could be held
against: cases of the baseline's scores are cases of the rewritten answer's here, and those of answers that differ from it are
left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rewriter import Reason, Report
from tests.fakes import HARNESSES, Harness
from tests.flow.test_reasons import Permits, all_end, one_seed_and_one_time, opened, permits, search_once
from tests.reason_cases import CASES, Case

__all__ = ["one_seed_and_one_time", "permits"]  # fixtures

HEDGE_MS = 4_000


def cases() -> Iterator[Case]:
    """The cases as they are where searches are sent once."""
    for case in CASES:
        cutoff_ms = case.settings.get("budget", {}).get("cutoff_ms", HEDGE_MS)
        mode = {"mode": "rewrite", "parallel_share": 0, "hedge_ms": min(cutoff_ms, HEDGE_MS)}
        one = replace(case, policy={**mode, **case.policy})
        if case.reason is Reason.NO_RELEVANCE and "baseline" in case.on:
            one = replace(one, on={"personal": case.on["baseline"]})
        elif case.reason is Reason.BASELINE_PARTIAL:  # it fails like the caller's own
            one = replace(one, on={**case.on, "personal": case.on["baseline"]}, reason=Reason.SEARCH_FAILED)
        elif case.reason is Reason.ANSWERS_DIFFER:
            if "score" not in case.name or "baseline" in case.name:
                continue
            one = replace(one, reason=Reason.NO_RELEVANCE, detail="not above 0")
        elif case.reason is Reason.BUSY:
            continue
        yield one


def searched(case: Case, kind: type[Harness], folder: Path, permits: Permits) -> tuple[Any, Report, dict[str, int]]:
    with opened(case, kind, folder) as harness:
        arguments, response, report, legs = search_once(case, harness, permits)
        sent = {leg: len(asked) for leg, asked in legs.items()}
        assert arguments == case.arguments
        for own in legs["baseline"]:
            assert own == arguments
            assert own["body"] is arguments["body"]
        assert sent["personal"] <= 1
        assert sent["explored"] <= 1
        served = report.variant == "personalized" or (report.mode == "rewrite" and report.reason is Reason.NO_HITS)
        assert sent["baseline"] == (0 if served and report.mode == "rewrite" else 1)
        if sent["baseline"] and report.variant != "personalized":
            assert response is harness.engine.sent[-1]
        all_end(harness, permits)
        core = harness.core
        if case.reason not in (Reason.SHADOW, Reason.FLAT_SCORES):  # which may be known before, or go parallel
            expected = case.outcome
            if case.reason is Reason.SEARCH_FAILED and "baseline" in case.on:
                expected = "unused"  # a baseline that failed alike
            assert set(permits.outcomes(core.breakers["shop"])) <= {expected}
        return response, report, sent


@pytest.mark.parametrize("case", list(cases()), ids=lambda case: f"{case.reason}: {case.name}")
def test_both_shells_say_the_same_of(case: Case, tmp_path: Path, permits: Permits) -> None:
    (response, report, _), (other_response, other_report, _) = (
        searched(case, kind, tmp_path, permits) for kind in HARNESSES
    )
    assert report.reason is case.reason
    # What waits for the signals is the search itself, and what is late is told by itself.
    if case.reason not in (Reason.SEARCH_LATE, Reason.SIGNALS_LATE, Reason.SEARCH_FAILED, Reason.SEARCH_REJECTED):
        assert report.mode == "parallel" or case.detail in report.detail or "all scores" in case.detail
    assert (report.source, len(report.slots)) == (
        case.source if report.mode == "rewrite" else report.source,
        case.slots,
    )
    if report.variant == "personalized":
        hits = response["hits"]["hits"]
        assert len({hit["_id"] for hit in hits}) == len(hits) == 10
        assert "rewriter:" not in repr(response)
        assert max(boost.weight for boost in report.boosts) <= 0.5
    assert response == other_response
    assert report.moves == other_report.moves
    # A busy machine decides what is noticed first: that the read is late, or that the search that waits for it is.
    either: dict[str, Any] = {"detail": "", "errors": ()} if case.reason is Reason.SIGNALS_LATE else {}
    assert replace(report, timings_ms={}, **either) == replace(other_report, timings_ms={}, **either)
