"""Searches that the server refuses by themselves are no evidence against the templates of their legs."""

from __future__ import annotations

import pytest
from opensearchpy.exceptions import RequestError

from rewriter import Reason, Subject
from rewriter.signals.store import Keys
from tests.fakes import HARNESSES, FakeStore, Harness
from tests.likes import SETTINGS
from tests.reason_cases import ANN, LIKED, raises

KINDS = ("match", "query_string", "wildcard", "match_phrase", "prefix")
REFUSED = raises(RequestError(400, "parsing_exception", {"error": "x"}))


def visited() -> FakeStore:
    store = FakeStore()
    for user in ("ann", *(f"u{n}" for n in range(40))):
        store.write(Keys().profile(user), LIKED, None)
    return store


@pytest.mark.parametrize("kind", HARNESSES)
@pytest.mark.parametrize("sound", [False, True])
def test_exploration_goes_on_where_the_searches_themselves_are_refused(kind: type[Harness], sound: bool) -> None:
    with kind(SETTINGS, visited()) as harness:
        harness.engine.on = dict.fromkeys(("baseline", "personal", "explored"), REFUSED)
        if sound:  # only exploration is refused: that is its template's fault
            harness.engine.on = {"explored": REFUSED}
        for n in range(40):
            body = {"query": {KINDS[n % 5]: {"title": f"shoe {n} (("}}, "size": 10 + n % 7}
            who = Subject(f"u{n}", f"s{n}")
            if sound:
                harness.search(who, {"index": "products", "body": body})
            else:
                with pytest.raises(RequestError):
                    harness.search(who, {"index": "products", "body": body})
            harness.until(lambda status: status.in_flight == 0)
        harness.engine.on.clear()
        _, report = harness.search(
            ANN, {"index": "products", "body": {"query": {"match": {"title": "good"}}, "size": 10}}
        )
    assert report.reason is Reason.PERSONALIZED
    assert bool(report.slots) is not sound
    assert any("rejected" in error for error in report.errors) is sound
