"""A snapshot equals what the client sends, shares nothing with the caller's objects, and is bounded in work."""

from __future__ import annotations

import json
import time
import uuid
from collections import OrderedDict, defaultdict
from copy import deepcopy
from datetime import date
from decimal import Decimal
from enum import IntEnum, StrEnum
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opensearchpy.serializer import JSONSerializer

from rewriter.client.registry import around
from rewriter.parsed_search import ParsedSearch, key_of, search_key
from rewriter.query_form import inside
from rewriter.report import Reason
from rewriter.settings import Settings
from rewriter.snapshot import ReadOnceError, TooLargeError, snapshot
from tests.arguments import parse_search

WRITE = JSONSerializer().dumps
PLENTY = 2**30


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Range(NamedTuple):
    gte: int
    lte: int


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
    | st.dates() | st.uuids() | st.decimals(allow_nan=False, allow_infinity=False, places=3)
    | st.sampled_from([Colour.RED, Level.HIGH])
)  # fmt: skip
KEYS = st.text(max_size=5) | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False)
BODIES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.dictionaries(st.text(max_size=5), inner, max_size=4).map(OrderedDict)
    ),
    max_leaves=20,
)


def sent(value: Any) -> Any:
    return json.loads(WRITE([value]))[0]


@given(BODIES)
def test_a_snapshot_is_what_the_client_sends(body: Any) -> None:
    before = deepcopy(body)
    names: set[str] = set()
    found = snapshot(body, WRITE, PLENTY, names)
    assert repr(body) == repr(before)
    assert names == {key for key, _ in inside([found])}
    assert json.dumps(found) == json.dumps(sent(body))
    assert len(key_of(found)) == 32


@given(BODIES, BODIES)
def test_two_bodies_have_one_key_where_the_client_sends_the_same(one: Any, other: Any) -> None:
    keys = {key_of(snapshot(body, WRITE, PLENTY)) for body in (one, other)}
    texts = {json.dumps(sent(body), sort_keys=True) for body in (one, other)}
    assert len(keys) == len(texts)


def test_nothing_is_shared_with_the_caller_s_objects() -> None:
    terms = ["a", "b"]
    mixed: list[Any] = [1, {"n": [2]}]
    body: dict[str, Any] = {"query": {"terms": {"brand": terms}}, "x": mixed, "d": defaultdict(list, {"k": [1]})}
    found = snapshot(body, WRITE, PLENTY)
    terms.append("c")
    mixed[1]["n"].append(3)
    body["d"]["k"].append(2)
    body["query"].clear()
    assert found == {"query": {"terms": {"brand": ["a", "b"]}}, "x": [1, {"n": [2]}], "d": {"k": [1]}}


def test_arrays_and_series_are_copied_whole() -> None:
    numpy, pandas = pytest.importorskip("numpy"), pytest.importorskip("pandas")
    for kind in (numpy.array, pandas.Series, lambda values: pandas.Series(values).astype("category")):
        one, other = list(range(3_000)), list(range(3_000))
        other[1_500] = 7
        copies = [snapshot({"terms": {"sku": kind(values)}}, WRITE, PLENTY) for values in (one, other)]
        assert [copy["terms"]["sku"] for copy in copies] == [one, other]
    values = (
        numpy.float32(0.1),
        numpy.int64(3),
        numpy.bool_(True),
        numpy.datetime64("2026-01-01"),
        numpy.zeros((2, 2)),
    )
    for value in values:
        assert snapshot(value, WRITE, PLENTY) == sent(value)


def test_a_serializer_of_the_caller_s_decides() -> None:
    class Shop:
        def __init__(self, name: str) -> None:
            self.name = name

    class Own(JSONSerializer):
        def default(self, data: Any) -> Any:
            return {"shop": data.name} if isinstance(data, Shop) else super().default(data)

    def writer_of(client: Any) -> Any:
        return around(client, is_async=False).write

    client = SimpleNamespace(transport=SimpleNamespace(serializer=Own()))
    found = [snapshot({"s": Shop(name)}, writer_of(client), PLENTY) for name in ("a", "b")]
    assert found == [{"s": {"shop": "a"}}, {"s": {"shop": "b"}}]
    orjson = pytest.importorskip("orjson")
    fast = SimpleNamespace(transport=SimpleNamespace(serializer=SimpleNamespace(dumps=orjson.dumps)))
    assert snapshot({"d": date(2026, 1, 2), "n": 1}, writer_of(fast), PLENTY) == {"d": "2026-01-02", "n": 1}
    assert snapshot({"r": Range(1, 2)}, WRITE, PLENTY) == {"r": [1, 2]}
    assert writer_of(object())([Decimal("1.5")]) == "[1.5]"


def read(body: Any, **arguments: Any) -> ParsedSearch:
    return parse_search({"index": "i", "body": body, **arguments}, Settings(), {}, WRITE)


QUERY = {"match": {"title": "shoe"}}


@pytest.mark.parametrize("value", [{1, 2}, object(), b"x", 1j, {"k": {object()}}])
def test_what_the_client_cannot_write_passes_through_and_has_no_key_to_be_kept_under(value: Any) -> None:
    request = read({"query": {"terms": {"sku": value}}})
    assert request.passed is Reason.UNSUPPORTED
    assert "cannot write the body" in request.detail


def test_a_body_that_holds_itself_or_is_nested_without_end_passes_through() -> None:
    round_: dict[str, Any] = {"query": {"bool": {}}}
    round_["query"]["bool"]["must"] = round_
    deep: Any = QUERY
    for _ in range(100_000):
        deep = {"bool": {"must": [deep]}}
    for body in (round_, {"query": deep}):
        assert read(body).passed is Reason.UNSUPPORTED
    while isinstance(deep, dict) and "bool" in deep:  # Python itself cannot free it level by level
        deep = deep["bool"].pop("must")[0]


def test_keys_of_several_types() -> None:
    script = {"source": "1", "params": {"w": {1: 2.0, None: 3.0, False: 4.0, 2.5: 1.0, "default": 1.0}}}
    request = read({"query": {"script_score": {"query": QUERY, "script": script}}, "aggs": {2024: {}, "brands": {}}})
    assert request.passed is None
    assert request.body["aggs"] == {"2024": {}, "brands": {}}
    other = {**script, "params": {"w": {"1": 2.0, "null": 3.0, "false": 4.0, "2.5": 1.0, "default": 1.0}}}
    assert search_key(request) == search_key(read({"query": {"script_score": {"query": QUERY, "script": other}}}))


@pytest.mark.parametrize(
    "large",
    [
        list(range(1_000_000)), ["abc"] * 1_000_000, [0.5] * 1_000_000, {str(n): n for n in range(300_000)}, "x" * 10_000_000,
        [[1, "a"]] * 500_000, {n: n for n in range(300_000)}, set(range(10)),
    ],
    ids=["numbers", "texts", "floats", "a dict", "one text", "lists", "a dict of numbers", "too many sets"],
)  # fmt: skip
def test_a_large_body_is_given_up_in_bounded_time(large: Any) -> None:
    body = {"query": {"terms": {"sku": large}}} if not isinstance(large, set) else {"x": [{"n": "a" * 60}] * 100_000}
    times = []
    for _ in range(7):
        started_s = time.thread_time()
        with pytest.raises(TooLargeError):
            snapshot(body, WRITE, 64 * 2**10)
        times.append(time.thread_time() - started_s)
    assert min(times) < 0.005
    request = read(body)
    assert (request.passed, request.detail) == (Reason.UNSUPPORTED, "the body is larger than `budget.max_body_bytes`")


def test_an_array_says_how_large_it_is_before_it_is_written() -> None:
    numpy = pytest.importorskip("numpy")

    def refuse(_: Any) -> str:
        raise AssertionError("it was written")

    for value in (numpy.zeros(1_000_000), numpy.zeros((1_000, 1_000)), numpy.arange(100_000)):
        with pytest.raises(TooLargeError):
            snapshot(value, refuse, 64 * 2**10)


@given(BODIES, st.integers(0, 400))
def test_what_fits_is_copied_and_what_does_not_is_refused(body: Any, limit: int) -> None:
    size = len(json.dumps(sent(body)).encode())
    try:
        assert json.dumps(snapshot(body, WRITE, limit)) == json.dumps(sent(body))
    except TooLargeError:
        assert size * 20 > limit  # the count is rough, since nobody waits for a better one


def test_ids_are_written_as_texts() -> None:
    one = uuid.UUID(int=7)
    assert snapshot({"id": one}, WRITE, PLENTY) == {"id": str(one)}


@pytest.mark.parametrize("holding", [lambda one: one, lambda one: [one], lambda one: OrderedDict(terms=one)])
def test_an_iterator_is_left_to_the_caller_s_own_search(holding: Any) -> None:
    """A team's own serializer may write iterators: what is read here would be missing in the search that it sends."""
    values = iter(["nike", "puma"])
    with pytest.raises(ReadOnceError):
        snapshot({"query": {"bool": {"should": holding(values)}}}, lambda body: json.dumps(body, default=list), PLENTY)
    assert list(values) == ["nike", "puma"]


def test_a_search_with_an_iterator_passes_through() -> None:
    body = {"query": {"terms": {"brand": iter(["nike"])}}}
    settings = Settings.model_validate({"policies": {"shop": {"index": "*", "browse": True}}})
    search = parse_search({"index": "products", "body": body}, settings, {})
    assert (search.passed, search.detail) == (Reason.UNSUPPORTED, "the body has an iterator, which can be read once")
