"""The journal: few lines however often a part flaps, and no quoted value of a server's or a template's message."""

from __future__ import annotations

import pytest

from rewriter.core import Core
from rewriter.journal import BURST, MAX_TOPICS, PERIOD_S, Journal, redacted
from rewriter.settings import Settings


def test_a_topic_that_flaps_writes_a_few_lines_and_says_how_many_more() -> None:
    journal = Journal()
    lines = []
    for tick in range(6_000):  # ten changes a second, for ten minutes
        journal.note("breaker", f"change {tick}", tick * 0.1)
        lines += journal.drain(tick * 0.1)
    assert len(lines) <= (BURST + 1) * (600 / PERIOD_S)
    lines += journal.drain(600.0 + PERIOD_S)
    told = sum(1 if " more such changes " not in line.text else int(line.text.split()[1]) for line in lines)
    assert told == 6_000
    assert lines[-1].text.endswith("the latest: change 5999")


def test_a_calm_topic_is_written_line_by_line_and_once() -> None:
    journal = Journal()
    for hour in range(5):
        journal.note("breaker", "opened", hour * 3600.0)
        assert [line.text for line in journal.drain(hour * 3600.0)] == ["opened"]
        assert journal.drain(hour * 3600.0) == []


def test_topics_are_bounded() -> None:
    journal = Journal()
    for number in range(10 * MAX_TOPICS):
        journal.note(f"topic {number}", "x", 0.0)
    assert len(journal.drain(0.0)) <= MAX_TOPICS + BURST


def test_a_breaker_says_when_it_opens_and_closes() -> None:
    core = Core(Settings.model_validate({"policies": {"shop": {"index": "*"}}}), {}, ["store"])
    for breaker in (core.breakers["shop"], core.store_breakers["store"]):
        for _ in range(10):
            permit = breaker.permit(1.0)
            assert permit is not None
            breaker.give_back(permit, "failure", 1.0)
        for _ in range(10):
            permit = breaker.permit(20.0)
            assert permit is not None
            breaker.give_back(permit, "success", 20.0)
    assert [(line.level, line.text) for line in core.journal.drain(20.0)] == [
        ("warning", "breaker of the optional legs of policy shop opened: 10 failures in a row"),
        ("info", "breaker of the optional legs of policy shop closed"),
        ("warning", "breaker of the store opened: 10 failures in a row"),
        ("info", "breaker of the store closed"),
    ]


NAMES = {"brand", "sku"}
LIMIT = (
    "Rescore window [200] is too large. It must be less than [100]. This prevents allocating massive heaps. This limit can be set "
    "by changing the [index.max_rescore_window] index level setting."
)


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ('For input string: "nike"', "For input string: …"),
        ("For input string: nike", "For input string: …"),
        ("failed to parse date field [nike] with format [strict_date]", "failed to parse date field … with format …"),
        ("'nike' is not an IP string literal.", "… is not an IP string literal."),
        (
            "Cannot search on field [sku] since it is not indexed.",
            "Cannot search on field [sku] since it is not indexed.",
        ),
        ("Value [30017] is out of range for a byte", "Value … is out of range for a byte"),
        (
            "Can't parse boolean value [maybe], expected [true] or [false]",
            "Can't parse boolean value …, expected … or …",
        ),
        ("Cannot parse 'red shoe AND", "Cannot parse …"),
        ("Failed to parse query [price:[10 TO ann@example.org]]", "Failed to parse query …"),
        ('unknown query [{"term": {"user": "ann"}}]', "unknown query …"),
        (LIMIT, LIMIT),
        ("UndefinedError: 'dict object' has no attribute 'ann'", "UndefinedError: … has no attribute …"),
    ],
)
def test_a_message_is_left_without_what_it_quotes(said: str, left: str) -> None:
    assert redacted(said, NAMES) == left


def test_a_message_is_bounded_and_one_line() -> None:
    found = redacted("x\n" * 10_000)
    assert len(found) <= 300
    assert "\n" not in found
