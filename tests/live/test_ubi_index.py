"""UBI records on a real OpenSearch and a real Valkey: the plugin's mapping takes them, its dashboard counts them."""

from __future__ import annotations

import gzip
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from jsonschema import Draft202012Validator
from opensearchpy import OpenSearch
from typer.testing import CliRunner

from rewriter import Reason, Rewriter, Settings, Subject
from rewriter.cli import app
from rewriter.observe.hooks import Answered
from rewriter.observe.ubi import UbiRecords, ubi_query
from rewriter.observe.ubi_sinks import IndexSink, RedisSink
from rewriter.report import Report
from rewriter.signals.ingest.contract import StreamKeys
from rewriter.signals.ingest.follow import IndexFollower
from rewriter.signals.redis_store import RedisStore
from tests.conftest import RUN, MakeIndex
from tests.fakes import known
from tests.made_records import made, written
from tests.ubi_schema import EVENT, QUERIES_MAPPING, QUERY

SAMPLE = Path(__file__).parents[3] / "shared/data/ubi-sample"
PRODUCTS = {f"p{n}": {"title": "red shoe", "kind": f"k{n % 4}"} for n in range(30)}
AGGREGATIONS: dict[str, Any] = {
    "queries": {"terms": {"field": "user_query.keyword"}},
    "people": {"cardinality": {"field": "client_id"}},
    "objects": {"terms": {"field": "query_response_hit_ids"}},
    "days": {"date_histogram": {"field": "timestamp", "calendar_interval": "day"}},
    "ids": {"cardinality": {"field": "query_id"}},
    "indexes": {"terms": {"field": "indexes"}},
    "treated": {"filter": {"term": {"query_attributes.rewriter.arm": "treatment"}}},
    "held": {"filter": {"term": {"query_attributes.rewriter.arm": "holdout"}}},
}
"""Those of the dashboard's panels over queries, and two over what only we record. `terms` on a part of a `flat_object` answers
the values of all its parts (OpenSearch 3.8), so arms are counted by filters."""


@pytest.fixture
def target(opensearch: OpenSearch, request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"{RUN}-ubi-{abs(hash(request.node.name))}".lower()
    yield name
    opensearch.indices.delete(index=name, ignore=[404])


@pytest.mark.parametrize("made_by", ["the plugin", "the sink"])
def test_records_are_found_and_counted(
    made_by: str, opensearch: OpenSearch, opensearch_url: str, index: MakeIndex, target: str
) -> None:
    name = index({"title": {"type": "text"}, "kind": {"type": "keyword"}}, documents=PRODUCTS)
    if made_by == "the plugin":
        opensearch.indices.create(index=target, body={"mappings": QUERIES_MAPPING})
    settings = Settings.model_validate({"policies": {"shop": {"index": name, "category_field": "kind"}}})
    records = UbiRecords(IndexSink(OpenSearch(opensearch_url), target), settings)
    with Rewriter(OpenSearch(opensearch_url), settings=settings, hooks=[records]) as rewriter:
        known(rewriter, name)
        for number in range(12):
            with ubi_query(f"q{number}", user_query="red shoe"):
                rewriter.search(
                    index=name, body={"query": {"match": {"title": "shoe"}}}, subject=Subject(f"u{number % 5}")
                )
        assert records.flush()
    records.close()
    assert records.counts == {"written": 12, "refused": 0, "dropped": 0, "failed": 0, "waiting": 0}
    opensearch.indices.refresh(index=target)
    found = opensearch.search(index=target, body={"size": 12, "aggs": AGGREGATIONS})
    assert found["hits"]["total"]["value"] == 12
    counted = found["aggregations"]
    assert counted["queries"]["buckets"] == [{"key": "red shoe", "doc_count": 12}]
    assert (counted["people"]["value"], counted["ids"]["value"]) == (5, 12)
    assert counted["objects"]["buckets"][0]["doc_count"] == 12
    assert sum(one["doc_count"] for one in counted["days"]["buckets"]) == 12
    assert counted["indexes"]["buckets"] == [{"key": name, "doc_count": 12}]
    assert counted["treated"]["doc_count"] + counted["held"]["doc_count"] == 12
    for hit in found["hits"]["hits"]:
        Draft202012Validator(QUERY).validate(hit["_source"])
        assert hit["_source"]["query_attributes"]["rewriter"]["categories"]


def test_a_record_that_comes_again_is_there_once(opensearch_url: str, opensearch: OpenSearch, target: str) -> None:
    sink = IndexSink(OpenSearch(opensearch_url), target)
    pair = ("r1", json.dumps({"query_id": "q", "user_query": "", "timestamp": "2026-11-26T00:00:00.000Z"}))
    assert sink.write([pair]) == sink.write([pair]) == 0
    assert sink.write([("r2", json.dumps({"timestamp": "no date"}))]) == 1, "what the index refuses is refused for good"
    opensearch.indices.refresh(index=target)
    assert opensearch.count(index=target)["count"] == 1


def test_ubi_s_own_part_reaches_the_caller_s_search_alone(opensearch_url: str, index: MakeIndex) -> None:
    """Without the plugin OpenSearch refuses `ext.ubi`: the caller gets that error, and no leg is sent with it."""
    name = index({"title": {"type": "text"}}, documents=PRODUCTS)
    settings = Settings.model_validate({"policies": {"shop": {"index": name}}})
    with Rewriter(OpenSearch(opensearch_url), settings=settings) as rewriter:
        known(rewriter, name)
        with pytest.raises(Exception, match="SearchExtBuilder"):
            rewriter.search(
                index=name,
                body={"query": {"match": {"title": "shoe"}}, "ext": {"ubi": {"query_id": "q"}}},
                subject=Subject("u"),
            )


def test_a_stream_takes_records(redis_url: str, prefix: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        stream = f"{prefix}:ubi"
        records = UbiRecords(RedisSink(client, stream))
        records.answered(Answered({"index": "a"}, None, {}, Report(Reason.NO_SUBJECT)))
        assert records.flush()
        records.close()
        ((_, fields),) = client.xrange(stream)
        Draft202012Validator(QUERY).validate(json.loads(fields[b"record"]))


def sample(name: str) -> list[dict[str, Any]]:
    path = SAMPLE / name
    if not path.exists():
        pytest.skip("the public sample is not beside this checkout")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def test_the_public_sample_fits_the_schema_as_far_as_it_does() -> None:
    """The restated schema is neither looser nor stricter than the sample needs; its known departures are named."""
    query, event = Draft202012Validator(QUERY), Draft202012Validator(EVENT)
    assert [one for one in sample("ubi_queries.json.gz") if not query.is_valid(one)] == []
    faults = {
        tuple(error.absolute_path)[:1] for one in sample("ubi_events.json.gz") for error in event.iter_errors(one)
    }
    assert faults == {("timestamp",), ("query_id",), ("message_type",), ("message",), ("event_attributes",)}


def test_a_report_is_made_of_indices(
    opensearch_url: str, index: MakeIndex, opensearch: OpenSearch, tmp_path: Path
) -> None:
    """As many documents as take two pages of the scroll, with the report of the same records from files beside it."""
    queries, events = made(people=1_700, days=15)
    assert len(queries) > 5_000
    names = []
    for rows in (queries, events):
        name = index({"timestamp": {"type": "date"}})
        lines = [line for row in rows for line in ('{"index":{}}', json.dumps(row))]
        opensearch.bulk(index=name, body="\n".join([*lines, ""]), params={"refresh": "true"})
        names.append(name)
    toml = tmp_path / "rewriter.toml"
    toml.write_text(f'[opensearch]\nhosts = ["{opensearch_url}"]\n')
    arguments = ["report", "--queries-index", names[0], "--events-index", names[1], "--toml", str(toml), "--json"]
    ended = CliRunner().invoke(app, arguments)
    assert ended.exit_code == 0, ended.stderr
    files = written(tmp_path, queries, events)
    beside = CliRunner().invoke(app, ["report", "--queries", str(files[0]), "--events", str(files[1]), "--json"])
    found, wanted = json.loads(ended.stdout), json.loads(beside.stdout)
    assert (found["searches"], found["people"]) == (wanted["searches"], wanted["people"])
    assert found["sentence"] == wanted["sentence"]
    gone = CliRunner().invoke(app, ["report", "--queries-index", "rewriter-nowhere", "--toml", str(toml)])
    assert gone.exit_code == 2
    assert "rewriter-nowhere: cannot be read: NotFoundError 404" in gone.stderr


def an_event(number: int, action: str = "click") -> dict[str, Any]:
    return {
        "action_name": action, "user_id": f"u{number % 9}", "timestamp": "2026-11-25T10:00:00.000Z",
        "event_attributes": {"object": {"object_id": f"p{number % 30}"}, "position": {"ordinal": number % 10}},
    }  # fmt: skip


def appended_to(engine: RedisStore, keys: StreamKeys) -> list[dict[str, Any]]:
    found = [entry for at in range(2) for entry in engine.run([("XRANGE", keys.stream(at), "-", "+")])[0]]
    return [json.loads(fields[1] if isinstance(fields, list) else fields[b"event"]) for _, fields in found]


def follow(follower: IndexFollower) -> IndexFollower:
    while follower.feed(2):
        pass
    assert follower.trouble == ""
    return follower


def test_an_index_of_events_is_followed_and_each_event_appended_once(
    opensearch: OpenSearch, redis_url: str, prefix: str, index: MakeIndex
) -> None:
    name = index({"timestamp": {"type": "date"}}, shards=3)
    keys, engine = StreamKeys(prefix), RedisStore(redis_url)

    def write(first: int, last: int, action: str = "click") -> None:
        lines = [line for n in range(first, last) for line in ('{"index":{}}', json.dumps(an_event(n, action)))]
        opensearch.bulk(index=name, body="\n".join([*lines, ""]), params={"refresh": "true"})

    def appended() -> list[str]:
        return [event["event_id"] for event in appended_to(engine, keys)]

    weights = {"click": 1.0}
    follower = IndexFollower(engine, keys, opensearch, name, weights)
    write(0, 2_500)
    write(0, 40, "impression")
    opensearch.index(index=name, body={"action_name": 7}, params={"refresh": "true"})
    follow(follower)
    assert follower.counts == {"appended": 2_500, "no_weight": 40, "faulty": 1}
    assert len(set(appended())) == len(appended()) == 2_500
    write(2_500, 2_600)
    follow(follower)
    assert follower.counts["appended"] == 2_600
    assert follower.feed(2) == 0
    again = follow(IndexFollower(engine, keys, opensearch, name, weights))
    assert again.counts["appended"] == 0, "a restart appends nothing again, however long it took: marks of ids expire"
    assert len(appended()) == 2_600
    gone = IndexFollower(engine, keys, opensearch, f"{name}-gone", weights)
    assert gone.feed(2) == 0
    assert gone.trouble == f"{name}-gone names no index"


def test_an_alias_is_followed_over_its_rollover_with_its_filter_and_a_new_index_of_an_old_name_from_its_beginning(
    opensearch: OpenSearch, redis_url: str, prefix: str, target: str
) -> None:
    keys, engine = StreamKeys(prefix), RedisStore(redis_url)
    names = [f"{target}-{number}" for number in (1, 2)]

    def make(name: str) -> None:
        aliases = {target: {"filter": {"term": {"application": "shop"}}}}
        mappings = {"properties": {"application": {"type": "keyword"}}}
        opensearch.indices.create(index=name, body={"mappings": mappings, "aliases": aliases})

    def write(name: str, first: int, last: int) -> None:
        for application in ("shop", "another"):
            rows = [
                an_event(n) | {"application": application, "event_id": f"{application}-{n}"} for n in range(first, last)
            ]
            lines = [line for row in rows for line in ('{"index":{}}', json.dumps(row))]
            opensearch.bulk(index=name, body="\n".join([*lines, ""]), params={"refresh": "true"})

    def wanted(last: int) -> list[str]:
        return sorted(f"shop-{n}" for n in range(last))

    def appended() -> list[str]:
        return sorted(event["event_id"] for event in appended_to(engine, keys))

    try:
        make(names[0])
        write(names[0], 0, 30)
        follower = follow(IndexFollower(engine, keys, opensearch, target, {"click": 1.0}))
        assert appended() == wanted(30)
        make(names[1])
        write(names[0], 30, 35)
        write(names[1], 35, 50)
        follow(follower)
        assert appended() == wanted(50)
        opensearch.indices.delete(index=names[1])
        make(names[1])
        write(names[1], 50, 60)
        assert follow(IndexFollower(engine, keys, opensearch, target, {"click": 1.0})).counts["faulty"] == 0
        assert set(appended()) == set(wanted(60))
    finally:
        opensearch.indices.delete(index=",".join(names), ignore=[404])


def bulk(client: OpenSearch, name: str, numbers: range) -> None:
    lines = [line for n in numbers for line in ('{"index":{}}', json.dumps(an_event(n)))]
    client.bulk(index=name, body="\n".join([*lines, ""]), params={"refresh": "true"})


def test_an_event_that_becomes_visible_late_is_appended_after_a_restart_and_no_other_again(
    opensearch: OpenSearch, redis_url: str, prefix: str, index: MakeIndex
) -> None:
    name = index({"timestamp": {"type": "date"}})
    keys, engine = StreamKeys(prefix), RedisStore(redis_url)
    bulk(opensearch, name, range(20))
    hidden = OnlyPart(opensearch, {7, 19})
    assert follow(IndexFollower(engine, keys, hidden, name, {"click": 1.0})).counts["appended"] == 18
    again = follow(IndexFollower(engine, keys, opensearch, name, {"click": 1.0}))
    assert again.counts["appended"] == 2
    assert len({one["event_id"] for one in appended_to(engine, keys)}) == len(appended_to(engine, keys)) == 20


class OnlyPart:
    """A client whose answers lack the documents with some sequence numbers, as if they were not visible yet."""

    def __init__(self, client: OpenSearch, lacks: set[int]) -> None:
        self._client, self._lacks = client, lacks

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def search(self, **given: Any) -> Any:
        found = self._client.search(**given)
        found["hits"]["hits"] = [hit for hit in found["hits"]["hits"] if hit["sort"][0] not in self._lacks]
        return found


def test_a_closed_index_and_a_lost_shard_keep_no_other_index_from_being_followed(
    opensearch: OpenSearch, redis_url: str, prefix: str, target: str
) -> None:
    keys, engine = StreamKeys(prefix), RedisStore(redis_url)
    names = [f"{target}-{kind}" for kind in ("closed", "lost", "open")]
    try:
        for name in names:
            body: dict[str, Any] = {"settings": {"number_of_replicas": 0}}
            if name.endswith("lost"):
                body["settings"]["index.routing.allocation.require._name"] = "nowhere"
            opensearch.indices.create(index=name, body=body, params={"wait_for_active_shards": "0"})
        opensearch.indices.close(index=names[0])
        bulk(opensearch, names[2], range(10))
        follower = IndexFollower(engine, keys, opensearch, ",".join(names), {"click": 1.0})
        assert follower.feed(2) == 10
        assert (
            re.fullmatch(  # the server soon lists the shard of a closed index again, and no search finds anything there
                "(1 shard has|2 shards have) no copy that can be read: the index is closed, or its data is away",
                follower.trouble,
            )
        )
        opensearch.indices.delete(index=",".join(names[:2]))
        bulk(opensearch, names[2], range(10, 15))
        assert follower.feed(2) == 5
        assert (follower.trouble, follower.counts) == ("", {"appended": 15})
    finally:
        opensearch.indices.delete(index=f"{target}-*", ignore=[404])


def test_a_partition_that_takes_nothing_costs_no_second_append_of_the_others_and_no_other_index(
    opensearch: OpenSearch, redis_url: str, prefix: str, index: MakeIndex
) -> None:
    name = index({"timestamp": {"type": "date"}})
    keys, engine = StreamKeys(prefix), RedisStore(redis_url)
    bulk(opensearch, name, range(50))
    engine.run([("SET", keys.stream(1), "no stream")])
    follower = IndexFollower(engine, keys, opensearch, name, {"click": 1.0})
    for _ in range(5):
        assert follower.feed(2) == 0
        assert follower.trouble.startswith(f"shard 0 of {name} cannot be followed: the store takes ")
    taken = engine.run([("XLEN", keys.stream(0))])[0]
    assert 0 < taken == follower.counts["appended"] < 50
    engine.run([("DEL", keys.stream(1))])
    follow(follower)
    assert follower.counts["appended"] == len(appended_to(engine, keys)) == 50


def test_an_idle_follower_asks_the_index_once_a_second(
    opensearch: OpenSearch, opensearch_url: str, redis_url: str, prefix: str, index: MakeIndex, tmp_path: Path
) -> None:
    name = index({"timestamp": {"type": "date"}})
    bulk(opensearch, name, range(3))
    toml = tmp_path / "rewriter.toml"
    toml.write_text(
        f'[opensearch]\nhosts = "{opensearch_url}"\n[store]\nurl = "{redis_url}"\nprefix = "{prefix}"\n'
        f'[policies.shop]\nindex = "{name}"\n'
    )

    def searches() -> int:
        shown = opensearch.indices.stats(index=name, metric="search")["indices"][name]["total"]["search"]
        return int(shown["query_total"])

    command = [sys.executable, "-m", "rewriter", "ingest", "--toml", str(toml), "--from-index", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as worker:
        try:
            until_s = time.monotonic() + 30
            while searches() < 2 and time.monotonic() < until_s:
                time.sleep(0.1)
            time.sleep(1)
            before = searches()
            time.sleep(3)
            assert 1 <= searches() - before <= 4
        finally:
            worker.send_signal(signal.SIGTERM)
            out, _ = worker.communicate(timeout=30)
    assert json.loads(out)["followed"] == {"appended": 3}


def test_a_report_of_an_index_that_lacks_a_shard_is_refused(
    opensearch: OpenSearch, opensearch_url: str, target: str, tmp_path: Path
) -> None:
    names = [f"{target}-{kind}" for kind in ("lost", "open")]
    toml = tmp_path / "rewriter.toml"
    toml.write_text(f'[opensearch]\nhosts = "{opensearch_url}"\n')
    try:
        for name in names:
            body: dict[str, Any] = {"settings": {"number_of_replicas": 0}}
            if name.endswith("lost"):
                body["settings"]["index.routing.allocation.require._name"] = "nowhere"
            opensearch.indices.create(index=name, body=body, params={"wait_for_active_shards": "0"})
        bulk(opensearch, names[1], range(5))
        ran = CliRunner().invoke(app, ["report", "--toml", str(toml), "--queries-index", f"{target}-*"])
    finally:
        opensearch.indices.delete(index=f"{target}-*", ignore=[404])
    assert ran.exit_code == 2
    assert ran.stderr == (
        f"{target}-*: 1 of its 2 shards did not answer (run the report again once the index is whole)\n"
    )


def test_elasticsearch_s_index_is_followed_too(
    elasticsearch_url: str, redis_url: str, prefix: str, target: str
) -> None:
    client = pytest.importorskip("elasticsearch").Elasticsearch(elasticsearch_url)
    try:
        for number in range(5):
            client.index(index=target, document=an_event(number), refresh=True)
        follower = follow(IndexFollower(RedisStore(redis_url), StreamKeys(prefix), client, target, {"click": 1.0}))
        assert follower.counts == {"appended": 5}
    finally:
        client.indices.delete(index=target, ignore_unavailable=True)
        client.close()
