"""One reader of lines: what is sound or not in a file of logged searches is so in a file of judged searches."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rewriter.cli.diff.logged import read_logged
from rewriter.errors import ConfigurationError
from rewriter.evaluate.readers import read_judged, read_qrels

BODY = {"query": {"match": {"title": "milk"}}}
READERS: dict[str, Callable[[Path], list[Any]]] = {
    "logged": lambda path: read_logged(path, None),
    "judged": lambda path: read_judged(path).searches,
}


def line(**others: Any) -> str:
    return json.dumps({"user_id": "ann", "body": BODY, "relevant": ["p1"], **others}, ensure_ascii=False)


@pytest.fixture(params=READERS)
def read(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str | bytes], list[Any]]:
    def found(text: str | bytes) -> list[Any]:
        path = tmp_path / "searches.ndjson"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return READERS[request.param](path)

    return found


Read = Callable[[str | bytes], list[Any]]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\r"])
def test_a_line_ends_at_a_line_feed_alone(read: Read, separator: str) -> None:
    """JSON escapes control characters; the others may stand in a text as they are."""
    text = separator if separator > "\x20" else ""
    one, other = read(f"{line(query=f'whole{text}milk')}\r\n\n{line(client_id='bob', user_id='')}\n")
    assert {getattr(one, "words", ""), getattr(one, "query", "")} == {"whole milk" if text else "wholemilk", ""}
    assert other.subject.user_id == "bob"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_encodings_that_shells_write_are_read(read: Read, encoding: str) -> None:
    (one,) = read(line(user_id="ü", segments=["vip"]).encode(encoding))
    assert (one.subject.user_id, one.subject.segments) == ("ü", ("vip",))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[" * 100_000, "searches.ndjson:1: is not a JSON object"),
        ('{"body": ' + '{"a":' * 100_000, "searches.ndjson:1: is not a JSON object"),
        ("[1]", "is not a JSON object"),
        (line(user_id=5), "its subject is wrong: user_id is of type int"),
        (line(segments="vip"), "its subject is wrong: segments"),
        (line(user_id=None), "user_id"),
        (line(index=5), "`query` and `index` are texts"),
        (line(query=["milk"]), "`query` and `index` are texts"),
        (line(body={"query": {}, "from": "x"}), "`body` is not a search body"),
        (line(body="milk"), "`body` is not a search body"),
        (line(relevent=[]), "unknown keys: relevent"),
        (b"\xff\xfe\x00\xd8", "searches.ndjson: is not UTF"),
        ("\n \n", "searches.ndjson: holds no"),
    ],
)
def test_an_unsound_line_is_a_fault_of_both(read: Read, text: str | bytes, fault: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        read(text)
    assert fault in str(raised.value)
    assert "ann" not in str(raised.value)


def test_all_faults_are_counted_and_twenty_are_shown(read: Read) -> None:
    with pytest.raises(ConfigurationError) as raised:
        read("\n".join([line(), *["x"] * 30]))
    assert len(raised.value.faults) == 21
    assert str(raised.value.faults[0]).endswith("searches.ndjson:2: is not a JSON object")
    assert str(raised.value.faults[-1]).endswith("searches.ndjson: and 10 more faults")


@pytest.mark.parametrize(
    ("others", "fault"),
    [
        ({"relevant": {"p1": 10**400}}, "1 grade is not in [0, 100]"),
        ({"relevant": "p1"}, "`relevant` is neither"),
        ({"timestamp": 10**400}, "`timestamp` is not a time"),
        ({"timestamp": float("nan")}, "`timestamp` is not a time"),
        ({"timestamp": True}, "`timestamp` is not a time"),
        ({"timestamp": ["now"]}, "`timestamp` is not a time"),
        ({"body": None}, "has neither `query` nor `body`"),
        ({"body": {"size": 1}}, "`body` is not a search body with a query"),
        ({"user_id": "", "segments": ["vip"]}, "has no `user_id`, `client_id` or `session_id`"),
    ],
)
def test_a_judgment_that_is_no_judgment(tmp_path: Path, others: dict[str, Any], fault: str) -> None:
    path = tmp_path / "judged.ndjson"
    path.write_text(f"{line()}\n{line(**others)}\n")
    with pytest.raises(ConfigurationError, match="ndjson:2: ") as raised:
        read_judged(path)
    assert fault in str(raised.value)
    assert len(raised.value.faults) == 1


def test_qrels_and_their_queries(tmp_path: Path) -> None:
    qrels, queries = tmp_path / "qrels", tmp_path / "queries.ndjson"
    qrels.write_text("q1 0 p1 2\nq1 0 p2 -1\nq2 0 p1 0\nq4 0 p1 1\n")
    queries.write_text("\n".join(json.dumps({"id": one, "user_id": "ann", "query": "milk"}) for one in ("q1", "q2")))
    found = read_qrels(qrels, queries)
    assert [(one.search_id, one.relevant) for one in found.searches] == [("1", {"p1": 2.0, "p2": 0.0})]
    assert found.left_out == {
        "queries without a relevant document": 1,
        "judged queries that the queries' file lacks": 1,
    }
    qrels.write_text("q1 0 p1\nq1 0 p1 high\n")
    queries.write_text("x\n" + json.dumps({"user_id": "ann", "query": "milk"}))
    with pytest.raises(ConfigurationError) as raised:
        read_qrels(qrels, queries)
    assert [str(fault).rpartition("/")[2].partition(" (")[0] for fault in raised.value.faults] == [
        "qrels:1: is not QUERY 0 DOCUMENT GRADE, the grade a whole number",
        "qrels:2: is not QUERY 0 DOCUMENT GRADE, the grade a whole number",
        "queries.ndjson:1: is not a JSON object",
        "queries.ndjson:2: has no `id`, which the qrels name",
    ]
