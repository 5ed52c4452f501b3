"""What a gateway refuses because of one caller's header costs that caller alone: pool and template serve the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, cast

import pytest
from opensearchpy.exceptions import RequestError

from rewriter import Reason, Report, Settings, Subject
from rewriter.decide.quarantine import FAILURES
from rewriter.decide.senders import MAX_PARTS, MAX_SENDERS, RefusedSenders, sender_of
from rewriter.encodings import header_text
from rewriter.signals.store import Keys
from tests.fakes import HARNESSES, FakeStore, Harness
from tests.reason_cases import LIKED

Open = Callable[..., Harness]
Headers = dict[Any, Any]
Refuses = Callable[[Mapping[str, str]], bool]

BYTES: Headers = {"a": b"1", b"ID": "x", "more": "2"}

FREE: Refuses = lambda headers: headers.get("x-plan", "").startswith("free")  # noqa: E731
UNPAID: Refuses = lambda headers: headers.get("x-plan") != "paid"  # noqa: E731
CALLERS: dict[str, tuple[Refuses, Callable[[int], Headers], Headers]] = {
    "a header that the others lack": (FREE, lambda _: {"x-plan": "free"}, {}),
    "in bytes": (FREE, lambda _: {b"X-Plan": b"free"}, {b"X-Plan": b"paid"}),
    "with an id for each request": (
        FREE, lambda n: {"x-plan": "free", "traceparent": f"{n}"}, {"x-plan": "paid", "traceparent": "t"},
    ),
    "a header that this one lacks": (UNPAID, lambda _: {}, {"X-Plan": "paid"}),
}  # fmt: skip
"""By name: what the gateway refuses, the headers of each search of the caller who is refused, and those of another caller."""


def gateway(harness: Harness, legs: set[str], refuses: Refuses) -> None:
    """Put a gateway before the server that refuses legs by their headers."""
    answered = harness.engine.answer

    def answer(leg: Any, arguments: dict[str, Any]) -> Any:
        found = answered(leg, arguments)
        headers = {header_text(k).lower(): header_text(v) for k, v in (arguments.get("headers") or {}).items()}
        if leg in legs and refuses(headers):
            raise RequestError(400, "plan_exception", {"error": {"root_cause": [{"type": "plan_exception"}]}})
        return found

    harness.engine.answer = answer  # type: ignore[method-assign]


@pytest.fixture(params=[(kind, mode) for kind in HARNESSES for mode in ("parallel", "rewrite")], ids=str)
def opens(request: pytest.FixtureRequest) -> Iterator[Open]:
    kind, mode = request.param
    with ExitStack() as stack:

        def make(**policy: Any) -> Harness:
            store = FakeStore()
            for number in range(40):
                store.write(Keys().profile(f"u{number}"), LIKED, None)
            shop = {"index": "products*", "item_repeat_share": 1.0, "mode": mode, "parallel_share": 0, **policy}
            given = {"experiment": {"holdout": 0}, "budget": {"signals_ms": 2_000, "cutoff_ms": 5_000}}
            shop |= {"hedge_ms": 4_000} if mode == "rewrite" else {}
            harness = kind(Settings.model_validate({**given, "policies": {"shop": shop}}), store)
            stack.enter_context(harness)
            return cast("Harness", harness)

        yield make


def searched(harness: Harness, number: int, headers: Headers, kind: str = "match") -> Report:
    """Search as one of 40 people, and wait until nothing of it is left."""
    body = {"query": {kind: {"title": "shoe"}}, "size": 10}
    subject = Subject(f"u{number}", f"s{number}")
    _, report = harness.search(subject, {"index": "products", "body": body, "headers": dict(headers)})
    harness.until(lambda status: status.in_flight == status.rewritten_in_flight == 0)
    return report


@pytest.mark.parametrize("name", CALLERS)
def test_a_caller_whose_exploration_leg_is_refused_costs_nobody_else_the_pool(opens: Open, name: str) -> None:
    refuses, theirs, headers = CALLERS[name]
    harness = opens()
    gateway(harness, {"explored"}, refuses)
    for number in range(3):
        report = searched(harness, number, theirs(number))
        assert (report.reason, report.slots) == (Reason.PERSONALIZED, ())
    assert len(searched(harness, 10, headers).slots) == 1
    assert len(searched(harness, 11, headers).slots) == 1
    assert len(searched(harness, 12, theirs(12)).slots) == 1  # the pool is there, for everyone


@pytest.mark.parametrize("name", CALLERS)
def test_a_pool_that_was_fetched_outlives_the_refusal_of_another_s_leg(opens: Open, name: str) -> None:
    refuses, theirs, headers = CALLERS[name]
    harness = opens(exploration_fresh_s=0)
    gateway(harness, {"explored"}, refuses)
    assert len(searched(harness, 10, headers).slots) == 1
    for number in range(3):
        harness.core.pools._claimed.clear()
        searched(harness, number, theirs(number))
    assert len(searched(harness, 11, headers).slots) == 1


@pytest.mark.parametrize("name", ["with an id for each request", "a header that this one lacks"])
@pytest.mark.parametrize("legs", [{"explored"}, {"personal"}], ids=str)
def test_a_caller_whose_legs_are_refused_puts_no_template_into_quarantine_for_others(
    opens: Open, name: str, legs: set[str]
) -> None:
    refuses, theirs, headers = CALLERS[name]
    harness = opens(exploration_fresh_s=0, exploration_stale_s=0)
    gateway(harness, legs, refuses)
    for number in range(FAILURES):
        searched(harness, number, theirs(number), ("match", "match_phrase")[number % 2])
        harness.core.pools._refused.clear()
    for number, kind in ((10, "match"), (11, "match_phrase"), (12, "match_bool_prefix")):
        report = searched(harness, number, headers, kind)
        assert (report.reason, len(report.slots)) == (Reason.PERSONALIZED, 1)


def test_one_that_is_refused_is_held_and_what_others_are_granted_does_not_release_it(opens: Open) -> None:
    harness = opens()
    gateway(harness, {"personal"}, FREE)
    for number in range(2 * FAILURES):
        searched(harness, number, {"x-plan": "free"})
    sent = len(harness.engine.asked["personal"])
    assert searched(harness, 20, {}).reason is Reason.PERSONALIZED
    assert searched(harness, 21, {"x-plan": "free"}).reason in (Reason.QUARANTINED, Reason.REJECTED_BEFORE)
    assert len(harness.engine.asked["personal"]) == sent + 1


def test_a_leg_that_is_refused_whoever_sends_it_is_not_sent_again_and_again(opens: Open) -> None:
    """Its tracing gives each request another header."""
    harness = opens()
    gateway(harness, {"explored"}, lambda _: True)
    for number in range(3 * MAX_SENDERS):
        assert searched(harness, 0, {"traceparent": f"{number}"}).reason is Reason.PERSONALIZED
    assert len(harness.engine.asked["explored"]) == MAX_SENDERS


def test_a_template_that_is_refused_whoever_sends_it_is_held_within_twenty_searches(opens: Open) -> None:
    harness = opens()
    gateway(harness, {"personal"}, lambda _: True)
    for number in range(20):
        searched(harness, number, {"x-tenant": f"{number % 5}", "traceparent": f"{number}"})
    sent = len(harness.engine.asked["personal"])
    assert searched(harness, 21, {"traceparent": "x", "x-tenant": "y"}).reason is not Reason.PERSONALIZED
    assert len(harness.engine.asked["personal"]) == sent


def test_what_refused_senders_have_in_common_counts_once_they_are_many() -> None:
    refused = RefusedSenders()
    for number in range(MAX_SENDERS):
        assert not refused.holds(sender_of({"a": "1", "id": f"{number}"}, {"routing": "eu"}))
        refused.add(sender_of({"A": "1", "id": f"{number}"}, {"routing": "eu"}))
    assert refused.holds(sender_of(BYTES, {"routing": "eu"}))
    assert not refused.holds(sender_of({"a": "1"}, {"routing": "eu"}))
    assert not refused.holds(sender_of({"a": "1", "id": "x"}, {"routing": "us"}))
    assert not refused.holds(sender_of({"a": "1", "id": "x"}, {}))


def test_a_sender_is_bounded_and_no_text_of_it_is_kept() -> None:
    sender = sender_of({f"x-{number}": "ann" * 1_000 for number in range(1_000)}, {})
    assert len(sender) == 2 * MAX_PARTS
    assert {type(one) for one in sender} == {int}
