"""Parts of `rewriter report`: what slots give back of a page's variety, the measure that a verdict is about, people who log in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from rewriter.cli import app
from rewriter.cli.report import Primary
from rewriter.experiment.people import MEASURES
from rewriter.experiment.summary import Summary, summarize
from rewriter.experiment.window_records import read_records
from rewriter.experiment.wording import parts_of
from rewriter.measures.diversity import normalized_entropy
from tests.made_records import made, written

Rows = list[dict[str, Any]]


def summary(folder: Path, queries: Rows, events: Rows, **options: Any) -> Summary:
    paths = written(folder, queries, events)
    return summarize(read_records([paths[0]], [paths[1]]), **options)


def ours(query: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = query["query_attributes"]["rewriter"]
    return found


def with_pages(rows: tuple[Rows, Rows], personal: int, slot: str | None) -> tuple[Rows, Rows]:
    """Pages of ten hits: the holdout's of five categories, the treated ones of `personal`, and another one in their slot."""
    queries, events = json.loads(json.dumps(rows[0])), rows[1]
    for number, query in enumerate(queries):
        its = ours(query)
        kinds = 5 if its["arm"] == "holdout" else personal
        its["categories"] = [f"c{(number + at) % kinds}" for at in range(10)]
        if slot is not None and its["arm"] == "treatment":
            its["categories"][6] = slot if slot != "same" else its["categories"][5]
    return queries, events


@pytest.fixture(scope="module")
def season() -> tuple[Rows, Rows]:
    return made(people=700, days=7)


@pytest.mark.parametrize(
    ("personal", "slot", "said"),
    [
        (2, "another", "slots reduce the narrowing and do not undo it"),
        (1, "same", "slots do not undo it"),
        (5, "another", "slots have no narrowing to undo"),
    ],
)
def test_what_slots_give_back_is_measured_and_said(
    personal: int, slot: str, said: str, season: tuple[Rows, Rows], tmp_path: Path
) -> None:
    found = summary(tmp_path, *with_pages(season, personal, slot))
    assert found.narrowing is not None
    assert said in found.narrowing.sentence
    diversity = next(one for one in parts_of(found) if one.title == "Diversity and the bubble")
    assert found.narrowing.sentence in diversity.sentences


def test_a_page_whose_slots_make_up_for_everything_is_cured(season: tuple[Rows, Rows], tmp_path: Path) -> None:
    """Nine hits of one category and one of another: by chance in the holdout, by the slot in the treated pages."""
    queries, events = json.loads(json.dumps(season[0])), season[1]
    for query in queries:
        ours(query)["categories"] = ["a"] * 6 + ["b"] + ["a"] * 3
    found = summary(tmp_path, queries, events).narrowing
    assert found is not None
    assert found.narrows
    assert found.is_undone
    assert found.alone == pytest.approx(0.0)
    assert found.sentence.endswith("Slots give back 100% of that (± 0%): with slots no difference is known.")


def test_the_entropies_are_those_of_the_measures(season: tuple[Rows, Rows], tmp_path: Path) -> None:
    queries, events = json.loads(json.dumps(season[0])), season[1]
    ours(queries[0])["categories"][2] = None
    found = summary(tmp_path, queries, events).narrowing
    assert found is not None
    pages: dict[str, list[float]] = {"holdout": [], "shown": [], "alone": []}
    for query in queries:
        its = ours(query)
        drawn = {slot["object_id"] for slot in its.get("slots", ())}
        both = list(zip(its["categories"], query["query_response_hit_ids"], strict=True))
        shown = [category for category, _ in both if category is not None]
        if its["arm"] == "holdout":
            pages["holdout"].append(normalized_entropy(shown) or 0.0)
            continue
        pages["shown"].append(normalized_entropy(shown) or 0.0)
        alone = [category for category, hit in both if category is not None and hit not in drawn]
        pages["alone"].append(normalized_entropy(alone) or 0.0)
    means = {name: float(np.mean(values)) for name, values in pages.items()}
    assert (found.holdout, found.shown, found.alone) == pytest.approx(tuple(means.values()))
    assert found.given_back == pytest.approx(means["shown"] - means["alone"])


def test_nothing_is_said_without_slots_or_categories(season: tuple[Rows, Rows], tmp_path: Path) -> None:
    for part in ("slots", "categories"):
        queries = json.loads(json.dumps(season[0]))
        for query in queries:
            ours(query).pop(part, None)
        assert summary(tmp_path, queries, season[1]).narrowing is None


def test_the_verdict_is_about_the_measure_that_was_chosen(season: tuple[Rows, Rows], tmp_path: Path) -> None:
    assert {one.value for one in Primary} == set(MEASURES)
    for name in MEASURES:
        found = summary(tmp_path, *season, primary=name)
        assert found.primary is not None
        assert found.primary.name == name
        assert name not in {one.name for one in found.secondary}
    queries, events = written(tmp_path, *season)
    ended = CliRunner().invoke(
        app, ["report", "--queries", str(queries), "--events", str(events), "--primary", "searches_clicked"]
    )
    assert "searches clicked changes by" in ended.stdout


def test_the_limit_of_added_latency_is_the_team_s(season: tuple[Rows, Rows], tmp_path: Path) -> None:
    for limit, ok in ((1.0, False), (500.0, True)):
        guardrails = {one.name: one for one in summary(tmp_path, *season, max_added_ms=limit).guardrails}
        assert guardrails["added latency"].ok is ok
        assert f"limit {limit:g} ms" in guardrails["added latency"].what


def test_a_broken_guardrail_fails_a_report_that_cannot_tell_yet(tmp_path: Path) -> None:
    """In the first days too few people came for an interval; lateness needs none."""
    rows = made(people=150, days=2)
    found = summary(tmp_path, *rows, max_added_ms=1.0)
    assert found.primary is not None
    assert found.primary.low is None
    assert found.sentence.startswith(
        "A guardrail is broken (added latency); the effect is not known yet: too few people"
    )
    queries, events = written(tmp_path, *rows)
    for limit, code in ((1, 1), (500, 0)):
        arguments = ["report", "--queries", str(queries), "--events", str(events), "--max-added-ms", str(limit)]
        assert CliRunner().invoke(app, arguments).exit_code == code


def test_each_arm_s_latency_stands_beside_what_was_added(season: tuple[Rows, Rows], tmp_path: Path) -> None:
    """Of searches that were sent once nobody knows the pair: they are left out."""
    queries, events = json.loads(json.dumps(season))
    for number, query in enumerate(queries):
        ours(query)["baseline_ms"] = 5.0 + number % 40
    took = {arm: [ours(q)["baseline_ms"] + ours(q).get("added_ms", 0.0) for q in queries if ours(q)["arm"] == arm]
            for arm in ("treatment", "holdout")}  # fmt: skip
    once = next(query for query in queries if ours(query)["arm"] == "treatment")
    ours(once).update(mode="rewrite", baseline_ms=1e6, added_ms=None)
    took["treatment"].pop(0)
    texts = [f"{name} {np.quantile(took[arm], 0.5):.1f} and {np.quantile(took[arm], 0.99):.1f} ms"
             for arm, name in (("treatment", "treated"), ("holdout", "held out"))]  # fmt: skip
    guardrails = {one.name: one for one in summary(tmp_path, queries, events).guardrails}
    assert guardrails["added latency"].what.endswith(f"; whole searches {', '.join(texts)}")


def test_people_who_change_arms_at_a_log_in_are_counted_and_stay_in_both(
    season: tuple[Rows, Rows], tmp_path: Path
) -> None:
    """A visitor's searches count for the session's unit, those after the log-in for the user's."""
    queries, events = json.loads(json.dumps(season[0])), season[1]
    people = {query["client_id"]: ours(query)["arm"] for query in queries}
    for client_id, arm in list(people.items())[:7]:
        first = next(query for query in queries if query["client_id"] == client_id)
        other = "holdout" if arm == "treatment" else "treatment"
        its = ours(first) | {"arm": other, "unit": f"visit of {client_id}"}
        queries.append({**first, "query_id": f"before {client_id}", "query_attributes": {"rewriter": its}})
    found = summary(tmp_path, queries, events)
    assert any(one.startswith("7 clients changed arms at a log-in") for one in found.findings)
    assert found.people == summary(tmp_path, *season).people + 7
