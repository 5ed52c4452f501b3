"""Identifiers and values of a history arrive as written, for every kind of file and every spelling."""

from __future__ import annotations

import csv
import datetime as dt
import decimal
import json
import re
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rewriter.errors import ConfigurationError, Fault
from rewriter.signals.counters import SEPARATOR
from rewriter.signals.events import parse
from rewriter.subject import pseudonym
from tests.histories import DAY_S, T_S, T, added_up, left_out, of_users, plan

Row = dict[str, Any]
Writer = Callable[[Path, Sequence[Row]], Path]


def as_csv(folder: Path, rows: Sequence[Row]) -> Path:
    path = folder / "h.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def as_ndjson(folder: Path, rows: Sequence[Row]) -> Path:
    path = folder / "h.ndjson"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def as_array(folder: Path, rows: Sequence[Row]) -> Path:
    path = folder / "h.json"
    path.write_text(json.dumps(rows, indent=1, ensure_ascii=False), "utf-8")
    return path


def as_parquet(folder: Path, rows: Sequence[Row]) -> Path:
    path = folder / "h.parquet"
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


WRITERS: tuple[Writer, ...] = (as_csv, as_ndjson, as_array, as_parquet)
LOOKALIKES = [
    "9F1C2A3B-9C0B-4EF8-BB6D-6BB9BD380A11", "9f1c2a3b9c0b4ef8bb6d6bb9bd380a11", "{9F1C2A3B-9C0B-4EF8-BB6D-6BB9BD380A11}",
    "1e5", "1E5", "100000", "100000.0", "017", "17", "17.0", "+17", "-0", "0x1F", "1_000", "1,000",
    "98765432109876543210", "98765432109876543211", "00012345678905", "12345678901234567890123",
    "2026-01-05", "2026-01-05T10:00:00", "2026-01-05 10:00:00+00", "01/05/2026", "1:30:5", "10:00", "2026",
    "true", "TRUE", "False", "t", "yes", "inf", "-Infinity", "infinity", "epoch", "#N/A", "N/A", "-",
    "Müller", "é", "e\u0301", "ß", "用户", "😀", "a b", "a  b", "a\tb", "a,b", "a;b", 'a"b', "a'b", "a|b",
    "a\\b", "#a", "{a}", "[1]", "$1",
    "P1Y", "1 day", "\\x41", "=1+1", "user@example.org", "a\nb",
]  # fmt: skip


@pytest.mark.parametrize("written", WRITERS)
def test_texts_that_look_like_something_else_stay_as_they_are(tmp_path: Path, written: Writer) -> None:
    rows = [{"timestamp": T, "object_id": f"o {one}", "user_id": one, "brand": one} for one in LOOKALIKES]
    history = added_up(written(tmp_path, rows))
    assert left_out(history) == {}
    assert of_users(history, LOOKALIKES) == {one: {f"brand|{one}": 8.0, f"item|o {one}": 8.0} for one in LOOKALIKES}


texts = st.text(st.characters(codec="utf-8", exclude_characters="\r\0\x1f"), min_size=1, max_size=12) | st.text(
    "0123456789eE+-.:/ T", min_size=1, max_size=24
)


@pytest.mark.parametrize("written", WRITERS)
@given(
    drawn=st.lists(
        texts.filter(lambda one: len(one.strip()) > 4 and one.strip() == one), min_size=1, max_size=20, unique=True
    )
)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_the_person_and_the_value_that_it_is(tmp_path: Path, written: Writer, drawn: list[str]) -> None:
    people = [one for one in drawn if one.lower() != "undefined"]
    rows = [{"timestamp": T, "object_id": "p", "user_id": one, "brand": one} for one in people or ["somebody"]]
    history = added_up(written(tmp_path, rows))
    assert of_users(history, people or ["somebody"]) == {
        row["user_id"]: {f"brand|{row['brand']}": 8.0, "item|p": 8.0} for row in rows
    }


ABSENT = ["", "  ", "\t", "nan", "NaN", "null", "NULL", "None", None]


@pytest.mark.parametrize("written", WRITERS)
def test_who_is_not_there_is_nobody_and_the_client_stands_in(tmp_path: Path, written: Writer) -> None:
    people = [f"c{number}" for number in range(len(ABSENT))]
    rows = [
        {"timestamp": T, "object_id": "p", "user_id": absent, "client_id": client, "brand": "nike"}
        for absent, person in zip(ABSENT, people, strict=True)
        for client in (person, absent)
    ]
    history = added_up(written(tmp_path, rows))
    assert left_out(history) == {"no_person": len(ABSENT)}
    assert None not in of_users(history, people).values()


@pytest.mark.parametrize("written", [as_ndjson, as_parquet])
def test_true_and_false_are_nobody(tmp_path: Path, written: Writer) -> None:
    """A shop's export says `false` where nobody is logged in: all visitors would be one person, and their events one event."""
    rows = [
        {"timestamp": T, "object_id": "p", "user_id": user, "client_id": client, "event_id": user, "brand": "nike"}
        for user in (False, True)
        for client in ("c1", "c2", None)
    ]
    history = added_up(written(tmp_path, rows))
    assert left_out(history) == {"no_person": 2}
    assert set(of_users(history, ["c1", "c2"])) == {"c1", "c2"}


@pytest.mark.parametrize("written", WRITERS)
def test_an_identifier_is_as_long_as_in_an_event(tmp_path: Path, written: Writer) -> None:
    rows = [
        {
            "timestamp": T,
            "object_id": item * length,
            "user_id": user * length,
            "event_id": "e" * length,
            "brand": "nike",
        }
        for length in (256, 257, 10_000)
        for user, item in (("é", "p"), ("u", "😀"))
    ]
    history = added_up(written(tmp_path, rows))
    assert left_out(history) == {"long_id": 4, "doubled": 1}


ODD = (
    '"x"', "1", "-0", "1.0", "1e3", "0.5", "1e400", "NaN", "-Infinity",
    "true", "false", "null", '""', '" "', '"nuLL "', r'"\\N"', "[]", "{}",
    r'"\u3000"', r'"\u0085"', r'"\u2028\u00a0"', r'"\u200b"', r'"\u001f"', '"1e3"', '"true"',
    '"' + "n" * 257 + '"', "7" * 30, "7" * 300,
)  # fmt: skip
"""JSON values of identifiers as somebody's export has them."""


def of_event(row: dict[str, str]) -> tuple[Any, ...] | None:
    """What ingest reads of an event with these columns, given as JSON; None if it does not count."""
    object_, attributes = {"object_id", "brand"}, {"segments"}
    parts = ", ".join(f'"{name}": {text}' for name, text in row.items() if name not in object_ | attributes)
    segments = f'"segments": {row["segments"]}, ' if "segments" in row else ""
    acted_on = f'{{"object_id": {row["object_id"]}, "attributes": {{"brand": {row["brand"]}}}}}'
    event = parse(f'{{{parts}, "event_attributes": {{{segments}"object": {acted_on}}}}}')
    if isinstance(event, Fault) or not event.consent:
        return None
    document = event.event_attributes.object.document or {}
    values = plan().values({**document, "_id": event.event_attributes.object.object_id})
    segments_ = event.event_attributes.segments
    return pseudonym("u", event.user or "", ""), event.event_id, event.session_id, sorted(segments_), sorted(values)


def test_a_value_of_any_form_counts_in_a_history_as_in_an_event(tmp_path: Path) -> None:
    """Otherwise a backfill would make other people and items of the same events than ingest: one `false`, or one blank, for all."""
    plain = {"timestamp": f'"{T}"', "action_name": '"click"', "user_id": '"u"', "object_id": '"p"', "brand": '"nike"'}
    fields = ("user_id", "client_id", "session_id", "event_id", "object_id", "consent", "segments", "brand")
    no_consent = {'"x"', "0.5", '"1e3"', "{}", r'"\u200b"', '"' + "n" * 257 + '"', "1e400", "7" * 30, "7" * 300, "1e3"}
    no_segment = {r'"\u200b"', r'"\\N"', "0.5e0", '"' + "n" * 257 + '"', "7" * 300}
    rows = [
        plain | {field: value}
        for field in fields
        for value in ODD
        if value not in {"consent": no_consent | {"-0"}, "segments": no_segment}.get(field, set())
    ]
    rows = [row | {"event_id": f'"e{number}"'} if "event_id" not in row else row for number, row in enumerate(rows)]
    file = tmp_path / "h.ndjson"
    file.write_text("\n".join("{" + ", ".join(f'"{name}": {text}' for name, text in row.items()) + "}" for row in rows))
    history = added_up(file)
    doubled = {row for (row,) in history.rows("SELECT row FROM doubled")}
    chosen = history.rows(
        "SELECT row, c.person, event_id, c.session, list_sort(coalesce(c.named, [])), list(member ORDER BY member)"
        " FROM chosen c JOIN history h ON h.rowid = row JOIN described USING (doc) GROUP BY ALL"
    )
    found = {row: (*of, named, [tuple(one.split(SEPARATOR)) for one in members]) for row, *of, named, members in chosen}
    wanted = {number: read for number, row in enumerate(rows) if (read := of_event(row)) and number not in doubled}
    assert found == wanted
    assert len(wanted) > len(rows) / 2


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("[7]", "column event_id: 1 row holds a list or an object"),
        ("1e22", "column event_id: 1 row holds a float above"),
    ],
)
def test_a_value_that_is_no_identifier_is_named_with_its_row(tmp_path: Path, value: str, said: str) -> None:
    row = f'{{"timestamp": "{T}", "object_id": "p", "user_id": "u", "brand": "nike", "event_id": '
    (tmp_path / "h.ndjson").write_text("".join(f"{row}{one}}}\n" for one in ("1", "12345678901234567890123", value)))
    with pytest.raises(ConfigurationError, match=f"row 3: {re.escape(said)}"):
        added_up(tmp_path / "h.ndjson")


@pytest.mark.parametrize("written", [as_csv, as_ndjson])
def test_nan_of_a_float_is_nobody(tmp_path: Path, written: Writer) -> None:
    rows = [
        {"timestamp": T, "object_id": "p", "user_id": float("nan"), "client_id": one, "brand": "nike"}
        for one in ("c1", float("nan"))
    ]
    history = added_up(written(tmp_path, rows))
    assert left_out(history) == {"no_person": 1}
    assert set(of_users(history, ["c1"])) == {"c1"}


NUMBERS = [
    ("int64", pa.int64(), [17, -3, 2**62], ["17", "-3", str(2**62)]),
    ("uint64", pa.uint64(), [2**64 - 1], [str(2**64 - 1)]),
    ("double", pa.float64(), [17.0, 0.5, -2.0, 2.0**53 - 1], ["17", "0.5", "-2", str(2**53 - 1)]),
    ("float", pa.float32(), [17.0, 0.5], ["17", "0.5"]),
    ("decimal", pa.decimal128(10, 2), [decimal.Decimal("12.50"), decimal.Decimal("100.00")], ["12.5", "100"]),
    ("long decimal", pa.decimal128(38, 0), [decimal.Decimal(10**37 + 1)], [str(10**37 + 1)]),
    ("bool", pa.bool_(), [True, False], ["true", "false"]),
    ("date", pa.date32(), [dt.date(2026, 1, 5)], ["2026-01-05"]),
    ("timestamp", pa.timestamp("us"), [dt.datetime(2026, 1, 5, 10, 0, 0)], ["2026-01-05T10:00:00"]),  # noqa: DTZ001
    ("with a zone", pa.timestamp("ms", "UTC"), [dt.datetime(2026, 1, 5, 10, microsecond=5000, tzinfo=dt.UTC)],
     ["2026-01-05T10:00:00.005Z"]),
    ("time", pa.time64("us"), [dt.time(1, 30, 5)], ["01:30:05"]),
    ("binary", pa.binary(), [b"nike", "Müller".encode()], ["nike", "Müller"]),
    ("fixed binary", pa.binary(4), [b"nike"], ["nike"]),
    ("dictionary", pa.dictionary(pa.int8(), pa.string()), ["017", "1e5"], ["017", "1e5"]),
    ("large text", pa.large_string(), ["017"], ["017"]),
    ("uuid", pa.uuid(), [uuid.UUID(int=2**127 + 5).bytes], [str(uuid.UUID(int=2**127 + 5))]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "given", "spelled"), [one[1:] for one in NUMBERS], ids=[one[0] for one in NUMBERS])
def test_a_typed_column_has_one_spelling(
    tmp_path: Path, kind: pa.DataType, given: list[Any], spelled: list[str]
) -> None:
    column = pa.array(given, kind)
    ids = pa.array(spelled) if kind == pa.bool_() else column  # true and false are nobody, and no object
    table = {"timestamp": [T] * len(given), "object_id": ids, "user_id": ids, "brand": column}
    pq.write_table(pa.table(table), tmp_path / "h.parquet")
    history = added_up(tmp_path / "h.parquet")
    assert left_out(history) == {}
    assert of_users(history, spelled) == {one: {f"brand|{one}": 8.0, f"item|{one}": 8.0} for one in spelled}


def test_nan_and_infinity_are_no_value(tmp_path: Path) -> None:
    numbers = [float("nan"), float("inf"), float("-inf"), 17.0]
    table = {
        "timestamp": [T] * 4,
        "object_id": ["p"] * 4,
        "user_id": numbers,
        "client_id": list("abcd"),
        "brand": numbers,
    }
    pq.write_table(pa.table(table), tmp_path / "h.parquet")
    history = added_up(tmp_path / "h.parquet")
    assert of_users(history, [*"abc", "17"]) == {
        **{one: {"item|p": 8.0} for one in "abc"},
        "17": {"brand|17": 8.0, "item|p": 8.0},
    }


def test_a_list_is_several_values(tmp_path: Path) -> None:
    lists = [pa.array([["a", "b"], None, ["c", None]]), pa.array([[decimal.Decimal("1.50")], [], None])]
    for number, column in enumerate(lists):
        table = {"timestamp": [T] * 3, "object_id": ["p"] * 3, "user_id": list("xyz"), "brand": column}
        pq.write_table(pa.table(table), tmp_path / f"{number}.parquet")
    item = {"item|p": 8.0}
    assert of_users(added_up(tmp_path / "0.parquet"), list("xyz")) == {
        "x": {"brand|a": 8.0, "brand|b": 8.0, **item},
        "y": item,
        "z": {"brand|c": 8.0, **item},
    }
    assert of_users(added_up(tmp_path / "1.parquet"), list("xyz"))["x"] == {"brand|1.5": 8.0, **item}


@pytest.mark.parametrize("name", ["user_id", "object_id", "brand", "event_id"])
@pytest.mark.parametrize(
    "column",
    [
        pa.array([{"a": 1}]),
        pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
        pa.array([[["a"]]]),
        pa.array([b"\xff\xfe"]),
        pa.array([2.0**60]),
        pa.array([2.0**30], pa.float32()),
    ],
    ids=lambda column: str(column.type),
)
def test_a_column_without_one_spelling_is_named(tmp_path: Path, name: str, column: pa.Array) -> None:
    table = {"timestamp": [T], "object_id": ["p"], "user_id": ["u"], "brand": ["b"], "event_id": ["e"]} | {name: column}
    pq.write_table(pa.table(table), tmp_path / "h.parquet")
    with pytest.raises(ConfigurationError, match=f"h.parquet: column {name} (is of type|holds)"):
        added_up(tmp_path / "h.parquet")


@pytest.mark.parametrize("name", ["user_id", "object_id", "event_id", "timestamp", "action_name"])
def test_a_list_where_json_wants_a_text_is_named(tmp_path: Path, name: str) -> None:
    row = {"timestamp": T, "object_id": "p", "user_id": "u", "brand": "b", "event_id": "e", "action_name": "view"}
    path = as_ndjson(tmp_path, [row, row | {name: ["secret"]}])
    with pytest.raises(ConfigurationError, match=f"column {name}: 1 row holds a list or an object") as raised:
        added_up(path)
    assert "secret" not in str(raised.value)


MOMENTS = [
    T, "2026-05-01T10:00:00+0000", "2026-05-01T12:00:00+02:00", "2026-05-01T10:00:00.000Z", "2026-05-01 10:00:00",
    "2026-05-01 10:00", "2026-05-01T10:00:00.000000000Z", "1777629600", "1777629600000", "1777629600000000", "1777629600.0",
    " 2026-05-01T10:00:00Z ", "2026-05-01 10:00:00,000", "2026-05-01T10:00:00,000+0000", "2026-05-01t10:00:00z",
    "1.7776296E9", "1.7776296e+12",
]  # fmt: skip


@pytest.mark.parametrize("written", WRITERS)
def test_a_time_may_be_written_in_many_ways(tmp_path: Path, written: Writer) -> None:
    rows = [{"timestamp": one, "object_id": "p", "user_id": "u", "brand": "b"} for one in MOMENTS]
    history = added_up(written(tmp_path, rows))
    assert (left_out(history), history.until_s) == ({}, T_S)
    assert of_users(history, ["u"])["u"] == dict.fromkeys(("brand|b", "item|p"), 8.0 * len(MOMENTS))


@pytest.mark.parametrize(
    "column",
    [
        pa.array([T_S]), pa.array([int(T_S)]), pa.array([int(T_S * 1000)]), pa.array([int(T_S * 1e9)]),
        pa.array([dt.datetime(2026, 5, 1, 10)]), pa.array([int(T_S * 1e9)], pa.timestamp("ns")),  # noqa: DTZ001
        pa.array([int(T_S * 1e3)], pa.timestamp("ms", "America/New_York")), pa.array([decimal.Decimal("1777629600.000")]),
        pa.array([T.encode()]), pa.array([int(T_S * 1e9)], pa.timestamp("ns", "UTC")),  # as pandas writes a time with a zone
        pa.array([int(T_S * 1e6)], pa.timestamp("us", "+02:00")), pa.array([int(T_S)], pa.timestamp("s", "Asia/Tokyo")),
    ],
    ids=lambda column: str(column.type),
)  # fmt: skip
def test_a_typed_time_is_that_time(tmp_path: Path, column: pa.Array) -> None:
    pq.write_table(pa.table({"timestamp": column, "object_id": ["p"], "user_id": ["u"]}), tmp_path / "h.parquet")
    assert added_up(tmp_path / "h.parquet").until_s == T_S


@pytest.mark.parametrize(
    "names",
    [("user_id", "user_id"), ("USER_ID", "user_id"), ("Brand", "brand"), ("other", "other"), ("user_id", "User")],
)
def test_a_column_that_is_there_twice_is_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    """DuckDB would take the first one whose name has the same letters; a column that is not read may be there as often."""
    nested = pa.array([{"user_id": [{"brand": 1}]}])
    columns = [pa.array([T]), pa.array(["p"]), pa.array(["c"]), nested, pa.array(["a"]), pa.array(["b"])]
    pq.write_table(
        pa.Table.from_arrays(columns, names=["timestamp", "object_id", "client_id", "nested", *names]),
        tmp_path / "h.parquet",
    )
    if names in {("other", "other"), ("user_id", "User")}:
        assert added_up(tmp_path / "h.parquet").row_counts.rows == 1
    else:
        with pytest.raises(ConfigurationError, match=f"column {names[1]} is there twice"):
            added_up(tmp_path / "h.parquet")


@pytest.mark.parametrize(("silence_s", "again"), [(3.0 * DAY_S / 4.0, 0), (3.0 * DAY_S / 2.0, 2)])
def test_a_session_that_goes_on_for_months_is_a_new_visit_after_a_silence(
    tmp_path: Path, silence_s: float, again: int
) -> None:
    """As in ingest, whose store forgets a session after `session_ttl_s`: a day. Some sites set one session_id for ever."""
    rows = [
        {"user_id": "ann", "session_id": "ever", "object_id": "p1", "timestamp": (T_S + number * silence_s) * 1000.0}
        | {"brand": "nike"}
        for number in range(3)
    ]
    weights = added_up(as_ndjson(tmp_path, rows)).repeats().classes
    assert (len(weights) > 0) is (again > 0)
