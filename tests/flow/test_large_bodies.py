"""A search whose body exceeds the limit is sent alone: neither optional leg is sent beside it."""

from __future__ import annotations

import pytest

from rewriter import Reason, Subject
from tests.fakes import HARNESSES, FakeStore, Harness
from tests.likes import SETTINGS

LARGE = {
    "terms": {"query": {"bool": {"filter": [{"terms": {"sku": [f"sku-{n}" for n in range(20_000)]}}]}}},
    "clauses": {"query": {"bool": {"should": [{"match": {"title": f"word{n}"}} for n in range(5_000)]}}},
    "one long text": {"query": {"match": {"title": "shoe " * 20_000}}},
    "a long text in another script": {"query": {"match": {"title": "靴 " * 40_000}}},
    "ids as numbers": {"query": {"terms": {"id": list(range(20_000))}}},
    "tuples": {"query": {"terms": {"id": tuple(range(20_000))}}},
    "a vector": {"query": {"script_score": {"script": {"params": {"v": [0.123456789 + n for n in range(8_000)]}}}}},
    "a script": {"script_fields": {"x": {"script": {"source": "doc['a'].value + " * 5_000}}}},
    "many keys": {"query": {"match": {f"field{n}": "x" for n in range(9_000)}}},
    "nested": {"query": {"bool": {"must": [{"bool": {"filter": [{"term": {"a": n}}]}} for n in range(9_000)]}}},
    "huge": {"query": {"terms": {"id": list(range(300_000))}}},
}


@pytest.mark.parametrize("kind", HARNESSES, ids=["sync", "async"])
@pytest.mark.parametrize("name", LARGE)
def test_a_search_with_a_large_body_goes_alone(kind: type[Harness], name: str) -> None:
    with kind(SETTINGS, FakeStore()) as harness:
        _, report = harness.search(Subject("ann", "s1"), {"index": "products", "body": LARGE[name]})
        assert (report.reason, report.variant) == (Reason.UNSUPPORTED, "baseline")
        assert "max_body_bytes" in report.detail
        assert [len(harness.engine.asked[leg]) for leg in ("baseline", "personal", "explored")] == [1, 0, 0]


@pytest.mark.parametrize("kind", HARNESSES, ids=["sync", "async"])
@pytest.mark.parametrize(("max_bytes", "goes_alone"), [(200, True), (100_000, False)])
def test_the_bound_is_a_setting(kind: type[Harness], max_bytes: int, goes_alone: bool) -> None:
    budget = SETTINGS.budget.model_copy(update={"max_body_bytes": max_bytes})
    with kind(SETTINGS.model_copy(update={"budget": budget}), FakeStore()) as harness:
        body = {"query": {"match": {"title": "shoe " * 100}}}
        _, report = harness.search(Subject("ann", "s1"), {"index": "products", "body": body})
        assert (report.reason is Reason.UNSUPPORTED) is goes_alone


UNSUPPORTED = {
    "a large body": LARGE["terms"],
    "a form that is passed through": {"query": {"terms": {"sku": ["a"] * 2_000}}, "explain": True},
    "scored by chance": {"query": {"function_score": {"query": {"match": {"title": "shoe"}}, "random_score": {}}}},
}


@pytest.mark.parametrize("kind", HARNESSES, ids=["sync", "async"])
@pytest.mark.parametrize("name", UNSUPPORTED)
def test_the_body_of_a_search_that_is_passed_through_is_not_hashed(
    kind: type[Harness], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no plan, so its key is not needed: to hash 5 MB takes 15 ms of the caller's thread or loop."""

    seen: list[object] = []

    def hashed(search: object) -> str:
        seen.append(search)
        return "0" * 32

    monkeypatch.setattr("rewriter.flow.steps.search_key", hashed)
    with kind(SETTINGS, FakeStore()) as harness:
        _, report = harness.search(Subject("ann", "s1"), {"index": "products", "body": UNSUPPORTED[name]})
        assert report.reason is Reason.UNSUPPORTED
        assert seen == []
