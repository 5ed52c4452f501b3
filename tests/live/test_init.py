"""`rewriter init` on a real OpenSearch, over catalogues that have little in common."""

from __future__ import annotations

import json
import random
import time
import tomllib
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from opensearchpy import OpenSearch, helpers
from typer.testing import CliRunner, Result

from rewriter.cli import app
from rewriter.cli.init import index_profile
from rewriter.settings import PolicySettings, Settings
from tests.conftest import MakeIndex
from tests.live import catalogues
from tests.live.catalogues import Catalogue

STORE = "redis://127.0.0.1:6379"


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(app, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


@pytest.fixture
def init(opensearch_url: str, tmp_path: Path) -> Callable[..., PolicySettings]:
    """Runs `rewriter init` and `rewriter check`, which must find nothing wrong, and returns the policy."""

    def init(expression: str, *arguments: str) -> PolicySettings:
        made = run("init", opensearch_url, expression, "--to", str(tmp_path), *arguments)
        assert made.exit_code == 0, made.output
        checked = run("check", str(tmp_path / "rewriter.toml"))
        assert checked.exit_code == 0, checked.output + (tmp_path / "rewriter.toml").read_text()
        assert "index was not checked" not in checked.stderr
        text = (tmp_path / "rewriter.toml").read_text()
        schema = json.loads((tmp_path / text.partition("#:schema ./")[2].partition("\n")[0]).read_text())
        jsonschema.validate(tomllib.loads(text), schema, jsonschema.Draft202012Validator)
        (policy,) = Settings.from_toml(tmp_path / "rewriter.toml").policies.values()
        assert f"About one hit in {round(1 / policy.exploration_share)} is drawn from" in text.replace("\n# ", " ")
        return policy

    return init


def fields(policy: PolicySettings) -> set[str]:
    return {one for field in policy.fields.values() for one in field.of}


def loaded(index: MakeIndex, catalogue: Catalogue) -> str:
    return index(catalogue.properties, documents=catalogue.documents)


# --- five catalogues --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("catalogue", "facets", "category", "date", "item"),
    [
        (catalogues.films, {"director.keyword", "genres.keyword", "country.keyword"}, "genres", "added_at", "_id"),
        (catalogues.shop, {"product.brand", "product.category", "color"}, "product.category", "listed", "_id"),
        (catalogues.news, {"tags", "section", "byline"}, "section", "published", "_id"),
        (catalogues.jobs, {"skills", "arbeitgeber", "berufsgruppe_id", "stadt"}, "berufsgruppe_id", "erstellt", "referenz_id"),
        (catalogues.logs, {"host", "service", "level"}, "service", "@timestamp", "_id"),
    ],
    ids=["films", "shop", "news", "jobs", "logs"],
)  # fmt: skip
def test_each_catalogue_gets_what_it_is_made_of(
    init: Callable[..., PolicySettings],
    index: MakeIndex,
    tmp_path: Path,
    catalogue: Callable[[float], Catalogue],
    facets: set[str],
    category: str,
    date: str,
    item: str,
) -> None:
    policy = init(loaded(index, catalogue(time.time())))
    assert fields(policy) == facets
    assert (policy.category_field, policy.date_field, policy.item_field) == (category, date, item)
    text = (tmp_path / "rewriter.toml").read_text()
    for one in facets:
        assert f"\n# {one}: " in text, "each choice is explained"
    assert "@news.example" not in text
    assert "10.0.0." not in text


def test_the_figures_are_those_of_the_documents(
    init: Callable[..., PolicySettings], index: MakeIndex, tmp_path: Path
) -> None:
    documents = {
        str(number): {"brand": f"b{number % 4}", "kind": "a" if number < 75 else "b", "listed": f"2026-0{1 + number % 6}-01"}
        for number in range(100)
    }  # fmt: skip
    del documents["0"]["brand"]
    init(
        index(
            {"brand": {"type": "keyword"}, "kind": {"type": "keyword"}, "listed": {"type": "date"}}, documents=documents
        )
    )
    text = " ".join((tmp_path / "rewriter.toml").read_text().replace("\n#", "").split())
    assert (
        "brand: 4 values in 99% of the documents, 25 documents a value; most frequent: b1 (25%), b2 (25%), b3 (25%)"
        in text
    )
    assert "kind: 2 values in 100% of the documents, 50 documents a value; most frequent: a (75%), b (25%)" in text
    assert "listed: 2026-01-01 to 2026-06-01 in 100% of the documents, 0 lie ahead" in text


def test_samples_are_values_of_the_index(init: Callable[..., PolicySettings], index: MakeIndex, tmp_path: Path) -> None:
    policy = init(loaded(index, catalogues.shop(time.time())))
    sample = json.loads((tmp_path / "templates" / policy.templates / "samples" / "returning.json").read_text())
    by_field = {one["fields"][0]: one["values"] for one in sample["affinities"]}
    assert by_field.keys() == {"_id"} | fields(policy)
    assert set(by_field["color"]) <= {"black", "white", "red", "blue", "green"}


def test_a_large_index_is_sampled_and_the_file_says_so(
    init: Callable[..., PolicySettings], index: MakeIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_profile, "SAMPLE", 300)
    policy = init(loaded(index, catalogues.shop(time.time())), "--force")
    first = (tmp_path / "rewriter.toml").read_text()
    assert policy.category_field == "product.category"
    assert "1,200 documents, of which" in first
    sampled = int(first.split("of which ")[1].split()[0])
    assert 200 < sampled < 400
    init(policy.index[0], "--force")
    assert (tmp_path / "rewriter.toml").read_text() == first, "the sample is the same in each run"


# --- the template set -------------------------------------------------------------------------------------------------


def history_of(ids: list[str], again: float, folder: Path, action: str = "view", days_apart: float = 2.0) -> str:
    """30 visits of 40 people, of which a share uses what the same person used before; by default within the last 80 days."""
    draw, rows = random.Random(7), []
    for person in range(40):
        used: list[str] = []
        for visit in range(30):
            item = draw.choice(used) if used and draw.random() < again else draw.choice(ids)
            used.append(item)
            at = datetime.fromtimestamp(time.time() - (20 + days_apart * (30 - visit)) * 86_400, UTC).isoformat()
            rows.append({"timestamp": at, "user_id": f"u{person}", "object_id": item, "action_name": action})
    (folder / "history.ndjson").write_text("\n".join(map(json.dumps, rows)))
    return str(folder / "history.ndjson")


def test_a_history_tells_which_set_fits(opensearch_url: str, index: MakeIndex, tmp_path: Path) -> None:
    shop = catalogues.shop(time.time(), 2_000)
    name = loaded(index, shop)
    arguments = ["init", opensearch_url, name, "--to", str(tmp_path), "--force", "--history"]
    often = run(*arguments, history_of(list(shop.documents), 0.6, tmp_path))
    assert "template set shop: people use items again in " in often.stderr
    policy = Settings.from_toml(tmp_path / "rewriter.toml").policies[name]
    assert (policy.max_boost, policy.class_field) == (2.0, "product.category")
    once = run(*arguments, history_of(list(shop.documents), 0.0, tmp_path))
    assert "template set catalogue: people use items again in " in once.stderr
    policy = Settings.from_toml(tmp_path / "rewriter.toml").policies[name]
    assert (policy.max_boost, policy.class_field, policy.item_use) == (2.0, "product.category", "once")
    text = " ".join((tmp_path / "rewriter.toml").read_text().replace("\n#", "").split())
    assert "(counted in history.ndjson)" in text


def test_purchases_alone_count_one_each_and_weights_of_ones_own_stay(
    opensearch_url: str, index: MakeIndex, redis_url: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REWRITER_STORE__PREFIX", prefix)
    films, toml = catalogues.films(time.time(), 500), tmp_path / "rewriter.toml"
    bought = history_of(list(films.documents), 0.0, tmp_path, "purchase")
    arguments = ["init", opensearch_url, loaded(index, films), "--to", str(tmp_path), "--store", redis_url, "--force"]
    assert run(*arguments).exit_code == 0
    told = run("backfill", bought, "--toml", str(toml), "--dry-run")
    assert "an average event counts 8, and pseudo-counts are chosen for events that count 1" in told.stderr
    toml.unlink()
    made = run(*arguments, "--history", bought)
    weights = Settings.from_toml(toml).signals.action_weights
    assert (weights["purchase"], weights["view"], weights["dislike"]) == (1.0, 0.125, -1.0)
    assert "action weights { view = 0.125, " in made.stderr
    assert "an average event" not in run("backfill", bought, "--toml", str(toml), "--dry-run").stderr.lower()
    toml.write_text("[signals]\naction_weights = { purchase = 4, rent = 2 }")
    kept = run(*arguments, "--history", bought)
    assert Settings.from_toml(toml).signals.action_weights == {"purchase": 4.0, "rent": 2.0}
    assert "are kept, since everything counted so far has them. An average event counts 4, " in kept.stderr
    assert "action_weights = { purchase = 1.0, rent = 0.5 }" in kept.stderr


def test_old_items_that_people_read_new_are_a_stream(opensearch_url: str, index: MakeIndex, tmp_path: Path) -> None:
    """The index is an archive of years; what people use is what was published the day before."""
    now_s = time.time()
    documents = {
        f"a{n}": {"headline": f"no {n}", "section": f"s{n % 5}", "published": catalogues.day(now_s - n * 86_400)}
        for n in range(1_000)
    }
    rows = [
        {"timestamp": catalogues.day(now_s - n % 60 * 86_400), "user_id": f"u{n % 25}", "object_id": f"a{n % 60 + 1}"}
        for n in range(1_500)
    ]
    (tmp_path / "h.ndjson").write_text("\n".join(map(json.dumps, rows)))
    name = index(
        {"headline": {"type": "text"}, "section": {"type": "keyword"}, "published": {"type": "date"}},
        documents=documents,
    )
    made = run("init", opensearch_url, name, "--to", str(tmp_path), "--history", str(tmp_path / "h.ndjson"))
    assert "template set news: " in made.stderr
    assert "half of the uses were of items at most 1.0 days old" in made.stderr
    exploration = (tmp_path / "templates" / name / "exploration.json.j2").read_text()
    assert 'half_at = "2d"' in exploration


def test_what_is_wanted_once_is_remembered_for_years(opensearch_url: str, index: MakeIndex, tmp_path: Path) -> None:
    """Of visits every 18 days for a year and a half too few have a weight by the default signals, and some are too old."""
    films = catalogues.films(time.time(), 1_000)
    history = history_of(list(films.documents), 0.0, tmp_path, days_apart=18.0)
    made = run("init", opensearch_url, loaded(index, films), "--to", str(tmp_path), "--history", history)
    assert "template set catalogue: people use items again in " in made.stderr, made.stderr.split("template set")[1][
        :900
    ]
    assert "too_old" not in made.output
    assert Settings.from_toml(tmp_path / "rewriter.toml").signals.horizon_s == 5 * 364 * 86_400


def test_the_counters_of_a_store_tell_it_too(
    opensearch_url: str, index: MakeIndex, redis_url: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REWRITER_STORE__PREFIX", prefix)
    films = catalogues.films(time.time(), 2_000)
    arguments = ["init", opensearch_url, loaded(index, films), "--to", str(tmp_path), "--store", redis_url, "--force"]
    empty = run(*arguments)
    assert (
        "template set default: it is unknown whether people use items again (the store has no counters yet)"
        in empty.stderr
    )
    toml = str(tmp_path / "rewriter.toml")
    assert run("backfill", history_of(list(films.documents), 0.0, tmp_path), "--toml", toml).exit_code == 0
    noted = run("check", toml)  # no process has published the population yet
    assert "people use items again in 0." in noted.output, noted.output
    counted = run(*arguments)
    assert "template set catalogue: people use items again in " in counted.stderr
    assert "(counted in the store)" in counted.stderr


def test_a_set_may_be_named_and_a_wrong_name_is_refused(opensearch_url: str, index: MakeIndex, tmp_path: Path) -> None:
    name = loaded(index, catalogues.shop(time.time(), 200))
    made = run("init", opensearch_url, name, "--to", str(tmp_path), "--set", "browse")
    assert made.exit_code == 0, made.output
    assert Settings.from_toml(tmp_path / "rewriter.toml").policies[name].browse
    refused = run("init", opensearch_url, name, "--set", "brows")
    assert refused.exit_code == 2
    assert "--set brows: is not a template set (did you mean browse?)" in refused.stderr


def test_a_history_that_holds_no_event_is_named(opensearch_url: str, index: MakeIndex, tmp_path: Path) -> None:
    name = loaded(index, catalogues.shop(time.time(), 200))
    (tmp_path / "h.csv").write_text("timestamp,user_id,object_id\n2026-01-01,u,nothing\n")
    made = run("init", opensearch_url, name, "--to", str(tmp_path), "--history", str(tmp_path / "h.csv"))
    assert made.exit_code == 0, made.output
    assert "no row of h.csv became an event" in made.stderr
    (tmp_path / "h.csv").write_text("when,who\n1,2\n")
    refused = run("init", opensearch_url, name, "--to", str(tmp_path), "--force", "--history", str(tmp_path / "h.csv"))
    assert refused.exit_code == 2
    assert "h.csv" in refused.stderr


# --- what an index may be ---------------------------------------------------------------------------------------------


def test_an_alias_of_two_indices_that_map_a_field_differently(
    init: Callable[..., PolicySettings], index: MakeIndex, opensearch: OpenSearch
) -> None:
    films = catalogues.films(time.time())
    other = {**films.properties, "country": {"type": "keyword"}, "added_at": {"type": "keyword"}}
    first, second = loaded(index, films), loaded(index, Catalogue(other, films.documents))
    alias = f"{first}-alias"
    actions = [{"add": {"index": one, "alias": alias}} for one in (first, second)]
    opensearch.indices.update_aliases(body={"actions": actions})
    policy = init(alias)
    assert policy.index == (alias,)
    assert {"director.keyword", "genres.keyword"} <= fields(policy)
    assert policy.date_field is None, "a decay function on it would fail in one of the indices"


def test_init_takes_a_pattern_and_a_list_of_indices(init: Callable[..., PolicySettings], index: MakeIndex) -> None:
    first, second = (loaded(index, catalogues.news(time.time(), 200)) for _ in range(2))
    pattern = f"{first[:-1]}*"
    assert init(pattern).index == (pattern,)
    assert init(f"{first},{second}", "--force").index == (first, second)
    assert init(f"{pattern},-{second}", "--force").index == (pattern,)


@pytest.fixture
def stream(opensearch: OpenSearch) -> Iterator[str]:
    """A data stream of logs."""
    name, logs = f"init-logs-{uuid.uuid4().hex[:8]}", catalogues.logs(time.time())
    template: Mapping[str, Any] = {
        "index_patterns": [f"{name}*"], "data_stream": {}, "priority": 900,
        "template": {"settings": {"number_of_replicas": 0}, "mappings": {"properties": logs.properties}},
    }  # fmt: skip
    opensearch.indices.put_index_template(name=name, body=template)
    try:
        actions = ({"_op_type": "create", "_index": name, "_source": one} for one in logs.documents.values())
        helpers.bulk(opensearch, actions, refresh=True)
        yield name
    finally:
        opensearch.transport.perform_request("DELETE", f"/_data_stream/{name}")
        opensearch.indices.delete_index_template(name=name)


def test_a_data_stream_boosts_no_single_document(init: Callable[..., PolicySettings], stream: str) -> None:
    policy = init(stream)
    assert policy.index == (stream,)
    assert (policy.category_field, policy.date_field) == ("service", "@timestamp")
    assert policy.item_scale == 0


def test_an_empty_index_is_judged_by_names(
    init: Callable[..., PolicySettings], index: MakeIndex, tmp_path: Path
) -> None:
    policy = init(index(catalogues.shop(time.time()).properties))
    assert {"product.brand", "product.category", "color"} == fields(policy)
    assert "the index holds no document yet" in " ".join((tmp_path / "rewriter.toml").read_text().split())
    assert "offers" not in fields(policy)


@pytest.mark.parametrize("documents", [None, {"1": {"title": "a", "n": 1}, "2": {"title": "b", "n": 2}}])
def test_an_index_without_keyword_fields(
    init: Callable[..., PolicySettings], index: MakeIndex, tmp_path: Path, documents: Any
) -> None:
    policy = init(index({"title": {"type": "text"}, "n": {"type": "integer"}}, documents=documents))
    assert (policy.fields, policy.item_field) == ({}, "_id")
    assert "Texts without a keyword beside them: title" in (tmp_path / "rewriter.toml").read_text()


def test_an_index_without_a_mapping(init: Callable[..., PolicySettings], index: MakeIndex) -> None:
    assert init(index()).fields == {}


HOSTILE = [
    'quo"te',
    "new\nline",
    "tab\tbed",
    "back\\slash",
    "#:schema",
    "[table]",
    "ü ß",
    "😀",
    "{{ 7*7 }}",
    "a b.c d",
    "item",
]


def test_hostile_field_names_and_values(init: Callable[..., PolicySettings], index: MakeIndex, tmp_path: Path) -> None:
    documents = {
        str(number): {
            **{name: f"{name} {number % 5}" for name in HOSTILE if name != "a b.c d"},
            "a b": {"c d": f'"]\n[policies.x] {number % 3}'},
        }
        for number in range(60)
    }
    leaf = {"type": "keyword"}
    properties = {name: leaf for name in HOSTILE if name != "a b.c d"} | {"a b": {"properties": {"c d": leaf}}}
    policy = init(index(properties, documents=documents))
    assert len(fields(policy)) == 4
    assert fields(policy) <= set(HOSTILE)
    assert all(line.isprintable() for line in (tmp_path / "rewriter.toml").read_text().splitlines())


def test_a_field_that_cannot_be_aggregated_fails_no_other(
    init: Callable[..., PolicySettings], index: MakeIndex, tmp_path: Path
) -> None:
    properties = {
        "brand": {"type": "keyword"},
        "plain": {"type": "keyword", "doc_values": False},
        "dead": {"type": "keyword", "index": False, "doc_values": False},
        "flat": {"type": "flat_object"},
        "where": {"type": "geo_point"},
        "range": {"type": "date_range"},
        "machine": {"type": "ip"},
    }
    documents = {
        str(n): {"brand": f"b{n % 3}", "plain": "x", "flat": {"k": "v"}, "machine": "10.0.0.1"} for n in range(30)
    }
    assert fields(init(index(properties, documents=documents))) == {"brand"}
    text = (tmp_path / "rewriter.toml").read_text()
    assert "plain: has no doc values" in text
    assert "flat: is a flat object" in text


def test_a_small_window_is_kept_to(init: Callable[..., PolicySettings], index: MakeIndex) -> None:
    name = index({"brand": {"type": "keyword"}}, settings={"max_result_window": 40})
    policy = init(name)
    assert (policy.window_size, policy.max_depth) == (40, 40)


def test_an_index_that_cannot_be_personalized_is_said_to_be(
    opensearch_url: str, index: MakeIndex, tmp_path: Path
) -> None:
    name = index({"brand": {"type": "keyword"}}, settings={"search.default_pipeline": "rerank"})
    made = run("init", opensearch_url, name, "--to", str(tmp_path))
    assert made.exit_code == 1
    assert f"{tmp_path}/rewriter.toml:" in made.stderr
    assert "default search pipeline" in made.stderr
    assert (tmp_path / "rewriter.toml").exists()


# --- what is written --------------------------------------------------------------------------------------------------


def test_nothing_is_overwritten_without_force(opensearch_url: str, index: MakeIndex, tmp_path: Path) -> None:
    (tmp_path / "rewriter.toml").write_text("mine")
    name = index({"brand": {"type": "keyword"}})
    refused = run("init", opensearch_url, name, "--to", str(tmp_path))
    assert refused.exit_code == 2
    assert "rewriter.toml: exists (--force replaces it" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["rewriter.toml"]
    assert (tmp_path / "rewriter.toml").read_text() == "mine"
    assert run("init", opensearch_url, name, "--to", str(tmp_path), "--force").exit_code == 0
    assert (tmp_path / "rewriter.toml").read_text() != "mine"


def test_a_dry_run_prints_and_writes_nothing(opensearch_url: str, index: MakeIndex, tmp_path: Path) -> None:
    name = index({"brand": {"type": "keyword"}})
    made = run("init", opensearch_url, name, "--to", str(tmp_path), "--dry-run")
    assert made.exit_code == 0
    assert made.stdout.startswith("#:schema ./rewriter.schema.json\n")
    assert list(tmp_path.iterdir()) == []


def test_credentials_are_written_nowhere(opensearch_url: str, index: MakeIndex, tmp_path: Path) -> None:
    name = index({"brand": {"type": "keyword"}})
    url = opensearch_url.replace("://", "://anna:s3cr3t@")
    made = run("init", url, name, "--to", str(tmp_path), "--store", "redis://:s3cr3t@127.0.0.1:6379/3")
    assert made.exit_code == 0, made.output
    text = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert "s3cr3t" not in text + made.output
    settings = Settings.from_toml(tmp_path / "rewriter.toml")
    assert (settings.opensearch.username, settings.store.url) == ("anna", None)
    assert "REWRITER_STORE__URL" in text


def test_the_environment_names_a_user_and_settings_of_policies_that_are_still_to_come(
    opensearch_url: str, index: MakeIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REWRITER_OPENSEARCH__USERNAME", "anna")
    monkeypatch.setenv("REWRITER_POLICIES__OTHER__MAX_BOOST", "2")
    name = index({"brand": {"type": "keyword"}})
    made = run("init", opensearch_url, name, "--to", str(tmp_path))
    assert "username" not in (tmp_path / "rewriter.toml").read_text()
    assert "policies.other.index: Field required" in made.stderr, "the check names it, as every command would"


# --- what may be wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("http://127.0.0.1:1", "no OpenSearch answers: ConnectionError (Connection refused) (check the URL, or start one here"),
        ("ftp://127.0.0.1", "URL: is not http://HOST:PORT or https://HOST:PORT"),
        ("http://", "URL: is not http://HOST:PORT or https://HOST:PORT"),
    ],
)  # fmt: skip
def test_a_wrong_url_is_named_with_what_to_do(tmp_path: Path, url: str, what: str) -> None:
    refused = run("init", url, "products", "--to", str(tmp_path))
    assert refused.exit_code == 2
    assert what in refused.stderr, refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_index_is_named_with_those_that_are_there(
    opensearch_url: str, index: MakeIndex, tmp_path: Path
) -> None:
    name = index()
    refused = run("init", opensearch_url, f"{name}x", "--to", str(tmp_path))
    assert refused.exit_code == 2
    assert f"INDEX {name}x: no index, alias or data stream has this name (did you mean: " in refused.stderr
    assert name in refused.stderr.split("did you mean")[1]
    assert "no index matches" in run("init", opensearch_url, "nothing-like-it-*", "--to", str(tmp_path)).stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("expression", "what"),
    [
        ("other:products", "is in another cluster"),
        ("<logs-{now/d}>", "is date math"),
        ("", "names no index"),
        (",", "names no index"),
    ],
)
def test_an_expression_that_no_policy_can_hold(opensearch_url: str, tmp_path: Path, expression: str, what: str) -> None:
    refused = run("init", opensearch_url, expression, "--to", str(tmp_path))
    assert (refused.exit_code, list(tmp_path.iterdir())) == (2, [])
    assert what in refused.stderr


def test_a_closed_index_and_a_wrong_store(
    opensearch_url: str, opensearch: OpenSearch, index: MakeIndex, tmp_path: Path
) -> None:
    name = index({"brand": {"type": "keyword"}})
    wrong = run("init", opensearch_url, name, "--to", str(tmp_path), "--store", "http://127.0.0.1")
    assert (wrong.exit_code, list(tmp_path.iterdir())) == (2, [])
    assert "--store: " in wrong.stderr
    opensearch.indices.close(index=name)
    closed = run("init", opensearch_url, name, "--to", str(tmp_path))
    assert closed.exit_code == 2
    assert "index_closed_exception" in closed.stderr
    assert "open the index" in closed.stderr
    assert STORE not in closed.stderr
