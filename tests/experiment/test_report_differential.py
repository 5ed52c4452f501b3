"""`rewriter report` against a plain computation: every count and measure, on random records with every kind of fault in them."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from datetime import timedelta
from math import exp, log, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rewriter.experiment.summary import summarize
from rewriter.experiment.window_records import read_records
from tests.made_records import START, stamp, written

Rows = list[dict[str, Any]]
KINDS = {"click": "click", "view": "click", "add_to_cart": "cart", "purchase": "purchase", "order": "purchase"}
PLANNED = 2_000.0


def records(seed: int) -> tuple[Rows, Rows]:
    """Return queries and events: people with many searches and none, both arms, pages, copies, wrong times, and odd ids."""
    chance = random.Random(seed)
    queries: Rows = []
    events: Rows = []
    for person in range(700):
        arm = chance.choice(["treatment", "holdout"])
        for _ in range(min(int(chance.expovariate(0.7)), 40)):
            at, number = START + timedelta(seconds=chance.randrange(8 * 86_400)), f"q{len(queries)}"
            own = arm if person % 60 else chance.choice(["treatment", "holdout"])
            ours: dict[str, Any] = {
                "arm": own,
                "unit": f"u{person}",
                "holdout": 0.5,
                "experiment": "e",
                "positions": [0],
            }
            odd = chance.random()
            if odd < 0.02:
                ours["arm"] = chance.choice([None, "another", "interleaved"])
            row: dict[str, Any] = {
                "query_id": number if odd > 0.04 else chance.choice([None, "shared", number]),
                "client_id": f"c{person}", "user_query": "w", "timestamp": stamp(at) if odd < 0.99 else "soon",
                "query_response_hit_ids": [f"p{n}" for n in range(chance.choice([0, 10, 10, 10]))],
                "query_attributes": {"rewriter": ours} if chance.random() < 0.98 else {},
            }  # fmt: skip
            queries.append(row)
            if chance.random() < 0.1:
                queries.append({**row, "timestamp": stamp(at + timedelta(seconds=5))})
            if chance.random() < 0.1:
                later = {**row["query_attributes"].get("rewriter", {}), "positions": [10]}
                queries.append({**row, "query_attributes": {"rewriter": later}} if row["query_attributes"] else row)
            for _ in range(chance.choice([0, 0, 1, 1, 2, 5])):
                after = chance.choice([-61, -60, 0, 1, 30, 86_400, 2 * 86_400, 2 * 86_400 + 1])
                event = {
                    "action_name": chance.choice([*KINDS, "hover"]), "query_id": number if chance.random() < 0.97 else "q?",
                    "client_id": f"c{person}", "timestamp": stamp(at + timedelta(seconds=after)),
                    "event_id": chance.choice([None, "0", f"e{len(events)}", f"e{len(events)}"]),
                    "event_attributes": {"object": {"object_id": f"p{chance.randrange(9)}"}, "price": chance.choice([1, 9.5])},
                }  # fmt: skip
                events += [event] * chance.choice([1, 1, 1, 2])
    return queries, events


def moment(row: dict[str, Any]) -> Any:
    found = row["timestamp"]
    return (
        None
        if found == "soon"
        else float(np.datetime64(found.rstrip("Z")).astype("datetime64[ms]").astype(int)) / 1_000
    )


def counted(queries: Rows, events: Rows) -> dict[str, dict[str, Any]]:
    """Return each person's arm and counts, as docs/experiment.md says."""
    rows = [
        {"id": row["query_id"], "at": moment(row), **row["query_attributes"]["rewriter"]}
        for row in queries
        if row["query_attributes"] and row["query_id"] and moment(row) is not None
    ]  # fmt: skip
    units: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        units[row["id"]].add(row["unit"])
    rows = sorted((row for row in rows if len(units[row["id"]]) == 1), key=lambda row: row["at"])
    pages: dict[tuple[str, int], dict[str, Any]] = {}
    for row in rows:
        pages.setdefault((row["id"], row["positions"][0]), row)
    kept = [row for row in pages.values() if row["arm"] in ("treatment", "holdout", "interleaved")]
    arms: defaultdict[str, set[str]] = defaultdict(set)
    for row in kept:
        arms[row["unit"]].add(row["arm"])
    kept = [row for row in kept if len(arms[row["unit"]]) == 1]
    began: dict[str, float] = {}
    for row in kept:
        began[row["id"]] = min(began.get(row["id"], row["at"]), row["at"])
    fields = ("query_id", "action_name", "client_id", "timestamp")
    seen: set[Any] = set()
    outcomes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in events:
        kind = KINDS.get(row["action_name"])
        whole = (
            *(row[name] if name != "action_name" else kind for name in fields),
            row["event_attributes"]["object"]["object_id"],
        )
        key = row["event_id"] if row["event_id"] not in (None, "0") else whole
        if kind is None or key in seen:
            continue
        seen.add(key)
        if row["query_id"] in began and -60 <= moment(row) - began[row["query_id"]] <= 2 * 86_400:
            outcomes[row["query_id"]][kind] += 1
            if kind == "purchase":
                outcomes[row["query_id"]]["revenue"] += row["event_attributes"]["price"]
    people: dict[str, dict[str, Any]] = {}
    for one in {row["id"]: row for row in kept if row["arm"] != "interleaved"}.values():
        person = people.setdefault(one["unit"], {"arm": one["arm"], "searches": 0, "clicked": 0, **dict.fromkeys(
            ("click", "cart", "purchase", "revenue"), 0)})  # fmt: skip
        person["searches"] += 1
        person["clicked"] += outcomes[one["id"]]["click"] > 0
        for name in ("click", "cart", "purchase", "revenue"):
            person[name] += outcomes[one["id"]][name]
    return people


def linear(over: np.ndarray, under: np.ndarray) -> tuple[float, float]:
    """Return a ratio of sums, and its standard error by leaving each person out (the jackknife of a linearized ratio)."""
    value, count = over.sum() / under.sum(), len(over)
    shares = value + (over - value * under) / under.mean()
    left_out = (shares.sum() - shares) / (count - 1)
    return float(value), float(sqrt((count - 1) / count * ((left_out - left_out.mean()) ** 2).sum()))


@pytest.mark.parametrize("seed", range(6))
def test_the_report_equals_a_plain_computation(seed: int, tmp_path: Path) -> None:
    queries, events = records(seed)
    paths = written(tmp_path, queries, events)
    read = read_records([paths[0]], [paths[1]])
    people = counted(queries, events)
    columns = read.columns("SELECT * FROM people ORDER BY unit")
    names = sorted(people)
    assert list(columns["unit"]) == names
    for column, own in (
        ("searches", "searches"), ("clicks", "click"), ("clicked", "clicked"), ("carts", "cart"), ("purchases", "purchase"),
        ("revenue", "revenue"),
    ):  # fmt: skip
        assert list(columns[column]) == pytest.approx([people[name][own] for name in names]), column
    assert [bool(one) for one in columns["treated"]] == [people[name]["arm"] == "treatment" for name in names]

    read.no_verdict.clear()  # many events are too early on purpose
    found = summarize(read, planned_people=PLANNED, primary="clicks_per_search", expected_share=0.5)
    assert found.primary is not None
    measures = {one.name: one for one in [found.primary, *found.secondary]}
    for name, over, under in (
        ("conversion", "purchase", None), ("clicks_per_search", "click", "searches"), ("searches_clicked", "clicked", "searches"),
        ("carts_per_person", "cart", None), ("orders_per_person", "purchase", None), ("searches_per_person", "searches", None),
    ):  # fmt: skip
        arms = []
        for arm in ("treatment", "holdout"):
            of_arm = [one for one in people.values() if one["arm"] == arm]
            values = np.array([float(one[over] > 0 if name == "conversion" else one[over]) for one in of_arm])
            arms.append((*linear(values, np.array([float(one[under] if under else 1) for one in of_arm])), len(of_arm)))
        (treated, treated_error, many), (held, held_error, few) = arms
        one = measures[name]
        assert (one.treated, one.control) == pytest.approx((treated, held)), name
        relative = [(treated_error / treated) ** 2, (held_error / held) ** 2]
        pooled = (
            ((many - 1) * many * relative[0] + (few - 1) * few * relative[1]) / (many + few - 2) * (1 / many + 1 / few)
        )
        a = (many + few) / PLANNED * (-2 * log(0.05) + log(1 - 2 * log(0.05)))
        reach = sqrt(max(sum(relative), pooled)) * sqrt((a + 1) / a * log((a + 1) / 0.05**2))
        lift = treated / held
        assert (one.lift, one.low, one.high) == pytest.approx(
            (lift - 1, lift * exp(-reach) - 1, lift * exp(reach) - 1)
        ), name
