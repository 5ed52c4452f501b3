"""Judgments from clicks: what a position costs is found in the log, and taken out."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rewriter import ConfigurationError
from rewriter.evaluate.clicks import ShownList, judged_by_clicks, position_propensities
from rewriter.evaluate.ubi_files import read_lists

SEEN = (1.0, 0.7, 0.5, 0.4, 0.3)
LIKED = {"a": 0.9, "b": 0.7, "c": 0.5, "d": 0.3, "e": 0.2}


def log(count: int, seed: int = 3) -> list[ShownList]:
    """A log of lists in varying order: a hit is clicked where it is seen and liked."""
    chance = random.Random(seed)
    lists = []
    for number in range(count):
        shown = sorted(LIKED, key=lambda item: -LIKED[item] + chance.random())
        clicked = [item for at, item in enumerate(shown) if chance.random() < SEEN[at] * LIKED[item]]
        lists.append(ShownList(f"q{number}", f"u{number % 50}", "shoe", 1.0 + number, shown, clicked))
    return lists


def test_propensities_are_harvested_from_the_log() -> None:
    found, harvested = position_propensities(log(20_000))
    assert harvested == 4
    assert found == pytest.approx(SEEN, abs=0.04)


def test_weighed_clicks_rank_items_as_they_are_liked() -> None:
    """Plain click counts of one order would rank by position."""
    judgments = judged_by_clicks(log(20_000))
    sums = dict.fromkeys(LIKED, 0.0)
    for one in judgments.searches:
        for item, grade in one.relevant.items():
            sums[item] += grade
    shares = {item: total / 20_000 for item, total in sums.items()}
    assert shares == pytest.approx(LIKED, abs=0.05)
    assert "4 of 4 positions" in judgments.note


def test_few_clicks_leave_positions_to_an_assumption() -> None:
    found, harvested = position_propensities(log(20))
    assert harvested == 0
    assert found == pytest.approx([1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 5])


def test_what_gives_no_judgment_is_counted() -> None:
    judgments = judged_by_clicks(
        [
            ShownList("1", "u", "shoe", 1.0, ["a", "b"], ["b", "gone"]),
            ShownList("2", "u", "shoe", 1.0, ["a"], []),
            ShownList("3", "u", " ", 1.0, ["a"], ["a"]),
            ShownList("4", "", "shoe", 1.0, ["a"], ["a"]),
        ]
    )
    (search,) = judgments.searches
    assert search.relevant == {"a": 0.0, "b": 2.0}
    assert judgments.left_out == {
        "clicks on items that the record does not list": 1, "searches without a click": 1, "searches without words": 1,
        "searches without a person": 1,
    }  # fmt: skip


ODD_ATTRIBUTES: tuple[Any, ...] = (None, "x", "[", [1], 5, "5", {"object": 5}, "[" * 100_000)
ODD_ACTIONS: tuple[Any, ...] = (["click"], {}, None)
ODD_TIMES: tuple[Any, ...] = (1e999, 10**400, [], "x")


def test_ubi_files_are_read_with_their_clicks(tmp_path: Path) -> None:
    queries, events = tmp_path / "queries.ndjson", tmp_path / "events.ndjson"
    query = {"query_id": "1", "client_id": "ann", "user_query": "shoe", "timestamp": "2026-05-01T10:00:00.000Z"}
    lines = [query | {"query_response_hit_ids": ["a", "b"]}, query | {"query_id": "2", "query_response_hit_ids": []}]
    lines += [query | {"query_id": "3", "query_response_hit_ids": ["a"], "timestamp": odd} for odd in ODD_TIMES]
    queries.write_text("\n".join(map(json.dumps, lines)) + "\nbroken")
    clicks = [
        {"query_id": "1", "action_name": "click", "event_attributes": {"object": {"object_id": "b"}}},
        {"query_id": "1", "action_name": "click", "event_attributes": json.dumps({"object": {"object_id": "a"}})},
        {"query_id": "1", "action_name": "impression", "event_attributes": {"object": {"object_id": "a"}}},
        *({"query_id": "1", "action_name": "click", "event_attributes": odd} for odd in ODD_ATTRIBUTES),
        *(
            {"query_id": "1", "action_name": odd, "event_attributes": {"object": {"object_id": "a"}}}
            for odd in ODD_ACTIONS
        ),
    ]
    events.write_text("\n".join(map(json.dumps, clicks)))
    log = read_lists([queries], [events], ["click"])
    (one,) = log.lists
    assert log.left_out == {
        "events without an object_id": len(ODD_ATTRIBUTES), "queries without query_response_hit_ids and without impressions": 1,
        "queries without a time": len(ODD_TIMES), "lines that are no JSON objects": 1,
    }  # fmt: skip
    assert log.notes == [
        f"{queries}: 1 of {len(lines) + 1} lines is no JSON object, the first is line {len(lines) + 1}"
    ]
    assert (one.person, one.words, list(one.shown), list(one.clicked)) == ("ann", "shoe", ["a", "b"], ["b", "a"])
    with pytest.raises(
        ConfigurationError, match=f"no search with its shown items: .*{len(clicks)} queries without a time"
    ):
        read_lists([events], [events], ["click"])


def test_the_path_of_a_ubi_file_is_no_pattern_and_no_column(tmp_path: Path) -> None:
    """A folder named query_id=9 replaced the queries' own ids, and of `export[12]` nothing was found, or another file's rows."""
    query = {"query_id": "1", "client_id": "ann", "user_query": "shoe", "timestamp": "2026-05-01T10:00:00.000Z"}
    folder = tmp_path / "query_id=9" / "export[12]"
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist([query | {"query_response_hit_ids": ["a"]}]), folder / "q.parquet")
    (folder / "q.ndjson").write_text(json.dumps(query | {"query_id": "2", "query_response_hit_ids": ["a"]}))
    found = read_lists([folder / "q.parquet", folder / "q.ndjson"], [], ["click"])
    assert [one.query_id for one in found.lists] == ["1", "2"]


def written(path: Path, documents: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, documents)))
    return path


def test_the_plugin_s_queries_are_of_the_people_of_their_events(tmp_path: Path) -> None:
    """The plugin writes a query without `user_id`, its time in milliseconds or as ISO 8601, and files hold several applications."""
    hits = {"user_query": "shoe", "query_response_hit_ids": ["a", "b"]}
    queries = written(
        tmp_path / "queries.ndjson",
        [
            hits | {"query_id": "q1", "client_id": "c1", "timestamp": 1777629600000, "application": "shop"},
            hits | {"query_id": "q2", "client_id": "c2", "timestamp": "1777629601000", "application": "shop"},
            hits
            | {
                "query_id": "q3",
                "client_id": "undefined",
                "timestamp": "2026-05-01T10:00:02.000+0000",
                "application": "docs",
            },
            hits | {"query_id": "q1", "client_id": "c9", "timestamp": 1777629600000},
            hits | {"query_id": None, "client_id": "c1", "timestamp": 1777629600000},
        ],
    )
    click = {"action_name": "click", "event_attributes": {"object": {"object_id": "b"}}}
    events = written(
        tmp_path / "events.ndjson",
        [
            {"action_name": "impression", "query_id": "q1", "client_id": "c1", "user_id": "ann"},
            click | {"query_id": "q1", "client_id": "c1", "user_id": "null"},
            click | {"query_id": "q2", "client_id": "c2"},
            click | {"query_id": "q3"},
            click | {"query_id": "of another file"},
            click | {"query_id": "null"},
            click | {"query_id": "q2", "event_attributes": {"object": {"object_id": "undefined"}}},
        ],
    )
    log = read_lists([queries], [events], ["click"])
    assert [(one.person, one.at_s, list(one.clicked)) for one in log.lists] == [
        ("ann", 1777629600.0, ["b"]), ("c2", 1777629601.0, ["b"]), ("", 1777629602.0, ["b"]),
    ]  # fmt: skip
    assert log.left_out == dict.fromkeys(
        ("events of no such query", "events without a query_id", "events without an object_id",
         "impressions without an object_id", "queries with the query_id of another one", "queries without a query_id"), 1,
    )  # fmt: skip
    assert log.notes == ["the searches are of 2 applications: shop (2), docs (1); give files of one of them"]


def impression(query_id: str, item: str, ordinal: object) -> dict[str, Any]:
    attributes = {"object": {"object_id": item, "object_id_field": "asin"}, "position": {"ordinal": ordinal}}
    return {"action_name": "impression", "query_id": query_id, "client_id": "c1", "event_attributes": attributes}


def test_a_query_without_hit_ids_shows_what_its_impressions_do(tmp_path: Path) -> None:
    asked = {"client_id": "c1", "user_query": "futon", "timestamp": 1777629600000}
    queries = written(
        tmp_path / "queries.ndjson",
        [
            asked | {"query_id": "q1", "query_attributes": {}},
            asked | {"query_id": "q2", "query_response_hit_ids": ["x", "y"]},
            asked | {"query_id": "q3"},
            asked | {"query_id": "q4", "query_response_hit_ids": None},
        ],
    )
    click = {"action_name": "click", "query_id": "q1", "event_attributes": {"object": {"object_id": "b"}}}
    events = written(
        tmp_path / "events.ndjson",
        [
            *(
                impression("q1", item, at)
                for item, at in (("c", 2), ("a", 0), ("b", 1), ("a", 0), ("late", None), ("d", 3.0))
            ),
            *(impression("q2", item, 0) for item in "ab"),
            *(impression("q4", item, at) for item, at in (("second", 2), ("first", 1))),
            click,
        ],
    )
    log = read_lists([queries], [events], ["click"])
    shown = {one.query_id: list(one.shown) for one in log.lists}
    assert shown == {"q1": ["a", "b", "c", "d", "late"], "q2": ["x", "y"], "q4": ["first", "second"]}
    assert log.left_out == {"queries without query_response_hit_ids and without impressions": 1}
    assert log.notes == [
        "2 of 3 searches have no query_response_hit_ids: what they showed is taken from impression events"
    ]
    assert judged_by_clicks(log.lists).searches[0].relevant == {"a": 0.0, "b": 2.0, "c": 0.0, "d": 0.0, "late": 0.0}


def test_nested_parquet_is_read_as_ndjson_is(tmp_path: Path) -> None:
    moment = pa.scalar(1777629600000, pa.timestamp("ms", "UTC")).as_py()
    queries = [
        {
            "query_id": "q1",
            "client_id": "c1",
            "user_query": "futon",
            "timestamp": moment,
            "query_response_hit_ids": ["a", "b"],
        },
        {
            "query_id": "q2",
            "client_id": "c1",
            "user_query": "futon",
            "timestamp": moment,
            "query_response_hit_ids": None,
        },
    ]
    events: list[dict[str, Any]] = [
        impression("q2", "b", 1), impression("q2", "a", 0),
        {"action_name": "click", "query_id": "q1", "event_attributes": {"object": {"object_id": "b"}, "position": None}},
        {"action_name": "page_exit", "query_id": "q1", "event_attributes": None},
    ]  # fmt: skip
    for name, rows in (("queries", queries), ("events", events)):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{name}.parquet")
    log = read_lists([tmp_path / "queries.parquet"], [tmp_path / "events.parquet"], ["click"])
    found = [(one.query_id, one.at_s, list(one.shown), list(one.clicked)) for one in log.lists]
    assert found == [("q1", 1777629600.0, ["a", "b"], ["b"]), ("q2", 1777629600.0, ["a", "b"], [])]
    assert log.left_out == {}


def test_broken_lines_are_counted_with_the_first_one_and_cost_no_other(tmp_path: Path) -> None:
    queries = tmp_path / "queries.ndjson"
    asked = {"client_id": "c1", "user_query": "futon", "timestamp": 1777629600000, "query_response_hit_ids": ["a"]}
    lines = [json.dumps(asked | {"query_id": f"q{number}"}).encode() for number in range(6)]
    broken = [
        lines[0][:-9],
        b'{"query_id": "q\xff"}',
        b"[1]",
        b'{"a": 1} {"b": 2}',
        b"[" * 100_000,
        b"null",
        b"NaN",
        b'"x"',
    ]
    text = (
        b"\xef\xbb\xbf"
        + lines[0]
        + b"\n\n"
        + b"\n".join(one for pair in zip(broken, lines[1:] * 2, strict=False) for one in pair)
    )
    queries.write_bytes(text + b"\r\n")
    log = read_lists([queries], [], ["click"])
    assert len(log.lists) == 6
    assert log.left_out["lines that are no JSON objects"] == len(broken)
    assert log.notes == [f"{queries}: {len(broken)} of 18 lines are no JSON objects, the first is line 3"]


def test_a_file_in_another_form_is_named(tmp_path: Path) -> None:
    (tmp_path / "q.ndjson").write_bytes(b"\x1f\x8b\x08\x00rest")
    with pytest.raises(ConfigurationError, match=re.escape("q.ndjson: is compressed (gzip) (unpack it)")):
        read_lists([tmp_path / "q.ndjson"], [], ["click"])


@pytest.mark.parametrize("first", ["client", "plugin"])
def test_the_document_with_the_hits_counts_whichever_comes_first(tmp_path: Path, first: str) -> None:
    asked = {"query_id": "q1", "client_id": "c1", "user_query": "futon", "timestamp": 1777629600000}
    documents = [asked, asked | {"query_response_hit_ids": ["x", "y", "z"]}]
    queries = written(tmp_path / "queries.ndjson", documents if first == "client" else documents[::-1])
    events = written(tmp_path / "events.ndjson", [impression("q1", "y", 0)])
    log = read_lists([queries], [events], ["click"])
    assert [list(one.shown) for one in log.lists] == [["x", "y", "z"]]
    assert log.left_out == {"queries with the query_id of another one": 1}
