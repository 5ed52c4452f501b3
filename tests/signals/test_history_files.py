"""History files: names with special characters, headers, and faults named by line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from rewriter.errors import ConfigurationError
from rewriter.signals.backfill.history import History
from tests.histories import NOW_S, T, added_up, left_out, of_users, plan

HEAD = "timestamp,object_id,user_id,brand\n"
ROW = {"timestamp": T, "object_id": "p1", "brand": "nike"}
LIKED = {"brand|nike": 8.0, "item|p1": 8.0}


def faults(*files: Path) -> list[str]:
    """What is said of files: of those that are refused, or of lines that are left out."""
    try:
        found = History([str(file) for file in files], plan(), 4, None, {}, now_s=NOW_S).files
    except ConfigurationError as error:
        return [str(fault) for fault in error.faults]
    assert (found.malformed > 0) == bool(found.faults)
    return [str(fault) for fault in found.faults]


@pytest.mark.parametrize(
    "name",
    [
        "export[12]",
        "export*",
        "e?port",
        "{a,b}",
        "a'b",
        'a"b',
        "a b",
        "%20",
        "ü",
        "**",
        "[!a]",
        "b\\[c",
        "-x",
        "s3:",
        "$HOME",
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".ndjson", ".JSON", ".parquet"])
def test_a_file_name_is_no_pattern(tmp_path: Path, name: str, suffix: str) -> None:
    for other in ("export1", "export2", "exyport", "a", "b", "x"):
        write(tmp_path / f"{other}{suffix}", "somebody else")
    write(tmp_path / f"{name}{suffix}", "u1")
    assert of_users(added_up(tmp_path / f"{name}{suffix}"), ["u1"]) == {"u1": LIKED}


@pytest.mark.parametrize("folder", ["user_id=all", "brand=puma", "timestamp=2020-01-01", "consent=false", "x=[1]*"])
@pytest.mark.parametrize("suffix", [".csv", ".ndjson", ".parquet"])
def test_a_folder_is_no_column(tmp_path: Path, folder: str, suffix: str) -> None:
    (tmp_path / folder).mkdir()
    write(tmp_path / folder / f"x{suffix}", "u1")
    assert of_users(added_up(tmp_path / folder / f"x{suffix}"), ["u1"]) == {"u1": LIKED}


def test_a_relative_path_and_a_link_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "h.csv", "u1")
    (tmp_path / "link.csv").symlink_to("h.csv")
    monkeypatch.chdir(tmp_path)
    assert of_users(added_up(Path("link.csv")), ["u1"]) == {"u1": LIKED}
    assert sorted(one.name for one in tmp_path.iterdir()) == ["h.csv", "link.csv"]


def write(path: Path, user: str) -> None:
    row = ROW | {"user_id": user}
    match path.suffix.lower():
        case ".csv":
            path.write_text(HEAD + f"{T},p1,{user},nike\n")
        case ".parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            with path.open("wb") as file:
                pq.write_table(pa.Table.from_pylist([row]), file)
        case _:
            path.write_text(json.dumps(row))


@pytest.mark.parametrize(
    "text",
    [
        "timestamp, object_id, user_id, brand\n{T}, p1, u1, nike\n",
        "timestamp , object_id , user_id , brand\n{T} , p1 , u1 , nike\n",
        'timestamp, "object_id", "user_id", brand\n{T}, "p1", "u1", nike\n',
        "timestamp;object_id;user_id;brand\n{T};p1;u1;nike\n",
        "timestamp\tobject_id\tuser_id\tbrand\n{T}\tp1\tu1\tnike\n",
        "timestamp|object_id|user_id|brand\n{T}|p1|u1|nike\n",
        '"timestamp","object_id","user_id","brand"\n"{T}","p1","u1","nike"\n',
        "timestamp,object_id,user_id,brand,\n{T},p1,u1,nike,\n",
        "timestamp,object_id,user_id,brand\n{T},p1,u1,nike,\n",
        "\ufefftimestamp,object_id,user_id,brand\n{T},p1,u1,nike\n",
        '\ufeff"timestamp","object_id","user_id","brand"\n{T},p1,u1,nike\n',
        "timestamp,object_id,user_id,brand\r\n{T},p1,u1,nike\r\n",
        "timestamp,object_id,user_id,brand\n\n{T},p1,u1,nike\n\n",
        "timestamp,object_id,user_id,brand\n{T},p1,u1,nike",
        'timestamp,"a\nb",object_id,user_id,brand,,\n{T},"x\n,""y""",p1,u1,nike,,\n',
        "user_id,brand,timestamp,object_id\nu1,nike,{T},p1\n",
        "sep=;\ntimestamp;object_id;user_id;brand\n{T};p1;u1;nike\n",
        "\ufeffsep=|\r\ntimestamp|object_id|user_id|brand\r\n{T}|p1|u1|nike\r\n",
        "\n\ntimestamp,object_id,user_id,brand\n\n{T},p1,u1,nike\n\n\n",
        "\r\n\r\nsep=,\r\ntimestamp,object_id,user_id,brand\r\n{T},p1,u1,nike\r\n",
        "timestamp,object_id,user_id,brand\r{T},p1,u1,nike\r",
        'x,timestamp,object_id,user_id,brand\n"\n\n a\n\r\n","{T}",p1,u1,nike\n',
        '"a\n\nb",timestamp,object_id,user_id,brand,y\n"\n","{T}",p1,u1,nike,"1\n\n\n2\n"\n',
    ],
)
def test_a_csv_is_read_as_it_is_meant(tmp_path: Path, text: str) -> None:
    (tmp_path / "h.csv").write_bytes(text.replace("{T}", T).encode())
    history = added_up(tmp_path / "h.csv")
    assert left_out(history) == {}
    assert of_users(history, ["u1"]) == {"u1": LIKED}


def test_blanks_belong_to_values_where_the_header_has_none(tmp_path: Path) -> None:
    (tmp_path / "h.csv").write_text(HEAD + f"{T},p1, u1,nike\n{T},p1,u1 ,nike \n")
    history = added_up(tmp_path / "h.csv")
    assert of_users(history, [" u1", "u1 "])["u1 "] == {
        "brand|nike ": 8.0,
        "item|p1": 8.0,
    }


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"T,p2,secret,nike,extra\n", ":3: column 5: the header names 4 columns, and this line has more"),
        (b"T,p2,secret,nike,,,x\n", ":3: column 5: the header names 4 columns"),
        (b"T,p2,secret\n", ":3: column brand: is missing"),
        (b"T\n", ":3: column object_id: is missing"),
        (b"T,p2,secret,M\xfcller\n", ":3: column brand: is not UTF-8"),
        (b"T,\xff,secret,nike\n", ":3: column object_id: is not UTF-8"),
        (b'T,"p2,secret,nike\n', ":3: column object_id: a quote"),
        (b'T,"p2"x,secret,nike\n', ":3: column object_id: a quote"),
        (b"T,p2,secret," + b"x" * 3_000_000 + b"\n", ":3: column 1: line size over maximum"),
    ],
)
def test_a_line_that_is_no_row_is_named_by_line_and_column(tmp_path: Path, line: bytes, said: str) -> None:
    (tmp_path / "h.csv").write_bytes(
        HEAD.encode() + f"{T},p1,u1,nike\n".encode() + line.replace(b"T,", T.encode() + b",")
    )
    (fault,) = faults(tmp_path / "h.csv")
    assert said in fault
    assert "secret" not in fault
    history = added_up(tmp_path / "h.csv")
    assert left_out(history) == {"malformed": 1}
    assert of_users(history, ["u1"]) == {"u1": LIKED}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD.encode("utf-16"), ["h.csv:1: is UTF-16 (convert it to UTF-8)"]),
        (HEAD.encode() + b"a,b,c,d\na,b,c,d\r\n", ["h.csv:3: ends unlike the first line"]),
        (b"timestamp,object_id,user_id,user_id\na,b,c,d\n", ["h.csv:1: column user_id is there twice"]),
        (b"time,object_id,user\na,b,c\n", ["h.csv: no column timestamp", "h.csv: no column user_id or client_id"]),
        (
            b"Timestamp,objectId,USER_ID\na,b,c\n",
            ["(rename 'Timestamp' to timestamp)", "(rename 'objectId' to object_id)", "(rename 'USER_ID' to user_id)"],
        ),
        (HEAD.encode("utf-16-le"), ["h.csv:1: is UTF-16 (convert it to UTF-8)"]),
        (HEAD.encode("utf-32"), ["h.csv:1: is UTF-32 (convert it to UTF-8)"]),
        (gzip.compress(HEAD.encode(), mtime=0), ["h.csv: is compressed (gzip) (unpack it)"]),
        (b"x" * 200_000 + b"\na\n", ["h.csv:1: a name of the header is longer than"]),
    ],
)
def test_a_csv_that_cannot_be_read_is_refused(tmp_path: Path, text: bytes, said: list[str]) -> None:
    (tmp_path / "h.csv").write_bytes(text)
    found = faults(tmp_path / "h.csv")
    assert len(found) == len(said)
    assert all(one in fault for one, fault in zip(said, found, strict=True))


@pytest.mark.parametrize("after", [1, 40, 200_000])
@pytest.mark.parametrize("value", ["u1", '"u\n\n1"'])
def test_lines_that_an_open_quote_swallows_are_counted(tmp_path: Path, after: int, value: str) -> None:
    """DuckDB calls them one line, or goes on somewhere behind it."""
    row = f"{T},p1,{value},nike\n"
    (tmp_path / "h.csv").write_text(HEAD + 3 * row + f'{T},p1,"secret,nike\n' + after * f"{T},p1,u2,nike\n")
    found = faults(tmp_path / "h.csv")
    assert f"h.csv:{2 + 3 * row.count(chr(10))}: column user_id: a quote is inside a value" in found[0]
    assert "in no row: a quote before them is never closed" in found[1]
    assert "secret" not in str(found)
    counts = added_up(tmp_path / "h.csv").row_counts
    assert counts.left_out["malformed"] + (counts.events - 3) == 1 + after
    assert counts.left_out["malformed"] > 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"user_id": "secret",', ":4: column 22: is no JSON"),
        (b"secret", ":4: column 1: is no JSON"),
        (b'["secret"]', ":4: column 1: is JSON, but no object"),
        (b"17", ":4: column 1: is JSON, but no object"),
        (b'{"user_id": "secret\xff"}', ":4: column 20: is not UTF-8"),
        (b'{"user_id": "secret\\ud83d"}', ":4: holds half a character"),
        (b"[" * 100_000 + b"]" * 100_000, ":4: column 1: is nested too deep"),
    ],
)
def test_a_line_that_is_no_json_is_named(tmp_path: Path, line: bytes, said: str) -> None:
    row = json.dumps(ROW | {"user_id": "u1"}).encode()
    (tmp_path / "h.ndjson").write_bytes(b"\xef\xbb\xbf" + row + b"\n\n" + row + b"\n" + line + b"\n" + row)
    (fault,) = faults(tmp_path / "h.ndjson")
    assert f"h.ndjson{said}" in fault
    assert "secret" not in fault
    assert left_out(added_up(tmp_path / "h.ndjson")) == {"malformed": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'[{"user_id": 1},\n{"user_id": 2}]\n', "h.ndjson:1: column 17: is no JSON"),
        (b"timestamp,user_id,object_id\n", "h.ndjson:1: column 1: is no JSON"),
        (b"{}\n".decode().encode("utf-16"), "h.ndjson:1: is UTF-16 (convert it to UTF-8)"),
        (gzip.compress(b"{}\n", mtime=0), "h.ndjson: is compressed (gzip) (unpack it)"),
        (b"PK\x03\x04", "h.ndjson: is compressed (zip) (unpack it)"),
    ],
)
def test_a_file_of_another_kind_is_said_to_be_one(tmp_path: Path, text: bytes, said: str) -> None:
    (tmp_path / "h.ndjson").write_bytes(text)
    assert said in faults(tmp_path / "h.ndjson")[0]


@pytest.mark.parametrize("suffix", [".ndjson", ".csv", ".parquet"])
def test_a_list_of_segments_is_read_as_an_event_s(tmp_path: Path, suffix: str) -> None:
    """One name that is none does not have the whole history refused."""
    names: list[object] = ["vip", " new ", None, "", "  "]
    row = ROW | {"user_id": "u1", "segments": names}
    match suffix:
        case ".csv":
            (tmp_path / "h.csv").write_text(
                f'timestamp,object_id,user_id,brand,segments\n{T},p1,u1,nike,"vip, new ,, "\n'
            )
        case ".ndjson":
            (tmp_path / "h.ndjson").write_text(json.dumps(row))
        case _:
            import pyarrow as pa
            import pyarrow.parquet as pq

            pq.write_table(pa.Table.from_pylist([row]), tmp_path / "h.parquet")
    history = added_up(tmp_path / f"h{suffix}")
    assert history.sums.segment_names == ["new", "vip"]


def test_objects_may_stand_in_an_array_or_over_several_lines(tmp_path: Path) -> None:
    row = ROW | {"user_id": "u1"}
    for text in (json.dumps([row]), json.dumps([row], indent=2), json.dumps(row, indent=2), json.dumps(row)):
        (tmp_path / "h.json").write_text(text)
        assert of_users(added_up(tmp_path / "h.json"), ["u1"]) == {"u1": LIKED}


def test_files_of_several_kinds_are_one_history(tmp_path: Path) -> None:
    """A column that is a number in one file and a text in another joins nobody; a file without a brand is looked up."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = {"timestamp": [T, T], "object_id": ["p1", "p1"], "user_id": [17, 18], "brand": ["nike", "nike"]}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text(HEAD + f"{T},p1,017,nike\n")
    (tmp_path / "c.ndjson").write_text(json.dumps({"timestamp": T, "object_id": "p1", "user_id": "19"}))
    history = added_up(*(tmp_path / one for one in ("a.parquet", "b.csv", "c.ndjson")))
    assert left_out(history) == {"no_object": 1}
    assert history.row_counts.first["no_object"].endswith("c.ndjson, row 1")
    assert of_users(history, ["17", "18", "017"]) == {"17": LIKED, "18": LIKED, "017": LIKED}


def test_all_files_are_held_against_all_columns_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n")
    (tmp_path / "b.ndjson").write_text("{}")
    assert [fault.partition(": ")[2] for fault in faults(tmp_path / "a.csv", tmp_path / "b.ndjson")] == [
        "no column timestamp (rename the column that holds the time of each event)",
        "no column object_id (rename the column that holds the id of the product or document)",
        "no column user_id or client_id (rename the column that holds the visitor)",
    ] * 2  # fmt: skip


def test_objects_are_numbered_in_the_order_of_their_ids(tmp_path: Path) -> None:
    """DuckDB's own order differs between runs of a large file, and equal counters are ordered by these numbers."""
    ids = [f"p{number * 7_919 % 5_000}" for number in range(5_000)]
    file = tmp_path / "h.csv"
    file.write_text(HEAD + "".join(f"{T},{one},u1,nike\n" for one in ids))
    found = History([str(file)], plan(), 4, None, {}, now_s=NOW_S).rows("SELECT object_id FROM docs ORDER BY doc")
    assert [one for (one,) in found] == sorted(ids)


@pytest.mark.parametrize("width", [1_100, 100_000])
def test_a_line_of_very_many_columns_is_named_and_costs_no_memory(tmp_path: Path, width: int) -> None:
    """For each column too many DuckDB kept a copy of the line: 8,000 columns took 270 MiB, and a million would take terabytes."""
    quoted = '"' + "a,\n" * 200 + "b" + "," * 1_500 + '"'
    rows = [f"{T},p1,u1,nike", "x," * width, f"{T},p1,u1,nike", f"{T},p1,u1,{quoted}", f"{T},p1"]
    (tmp_path / "h.csv").write_text(HEAD + "\n".join(rows) + "\n")
    history = added_up(tmp_path / "h.csv")
    assert (history.row_counts.events, left_out(history)) == (3, {"malformed": 2})
    assert [str(one).removeprefix(f"{tmp_path}/h.csv") for one in history.files.faults] == [
        ":3: column 5: the header names 4 columns, and this line has more",
        ": 1 line is in no row",
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.csv", ""), ("a.csv", "\n\n"), ("a.ndjson", ""), ("a.json", "[]"), ("a.json", ""), ("a.jsonl", "\n")],
)
def test_an_empty_file_has_no_rows(tmp_path: Path, name: str, text: str) -> None:
    """A log of an hour in which nobody came costs the others nothing."""
    (tmp_path / name).write_text(text)
    write(tmp_path / "b.csv", "u1")
    assert of_users(added_up(tmp_path / name, tmp_path / "b.csv"), ["u1"]) == {"u1": LIKED}
    assert added_up(tmp_path / name).row_counts.rows == 0


@pytest.mark.parametrize("value", ["[" * 3_000 + "]" * 3_000, "9" * 5_000], ids=["deep", "long"])
def test_a_value_that_python_cannot_read_ends_no_backfill(tmp_path: Path, value: str) -> None:
    row = json.dumps(ROW | {"user_id": "u1"})
    (tmp_path / "h.ndjson").write_text(row + "\n" + row.replace('"nike"', value))
    history = added_up(tmp_path / "h.ndjson")
    assert history.row_counts.events + history.row_counts.left_out["no_value"] == 2


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("suffix", [".ndjson", ".json"])
def test_events_of_ubi_are_a_history(tmp_path: Path, suffix: str, as_text: bool) -> None:
    """As the plugin stores them; some clients write the attributes as a text of JSON."""
    attributes = {
        "object": {"object_id": "p1", "object_id_field": "_id"},
        "segments": ["vip"],
        "position": {"ordinal": 3},
    }
    event = {
        "action_name": "purchase",
        "client_id": "u1",
        "timestamp": T,
        "query_id": "q",
        "brand": "nike",
        "application": "shop",
    }
    odd: list[object] = [None, "{", 5, [], {"object": None}, {"object": {"object_id": None}}]
    events: list[dict[str, object]] = [event | {"event_attributes": json.dumps(attributes) if as_text else attributes}]
    events += [event | {"event_attributes": one} for one in odd]
    path = tmp_path / f"events{suffix}"
    path.write_text("\n".join(map(json.dumps, events)))
    assert of_users(added_up(path), ["u1"]) == {"u1": LIKED}
    found = added_up(path)
    assert left_out(found) == {"no_object": len(odd)}
    assert found.sums.segment_names == ["vip"]


@pytest.mark.parametrize("form", ["struct", "text", "dotted"])
def test_ubi_events_in_parquet_are_a_history_too(form: str, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    attributes = {
        "object": {"object_id": "p1", "object_id_field": "_id"},
        "segments": ["vip"],
        "position": {"ordinal": 3},
    }
    event: dict[str, object] = {
        "action_name": "purchase", "client_id": "u1", "timestamp": T, "query_id": "q", "brand": "nike",
    }  # fmt: skip
    if form == "dotted":
        dotted: dict[str, object] = {"event_attributes.object.object_id": "p1", "event_attributes.segments": ["vip"]}
        rows: list[dict[str, object]] = [event | dotted, event | dict.fromkeys(dotted)]
    else:
        rows = [
            event | {"event_attributes": one if form == "struct" else json.dumps(one)}
            for one in (attributes, {"object": None, "segments": None})
        ]
    rows.append({**event, **dict.fromkeys(set(rows[0]) - set(event))})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "events.parquet")
    found = added_up(tmp_path / "events.parquet")
    assert of_users(found, ["u1"]) == {"u1": LIKED}
    assert left_out(found) == {"no_object": 2}
    assert found.sums.segment_names == ["vip"]


def test_parquet_without_the_object_s_field_is_refused_by_name(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    event = {"client_id": "u1", "timestamp": T, "event_attributes": {"position": {"ordinal": 3}}}
    pq.write_table(pa.Table.from_pylist([event]), tmp_path / "events.parquet")
    with pytest.raises(ConfigurationError, match="no column object_id"):
        added_up(tmp_path / "events.parquet")


@pytest.mark.parametrize(
    "segments", [[True, 1, None, "x"], [1.5, "x"], 7, "vip, x", True, [], ["vip"], {}], ids=json.dumps
)  # fmt: skip
def test_segments_in_parquet_as_text_are_those_of_the_same_lines(segments: object, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    attributes = {"object": {"object_id": "p1"}, "segments": segments}
    event: dict[str, object] = {"action_name": "purchase", "client_id": "u1", "timestamp": T, "brand": "nike"}
    pq.write_table(
        pa.Table.from_pylist([event | {"event_attributes": json.dumps(attributes)}]), tmp_path / "events.parquet"
    )
    (tmp_path / "events.ndjson").write_text(json.dumps(event | {"event_attributes": attributes}))
    names = [added_up(tmp_path / f"events.{kind}").sums.segment_names for kind in ("parquet", "ndjson")]
    assert names[0] == names[1]


@pytest.mark.parametrize("text", ["{}", "no JSON", None])
def test_parquet_whose_attributes_as_text_hold_no_object_is_refused_by_name(text: str | None, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"client_id": ["u1", "u2"], "timestamp": [T, T], "event_attributes": pa.array([text, "{}"], pa.string())}
    pq.write_table(pa.table(columns), tmp_path / "events.parquet")
    with pytest.raises(ConfigurationError, match="no column object_id"):
        added_up(tmp_path / "events.parquet")
