"""Quarantine: the table of cells and transitions; one subject, form or expression is never evidence for others."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewriter.decide.quarantine import (
    EXPRESSIONS,
    FAILURES,
    MAX_CELLS,
    MAX_OPEN_S,
    OPEN_S,
    PROBE_S,
    SUBJECTS,
    Attempt,
    Evidence,
    Held,
    Quarantine,
    Version,
    in_words,
)
from rewriter.journal import Journal

SHOP = Version("shop", "v1", "personalized")


class Clocked:
    """A quarantine whose clock moves by hand."""

    def __init__(self) -> None:
        self.journal = Journal()
        self.quarantine = Quarantine(self.journal)
        self.now_s = 100.0

    def held(self, expression: str = "a", form: int = 1, version: Version = SHOP) -> Held | None:
        return self.quarantine.held(Attempt(version, expression, lambda: form), self.now_s)

    def failed(self, subject: int = 0, form: int = 1, expression: str = "a", *, of_form: bool = False) -> None:
        self.quarantine.failed(SHOP, Evidence(expression, form, subject, of_form), "parsing_exception", self.now_s)

    def worked(self, expression: str = "a", form: int = 1) -> None:
        self.quarantine.worked(Attempt(SHOP, expression, lambda: form), self.now_s)

    def fail_for_everybody(self, count: int = FAILURES, **where: Any) -> None:
        for number in range(count):
            self.failed(number % SUBJECTS, **where)

    def lines(self) -> list[str]:
        return [line.text for line in self.journal.drain(self.now_s)]


@pytest.fixture
def clocked() -> Clocked:
    return Clocked()


def test_a_template_that_fails_for_everybody_is_out_within_twenty_searches(clocked: Clocked) -> None:
    for number in range(20):
        if clocked.held():
            break
        clocked.failed(subject=number)
    held = clocked.held()
    assert held is not None
    assert held.template
    assert number <= 20 - 1


@pytest.mark.parametrize(
    ("forms", "expressions", "held", "free"),
    [
        ((1,), ("a",), [(1, "a")], [(2, "a"), (1, "b"), (2, "b")]),
        ((1, 2), ("a",), [(1, "a"), (2, "a"), (3, "a")], [(1, "b"), (2, "b")]),
        ((1,), ("a", "b", "c"), [(1, "a"), (1, "b"), (1, "d")], [(2, "a"), (2, "d")]),
        ((1, 2), ("a", "b", "c"), [(1, "a"), (2, "b"), (3, "d")], []),
        ((1,), ("a", "b"), [], [(1, "c"), (2, "a")]),
        ((1, 2), ("a", "b"), [], [(1, "c"), (3, "c")]),
    ],
)
def test_a_cell_opens_on_evidence_of_several_in_what_it_leaves_open(
    clocked: Clocked, forms: tuple[int, ...], expressions: tuple[str, ...], held: Any, free: Any
) -> None:
    every = [(form, expression) for form in forms for expression in expressions]
    for number in range(FAILURES):
        form, expression = every[number % len(every)]
        clocked.failed(subject=number, form=form, expression=expression)
    assert all(clocked.held(expression, form) for form, expression in held)
    assert not any(clocked.held(expression, form) for form, expression in free)


@pytest.mark.parametrize("count", [FAILURES - 1, FAILURES, 10 * FAILURES])
def test_one_subject_never_opens_anything(clocked: Clocked, count: int) -> None:
    for number in range(count):
        clocked.failed(subject=7, form=number % 3, expression="abc"[number % 3])
    assert not any(clocked.held(expression, form) for form in range(3) for expression in "abc")


def test_a_form_that_is_at_fault_itself_holds_itself_alone(clocked: Clocked) -> None:
    for number in range(20 * FAILURES):
        clocked.failed(subject=number, form=number % 5, expression="abcd"[number % 4], of_form=True)
    held = clocked.held("a", 0)
    assert held is not None
    assert not held.template
    assert clocked.held("a", 77) is None
    assert clocked.held("z", 0) is None
    assert list(in_words(clocked.quarantine.status(clocked.now_s))) == []


def test_a_success_in_between_is_a_template_that_works(clocked: Clocked) -> None:
    for _ in range(5):
        clocked.fail_for_everybody(FAILURES - 1)
        clocked.worked()
    assert clocked.held() is None


def test_a_success_of_another_form_frees_the_index_and_not_the_form(clocked: Clocked) -> None:
    clocked.fail_for_everybody()
    clocked.worked(form=2)
    assert clocked.held(form=1) is not None
    assert clocked.held(form=2) is None


def test_it_is_tried_again_and_closes_on_a_success(clocked: Clocked) -> None:
    clocked.fail_for_everybody()
    clocked.now_s += OPEN_S - 0.1
    assert clocked.held() is not None
    clocked.now_s += 0.1
    assert clocked.held() is None  # the probe
    assert clocked.held() is not None
    assert [one.state for one in clocked.quarantine.status(clocked.now_s)] == ["half_open"]
    clocked.worked()
    assert clocked.held() is None
    assert clocked.quarantine.status(clocked.now_s) == []


def test_a_probe_that_sends_nothing_is_followed_by_another(clocked: Clocked) -> None:
    clocked.fail_for_everybody()
    clocked.now_s += OPEN_S
    for _ in range(5):
        assert clocked.held() is None
        assert clocked.held() is not None
        clocked.now_s += PROBE_S


def test_a_probe_that_is_rejected_opens_for_twice_as_long_up_to_the_bound(clocked: Clocked) -> None:
    clocked.fail_for_everybody()
    for_s = OPEN_S
    for _ in range(8):
        clocked.now_s += for_s - 0.001
        assert clocked.held() is not None
        clocked.now_s += 0.001
        assert clocked.held() is None
        clocked.failed()
        for_s = min(MAX_OPEN_S, 2 * for_s)


def test_what_was_sent_before_it_opened_counts_for_nothing(clocked: Clocked) -> None:
    clocked.fail_for_everybody(5 * FAILURES)
    clocked.now_s += OPEN_S
    assert clocked.held() is None


def test_another_version_starts_afresh(clocked: Clocked) -> None:
    clocked.fail_for_everybody()
    assert clocked.held(version=SHOP._replace(version="v2")) is None
    assert clocked.held(version=SHOP._replace(leg="exploration")) is None
    clocked.quarantine.release("shop", "v2", clocked.now_s)
    assert clocked.held() is None
    assert any("released" in line for line in clocked.lines())


def test_cells_are_bounded(clocked: Clocked) -> None:
    for number in range(2 * MAX_CELLS):
        clocked.failed(form=number, expression=f"e{number}")
    assert len(clocked.quarantine._cells) <= MAX_CELLS


def test_the_log_says_what_happened_with_the_server_s_cause(clocked: Clocked) -> None:
    clocked.fail_for_everybody()
    lines = clocked.lines()
    assert lines[0] == "template of policy shop, version v1 (personalized leg), was rejected on a: parsing_exception"
    quarantined = [line for line in lines if line.startswith("quarantined")]
    assert quarantined == [
        "quarantined for 5 s: shop v1 (personalized) on a for one form of search, after 8 rejections in a row: parsing_exception"
    ]


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["failed", "worked", "held"]), st.integers(0, 4), st.integers(0, 2), st.sampled_from("abcd"),
        st.booleans(), st.floats(0, 10),
    ),
    max_size=120,
)  # fmt: skip


@given(EVENTS)
def test_whatever_happens_nothing_is_held_that_showed_nothing(events: list[Any]) -> None:
    """An expression is held only where it, or EXPRESSIONS others, were rejected since they last worked."""
    clocked = Clocked()
    rejected: dict[str, set[int]] = {}
    for what, subject, form, expression, of_form, wait_s in events:
        clocked.now_s += wait_s
        if what == "failed":
            clocked.failed(subject, form, expression, of_form=of_form)
            rejected.setdefault(expression, set()).add(subject)
        elif what == "worked":
            clocked.worked(expression, form)
            assert clocked.held(expression, form) is None
        elif clocked.held(expression, form):
            others = {subject for one in rejected.values() for subject in one}
            assert len(others) >= SUBJECTS
            assert expression in rejected or len(rejected) >= EXPRESSIONS
