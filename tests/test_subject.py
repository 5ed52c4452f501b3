"""Subject: wrong arguments are refused on construction, and reported when a search gets another object."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewriter import AsyncRewriter, Reason, Rewriter, Settings, Subject
from rewriter.shell.wrap import CURRENT_SUBJECT
from tests.fakes import Client, FakeEngine

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"segments": "vip"}, "segments is of type str"),
    ({"segments": None}, "segments is of type NoneType"),
    ({"segments": {"vip": 1}}, "segments is of type dict"),
    ({"segments": {"vip"}}, "segments is of type set"),
    ({"segments": b"vip"}, "segments is of type bytes"),
    ({"segments": ("vip", None)}, "segments[1] is of type NoneType"),
    ({"segments": ["vip", 7]}, "segments[1] is of type int"),
    ({"segments": ("",)}, "segments[0] is an empty string"),
    ({"segments": iter(("vip",))}, "segments is of type tuple_iterator"),
    ({"consent": "no"}, "consent is of type str"),
    ({"consent": None}, "consent is of type NoneType"),
    ({"consent": 0}, "consent is of type int"),
    ({"user_id": 17}, "user_id is of type int"),
    ({"user_id": b"u"}, "user_id is of type bytes"),
    ({"user_id": float("nan")}, "user_id is of type float"),
    ({"session_id": ["s"]}, "session_id is of type list"),
]


@pytest.mark.parametrize(("arguments", "said"), WRONG)
def test_a_wrong_argument_is_named_where_the_subject_is_made(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=r"is ") as refused:
        Subject(**arguments)
    assert said in str(refused.value)


def test_all_wrong_arguments_are_named_and_no_value_is_shown() -> None:
    with pytest.raises(ValueError, match="user_id") as refused:
        Subject(user_id=4711, segments="goldmember", consent="perhaps")  # type: ignore[arg-type]
    assert [word in str(refused.value) for word in ("user_id", "segments", "consent")] == [True] * 3
    assert not [word for word in ("4711", "goldmember", "perhaps") if word in str(refused.value)]


@given(st.none() | st.text(), st.none() | st.text(), st.lists(st.text(min_size=1)), st.booleans())
def test_what_is_right_is_taken(user: str | None, session: str | None, segments: list[str], consent: bool) -> None:
    subject = Subject(user, session, segments, consent)  # type: ignore[arg-type]
    assert subject.segments == tuple(segments)
    assert hash(subject) == hash(Subject(user, session, tuple(segments), consent))


def test_empty_identifiers_are_nobody() -> None:
    assert not Subject("", "").known


NOT_SUBJECTS: list[Any] = ["u1", 17, {"user_id": "u"}, b"u", ("u",), object(), Subject]


@pytest.mark.parametrize("wrong", NOT_SUBJECTS, ids=lambda one: type(one).__name__)
def test_what_is_no_subject_is_refused_by_subject_and_reported_by_a_search(wrong: Any) -> None:
    with Rewriter(Client(FakeEngine(), "baseline"), settings=Settings(), leg_client=Client(FakeEngine())) as rewriter:
        with pytest.raises(ValueError, match=f"subject is of type {type(wrong).__qualname__}"):
            rewriter.subject(wrong)
        response, report = rewriter.search_details(index="i", body={"query": {"match": {"t": "x"}}}, subject=wrong)
    assert "hits" in response
    assert report.reason is Reason.NO_SUBJECT
    assert f"of type {type(wrong).__qualname__}, not a Subject" in report.detail


# --- leaving `with rewriter.subject(...)` -----------------------------------------------------------------------------


@pytest.fixture
def rewriter() -> Iterator[Rewriter]:
    with Rewriter(Client(FakeEngine(), "baseline"), settings=Settings(), leg_client=Client(FakeEngine())) as made:
        yield made


def test_a_block_left_in_another_context_raises_nothing(rewriter: Rewriter) -> None:
    def dependency() -> Iterator[None]:
        with rewriter.subject(Subject("ann")):
            yield

    halves = dependency()
    contextvars.copy_context().run(next, halves)
    contextvars.copy_context().run(next, halves, None)


def test_the_caller_s_own_error_is_seen_in_another_context(rewriter: Rewriter) -> None:
    def dependency() -> Generator[None, None, None]:
        with rewriter.subject(Subject("ann")):
            yield

    halves = dependency()
    contextvars.copy_context().run(next, halves)
    with pytest.raises(KeyError, match="theirs"):
        contextvars.copy_context().run(halves.throw, KeyError("theirs"))


def test_a_stream_closed_by_another_task_raises_nothing() -> None:
    async def main() -> None:
        async with AsyncRewriter(Client(FakeEngine(), "baseline"), leg_client=Client(FakeEngine())) as made:

            async def stream() -> AsyncIterator[int]:
                with made.subject(Subject("ann")):
                    yield 1
                    yield 2

            numbers = stream()
            await asyncio.create_task(anext(numbers))  # type: ignore[arg-type]
            await numbers.aclose()  # type: ignore[attr-defined]

    asyncio.run(main())


def test_blocks_nest_and_restore(rewriter: Rewriter) -> None:
    ann, bob = Subject("ann"), Subject("bob")
    with rewriter.subject(ann):
        with rewriter.subject(bob):
            assert CURRENT_SUBJECT.get() is bob
        assert CURRENT_SUBJECT.get() is ann
        with rewriter.subject(None):
            assert CURRENT_SUBJECT.get() is None
    assert CURRENT_SUBJECT.get() is None
