"""Items that are used once, on a real server: what somebody used leaves the top of their page, by scores within the bounds."""

from __future__ import annotations

import time
from typing import Any

import pytest
from opensearchpy import OpenSearch

from rewriter import Reason, Rewriter, Settings, Subject
from rewriter.signals.counters import Counters, Value
from rewriter.signals.memory_store import MemoryStore
from rewriter.signals.repeats import AGAIN, USES
from rewriter.signals.store import Keys
from tests.live.conftest import loaded

MAPPING = {"title": {"type": "text"}, "genre": {"type": "keyword"}}
FILMS = {f"f{n}": {"title": "western " * (9 - n), "genre": "western"} for n in range(8)}


@pytest.mark.parametrize(
    ("use", "again", "factor", "of_used"),
    [
        ("once", 0.0, 1.5, (1.0, 1.0)),
        ("once", 0.075, 1.25, (1.0, 1.0)),
        ("once", 0.4, 1.0, (1.0, 1.0)),
        ("auto", 0.0, 1.5, (1.0, 1.0)),
        ("auto", 0.4, 1.0, (1.4, 1.0 + 0.5 / 3)),
    ],
)
def test_what_was_used_leaves_the_top_where_people_use_things_once(
    opensearch: OpenSearch, prefix: str, use: str, again: float, factor: float, of_used: tuple[float, float]
) -> None:
    """Under "auto" it comes to the top where people use things again."""
    store, now_s, keys = MemoryStore(), time.time(), Keys()
    used: dict[Value, float] = {("item", "f0"): 8.0, ("item", "f1"): 1.0}
    store.write(keys.profile("ann"), Counters(used, {"item": 9.0}, now_s, now_s, 2.0), None)
    uses: dict[Value, float] = {(USES, "-"): 1e6, (AGAIN, "-"): again * 1e6}
    store.write(keys.population(0), Counters(uses, {USES: 1e6, AGAIN: again * 1e6}, now_s, now_s, 9.0), None)
    policy: dict[str, Any] = {
        "index": f"{prefix}*",
        "item_use": use,
        "item_scale": 0.5,
        "max_boost": 2,
        "exploration_share": 0,
    }
    settings = Settings.model_validate(
        {
            "experiment": {"holdout": 0},
            "budget": {"signals_ms": 5_000, "cutoff_ms": 10_000},
            "policies": {"films": policy},
        }
    )
    body = {"query": {"match": {"title": "western"}}, "size": 8}
    with (
        loaded(opensearch, f"{prefix}-films", MAPPING, FILMS.items()) as index,
        Rewriter(opensearch, store, settings) as rewriter,
    ):
        assert rewriter.wait_ready(30.0, index=index), rewriter.status()
        plain = {hit["_id"]: hit["_score"] for hit in opensearch.search(index=index, body=body)["hits"]["hits"]}
        response, report = rewriter.search_details(index=index, body=body, subject=Subject("ann"))
    assert report.reason is (Reason.NO_SIGNALS if factor == of_used[0] else Reason.PERSONALIZED), report
    found = {hit["_id"]: hit["_score"] / plain[hit["_id"]] for hit in response["hits"]["hits"]}
    used_alike = dict(zip(("f0", "f1"), of_used, strict=True))
    assert found == pytest.approx({one: used_alike.get(one, factor) for one in FILMS}, rel=1e-5)
