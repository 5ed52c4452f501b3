"""The diversity of evaluated pages: read of the hits' documents, measured as `rewriter.measures` does, shown beside the scores."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from rewriter import Reason, Settings, Subject
from rewriter.cli.evaluate.html import html_of
from rewriter.cli.evaluate.terminal import print_comparison, print_figures
from rewriter.client.seam import SearchArguments
from rewriter.evaluate.hit_facts import shown_fields
from rewriter.evaluate.judged import JudgedSearch
from rewriter.evaluate.outcome import Outcome, Prepared, Result
from rewriter.evaluate.summary import figures
from rewriter.evaluate.variants import Variant, variant
from rewriter.evaluate.verdict import verdict
from rewriter.experiment.charts import Bar, beside
from rewriter.measures.diversity import intra_list_diversity, item_ages, normalized_entropy

NOW = datetime(2026, 9, 1, tzinfo=UTC)
AGES = (5, 40, 10, 400)
ANN = Subject("ann")


def policy_of(**given: Any) -> Variant:
    settings = Settings.model_validate({"policies": {"shop": {"index": "products", **given}}})
    return variant(settings, settings.policies["shop"], "shop")


SHOP = policy_of(
    category_field="kind.name", class_field="class", date_field="listed",
    fields={"brand": {}, "look": {"of": ["colour", "brand"]}},
)  # fmt: skip
HITS = [
    {"_id": f"p{n}", "_source": {"kind": {"name": f"k{n % 2}"}, "brand": f"b{n}", "colour": ["red", f"c{n}"],
                                 "listed": (NOW - timedelta(days=age)).isoformat()}}
    for n, age in enumerate(AGES)
]  # fmt: skip


def evaluated(
    one: Variant, base: list[Any], own: list[Any], k: int = 3, subject: Subject = ANN, known: int | None = 0
) -> dict[str, Any]:
    fields = shown_fields([one.policy])
    at_s = NOW.timestamp()
    judged = JudgedSearch("1", subject, "shoe", {"p0": 1.0}, at_s)
    prepared = Prepared(judged, SearchArguments("products", {}), 0, known, at_s, at_s, 1, "", is_first=False)
    results = Result(), Result()
    for result, hits in zip(results, (base, own), strict=True):
        result.pages[0] = [hit["_id"] for hit in hits]
        fields.note(result, 0, hits, at_s, k)
    results[1].reasons[0], results[1].functions[0], results[1].slots[0] = Reason.PERSONALIZED, 2, 0
    outcome = Outcome([prepared], results[0], {one.name: results[1]}, {0: frozenset()}, {0: 9}, {0: ""})
    return figures(outcome, [one], k, 1)[0]


NOTHING = {"searches": 2, "people": 2, "ratio": None, "ratio_low": None, "difference": 0.0, "low": 0.0, "high": 0.0}


def test_everything_that_a_measure_reads_is_asked_for() -> None:
    assert shown_fields([SHOP.policy]).source == ("kind.name", "listed", "class", "brand", "colour")
    assert shown_fields([policy_of(date_field="listed").policy]).category == ""
    assert shown_fields([policy_of().policy]).source == ()


def test_pages_are_as_diverse_as_the_measures_say() -> None:
    page = evaluated(SHOP, HITS[:3], [HITS[3], *HITS[:2]])["policies"][0]["page"]
    for name, order in (("baseline_", (0, 1, 2)), ("", (3, 0, 1))):
        attributes = [frozenset({f"k{n % 2}", f"b{n}", "red", f"c{n}"}) for n in order]
        assert page[f"{name}intra_list_diversity@3"] == pytest.approx(intra_list_diversity(attributes), abs=1e-6)
        assert page[f"{name}normalized_entropy@3"] == pytest.approx(
            normalized_entropy([f"k{n % 2}" for n in order]), abs=1e-6
        )
        ages = item_ages(AGES[n] for n in order)
        assert ages is not None
        assert page[f"{name}item_age_median_days"] == np.median([AGES[n] for n in order]) == ages.median_days
        assert page[f"{name}item_age_p90_days"] == pytest.approx(ages.p90_days)
        assert page[f"{name}young_share"] == pytest.approx(ages.young_share, abs=1e-6)
    assert page["item_age_median_days"] > page["baseline_item_age_median_days"]


def test_they_are_shown_where_they_are_known() -> None:
    for found, known in (
        (evaluated(SHOP, HITS[:3], HITS[1:]), True),
        (evaluated(policy_of(), HITS[:3], HITS[1:]), False),
    ):
        out = io.StringIO()
        print_figures(Console(file=out, width=80), found)
        page = html_of(found)
        for text in ("intra-list diversity", "item age"):
            assert (text in out.getvalue()) is known
            assert (text in page) is known
        assert max(map(len, out.getvalue().splitlines())) <= 100


def test_the_page_names_what_was_not_personalized_and_captions_its_charts() -> None:
    found = evaluated(SHOP, HITS[:3], HITS[1:])
    found["policies"][0]["details"] = {"no_signals: people hardly use an item again": 1_123}
    found["left_out"] = {"no body": 2}
    assert "<svg" not in html_of(found)  # one person: a plot without any interval shows nothing
    found["policies"][0]["measures"]["all"]["nDCG@3"] |= {
        "ratio": 1.1,
        "ratio_low": 1.0,
        "ratio_high": 1.2,
        "low": 0.0,
        "high": 0.1,
    }
    page = html_of(found)
    assert "<li>1,123 × no_signals: people hardly use an item again</li>" in page
    assert "<p>Left out: no body (2).</p>" in page
    assert page.count("<figcaption>") == page.count('<svg class="desktop"') > 0


def test_a_label_that_fits_is_not_cut() -> None:
    name = "tools-and-garden, another person's signals"
    wide = beside([Bar(name, 0.1, 0.0, 0.2)], "rows").split("</svg>")[0]
    assert escape(name) in wide
    (left,) = re.findall(r'<line class="bar \w+" x1="([0-9.]+)"', wide)
    assert float(left) > 6.5 * len(name)


def test_pages_without_anything_relevant_decide_nothing() -> None:
    found: dict[str, Any] = {
        "measures": {part: {"nDCG@10": row} for part, row in (("all", NOTHING), ("new", NOTHING))},
        "explores": False, "placebo": False, "personalized": 1.0,
    }  # fmt: skip
    assert verdict(found, "nDCG@10").startswith("Not decided: no page shows a relevant document")
    found["measures"]["all"] = {"nDCG@10": NOTHING | {"difference": 0.4, "high": 1.0}}
    assert verdict(found, "nDCG@10").startswith("Not decided: nDCG@10 rises from 0 to 0.4000.")


def test_a_policy_s_name_and_a_warning_are_printed_as_they_are_written() -> None:
    found = evaluated(SHOP, HITS[:3], HITS[1:])
    found["policies"][0]["name"], found["warnings"] = "[sale] :fire:", ["the key `[budget] cutoff_ms`"]
    out = io.StringIO()
    print_figures(Console(file=out, width=80, highlight=False, markup=False, emoji=False), found)
    assert "[sale] :fire:: " in out.getvalue()
    assert "! the key `[budget] cutoff_ms`" in out.getvalue()


@pytest.mark.parametrize(
    ("segments", "known", "warned"), [(("vip",), None, True), ((), None, False), (("vip",), 0, False)]
)
def test_segments_that_no_event_names_are_reported_where_it_matters(
    segments: tuple[str, ...], known: int | None, warned: bool
) -> None:
    found = evaluated(SHOP, HITS[:3], HITS[1:], subject=Subject("ann", segments=segments), known=known)
    assert any("in segments that no event" in line for line in found["warnings"]) is warned


def test_variants_of_one_policy_are_told_apart_at_80_columns() -> None:
    long = policy_of()
    long = replace(long, name="a-shop-with-a-long-name.eu, without item boosts")
    out = io.StringIO()
    print_figures(Console(file=out, width=80), evaluated(long, HITS[:3], HITS[1:]))
    assert "…" not in out.getvalue()
    assert max(map(len, out.getvalue().splitlines()[:12])) <= 80


def test_runs_are_compared_by_short_hashes() -> None:
    one = {"before": "a" * 64, "after": "b" * 64}
    inputs = [{"what": "policies.shop"} | one, {"what": "history", "before": ["c" * 64], "after": []},
              {"what": "policies.old", "before": "a" * 64, "after": None},
              {"what": "templates.new", "before": None, "after": "d" * 12}, {"what": "seed", "before": 1, "after": 2}]  # fmt: skip
    out = io.StringIO()
    found = {"measure": "nDCG@10", "searches": 3, "left_out": 0, "inputs": inputs, "policies": []}
    print_comparison(Console(file=out, width=80, highlight=False), found)
    assert out.getvalue().splitlines()[:5] == [
        "policies.shop: aaaaaaaaaaaa → bbbbbbbbbbbb", "history: ['cccccccccccc'] → []",
        "policies.old: only in the first run", "templates.new: only in the second run", "seed: 1 → 2",
    ]  # fmt: skip


def test_a_verdict_never_goes_without_an_interval() -> None:
    """Where a sample's baseline is 0, the ratio has none, and the difference has."""
    every = {"searches": 9, "ratio": 1.847, "ratio_low": None, "difference": 0.2, "low": 0.05, "high": 0.4}
    measures = {"all": {"nDCG@3": every}, "new": {"nDCG@3": every | {"low": None, "high": None}}}
    found = {"explores": False, "placebo": False, "personalized": 1.0, "measures": measures}
    assert verdict(found, "nDCG@3") == "Switch it on: nDCG@3 rises by 84.7% (+0.200 [+0.050, +0.400])."


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.95, 0.99, "Exploration costs 3.0% of nDCG@3 [1.0%, 5.0%]."),
        (0.95, 1.01, "Exploration has no price in nDCG@3 that these searches show: 3.0% [-1.0%, 5.0%]."),
        (1.01, 1.05, "Exploration raises nDCG@3 by 3.0% [1.0%, 5.0%]."),
        (None, None, "The price of exploration in nDCG@3 is not known."),
    ],
)
def test_the_price_of_exploration(low: float | None, high: float | None, said: str) -> None:
    ratio = 1.03 if low and low > 1.0 else 0.97
    every = {"searches": 9, "ratio": ratio, "ratio_low": low, "ratio_high": high}
    found = {"explores": True, "measures": {part: {"nDCG@3": every} for part in ("all", "new")}}
    assert verdict(found, "nDCG@3") == said
