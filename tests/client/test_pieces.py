"""A large answer read in pieces is the answer that one reading gives, and other tasks run meanwhile."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opensearchpy import AsyncOpenSearch

from rewriter.client.limits import LIMITS, LegLimits
from rewriter.client.opensearch import cloned
from rewriter.client.pieces import FROM_CHARS, read_in_pieces
from tests.wire import Wire, whole

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
    | st.sampled_from(['{"_index":', '},{"_index":"a"', "]}}", '\\"', '"hits":[', "\\"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["_index", "_id", "hits", "a", '{"_index":']), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip
HITS = st.fixed_dictionaries(
    {"_index": st.text(max_size=5), "_id": st.text(max_size=5), "_source": VALUES, "inner_hits": VALUES}
)


def text_of(answer: Any) -> str:
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":"))


@given(st.lists(HITS, max_size=5), VALUES, st.booleans())
def test_it_is_what_one_reading_gives_or_nothing(hits: list[Any], other: Any, last: bool) -> None:
    around = {"took": 1, "other": other, "hits": {"total": other, "hits": hits}} | ({} if last else {"more": other})
    text = text_of(around)
    found = asyncio.run(read_in_pieces(text, json.loads))
    assert found is None or found == json.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "[]", "null", "]}}", '{"_index":', '{"hits":{"hits":[]}}', '{"error":"x"}',
        '{"hits":{"hits":[]},"x":{"hits":[{"_index":"a"},{"_index":"b"}]}}',
        '{"hits":{"hits":[]},"x":{"y":[{"_index":"a"}]}}',
        '{"hits":{"hits":[{"_index":"a","_source":[{"_index":"b"},{"_index":"c"}]}]}}',
        '{"hits":{"hits":[{"_index":"a"};{"_index":"b"}]}}',
        '{"hits":{"hits":[{"_index":"a"} {"_index":"b"}]}}',
        '{"hits":{"hits":[{"_index":"a"},,{"_index":"b"}]}}',
        '{"hits":{"hits":[{"_index":"a"},{"_index":"b"},]}}',
        '{"hits":{"hits":[{"_index":"a"},1,{"_index":"b"}]}}',
        '{"hits":{"hits":[0,{"_index":"a"}]}}',
        '{"hits":{"hits":{"x":[{"_index":"a"}]}}',
        '{"x":{"x":[{"_index":"a"}]}}',
        '{"hits":{"hits":[{"_index":"a"}]}}trailing]}}',
    ],
)  # fmt: skip
def test_what_is_of_another_form_is_never_read_otherwise(text: str) -> None:
    found = asyncio.run(read_in_pieces(text, json.loads))
    try:
        expected = json.loads(text)
    except ValueError:
        assert found is None
    else:
        assert found is None or found == expected


def answer(kilobytes: int) -> dict[str, Any]:
    specs = [{"name": f"spec {n}", "value": n / 7, "text": "lorem ipsum é " * 3} for n in range(kilobytes * 10)]
    hits = [{"_index": "i", "_id": f"{n}", "_score": 1.0 / (n + 1), "_source": {"specs": specs}} for n in range(10)]
    return {"took": 1, "timed_out": False, "_shards": {"failed": 0}, "hits": {"max_score": 1.0, "hits": hits}}


async def read_beside_another_task(text: str) -> tuple[Any, int]:
    """Return what was read, and how often another task ran meanwhile."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    turning = asyncio.create_task(turn())
    read = await read_in_pieces(text, json.loads)
    turning.cancel()
    return read, turns


async def test_other_tasks_run_while_a_large_answer_is_read() -> None:
    text = text_of(answer(100))
    read, turns = await read_beside_another_task(text)
    assert read == json.loads(text)
    assert turns >= 9


@pytest.mark.parametrize("kilobytes", [1, 20, 60])
async def test_a_clone_reads_a_leg_s_answer_as_the_client_does(kilobytes: int) -> None:
    text = answer(kilobytes)
    with Wire() as wire:
        wire.reply = lambda _: whole(text)
        client = AsyncOpenSearch([wire.url])
        clone = cloned(client, 2)
        limits = LegLimits(time.monotonic() + 10, 2**24)
        LIMITS.set(limits)
        assert await clone.search(index="i", body={}) == await client.search(index="i", body={}) == text
        assert (limits.size >= FROM_CHARS) == (kilobytes >= 20)
        await client.close()
        await clone.close()


@pytest.mark.parametrize(
    "inner", [{}, {"took": 3}, {"error": {"type": "x"}}, {"t": '{"took":1,"error":'}, {"responses": [1]}]
)
async def test_the_answer_to_a_batch_is_read_as_one_reading_of_it_would(inner: Any) -> None:
    hits = [{"_index": "i", "_id": str(n), "_source": {"text": "ü" * 2_000, **inner}} for n in range(40)]
    found = {"took": 3, "timed_out": False, "hits": {"total": 40, "hits": hits}, "status": 200}
    failed = {"error": {"root_cause": [{"type": "x"}], "type": "x"}, "status": 404}
    for answer in (
        {"took": 5, "responses": [found, failed, found]},
        {"took": 5, "responses": []},
        {"responses": [failed]},
    ):
        text = text_of(answer)
        read, turns = await read_beside_another_task(text)
        assert read in (None, answer)
        if inner.keys() <= {"t"} and answer["responses"]:
            assert read == answer
            assert turns >= (1 if len(text) > FROM_CHARS else 0)
