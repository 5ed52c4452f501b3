"""UBI records: the merged list under the schema's limits, a sink that fails or is full, and nothing in a search's way."""

from __future__ import annotations

import cProfile
import json
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from opensearchpy.exceptions import TransportError

from rewriter import Reason, Settings, Subject
from rewriter.measures.diversity import intra_list_diversity
from rewriter.observe.hooks import Answered, Hooks
from rewriter.observe.ubi import UbiRecords, ubi_query
from rewriter.observe.ubi_record import words_of
from rewriter.observe.ubi_sinks import IndexSink, NdjsonSink, RedisSink
from rewriter.report import Report
from rewriter.settings import PolicySettings
from rewriter.signals.counters import Counters
from rewriter.signals.store import Keys
from tests.fakes import HARNESSES, FakeStore, Harness, SyncHarness, waited
from tests.observe.test_observers import ANN, REPORT
from tests.ubi_schema import QUERY

VALID = Draft202012Validator(QUERY, format_checker=FormatChecker())
SETTINGS = Settings.model_validate(
    {
        "experiment": {"holdout": 0},
        "budget": {"signals_ms": 2000, "cutoff_ms": 5000},
        "policies": {"shop": {"index": "products*", "category_field": "brand", "item_repeat_share": 1.0}},
    }
)
ARGUMENTS: dict[str, Any] = {"index": "products", "body": {"query": {"match": {"title": "red shoes"}}, "size": 10}}


class Kept:
    """A sink that keeps what it is given, or raises while `away`."""

    def __init__(self) -> None:
        self.away = False
        self.records: list[dict[str, Any]] = []
        self.tried = 0

    def write(self, records: Sequence[tuple[str, str]]) -> int:
        self.tried += 1
        if self.away:
            raise OSError
        self.records += [json.loads(text) for _, text in records]
        return 0

    def close(self) -> None:
        pass


@pytest.fixture
def sink() -> Kept:
    return Kept()


@pytest.fixture
def records(sink: Kept) -> Iterator[UbiRecords]:
    made = UbiRecords(sink, SETTINGS, application="shop")
    yield made
    made.close(0.5)


def liking() -> FakeStore:
    found = FakeStore()
    found.write(Keys().profile("ann-the-user"), Counters({("item", "p7"): 6.0}, {"item": 6.0}, 1.8e9), None)
    return found


@pytest.mark.parametrize("kind", HARNESSES)
def test_a_shadow_s_record_holds_no_slot_that_nobody_saw(kind: type[Harness], records: UbiRecords, sink: Kept) -> None:
    """The report has the slots of the page that would have been; what people saw is the caller's own."""
    shadow = SETTINGS.model_copy(update={"switches": SETTINGS.switches.model_copy(update={"shadow": True})})
    with kind(shadow, liking(), hooks=[records]) as harness:
        response, report = harness.search(ANN, ARGUMENTS)
        assert records.flush()
    assert (report.reason, bool(report.slots)) == (Reason.SHADOW, True)
    (record,) = sink.records
    assert record["query_response_hit_ids"] == [hit["_id"] for hit in response["hits"]["hits"]]
    ours = record["query_attributes"]["rewriter"]
    assert (ours["reason"], ours["arm"]) == ("shadow", "treatment")
    assert {"slots", "teams"} & set(ours) == set()


@pytest.mark.parametrize("kind", HARNESSES)
def test_a_record_holds_the_list_that_was_shown(kind: type[Harness], records: UbiRecords, sink: Kept) -> None:
    with kind(SETTINGS, liking(), hooks=[records]) as harness:
        response, report = harness.search(ANN, ARGUMENTS)
        harness.search(None, ARGUMENTS)
        assert records.flush()
    assert report.reason is Reason.PERSONALIZED
    first, second = sink.records
    VALID.validate(first)
    VALID.validate(second)
    assert first["query_response_hit_ids"] == [hit["_id"] for hit in response["hits"]["hits"]]
    assert (first["user_query"], first["client_id"], first["application"]) == ("red shoes", "ann-the-user", "shop")
    assert first["indexes"] == ["products"]
    ours = first["query_attributes"]["rewriter"]
    assert ours["positions"] == list(range(10))
    assert ours["arm"] == "treatment"
    assert report.exposure is not None
    assert (ours["unit"], ours["holdout"]) == (report.exposure.unit, 0.0)
    assert ours["template_version"] == report.template_version
    assert ours["slots"] == [
        {"position": one.position, "object_id": one.id, "propensity": one.propensity} for one in report.slots
    ]
    assert ours["slots"][0]["object_id"] == first["query_response_hit_ids"][ours["slots"][0]["position"]]
    assert ours["categories"] == [hit["_source"]["brand"] for hit in response["hits"]["hits"]]
    brands = [frozenset({hit["_source"]["brand"]}) for hit in response["hits"]["hits"]]
    assert ours["intra_list_diversity"] == pytest.approx(intra_list_diversity(brands), abs=1e-4)
    assert "client_id" not in second
    assert second["query_attributes"]["rewriter"]["reason"] == "no_subject"
    assert first["timestamp"].endswith("Z")
    assert len(first["timestamp"]) == len("2026-11-26T00:00:00.000Z")


@pytest.mark.parametrize("kind", HARNESSES)
def test_no_leg_carries_ubi_s_part_and_positions_are_the_list_s(
    kind: type[Harness], records: UbiRecords, sink: Kept
) -> None:
    body = {**ARGUMENTS["body"], "ext": {"ubi": {"query_id": "q7"}}}
    with kind(SETTINGS, liking(), hooks=[records]) as harness:
        harness.search(ANN, {**ARGUMENTS, "body": body})
        harness.until(lambda status: status.in_flight == 0)
        response, report = harness.search(ANN, {**ARGUMENTS, "body": {**body, "from": 10}})
        assert records.flush()
        legs = {name: [one["body"] for one in asked] for name, asked in harness.engine.asked.items()}
    assert report.reason is Reason.PERSONALIZED
    assert [one.get("ext") for one in legs.pop("baseline")] == [body["ext"]] * 2
    sent = [one for asked in legs.values() for one in asked]
    assert len(sent) >= 3
    assert not [one for one in sent if "ubi" in str(one)]
    assert [record["query_id"] for record in sink.records] == ["q7", "q7"]
    ours = sink.records[1]["query_attributes"]["rewriter"]
    assert ours["positions"] == list(range(10, 10 + len(response["hits"]["hits"])))
    assert {one["position"] for one in ours["slots"]} <= set(ours["positions"])


def test_a_page_s_diversity_is_of_the_fields_that_the_policy_counts(sink: Kept) -> None:
    """Nested ones, lists and combinations too; hits that show none of them are unknown."""
    fields: dict[str, Any] = {"colour": {}, "made": {"of": ["maker.name", "colour"]}}
    policy = {"index": "products*", "category_field": "kind", "fields": fields}
    records = UbiRecords(sink, Settings.model_validate({"policies": {"shop": policy}}))
    sources: list[Any] = [
        {"kind": "shoe", "colour": ["red", "blue"], "maker": {"name": "a"}, "price": 3},
        {"kind": "shoe", "colour": "red", "maker": {"name": "b"}},
        {"kind": 7, "colour": ["green"]},
        {"price": 3},
        None,
        {"maker": "odd", "colour": {"odd": 1}},
    ]
    hits = [{"_id": f"p{n}", "_source": source} for n, source in enumerate(sources)]
    records.answered(Answered(ARGUMENTS, ANN, {"hits": {"hits": hits}}, REPORT))
    sources[0]["colour"].append("changed by the caller")
    assert records.flush()
    records.close()
    known = [
        {"kind shoe", "colour red", "colour blue", "maker a"}, {"kind shoe", "colour red", "maker b"},
        {"kind 7", "colour green"},
    ]  # fmt: skip
    expected = intra_list_diversity([frozenset(one) for one in known])
    assert sink.records[0]["query_attributes"]["rewriter"]["intra_list_diversity"] == pytest.approx(expected, abs=1e-4)


def test_what_the_body_says_counts_before_what_is_said_around_it(records: UbiRecords, sink: Kept) -> None:
    ubi = {"query_id": "q-body", "user_query": "typed", "object_id_field": "sku", "query_attributes": {"test": "b"}}
    body = {"query": {"match_all": {}}, "ext": {"ubi": ubi}}
    response = {"hits": {"total": {"value": 2}, "hits": [{"_id": "1", "_source": {"sku": 77}}, {"_id": "2"}]}}
    with ubi_query("q-around", user_query="around", client_id="c1") as query_id:
        assert query_id == "q-around"
        records.answered(Answered({"index": "a,b", "body": body}, None, response, Report(Reason.UNSUPPORTED)))
        records.answered(Answered({"body": {"from": 20}}, None, response, Report(Reason.UNSUPPORTED)))
    records.answered(Answered({}, None, None, Report(Reason.UNSUPPORTED)))
    body["ext"]["ubi"]["user_query"] = "changed by the caller since"  # type: ignore[index]
    assert records.flush()
    first, second, third = sink.records
    assert (first["query_id"], first["user_query"], first["client_id"]) == ("q-body", "typed", "c1")
    assert first["query_response_hit_ids"] == ["77", "2"]
    assert first["query_attributes"]["test"] == "b"
    assert (second["query_id"], second["user_query"]) == ("q-around", "around")
    assert second["query_attributes"]["rewriter"]["positions"] == [20, 21]
    assert (third["user_query"], third["query_response_hit_ids"]) == ("", [])
    for record in sink.records:
        VALID.validate(record)


def test_who_gave_no_consent_is_not_named(records: UbiRecords, sink: Kept) -> None:
    subject = Subject("ann-the-user", "s", consent=False)
    with ubi_query(client_id="c1"):
        records.answered(Answered(ARGUMENTS, subject, {}, Report(Reason.NO_CONSENT)))
    assert records.flush()
    assert "client_id" not in sink.records[0]
    assert "ann" not in json.dumps(sink.records)


@pytest.mark.parametrize(
    "odd",
    [
        {"body": None}, {"body": {"ext": 3}},
        {"body": {"ext": {"ubi": {"query_id": 7, "client_id": ["x"], "query_attributes": 1}}}},
        {"index": 3}, {"body": {"from": "many"}}, {"body": {"query": {"match": {"a": {"query": None}}}}},
        {"body": {"ext": {"ubi": {"query_id": "q" * 300, "client_id": "c" * 300, "user_query": "u" * 5_000}}}},
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "response", [None, "x", {"hits": None}, {"hits": {"hits": None, "total": "x"}}, {"hits": {"hits": [None, {}]}}]
)
def test_odd_searches_make_records_of_the_schema_too(
    odd: dict[str, Any], response: Any, records: UbiRecords, sink: Kept
) -> None:
    hooks = Hooks([records])
    hooks.finished(odd, None, response, REPORT)
    assert records.flush()
    assert hooks.errors == 0
    for record in sink.records:
        VALID.validate(record)


LOOP: dict[str, Any] = {}
LOOP["self"] = LOOP


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"a": float("nan")}, "are no JSON"),
        (LOOP, "are no JSON"),
        ({"text": "x" * 30_000}, "have 30012 characters"),
        ({"experiment": {"a": [1, None]}, "at": Path("x")}, ""),
    ],
    ids=["NaN", "loop", "long", "sound"],
)
def test_the_application_s_attributes_cost_no_record(
    attributes: dict[str, Any], said: str, records: UbiRecords, sink: Kept
) -> None:
    with ubi_query("q1", query_attributes=attributes):
        records.answered(Answered({}, None, {}, REPORT))
    assert records.flush()
    (record,) = sink.records
    VALID.validate(record)
    found = record["query_attributes"]
    assert found["rewriter"]["reason"] == str(REPORT.reason)
    if said:
        assert found["left_out"] == f"query_attributes {said}"
    else:
        assert (found["experiment"], found["at"]) == (attributes["experiment"], "x")


class Picky:
    """A client whose server refuses a whole batch that holds one record, or is longer than three."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.indices = SimpleNamespace(exists=lambda **_: True)
        self.written: list[str] = []

    def bulk(self, *, body: str, index: str, params: Any) -> Any:  # noqa: ARG002
        texts = body.splitlines()[1::2]
        if any("poison" in text for text in texts) or len(texts) > 3:
            raise TransportError(self.status, "mapper_parsing_exception")
        self.written += texts
        return {"items": [{"create": {"status": 201}} for _ in texts]}


@pytest.mark.parametrize("status", [400, 413])
def test_a_record_that_the_server_cannot_read_costs_no_other_one(status: int) -> None:
    client = Picky(status)
    texts = [("r", f"good {number}") for number in range(9)] + [("r", "poison")] + [("r", f"good {n}") for n in (9, 10)]
    assert IndexSink(client).write(texts) == 1
    assert client.written == [f"good {number}" for number in range(11)]
    with pytest.raises(TransportError):
        IndexSink(Picky(503)).write(texts)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_writes_no_record_of_its_parent(tmp_path: Path) -> None:
    """What the parent has built and could not write yet is the parent's."""
    import os

    sink = Kept()
    sink.away = True
    records = UbiRecords(sink)
    with ubi_query("parent"):
        records.answered(Answered({}, None, {}, REPORT))
    assert waited(lambda: records.counts.get("attempts_failed", 0) >= 1)
    child = os.fork()
    if not child:
        try:
            sink.away = False
            with ubi_query("child"):
                records.answered(Answered({}, None, {}, REPORT))
            records.flush()
            (tmp_path / "ids").write_text(",".join(one["query_id"] for one in sink.records))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    sink.away = False
    assert records.flush(40.0)
    records.close()
    assert (tmp_path / "ids").read_text() == "child"
    assert [one["query_id"] for one in sink.records] == ["parent"]


def test_the_words_of_a_query() -> None:
    scored = {
        "function_score": {
            "query": {"bool": {"filter": [{"match": {"a": "no"}}], "must": [{"multi_match": {"query": "yes"}}]}}
        }
    }
    assert words_of(scored) == "yes"
    assert words_of({"match": {"title": {"query": "deep"}}}) == "deep"
    assert words_of({"match_all": {}}) == words_of(None) == words_of({"term": {"a": "b"}}) == ""


def test_a_sink_that_is_away_loses_nothing_that_has_room(sink: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewriter.observe.ubi.RETRY_S", 0.01)
    records = UbiRecords(sink, max_waiting=700)
    sink.away = True
    for number in range(2_000):
        with ubi_query(f"q{number}"):
            records.answered(Answered({}, None, {}, REPORT))
        if number % 100 == 0:
            time.sleep(0.001)
    assert waited(lambda: records.counts.get("attempts_failed", 0) >= 1)
    sink.away = False
    assert records.flush(20.0)
    counts = records.counts
    assert counts["written"] + counts["dropped"] == 2_000
    assert counts["written"] == len(sink.records) == len({one["query_id"] for one in sink.records}) >= 500
    assert counts["waiting"] == 0
    records.close()


def test_what_was_not_written_by_the_end_is_counted(sink: Kept) -> None:
    sink.away = True
    records = UbiRecords(sink)
    records.answered(Answered({}, None, {}, REPORT))
    records.close(0.3)
    assert records.counts["dropped"] == 1
    assert records.counts.get("written", 0) == 0


def test_a_file_is_private_rolls_over_and_keeps_everything(tmp_path: Path) -> None:
    path = tmp_path / "queries.ndjson"
    sink = NdjsonSink(path, max_file_bytes=300)
    for number in range(10):
        sink.write([(str(number), json.dumps({"n": number, "text": "x" * 100}))])
    files = sorted(tmp_path.iterdir())
    assert len(files) == 4
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert sorted(one["n"] for one in lines) == list(range(10))
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)


def test_a_torn_line_costs_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full in the middle of a batch: the batch comes again, and the torn line stands alone."""
    import os

    sink = NdjsonSink(tmp_path / "q.ndjson")
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, raw: real(file, raw[:20]))
    with pytest.raises(OSError, match="could not be written whole"):
        sink.write([("1", json.dumps({"n": 1, "text": "x" * 50}))])
    monkeypatch.setattr(os, "write", real)
    sink.write([("1", json.dumps({"n": 1}))])
    *torn, last = (tmp_path / "q.ndjson").read_text().splitlines()
    assert json.loads(last) == {"n": 1}
    assert len(torn) == 1


def test_a_line_that_another_process_left_torn_costs_no_record(tmp_path: Path) -> None:
    path = tmp_path / "q.ndjson"
    path.write_text('{"n": 1}\n{"n": 2, "te')
    NdjsonSink(path).write([("3", json.dumps({"n": 3}))])
    NdjsonSink(path).write([("4", json.dumps({"n": 4}))])
    assert path.read_text().splitlines() == ['{"n": 1}', '{"n": 2, "te', '{"n": 3}', '{"n": 4}']


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device"), "OSError: No space left on device;"),
        (PermissionError(13, "Permission denied"), "PermissionError: Permission denied;"),
        (ValueError("red shoes of somebody"), "ValueError;"),
    ],
)
def test_the_log_says_once_that_records_cannot_be_written(
    error: Exception, said: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full, a folder that is read-only: the A/B test loses its records."""
    monkeypatch.setattr("rewriter.observe.ubi.RETRY_S", 0.01)

    class Failing(Kept):
        left = 2

        def write(self, records: Sequence[tuple[str, str]]) -> int:
            if self.left:
                self.left -= 1
                raise error
            return super().write(records)

    records = UbiRecords(Failing())
    for _ in range(3):
        records.answered(Answered({}, None, {}, REPORT))
    assert waited(lambda: records.counts.get("written") == 3)
    records.close()
    assert [line.message for line in caplog.records] == [
        f"UBI records cannot be written, they wait: {said} `records.counts` counts those that are dropped meanwhile",
        "UBI records are written again",
    ]


def test_a_hook_of_records_takes_few_calls(sink: Kept) -> None:
    """With a category and eight fields of each hit to be copied: 27 to 33 µs, as `python -m bench.observe` measures."""
    fields: dict[str, Any] = {f"field{n}": {} for n in range(8)}
    policy = SETTINGS.policies["shop"].model_copy(update={"fields": PolicySettings(index=("x",), fields=fields).fields})
    records = UbiRecords(sink, SETTINGS.model_copy(update={"policies": {"shop": policy}}))
    hooks = Hooks([records])
    source = {"brand": "b", **dict.fromkeys(fields, "value")}
    response = {"hits": {"total": {"value": 40}, "hits": [{"_id": f"p{n}", "_source": source} for n in range(10)]}}
    for _ in range(20):
        hooks.finished(ARGUMENTS, ANN, response, REPORT)
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(100):
        hooks.finished(ARGUMENTS, ANN, response, REPORT)
    profile.disable()
    calls = sum(entry.callcount for entry in profile.getstats()) / 100
    assert 200 < calls < 520, f"{calls:.0f} calls a search"
    records.close()


def test_a_search_is_answered_while_a_sink_hangs() -> None:
    class Hung(Kept):
        def write(self, records: Sequence[tuple[str, str]]) -> int:  # noqa: ARG002
            time.sleep(0.5)
            raise OSError

    records = UbiRecords(Hung())
    with SyncHarness(SETTINGS, liking(), hooks=[records]) as harness:
        for _ in range(3):
            assert harness.search(ANN, ARGUMENTS)[1].reason is Reason.PERSONALIZED
        assert harness.status().hook_errors == 0
    records.close(0.1)


def test_a_stream_gets_each_record() -> None:
    class Client:
        def __init__(self) -> None:
            self.added: list[tuple[str, dict[str, str]]] = []

        def pipeline(self, transaction: bool) -> Client:
            assert not transaction
            return self

        def xadd(self, stream: str, fields: dict[str, str], *, maxlen: int, approximate: bool) -> None:
            assert (maxlen, approximate) == (1_000_000, True)
            self.added.append((stream, fields))

        def execute(self) -> None:
            pass

    client = Client()
    assert RedisSink(client).write([("1", "{}"), ("2", "{}")]) == 0
    assert client.added == [("ubi_queries", {"record": "{}"})] * 2
