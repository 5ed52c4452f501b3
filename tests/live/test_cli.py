"""The commands on a real cluster and a real store."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opensearchpy import OpenSearch
from typer.testing import CliRunner, Result

from rewriter.cli import app
from rewriter.shell.fleet import fleet_key
from rewriter.signals.counters import HalfLives, Observation, counted
from rewriter.signals.redis_store import RedisStore
from rewriter.signals.store import Keys
from rewriter_engines import Valkey
from tests.conftest import MakeIndex

WEEK_S = 7 * 24 * 3600
PROPERTIES = {"title": {"type": "text"}, "brand": {"type": "keyword"}, "colour": {"type": "text"}}


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(app, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


@pytest.fixture
def write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opensearch_url: str, redis_url: str, prefix: str
) -> Callable[..., None]:
    """Writes settings for a policy on `index` into the working directory; `more` goes into the policy."""
    monkeypatch.chdir(tmp_path)

    def write(index: str, more: str = "", store: str = redis_url) -> None:
        (tmp_path / "rewriter.toml").write_text(
            f"[opensearch]\nhosts = '{opensearch_url}'\n[store]\nurl = '{store}'\nprefix = '{prefix}'\n"
            f"[policies.shop]\nindex = '{index}'\n{more}\n"
        )

    return write


@pytest.fixture
def signals(redis_url: str, prefix: str) -> RedisStore:
    """A store in which user u-17 bought products of nike and everybody those of puma; u-17's session saw one of asics."""
    store, keys, now_s = RedisStore(redis_url), Keys(prefix), time.time()

    def saw(brand: str, item: str) -> Observation:
        return Observation((("brand", brand), ("item", item)), 1.0, now_s)

    mine = [saw("nike", f"n{number}") for number in range(5)]
    everybody = [*mine, *(saw("puma", f"p{number}") for number in range(500))]
    half_lives = HalfLives(16 * WEEK_S)
    store.write(keys.profile("u-17"), counted(mine, half_lives, now_s), 60)
    store.write(keys.session("s-4"), counted([saw("asics", "a1")], half_lives, now_s), 60)
    store.write(keys.population(), counted(everybody, half_lives, now_s), 60)
    return store


# --- check ------------------------------------------------------------------------------------------------------------


def test_check_finds_the_indices_of_a_policy(write: Callable[..., None], index: MakeIndex) -> None:
    name = index(PROPERTIES)
    write(f"{name}*", "[policies.shop.fields.brand]")
    result = run("check", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["policies"]["shop"]["indices"] == [name]


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ("[policies.shop.fields.size]", "rewriter.toml:8: in {index}: size is not mapped"),
        (
            "[policies.shop.fields.colour]",
            "rewriter.toml:8: in {index}: colour is a text: a `term` matches no whole value",
        ),
        ("date_field = 'listed'", "rewriter.toml:8: in {index}: listed is not mapped"),
    ],
)
def test_check_names_what_is_wrong_with_an_index(
    write: Callable[..., None], index: MakeIndex, more: str, fault: str
) -> None:
    name = index(PROPERTIES)
    write(name, more)
    result = run("check")
    assert (result.exit_code, result.stdout) == (2, "")
    assert fault.format(index=name) in result.stderr, result.stderr


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"search.default_pipeline": "rerank"}, "the index's default search pipeline may change scores and hits"),
        ({"max_result_window": 100}, "`window_size` > the index's `max_rescore_window`; lower it"),
    ],
)
def test_check_names_what_keeps_a_policy_from_acting(
    write: Callable[..., None], index: MakeIndex, settings: dict[str, Any], why: str
) -> None:
    name = index(PROPERTIES, settings=settings)
    write(name)
    result = run("check")
    assert result.exit_code == 2
    assert f"\nrewriter.toml:6: in {name}: plain searches are passed through: {why}" in result.stderr


def test_check_notes_what_is_wrong_in_some_indices(write: Callable[..., None], index: MakeIndex) -> None:
    good, bad = index(PROPERTIES), index({"title": {"type": "text"}})
    write(f"{good.rsplit('-', 2)[0]}*", "[policies.shop.fields.brand]")
    result = run("check", "--index", good, "--index", bad)
    assert result.exit_code == 0
    assert f"in {bad}: brand is not mapped" in result.stderr


def test_check_says_that_there_is_no_such_index(write: Callable[..., None], prefix: str) -> None:
    write(f"{prefix}*")
    result = run("check")
    assert result.exit_code == 2
    assert f"note: no index matches {prefix}*\n" in result.stderr
    assert result.stderr.endswith("rewriter.toml:7: no index matches the policy (it would never be used)\n")


def test_check_names_a_mistyped_index(write: Callable[..., None], index: MakeIndex) -> None:
    name = index(PROPERTIES)
    write(f"{name}s")
    result = run("check")
    assert result.exit_code == 2
    assert f"rewriter.toml:7: no index, alias or data stream is named {name}s" in result.stderr


@pytest.mark.parametrize("kind", ["alias", "pattern over aliases", "pattern", "alias of two"])
def test_check_takes_whatever_a_search_may_name(
    write: Callable[..., None], index: MakeIndex, opensearch: OpenSearch, kind: str
) -> None:
    one, two = index(PROPERTIES), index(PROPERTIES)
    behind = [one, two] if kind == "alias of two" else [one]
    for name in behind:
        opensearch.indices.put_alias(index=name, name=f"live-{one}")
    expression = {"pattern": f"{one}*", "pattern over aliases": f"live-{one[:-1]}*"}.get(kind, f"live-{one}")
    write(expression, "[policies.shop.fields.brand]")
    result = run("check", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["policies"]["shop"]["indices"] == sorted(behind)
    assert run("check", "--index", f"live-{one}").exit_code == (2 if kind == "pattern" else 0)


def test_check_takes_a_data_stream(write: Callable[..., None], opensearch: OpenSearch, prefix: str) -> None:
    mapping = {"properties": {"@timestamp": {"type": "date"}, **PROPERTIES}}
    template = {"index_patterns": [f"{prefix}-*"], "data_stream": {}, "template": {"mappings": mapping}}
    opensearch.indices.put_index_template(name=prefix, body=template)
    try:
        opensearch.indices.create_data_stream(name=f"{prefix}-views")
        write(f"{prefix}-views", "[policies.shop.fields.brand]")
        result = run("check")
        assert result.exit_code == 0, result.stderr
        assert f"{prefix}-views" in result.stdout
    finally:
        opensearch.indices.delete_data_stream(name=f"{prefix}-views", params={"ignore": "404"})
        opensearch.indices.delete_index_template(name=prefix)


GAUSS = '[{"gauss": {"listed": {"origin": "2026-01-01", "scale": "30d"}}, "weight": 0.1}]'
RANGE = '[{"filter": {"range": {"price": {"gte": "cheap"}}}, "weight": 0.1}]'
FRESH = '{"filter": [{"range": {"listed": {"gte": "yesterday"}}}]}'


@pytest.mark.parametrize(
    ("boosts", "exploration", "properties", "said"),
    [
        (GAUSS, "", {}, "unknown field [listed]"),
        (RANGE, "", {"price": {"type": "integer"}}, 'For input string: "cheap"'),
        ("[]", FRESH, {"listed": {"type": "date"}}, "failed to parse date field [yesterday]"),
    ],
)
def test_check_tries_what_templates_render_on_the_index(
    write: Callable[..., None],
    index: MakeIndex,
    tmp_path: Path,
    boosts: str,
    exploration: str,
    properties: dict[str, Any],
    said: str,
) -> None:
    folder = tmp_path / "templates" / "own"
    (folder / "samples").mkdir(parents=True)
    (folder / "boosts.json.j2").write_text(boosts)
    (folder / "samples" / "nobody.json").write_text("{}")
    if exploration:
        (folder / "exploration.json.j2").write_text(exploration)
    good = {"price": {"type": "keyword"}, "listed": {"type": "date"}}
    name = index({"title": {"type": "text"}, **properties})
    write(name, "templates = 'own'")
    toml = tmp_path / "rewriter.toml"
    toml.write_text("templates_dir = 'templates'\n" + toml.read_text())
    result = run("check")
    assert result.exit_code == 2
    assert f"in {name}: the server refuses the rendered query" in result.stderr
    assert said in result.stderr
    if not exploration:
        write(index({"title": {"type": "text"}, **good}), "templates = 'own'")
        toml.write_text("templates_dir = 'templates'\n" + toml.read_text())
        assert run("check").exit_code == 0


@pytest.mark.parametrize("kind", ["keyword", "long", "boolean", "date", "ip", "double"])
def test_check_finds_nothing_wrong_with_fields_of_any_type(
    write: Callable[..., None], index: MakeIndex, kind: str
) -> None:
    write(index({**PROPERTIES, "kind": {"type": kind}}), "[policies.shop.fields.kind]")
    result = run("check")
    assert "the server refuses" not in result.stderr


# --- render -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("who", "source", "brands"),
    [
        (["--user", "u-17"], "profile", {"nike"}),
        (["--user", "u-17", "--session", "s-4"], "blend", {"nike", "asics"}),
        (["--session", "s-4"], "session", {"asics"}),
    ],
)
def test_render_shows_the_boosts_of_a_known_subject(
    write: Callable[..., None], signals: RedisStore, who: list[str], source: str, brands: set[str]
) -> None:
    write("products*", "[policies.shop.fields.brand]\npseudo_count = 1")
    result = run("render", "shop", *who)
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert (found["reason"], found["source"]) == ("personalized", source)
    shown = {brand for boost in found["boosts"] if boost["field"] == "brand" for brand in boost["value"].split(", ")}
    assert shown == brands


def test_render_of_somebody_unknown(write: Callable[..., None], signals: RedisStore) -> None:
    write("products*")
    found = json.loads(run("render", "shop", "--user", "nobody").stdout)
    assert (found["reason"], found["boosts"]) == ("no_signals", [])


def test_render_prints_a_body_that_the_server_takes(
    write: Callable[..., None], signals: RedisStore, index: MakeIndex, opensearch: OpenSearch, tmp_path: Path
) -> None:
    name = index(
        PROPERTIES, documents={"n1": {"title": "shoe", "brand": "nike"}, "x": {"title": "shoe", "brand": "puma"}}
    )
    write(name, "[policies.shop.fields.brand]")
    (tmp_path / "body.json").write_text('{"query": {"match": {"title": "shoe"}}}')
    body = json.loads(run("render", "shop", "--user", "u-17", "--body", "body.json").stdout)
    hits = opensearch.search(index=name, body=body)["hits"]["hits"]
    assert [hit["_id"] for hit in hits] == ["n1", "x"]
    assert hits[0]["_score"] > hits[1]["_score"]


def test_render_without_its_store(write: Callable[..., None]) -> None:
    write("products*", store="redis://127.0.0.1:1")
    result = run("render", "shop", "--user", "u-17")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("store: ConnectionError: redis://127.0.0.1:1: nothing listens")


# --- switch and status ------------------------------------------------------------------------------------------------


def test_switch_writes_the_stores_key(write: Callable[..., None], redis_url: str, prefix: str) -> None:
    write("products*")
    assert run("switch", "personalization", "off").exit_code == 0
    assert run("switch", "max_boost", "1.2", "--policy", "shop").exit_code == 0
    store = RedisStore(redis_url)
    assert json.loads(store.read_text(f"{prefix}:switches") or "") == {"personalization": False, "shop.max_boost": 1.2}
    listed = json.loads(run("switch", "--json").stdout)
    assert listed["personalization"] == {"value": False, "source": "store"}
    assert listed["shop.max_boost"] == {"value": 1.2, "source": "store"}
    assert "personalization" in run("status").stdout
    run("switch", "personalization", "default")
    run("switch", "max_boost", "default", "--policy", "shop")
    assert store.read_text(f"{prefix}:switches") == "{}\n"
    store.close()


def test_switch_without_its_store(write: Callable[..., None], prefix: str) -> None:
    write("products*", store="redis://127.0.0.1:1")
    result = run("switch", "personalization", "off")
    assert (result.exit_code, result.stdout) == (1, "")
    failed, nothing = result.stderr.splitlines()
    assert failed.startswith(f"store key {prefix}:switches: ConnectionError: ")
    assert nothing == "nothing was changed"
    listed = run("switch")
    assert listed.exit_code == 1
    assert "personalization" in listed.stdout


def test_status_of_a_healthy_service_exits_0(write: Callable[..., None], signals: RedisStore, index: MakeIndex) -> None:
    name = index(PROPERTIES)
    write(name, "[policies.shop.fields.brand]")
    result = run("status", "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["problems"]) == (0, [])
    assert found["opensearch"].startswith("ok, ")
    assert found["store"] == "ok"
    assert found["population_values"] == 2  # the items are left out
    assert found["policies"]["shop"]["fields"] == ["brand", "item"]
    assert list(found["indices"]) == [name]
    lines = run("status").stdout.splitlines()
    assert f"index {name} 0 replicas, max_result_window 10,000" in [" ".join(line.split()) for line in lines]


def test_what_is_wrong_in_another_process_is_wrong(
    write: Callable[..., None], signals: RedisStore, index: MakeIndex, prefix: str
) -> None:
    write(index(PROPERTIES), "[policies.shop.fields.brand]")
    well = {
        "breaker": {"state": "closed", "why": ""},
        "switches": {},
        "in_flight": 2,
        "max_in_flight": 16,
        "lagging": False,
    }
    ill = well | {"quarantined": ["shop 1a2b (personal)"]}
    signals.announce(fleet_key(prefix), "search-1:7:a", json.dumps(well), time.time())
    assert run("status").exit_code == 0
    signals.announce(fleet_key(prefix), "search-2:7:a", json.dumps(ill), time.time())
    shown = run("status")
    assert shown.exit_code == 1
    lines = [" ".join(line.split()) for line in shown.stdout.splitlines()]
    assert lines[:2] == ["status not healthy", "1 of 2 processes has problems, see below"]
    assert "processes 2, 4 of 32 permits taken" in lines
    assert lines[-2:] == [
        "search-1:7:a closed 2 of 16",
        "search-2:7:a closed 2 of 16 template shop 1a2b (personal) is quarantined",
    ]
    found = json.loads(run("status", "--json").stdout)
    assert found["problems"] == ["process search-2:7:a: template shop 1a2b (personal) is quarantined"]
    assert found["fleet"] == {"search-1:7:a": well, "search-2:7:a": ill}


@pytest.mark.parametrize("odd", ["[" * 5_000, '{"a":' + "[" * 700 + "]" * 700 + "}", '{"\\ud800": {"breaker": 1e999}}'])
def test_whatever_others_write_status_is_shown(
    write: Callable[..., None], signals: RedisStore, index: MakeIndex, prefix: str, odd: str
) -> None:
    write(index(PROPERTIES), "[policies.shop.fields.brand]")
    signals.announce(fleet_key(prefix), "search-1\x1b[31m", odd, time.time())
    assert run("status").exit_code == 0
    assert json.loads(run("status", "--json").stdout)["healthy"]


def test_status_names_a_dead_field_and_a_dead_store(
    write: Callable[..., None], index: MakeIndex, valkey_server: Callable[..., Valkey]
) -> None:
    valkey = valkey_server()
    write(index(PROPERTIES), "[policies.shop.fields.colour]", store=valkey.url)
    valkey.stop()
    result = run("status")
    assert result.exit_code == 1
    assert "colour: is a text: a `term` matches no whole value" in result.stdout
    assert "store: ConnectionError" in result.stdout
    assert [line.split()[0] for line in result.stdout.splitlines() if "unknown: the store does not answer" in line] == [
        "signals", "lag", "processes",
    ]  # fmt: skip


def test_check_notes_what_one_of_several_indices_refuses_since_no_search_sends_it_there(
    write: Callable[..., None], opensearch: OpenSearch, index: MakeIndex
) -> None:
    one, other = index({"brand": {"type": "keyword"}}), index({"brand": {"type": "date"}})
    for name in (one, other):
        opensearch.indices.put_alias(index=name, name=f"{one}-both")
    write(f"{one}-both", "[policies.shop.fields.brand]")
    result = run("check")
    assert (result.exit_code, result.stdout.count(f"{one}-both")) == (0, 1), result.stderr
    refused = [line for line in result.stderr.splitlines() if "the server refuses the rendered query" in line]
    assert refused
    assert all(line.startswith("note: ") and f"in {other}: " in line for line in refused)
