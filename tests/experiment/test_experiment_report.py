"""`rewriter report` from files: what was planted is found, faults are named and counted, and no verdict comes where none is due."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zlib import crc32

import duckdb
import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from typer.testing import CliRunner

from rewriter.cli import app
from rewriter.experiment.charts import Bar, beside, over_days
from rewriter.experiment.page import html_of
from rewriter.experiment.style import STYLE
from rewriter.experiment.summary import Summary, summarize
from rewriter.experiment.window_records import read_records
from rewriter.measures.bubble import slope, weekly_entropies
from rewriter.measures.diversity import coverage_at, gini, item_ages, normalized_entropy, rarefied
from tests.made_records import made, stamp, written

Rows = list[dict[str, Any]]


def summary(folder: Path, queries: Rows, events: Rows, since: str | None = None, **options: Any) -> Summary:
    paths = written(folder, queries, events)
    return summarize(read_records([paths[0]], [paths[1]], since), **options)


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


@pytest.fixture(scope="module")
def helpful() -> tuple[Rows, Rows]:
    return made(lift=1.2, people=800)


def copied(rows: tuple[Rows, Rows]) -> tuple[Rows, Rows]:
    return json.loads(json.dumps(rows[0])), json.loads(json.dumps(rows[1]))


def test_a_planted_lift_is_said_in_words(helpful: tuple[Rows, Rows], tmp_path: Path) -> None:
    found = summary(tmp_path, *helpful, planned_people=1_000)
    assert found.verdict == "helps", found.sentence
    assert found.sentence.startswith("It helps: conversion changes by +")
    assert found.primary is not None
    assert found.primary.low is not None
    assert found.primary.low > 0.0
    assert found.looks[-1].low == pytest.approx(found.primary.low)
    clicks = next(one for one in found.secondary if one.name == "clicks_per_search")
    assert clicks.low is not None
    assert clicks.high is not None
    assert clicks.low < 1.0 < clicks.high


def test_planted_harm_is_said_and_ends_with_1(tmp_path: Path) -> None:
    queries, events = written(tmp_path, *made(lift=-0.6, people=1_200))
    page = tmp_path / "report.html"
    ended = run("--queries", queries, "--events", events, "--planned-people", 1_000, "--html", page)
    assert ended.exit_code == 1
    assert ended.stdout.startswith("It harms: ")
    assert "It harms" in page.read_text("utf-8")


def test_without_an_effect_it_cannot_tell_and_says_how_long(tmp_path: Path) -> None:
    queries, events = written(tmp_path, *made(people=900))
    ended = run("--queries", queries, "--events", events, "--effect", 0.3)
    assert ended.exit_code == 0
    assert re.match(r"Cannot tell yet: .*To tell a lift of 30.0% from none takes about \d+ more days", ended.stdout)


def test_the_numbers_are_those_of_plain_python(helpful: tuple[Rows, Rows], tmp_path: Path) -> None:
    queries, events = helpful
    found = summary(tmp_path, queries, events)
    unit = {one["query_id"]: one["query_attributes"]["rewriter"] for one in queries}
    people = {one["unit"]: one["arm"] == "treatment" for one in unit.values()}
    bought = {unit[one["query_id"]]["unit"] for one in events if one["action_name"] == "purchase"}
    shares = [np.mean([person in bought for person, its in people.items() if its is arm]) for arm in (True, False)]
    assert found.primary is not None
    assert (found.primary.treated, found.primary.control) == pytest.approx(tuple(shares))
    slots = [
        one["query_attributes"]["rewriter"]["slots"][0] | {"q": one["query_id"]}
        for one in queries
        if "slots" in unit[one["query_id"]]
    ]
    clicks = {
        (one["query_id"], one["event_attributes"]["object"]["object_id"])
        for one in events
        if one["action_name"] == "click"
    }
    rewards = [(one["q"], one["object_id"]) in clicks for one in slots]
    assert found.slots is not None
    assert found.slots.drawn == pytest.approx(np.mean(rewards))
    weights = [1 / one["propensity"] for one in slots]
    assert found.slots.uniform == pytest.approx(np.average(rewards, weights=weights), rel=1e-9)


def test_diversity_is_that_of_the_measures(tmp_path: Path) -> None:
    queries, events = made(narrow=0.8, people=500, days=28)
    queries[0]["query_attributes"]["rewriter"]["categories"][3] = None
    found = summary(tmp_path, queries, events).diversity
    for arm, one in found.items():
        pages = [q for q in queries if q["query_attributes"]["rewriter"]["arm"] == arm]
        categories = [q["query_attributes"]["rewriter"]["categories"] for q in pages]
        assert one.coverage == pytest.approx(np.mean([coverage_at(page, 10) for page in categories]))
        assert one.entropy == pytest.approx(np.mean([normalized_entropy(page) for page in categories]))
        ages = item_ages(age for q in pages for age in q["query_attributes"]["rewriter"]["ages_days"])
        assert ages is not None
        assert (one.age_median_days, one.age_p90_days, one.young) == pytest.approx(
            (ages.median_days, ages.p90_days, ages.young_share)
        )
        shown = [hit for q in pages for hit in q["query_response_hit_ids"]]
        every = {hit for q in queries for hit in q["query_response_hit_ids"]}
        counts = [shown.count(hit) for hit in set(shown)]
        assert one.concentration == pytest.approx(gini(counts, len(every)))
        assert one.unlike == pytest.approx(
            np.mean([q["query_attributes"]["rewriter"]["intra_list_diversity"] for q in pages])
        )
        fewest = min(10 * sum(q["query_attributes"]["rewriter"]["arm"] == its for q in queries) for its in found)
        assert one.catalogue == pytest.approx(rarefied(counts, fewest) / len(every))
        seen: dict[str, list[tuple[int, str]]] = {}
        for q in pages:
            day = (datetime.fromisoformat(q["timestamp"]).date() - date(2000, 1, 3)).days
            ours = q["query_attributes"]["rewriter"]
            seen.setdefault(ours["unit"], []).extend((day // 7, c) for c in ours["categories"] if c)
        slopes = [value for weeks in seen.values() if (value := slope(weekly_entropies(weeks))) is not None]
        assert one.slope_people == len(slopes)
        assert one.slope == pytest.approx(np.mean(slopes), abs=1e-9)
    treated, held = found["treatment"], found["holdout"]
    assert treated.slope is not None
    assert held.slope is not None
    assert treated.slope < held.slope - 0.05, "the bubble that was planted"


def odd_pages(queries: Rows) -> None:
    """Pages whose lists are none, hold nothing, hold other types, or are longer or shorter than each other."""
    odd: list[dict[str, Any]] = [
        {"query_response_hit_ids": [None, "p1", 7, {"a": 1}]},
        {"query_response_hit_ids": []},
        {"query_response_hit_ids": "p1"},
        {"categories": [None, None]},
        {"categories": ["c1"] * 40},
        {"categories": "c1", "ages_days": [None, "old", -5.0]},
        {"slots": [{"object_id": None, "propensity": "x"}, None, {"propensity": 2.0}]},
        {"teams": "PPBX", "positions": ["x"]},
        {"positions": [], "total": "many", "baseline_ms": "slow", "added_ms": None},
    ]
    for number, one in enumerate(queries):
        change = odd[number % len(odd)]
        of_query = {name: value for name, value in change.items() if name in one}
        one.update(of_query)
        one["query_attributes"]["rewriter"].update(
            {name: value for name, value in change.items() if name not in of_query}
        )


def test_searches_without_a_list_of_hits_are_not_empty_ones(helpful: tuple[Rows, Rows], tmp_path: Path) -> None:
    queries, events = copied(helpful)
    for one in queries[:50]:
        one["query_response_hit_ids"] = json.dumps(one["query_response_hit_ids"])
    for one in queries[50:52]:
        one["query_response_hit_ids"] = []
    found = summary(tmp_path, queries, events)
    assert any(line.startswith(f"50 of {len(queries):,} searches hold no list of hits") for line in found.findings)
    (empty,) = [one.what for one in found.guardrails if one.name == "zero results"]
    assert "100" not in empty


def test_odd_lists_fail_no_report(helpful: tuple[Rows, Rows], tmp_path: Path) -> None:
    queries, events = copied(helpful)
    odd_pages(queries)
    found = summary(tmp_path, queries, events)
    assert found.searches == len(queries)
    assert found.diversity["treatment"].concentration is not None
    assert found.slots is not None
    assert found.slots.invalid > 0
    json.dumps(found.as_dict(), allow_nan=False)
    assert "Diversity" in html_of(found)


def test_coverage_is_of_the_catalogue_that_was_named(helpful: tuple[Rows, Rows], tmp_path: Path) -> None:
    queries, events = written(tmp_path, *helpful)
    found = [
        json.loads(run("--queries", queries, "--events", events, "--json", *more).stdout)["diversity"]
        for more in ((), ("--catalogue-size", 800))
    ]
    for arm in ("treatment", "holdout"):
        assert found[1][arm]["catalogue"] == pytest.approx(found[0][arm]["catalogue"] / 2)
        assert found[1][arm]["concentration"] > found[0][arm]["concentration"]
    shown = run("--queries", queries, "--events", events).stdout
    assert "intra-list diversity" in shown
    assert "catalogue coverage" in shown


def test_a_mismatch_hides_the_lifts_and_says_so(helpful: tuple[Rows, Rows], tmp_path: Path) -> None:
    queries, events = copied(helpful)
    queries = [
        one
        for one in queries
        if one["query_attributes"]["rewriter"]["arm"] == "treatment" or crc32(one["client_id"].encode()) % 10 < 4
    ]
    queries, events = written(tmp_path, queries, events)  # type: ignore[assignment]
    ended = run("--queries", queries, "--events", events)
    assert ended.exit_code == 1
    assert ended.stdout.startswith("No verdict: the sample ratio is off")
    assert "The primary measure" not in ended.stdout
    assert "Secondary measures" not in ended.stdout


Spoil = Callable[[Rows, Rows], object]
DAY = "2026-09-02T00:00:00Z"


def in_both_arms(queries: Rows, _: Rows) -> None:
    ours = queries[0]["query_attributes"]["rewriter"]
    queries += [
        {**queries[0], "query_id": f"x-{arm}", "query_attributes": {"rewriter": {**ours, "arm": arm}}}
        for arm in ("treatment", "holdout")
    ]


def in_no_arm(queries: Rows, _: Rows) -> None:
    ours = {"rewriter": {"reason": "no_subject"}}
    queries += [{"query_id": f"x{n}", "timestamp": DAY, "query_attributes": ours} for n in range(6)]


def of_everybody(queries: Rows, _: Rows) -> None:
    """One query_id for the searches of several people, as a page from a cache has it; without it nothing happened."""
    queries += [{**one, "query_id": "cached"} for one in queries[:12]]


def dear(_: Rows, events: Rows) -> None:
    bought = [one for one in events if one["action_name"] == "purchase"][:3]
    for event, price in zip(bought, (1e308, -1e300, 2e12), strict=True):
        event["event_attributes"] |= {"price": price, "quantity": 1e10}


def of_another_salt(queries: Rows, _: Rows) -> None:
    """By a process that was restarted late, and by one whose version named no experiment."""
    ours = queries[0]["query_attributes"]["rewriter"]
    for number in range(6):
        other = {**ours, "unit": f"late{number}", "experiment": (None, "e0")[number % 2]}
        queries.append({**queries[0], "query_id": f"x{number}", "query_attributes": {"rewriter": other}})


CASES: dict[str, tuple[Spoil, int]] = {
    "doubled events": (lambda _, events: events.extend(events[:40]), 40),
    "doubled queries": (lambda queries, _: queries.extend(queries[:30]), 30),
    "events without a query": (lambda _, events: [one.update(query_id="else") for one in events[:25]], 25),
    "not ours": (lambda queries, _: queries.extend({"query_id": f"x{n}", "timestamp": DAY} for n in range(9)), 9),
    "no time": (
        lambda queries, _: queries.extend({**queries[n], "query_id": f"x{n}", "timestamp": "soon"} for n in range(8)),
        8,
    ),
    "shared query ids": (of_everybody, 12),
    "unknown arm": (
        lambda queries, _: queries.extend(
            {**one, "query_id": f"x{n}", "query_attributes": {"rewriter": {"arm": "control", "unit": f"u{n}"}}}
            for n, one in enumerate(queries[:4])
        ),
        4,
    ),
    "impossible prices": (dear, 3),
    "other actions": (
        lambda _, events: events.extend({"action_name": "impression", "query_id": "q1"} for _ in range(7)),
        7,
    ),
    "outside the experiment": (in_no_arm, 6),
    "in both arms": (in_both_arms, 1),
    "other experiments": (of_another_salt, 6),
    "too late": (lambda _, events: [one.update(timestamp="2027-01-01T00:00:00Z") for one in events[:5]], 5),
}


@pytest.mark.parametrize("case", CASES)
def test_faults_are_named_with_their_number_and_change_nothing_else(
    case: str, helpful: tuple[Rows, Rows], tmp_path: Path
) -> None:
    spoil, count = CASES[case]
    queries, events = copied(helpful)
    spoil(queries, events)
    found = summary(tmp_path, queries, events, planned_people=1_000)
    counts = {one["name"]: one["count"] for one in found.filters}
    if case == "in both arms":
        counts.pop("events without a query", None)  # of the one who was left out
    assert counts == {case: count}
    assert found.verdict == "helps"


@pytest.mark.parametrize(
    "absent",
    [
        "",
        " ",
        "undefined",
        None,
        "null",
        "00000000-0000-0000-0000-000000000000",
        False,
        True,
        [],
        {},
        float("nan"),
        r"\N",
    ],
)
def test_identifiers_that_are_none_make_no_two_events_one(
    absent: Any, helpful: tuple[Rows, Rows], tmp_path: Path
) -> None:
    queries, events = copied(helpful)
    for row in events:
        row["event_id"] = absent
    events += events[:7]  # equal in every field
    found = summary(tmp_path, queries, events, planned_people=1_000)
    assert {one["name"]: one["count"] for one in found.filters} == {"doubled events": 7}
    assert found.verdict == "helps"


@pytest.mark.parametrize("constant", ["0", "person", "search"])
def test_an_event_id_that_different_events_share_makes_no_two_events_one(
    constant: str, helpful: tuple[Rows, Rows], tmp_path: Path
) -> None:
    queries, events = copied(helpful)
    for row in events:
        row["event_id"] = {"0": "0", "person": row["client_id"], "search": row["query_id"]}[constant]
    alone = summary(tmp_path, *helpful, planned_people=1_000)
    found = summary(tmp_path, queries, events + events[:7], planned_people=1_000)
    assert {one["name"]: one["count"] for one in found.filters} == {"doubled events": 7}
    assert (found.sentence, found.primary) == (alone.sentence, alone.primary)
    (said,) = (one for one in found.findings if "event_id" in one)
    shared = int(said.split()[0].replace(",", ""))
    assert shared == len(events) + 7 if constant == "0" else 7 < shared < len(events) + 7
    assert not any("event_id" in one for one in alone.findings)


def test_an_event_that_comes_again_with_its_id_counts_once(helpful: tuple[Rows, Rows], tmp_path: Path) -> None:
    queries, events = copied(helpful)
    again = [
        {**row, "timestamp": stamp(datetime.fromisoformat(row["timestamp"]) + timedelta(seconds=2))}
        for row in events[:9]
    ]
    lines = [{**row, "event_attributes": {"object": {"object_id": "another"}}} for row in events[:5]]  # of one order
    alone = summary(tmp_path, *helpful, planned_people=1_000)
    found = summary(tmp_path, queries, events + again + lines, planned_people=1_000)
    assert {one["name"]: one["count"] for one in found.filters} == {"doubled events": 14}
    assert found.primary == alone.primary
    assert not any("event_id" in one for one in found.findings)


def test_more_than_a_few_searches_of_another_experiment_allow_no_verdict(
    helpful: tuple[Rows, Rows], tmp_path: Path
) -> None:
    queries, events = copied(helpful)
    for row in queries[::20]:
        row["query_attributes"]["rewriter"]["experiment"] = "e0"
    found = summary(tmp_path, queries, events, planned_people=1_000)
    assert found.verdict == "none"
    assert "salt was changed" in found.sentence


def test_one_who_makes_a_tenth_of_all_clicks_is_left_out(helpful: tuple[Rows, Rows], tmp_path: Path) -> None:
    queries, events = copied(helpful)
    first = queries[0]
    for number in range(800):
        queries.append({**first, "query_id": f"bot{number}"})
        events.append(
            {**events[0], "query_id": f"bot{number}", "event_id": f"bot{number}", "timestamp": first["timestamp"]}
        )
    found = summary(tmp_path, queries, events)
    assert {"name": "bots", "count": 1} in [{"name": one["name"], "count": one["count"]} for one in found.filters]
    assert found.people == len({one["query_attributes"]["rewriter"]["unit"] for one in queries}) - 1


@pytest.mark.parametrize("hours", [-3, 60])
def test_clocks_that_are_apart_give_no_verdict(hours: int, helpful: tuple[Rows, Rows], tmp_path: Path) -> None:
    """Events of clocks that go after, and of clocks that go before those of the searches by more than an event may be late."""
    queries, events = copied(helpful)
    for one in events:
        one["timestamp"] = stamp(datetime.fromisoformat(one["timestamp"]) + timedelta(hours=hours))
    found = summary(tmp_path, queries, events)
    assert found.verdict == "none"
    assert "the clocks are apart" in found.sentence
    assert found.primary is None


@pytest.mark.parametrize(
    "form",
    [
        lambda at: int(at.timestamp() * 1e9),
        lambda at: f"{at.timestamp() * 1e3:.12e}",
        lambda at: at.isoformat(timespec="milliseconds").replace(".", ",").replace("+00:00", "z"),
        lambda at: f" {at.isoformat()} ",
    ],
    ids=["nanoseconds", "exponent", "comma", "blanks"],
)
def test_a_time_is_read_in_each_form_of_a_history_s(
    form: Callable[[datetime], Any], helpful: tuple[Rows, Rows], tmp_path: Path
) -> None:
    queries, events = copied(helpful)
    for row in (*queries, *events):
        row["timestamp"] = form(datetime.fromisoformat(row["timestamp"]))
    found = summary(tmp_path, queries, events, planned_people=1_000)
    assert found.filters == []
    assert found.verdict == "helps"


def test_times_that_are_none_are_counted_and_fail_nothing(helpful: tuple[Rows, Rows], tmp_path: Path) -> None:
    queries, events = copied(helpful)
    moments = ["infinity", "-inf", "epoch", "99999999999999999999", "tomorrow", "2026-13-45T00:00:00Z"]
    for at, moment in enumerate(moments, 1):
        queries[-at]["timestamp"] = events[-at]["timestamp"] = moment
    found = summary(tmp_path, queries, events)
    counts = {one["name"]: one["count"] for one in found.filters}
    assert (counts["no time"], counts["events without a time"]) == (len(moments), len(moments))
    assert found.last_day < "2027"


@pytest.mark.parametrize("since", ["20260905T000000", "2026-09-05T02:00:00+02:00"])
def test_a_beginning_is_read_in_each_form_of_iso_8601(since: str, helpful: tuple[Rows, Rows], tmp_path: Path) -> None:
    assert summary(tmp_path, *helpful, since).first_day == "2026-09-05"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda ours: ours.update(experiment="e2") if ours["unit"].endswith("7") else None,
            "the experiment's salt was changed",
        ),
        (lambda ours: ours.update(arm="treatment"), "the arm `holdout` is missing"),
        (lambda ours: ours.update(arm=None), "no search of the window is in an arm"),
        (lambda ours: ours.pop("holdout"), "the records do not contain the share that was held out"),
        (lambda ours: ours.update(holdout=1.5), "the records do not contain the share that was held out"),
        (lambda ours: ours.update(holdout=0.0), "both arms have people, although a share of 0% was held out"),
    ],
    ids=["salts", "one arm", "no arm", "no share", "no share that can be", "no holdout"],
)
def test_a_verdict_comes_only_where_one_is_due(
    spoil: Callable[[dict[str, Any]], object], said: str, helpful: tuple[Rows, Rows], tmp_path: Path
) -> None:
    queries, events = copied(helpful)
    for one in queries:
        spoil(one["query_attributes"]["rewriter"])
    found = summary(tmp_path, queries, events)
    assert (found.verdict, found.primary, found.secondary) == ("none", None, [])
    assert said in found.sentence


def alike(found: Summary) -> Any:
    """The report without what a sum's order changes."""
    return json.loads(json.dumps(found.as_dict()), parse_float=lambda text: round(float(text), 9))


def test_all_dialects_of_ubi_read_alike(helpful: tuple[Rows, Rows], tmp_path: Path) -> None:
    """Milliseconds, `+0000`, attributes within a text, ids that are numbers: mixed in one file, and from Parquet."""
    plain = summary(tmp_path, *helpful)
    queries, events = copied(helpful)
    for number, one in enumerate(queries):
        if number % 3 == 0:
            one["query_attributes"] = json.dumps(one["query_attributes"])
        if number % 3 == 1:
            unit = "ms" if number % 2 else "us"
            one["timestamp"] = int(np.datetime64(one["timestamp"][:-1]).astype(f"datetime64[{unit}]").astype(int))
    for number, event in enumerate(events):
        if number % 2:
            event["timestamp"] = event["timestamp"].replace("Z", "+0000")
    mixed = summary(tmp_path, queries, events)
    assert alike(mixed) == alike(plain)
    paths = written(tmp_path, *helpful)
    parquet = [path.with_suffix(".parquet") for path in paths]
    for source, target in zip(paths, parquet, strict=True):
        duckdb.execute(
            f"COPY (SELECT * FROM read_json('{source}', format='newline_delimited')) TO '{target}' (FORMAT parquet)"
        )
    found = summarize(read_records([parquet[0]], [parquet[1]]))
    assert alike(found) == alike(plain)


def test_secondary_measures_are_adjusted_together_and_revenue_is_cut(
    helpful: tuple[Rows, Rows], tmp_path: Path
) -> None:
    """By statsmodels and by plain Python; and searches without an event are counted."""
    queries, events = helpful
    found = summary(tmp_path, queries, events, planned_people=1_000)
    measures = {one.name: one for one in found.secondary}
    assert found.primary is not None
    assert {"clicks_per_search", "orders_per_person", "revenue_per_person"} <= set(measures) | {found.primary.name}
    expected = multipletests([one.p_value for one in measures.values()], method="fdr_bh")[1]
    assert [one.adjusted_p for one in measures.values()] == pytest.approx(list(expected))
    ours = {one["query_id"]: one["query_attributes"]["rewriter"] for one in queries}
    paid: dict[str, float] = {one["unit"]: 0.0 for one in ours.values()}
    for one in events:
        if one["action_name"] == "purchase":
            paid[ours[one["query_id"]]["unit"]] += one["event_attributes"]["price"]
    cap = np.quantile([one for one in paid.values() if one], 0.95)
    arms = {one["unit"]: one["arm"] for one in ours.values()}
    revenue = measures["revenue_per_person"]
    for arm, value in (("treatment", revenue.treated), ("holdout", revenue.control)):
        assert value == pytest.approx(np.mean([min(one, cap) for unit, one in paid.items() if arms[unit] == arm]))
    assert f"{cap:.2f}: {sum(one > cap for one in paid.values()):,} people cut" in revenue.note
    without = len(set(ours) - {one["query_id"] for one in events})
    assert any(f"{without:,} of {len(queries):,} searches have no event" in line for line in found.findings)


def test_history_is_what_lies_before_and_makes_parts(tmp_path: Path) -> None:
    queries, events = made(history_days=14, people=900, lift=0.3)
    found = summary(tmp_path, queries, events, "2026-09-01T00:00:00Z")
    assert found.first_day == "2026-09-01"
    assert found.primary is not None
    assert found.primary.explained > 0.0
    parts = {(one.of, one.name): one.people for one in found.segments}
    assert parts["history", "warm"] + parts["history", "cold"] == found.people
    assert parts["visits", "returning"] + parts["visits", "new"] == found.people


def test_interleaved_lists_tell_who_is_preferred(tmp_path: Path) -> None:
    found = summary(tmp_path, *made(people=1_500, lift=1.5, interleave=1.0, holdout=0.2), planned_people=1_000)
    assert found.clicks is not None
    assert found.clicks.interval.low > 0.0
    assert found.clicks.lists > 500


def test_it_prints_json_and_a_page_that_asks_nobody(helpful: tuple[Rows, Rows], tmp_path: Path) -> None:
    queries, events = written(tmp_path, *helpful)
    page = tmp_path / "report.html"
    ended = run("--queries", queries, "--events", events, "--json", "--html", page)
    data = json.loads(ended.stdout)
    assert data["verdict"] in ("helps", "cannot tell yet")
    assert data["ratio"]["mismatch"] is False
    text = page.read_text("utf-8")
    assert text.count("<svg") >= 3
    assert not re.search(r"https?://|<script|<link|@import|url\(", text)
    assert len(text) < 60_000
    assert "unit1" not in text
    assert "client1" not in text


def test_what_people_typed_cannot_break_the_page(helpful: tuple[Rows, Rows], tmp_path: Path) -> None:
    queries, events = copied(helpful)
    for one in queries:
        one["query_attributes"]["rewriter"]["arm"] = "<script>alert(1)</script>"
    assert "<script>" not in html_of(summary(tmp_path, queries, events))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "queries: are missing (give --queries FILE, or --queries-index NAME)"),
        (["--since", "soon"], "--since: 'soon' is not a time in ISO 8601"),
    ],
)
def test_what_is_wrong_with_what_was_given_is_said(arguments: list[str], said: str) -> None:
    ended = run(*arguments)
    assert ended.exit_code == 2
    assert said in ended.stderr


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    broken, empty = tmp_path / "q.parquet", tmp_path / "e.ndjson"
    broken.write_text("no parquet")
    empty.write_text("no json\n")
    ended = run("--queries", broken, "--events", empty)
    assert ended.exit_code == 2
    assert f"{broken}: cannot be read" in ended.stderr
    ended = run("--queries", empty, "--events", empty)
    assert ended.exit_code == 1
    assert "No verdict: the records hold no queries" in ended.stdout
    assert "1 line" in ended.stdout


def false_alarms(seasons: int) -> int:
    """Whole reports over A/A seasons, from files to verdict."""
    from tempfile import TemporaryDirectory

    found = 0
    for seed in range(seasons):
        with TemporaryDirectory() as folder:
            verdict = summary(Path(folder), *made(seed=seed, people=400, days=10), planned_people=400).verdict
        found += verdict not in ("cannot tell yet", "none")
    return found


def test_reports_of_seasons_without_an_effect_hold_their_tongue() -> None:
    assert false_alarms(8) <= stats.binom.ppf(0.999, 8, 0.05)


@pytest.mark.full
def test_reports_of_100_seasons_without_an_effect_hold_their_tongue() -> None:
    assert false_alarms(100) <= stats.binom.ppf(0.975, 100, 0.05)


def test_a_phone_gets_charts_of_its_own_width_with_the_same_intervals() -> None:
    days = [Bar(f"2026-10-{day:02}", 0.1, 0.1 - 1 / day, 0.1 + 1 / day) for day in range(1, 8)]
    for chart in (over_days(days, "by day"), beside([*days, Bar("none", None, None, None)], "rows")):
        assert re.findall(r'<svg class="(\w+)" viewBox="0 0 (\d+) ', chart) == [("desktop", "720"), ("phone", "342")]
        wide, phone = chart.split("</svg>")[:2]
        assert wide.count("<circle") == phone.count("<circle")
        assert max(float(x) for x in re.findall(r' x2?="([\d.]+)"', phone)) <= 342
    assert "min-width:560px" not in STYLE


def test_the_line_at_no_effect_crosses_no_text() -> None:
    rows = [Bar("clicks per search", 0.1, 0.05, 0.2), Bar("orders", None, None, None), Bar("revenue", 0.1, -0.3, 0.5)]
    for svg in beside(rows, "rows").split("</svg>")[:2]:
        lines = [
            (float(x), float(top), float(end))
            for x, top, end in re.findall(r'class="zero" x1="([\d.]+)" x2="[\d.]+" y1="([\d.]+)" y2="([\d.]+)"', svg)
        ]
        texts = [
            (float(x), float(y)) for x, y in re.findall(r'<text(?: class="quiet")? x="([\d.]+)" y="([\d.]+)">', svg)
        ]
        assert len(lines) == 2, "a row without an interval has no line"
        assert len(texts) == len(rows) + 1
        widest = 7.0 * len("clicks per search")
        for x, top, end in lines:
            crossed = [(at, y) for at, y in texts if at < x < at + widest and top < y + 4 and y - 12 < end]
            assert crossed == []


def test_no_value_of_an_axis_is_cut_off_at_the_edge() -> None:
    svgs = beside([Bar("orders", 0.1, -0.7, 1.0), Bar("clicks", 0.0, -1.0, 1.5)], "rows").split("</svg>")[:2]
    for svg, width in zip(svgs, (720, 342), strict=True):
        ticks = re.findall(r'<text class="quiet" x="([\d.]+)" y="[\d.]+" text-anchor="(\w+)">([^<]+)<', svg)
        assert len(ticks) >= 3
        for x, anchor, text in ticks:
            size = 7.5 * len(text)
            left = float(x) - {"start": 0.0, "middle": size / 2, "end": size}[anchor]
            assert left >= 0
            assert left + size <= width + 1


def test_a_value_beyond_the_usual_ones_is_not_drawn_at_the_edge() -> None:
    for svg in beside([Bar("a", 4.0, 2.6, 6.5), Bar("b", 0.1, -0.2, 0.4)], "rows").split("</svg>")[:2]:
        dots = [float(x) for x in re.findall(r'<circle class="dot \w+" cx="([\d.]+)"', svg)]
        ends = [float(x) for x in re.findall(r'<line class="bar \w+" x1="[\d.]+" x2="([\d.]+)"', svg)]
        assert dots[0] < ends[0]


@pytest.mark.parametrize("lift", [0.05, 0.9, 4.0, 30.0])
def test_no_number_beside_the_axis_of_days_is_cut_off(lift: float) -> None:
    days = [Bar(f"2026-09-0{day}", lift, -lift, 2.0 * lift) for day in range(1, 8)]
    texts = re.findall(
        r'<text class="quiet" x="([\d.]+)" y="[\d.]+" text-anchor="end">([^<]+)<', over_days(days, "by day")
    )
    assert texts
    for x, text in texts:
        assert float(x) >= 8.6 * len(text)  # a character of 12.5 px has at most that
