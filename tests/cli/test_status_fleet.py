"""The service's processes on the status page: what is read of them, what is wrong in them, and how many lines they take."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rewriter.cli.status_fleet import SHOWN, problems_of, sums, table, unwell
from rewriter.decide.switches import Switches
from rewriter.shell.fleet import ProcessReport, parse_report, process_of

WELL: dict[str, Any] = {
    "breaker": {"state": "closed", "why": "half of 20 calls, an hour ago"},
    "switches": {},
    "lagging": False,
    "quarantined": [],
    "paused": [],
    "in_flight": 3,
    "max_in_flight": 16,
    "arms": {"treatment": 95, "holdout": 5},
    "reasons": {"personalized": 60, "no_signals": 20},
}
HERE = Switches()


def process(name: str = "search-1:7:a", **said: Any) -> ProcessReport:
    return process_of(name, parse_report(json.dumps(WELL | said)))


def test_a_process_that_is_well() -> None:
    assert problems_of([process()]) == []
    assert table([process()], HERE)[1] == ("search-1:7:a", "closed", "3 of 16", "")


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"breaker": {"state": "open", "why": "10 failures in a row"}}, "breaker open: 10 failures in a row"),
        ({"breaker": {"state": "half_open", "why": ""}}, "breaker half_open"),
        (
            {"store_breakers": {"store": {"state": "open", "why": "10 failures in a row"}}},
            "breaker of the store open: 10 failures in a row",
        ),
        ({"lagging": True}, "signals lag"),
        ({"quarantined": ["shop 1a2b (personal)"]}, "template shop 1a2b (personal) is quarantined"),
        ({"paused": ["shop"]}, "policy shop is paused: its legs or its rewritten searches come too late"),
    ],
)
def test_what_is_wrong_in_a_process_counts_and_is_shown_in_its_row(said: dict[str, Any], problem: str) -> None:
    fleet = [process("well"), process("ill", **said)]
    assert problems_of(fleet) == [f"process ill: {problem}"]
    assert unwell(fleet) == "1 of 2 processes has problems, see below"
    assert problem.removeprefix("breaker ") in " ".join(table(fleet, HERE)[2])


@pytest.mark.parametrize(
    "said",
    [
        {
            "breaker": 5,
            "store_breakers": [1],
            "switches": 1,
            "quarantined": "x",
            "paused": {},
            "in_flight": "3",
            "arms": 1,
            "reasons": [2],
        },
        {
            "in_flight": True,
            "max_in_flight": -1,
            "arms": {"a": None, "b": 10**400, "c": float("nan"), "d": float("inf")},
        },
        {"breaker": {}, "store_breakers": {"store": 1}, "switches": {"rollout": 1, "holdout": {"value": [1]}}},
    ],
)
def test_what_cannot_be_read_is_left_out(said: dict[str, Any]) -> None:
    odd = process(**said)
    rows = [*table([odd], HERE), *sums([odd], "ok")]
    assert all(cell.isprintable() for row in rows for cell in row)
    assert not odd.arms or odd.arms == WELL["arms"]


def test_what_would_write_to_the_terminal_is_not_shown_as_it_is() -> None:
    odd = process("a\x1b[31m\nb", breaker={"state": "open", "why": "\x1b]0;\x07" + "x" * 10_000})
    row = table([odd], HERE)[1]
    assert row[0] == "a?[31m?b"
    assert row[1].isprintable()
    assert len(row[1]) < 300


def test_the_sums_are_of_all_processes() -> None:
    others = {"treatment": 1_105, "holdout": 95, "not_rolled_out": 2_000}
    fleet = [process("a"), process("b", arms=others, reasons={"no_signals": 100, "busy": 20})]
    assert sums(fleet, "ok") == [
        ("processes", "2, 6 of 32 permits taken"),
        ("last minute", "200 searches: no_signals 60.0%, personalized 30.0%, busy 10.0%"),
        ("arms", "3,300 searches, 2,000 not_rolled_out, 1,200 treatment, 100 holdout: 7.7% held out"),
    ]


@pytest.mark.parametrize(
    ("store", "said"),
    [
        ("ok", "no process has announced itself in the last 10 s"),
        ("ConnectionError", "unknown: the store does not answer"),
        (None, "unknown: without a store, none can announce itself"),
    ],
)
def test_without_processes_status_says_why(store: str | None, said: str) -> None:
    assert sums([], store) == [("processes", said)]


@pytest.mark.parametrize(
    ("here", "there", "notes"),
    [
        ({"rollout": 0.5}, {"rollout": 0.5}, ""),
        ({}, {"rollout": 0.5}, "rollout 0.5 by store"),
        ({"rollout": 0.5}, {}, "rollout as set by its settings"),
        ({"rollout": 0.5}, {"rollout": 0.5, "shop.rollout": 0.2}, "shop.rollout 0.2 by store"),
        ({"rollout": 0.5, "shop.rollout": 0.5}, {"rollout": 0.5}, ""),
    ],
)
def test_switches_that_are_not_those_here_are_shown(
    here: dict[str, float], there: dict[str, float], notes: str
) -> None:
    said = {name: {"value": value, "source": "store"} for name, value in there.items()}
    assert table([process(switches=said)], Switches(here))[1][3] == notes


def test_many_processes_take_few_lines_and_none_that_is_not_well_is_left_out() -> None:
    fleet = [process(f"p{number:03}") for number in range(100)]
    assert [row[:3] for row in table(fleet, HERE)[1:]] == [("100 processes", "closed", "300 of 1,600")]
    fleet[50] = process("ill", lagging=True)
    fleet[51] = process("other", switches={"rollout": {"value": 0.5, "source": "file"}})
    shown = [(row[0], row[3]) for row in table(fleet, HERE)[1:]]
    assert shown == [("ill", "signals lag"), ("other", "rollout 0.5 by file"), ("98 more", "")]
    assert [(row[0], row[3]) for row in table(fleet, Switches({"rollout": 0.5}))[1:]] == [
        ("ill", "signals lag, rollout as set by its settings"),
        ("other", ""),
        ("98 more", "rollout as set by its settings"),
    ]
    assert len(table(fleet[:SHOWN], HERE)) == SHOWN + 1
