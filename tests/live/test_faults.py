"""Every fault of `make faults`, with few searches: nothing fails, and nothing is left over.

Times, of recovery too, are not judged here, on 30 searches and a busy machine; docs/safety.md has those of a full run. So in
`parallel` recovery is not waited for; `test_store_down` has the way back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest

from bench.faults import mixups
from bench.faults.catalogue import FAULTS, OF_LEGS, Fault
from bench.faults.processes import proofs
from bench.faults.suite import rows
from bench.faults.trial import Row
from rewriter.settings import BudgetSettings
from tests.needed import needed

SEARCHES = 30
RATE = 100.0
OPEN_S = 0.5
OF_TIME = ("added ", "the baseline came", "a baseline took", "not recovered")


IN_TURN = [replace(fault, shells=(fault.shells[at % len(fault.shells)],)) for at, fault in enumerate(FAULTS)]
"""Every fault in one of its shells, alternately. The other shell of each is tried by `make full`."""
OTHERWISE = [
    replace(fault, shells=tuple(shell for shell in fault.shells if shell not in chosen.shells))
    for fault, chosen in zip(FAULTS, IN_TURN, strict=True)
]


@pytest.fixture(scope="module")
def trials(opensearch_url: str) -> Iterator[Row]:
    """All trials, in the order of the catalogue, on the same servers; each runs when its test asks for it."""
    return parallel(opensearch_url, IN_TURN)


def parallel(opensearch_url: str, faults: list[Fault]) -> Iterator[Row]:
    return rows(
        opensearch_url, searches=SEARCHES, rate=RATE, warm_up=0, open_s=OPEN_S, faults=faults, awaits_recovery=False
    )


@pytest.mark.parametrize(
    ("fault", "shell"),
    [
        pytest.param(fault, shell, id=f"{fault.name}, {shell}")
        for fault in IN_TURN
        if "parallel" in fault.modes
        for shell in fault.shells
    ],
)
def test_a_fault_breaks_no_promise(fault: Fault, shell: str, trials: Iterator[Row]) -> None:
    with needed():
        row = next(trials)
        while (row.fault, row.shell) != (fault.name, shell):  # some tests were chosen by name
            row = next(trials)
    assert [text for text in row.broken if not text.startswith(OF_TIME)] == [], row


@pytest.mark.full
def test_every_fault_in_its_other_shell(opensearch_url: str) -> None:
    with needed():
        for row in parallel(opensearch_url, OTHERWISE):
            assert [text for text in row.broken if not text.startswith(OF_TIME)] == [], row


QUICK = [fault for fault in FAULTS if fault.name == "503"]
"""Of the trials in `rewrite`, the one that every run makes; the others wait for pauses of ten seconds and more to end."""
THE_REST = [fault for fault in FAULTS if fault not in QUICK]


def rewritten(opensearch_url: str, faults: list[Fault]) -> Iterator[Row]:
    return rows(
        opensearch_url,
        searches=SEARCHES,
        rate=RATE,
        window=SEARCHES,
        warm_up=0,
        open_s=OPEN_S,
        mode="rewrite",
        faults=faults,
    )


def nothing_broke(row: Row) -> None:
    assert [text for text in row.broken if not text.startswith(OF_TIME)] == [], row
    assert row.sends <= 3.5, row  # the search, its hedge or the one after a failure, and exploration


def test_rewritten_searches_that_are_refused(opensearch_url: str) -> None:
    with needed():
        found = list(rewritten(opensearch_url, QUICK))
    assert [(row.fault, row.shell) for row in found] == [
        (fault.name, shell) for fault in QUICK for shell in fault.shells
    ]
    for row in found:
        nothing_broke(row)


@pytest.mark.full
def test_every_other_fault_in_rewrite(opensearch_url: str) -> None:
    with needed():
        for row in rewritten(opensearch_url, THE_REST):
            nothing_broke(row)


PATIENT = BudgetSettings(signals_ms=1_000, cutoff_ms=1_000)
EXPECTED: Mapping[str, str] = {
    "no fault": "personalized",
    "200 ms late": "personalized",
    "400": "search_rejected",
    "never answered": "search_late",
}
"""The reason of the first searches under a fault of the legs, with patient budgets; under any other fault it is `search_failed`."""
BUSY = {"signals_late", "search_late", "busy", "breaker_open"}
"""Reasons that a busy machine, or a fault that lasts, gives to other searches."""


@pytest.mark.full
@pytest.mark.filterwarnings("ignore:Received:DeprecationWarning")
def test_faults_of_the_legs_on_elasticsearch(elasticsearch_url: str) -> None:
    """Each answer is right, and each fault has the reason that it has on OpenSearch. Times are not judged."""
    few = {"searches": SEARCHES, "rate": RATE, "window": SEARCHES, "warm_up": 0, "open_s": OPEN_S}
    with needed():
        found = list(rows(elasticsearch_url, **few, faults=OF_LEGS, engine="elasticsearch", budget=PATIENT))  # type: ignore[arg-type]
    assert [(row.fault, row.shell) for row in found] == [(one.name, shell) for one in OF_LEGS for shell in one.shells]
    for fault in OF_LEGS:
        both = [row for row in found if row.fault == fault.name]
        for row in both:
            assert [text for text in row.broken if not text.startswith(OF_TIME)] == [], row
        expected = EXPECTED.get(fault.name, "search_failed")
        reasons = {reason for row in both for reason, _ in row.reasons}
        assert expected in reasons, both
        assert reasons <= {expected, "quarantined"} | BUSY, both


@pytest.mark.full
@pytest.mark.filterwarnings("ignore:Received:DeprecationWarning")
def test_faults_of_rewritten_searches_on_elasticsearch(elasticsearch_url: str) -> None:
    few = {"searches": SEARCHES, "rate": RATE, "window": SEARCHES, "warm_up": 0, "open_s": OPEN_S}
    with needed():
        for row in rows(elasticsearch_url, **few, mode="rewrite", faults=OF_LEGS, engine="elasticsearch"):  # type: ignore[arg-type]
            nothing_broke(row)


def test_a_fault_of_the_process_breaks_no_promise(opensearch_url: str) -> None:
    with needed():
        for proof in proofs(opensearch_url):
            assert not proof.broken, proof


def test_nobody_is_shown_what_somebody_else_likes() -> None:
    with needed():
        for outcome in mixups.outcomes(4_000):
            assert outcome.strangers == [], outcome.text
