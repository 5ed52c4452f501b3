"""Decayed popularity: what a backfill computes of a history and writes into the documents of a real index, and into a file."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from opensearchpy import OpenSearch
from typer.testing import CliRunner

from rewriter.cli import app
from rewriter.cli.popularity import half_life, index_for
from rewriter.errors import ConfigurationError
from rewriter.settings import Settings

DAY_S = 86_400.0
MAPPING = {"title": {"type": "text"}, "popularity_8w": {"type": "float"}, "whole": {"type": "boolean"}}


@pytest.fixture
def index(opensearch: OpenSearch, prefix: str) -> Iterator[str]:
    name = f"{prefix}-popular"
    opensearch.indices.create(index=name, body={"mappings": {"dynamic": "strict", "properties": MAPPING}})
    for one in ("p1", "p2", "p3"):
        opensearch.index(index=name, id=one, body={"title": f"product {one}"}, refresh=True)
    yield name
    opensearch.indices.delete(index=name)


def ran(
    tmp_path: Path,
    url: str,
    redis_url: str,
    prefix: str,
    index: str,
    *more: str,
    field: str = "popularity_8w",
    gone: str = "gone",
) -> tuple[int, dict[str, Any], str]:
    end_s = time.time() - 60.0
    bought = [
        ("p1", 0, "purchase"),
        ("p1", 56, "purchase"),
        ("p2", 56, "view"),
        (gone, 0, "purchase"),
        ("p1", 0, "dislike"),
    ]
    rows = [
        {
            "user_id": f"u{number}", "object_id": name, "action_name": action,
            "timestamp": datetime.fromtimestamp(end_s - days * DAY_S, UTC).isoformat(),
        }
        for number, (name, days, action) in enumerate(bought)
    ]  # fmt: skip
    history = tmp_path / "history.ndjson"
    history.write_text("\n".join(map(json.dumps, rows)))
    toml = tmp_path / "rewriter.toml"
    toml.write_text(
        f'[opensearch]\nhosts = "{url}"\n[store]\nurl = "{redis_url}"\nprefix = "{prefix}"\n'
        f'[signals]\nhorizon_s = 31536000\n[policies.shop]\nindex = "{index}"\n'
    )
    arguments = ["backfill", str(history), "--toml", str(toml), "--popularity", field, *more]
    found = CliRunner().invoke(app, arguments)
    return found.exit_code, json.loads(found.stdout) if found.stdout else {}, found.stderr


def sources(opensearch: OpenSearch, index: str) -> dict[str, Any]:
    opensearch.indices.refresh(index=index)
    hits = opensearch.search(index=index, body={"query": {"match_all": {}}})["hits"]["hits"]
    return {hit["_id"]: hit["_source"] for hit in hits}


def test_one_field_of_each_document_is_updated(
    tmp_path: Path, opensearch: OpenSearch, opensearch_url: str, redis_url: str, prefix: str, index: str
) -> None:
    """Two purchases, one of them a half-life ago: 1.5. A view, an eighth of a purchase, a half-life ago: a sixteenth."""
    code, said, _ = ran(tmp_path, opensearch_url, redis_url, prefix, index, "--half-life", "8w")
    assert code == 0
    assert said["popularity"] == {
        "field": "popularity_8w", "items": 3, "updated": 2, "missing": 1, "rejected": 0, "reasons": {},
    }  # fmt: skip
    assert sources(opensearch, index) == {
        "p1": {"title": "product p1", "popularity_8w": pytest.approx(1.5, abs=1e-3)},
        "p2": {"title": "product p2", "popularity_8w": pytest.approx(0.0625, abs=1e-3)},
        "p3": {"title": "product p3"},
    }


def test_rejected_documents_are_counted_and_named(
    tmp_path: Path, opensearch: OpenSearch, opensearch_url: str, redis_url: str, prefix: str, index: str
) -> None:
    code, said, talk = ran(tmp_path, opensearch_url, redis_url, prefix, index, field="unmapped")
    assert code == 1
    assert (said["popularity"]["updated"], said["popularity"]["rejected"]) == (0, 2)
    assert list(said["popularity"]["reasons"].values()) == [2]
    assert "rejected: p1: strict_dynamic_mapping_exception" in talk
    assert "popularity_8w" not in sources(opensearch, index)["p1"]


def test_a_file_takes_the_updates_instead(
    tmp_path: Path, opensearch: OpenSearch, opensearch_url: str, redis_url: str, prefix: str, index: str
) -> None:
    out = tmp_path / "updates.ndjson"
    code, said, _ = ran(tmp_path, opensearch_url, redis_url, prefix, index, "--popularity-file", str(out))
    assert (code, said["popularity"]["items"]) == (0, 3)
    assert "popularity_8w" not in sources(opensearch, index)["p1"]
    answer = opensearch.bulk(body=out.read_text(), index=index)
    assert [one["update"]["status"] for one in answer["items"]] == [404, 200, 200]
    assert sources(opensearch, index)["p1"]["popularity_8w"] == pytest.approx(1.5, abs=1e-3)


@pytest.mark.parametrize("gone", ["日" * 200, "𝄞" * 129, "a\nb", " "])
@pytest.mark.parametrize("to_file", [False, True])
def test_an_id_that_no_document_can_have_costs_no_other_its_update(
    tmp_path: Path, opensearch: OpenSearch, opensearch_url: str, redis_url: str, prefix: str, index: str, gone: str, to_file: bool
) -> None:  # fmt: skip
    """The server refuses a whole request for one id of more than 512 bytes."""
    more = ("--popularity-file", str(tmp_path / "out.ndjson")) if to_file else ()
    code, said, talk = ran(tmp_path, opensearch_url, redis_url, prefix, index, "--allow", "no_object", *more, gone=gone)
    assert code == 0, talk
    if to_file:
        answer = opensearch.bulk(body=(tmp_path / "out.ndjson").read_text(), index=index)
        assert [one["update"]["status"] for one in answer["items"]].count(200) == 2
    else:
        assert said["popularity"]["updated"] == 2
    assert sources(opensearch, index)["p1"]["popularity_8w"] == pytest.approx(1.5, abs=1e-3)


def test_object_ids_that_are_no_document_ids_are_said_to_be(
    tmp_path: Path, opensearch: OpenSearch, opensearch_url: str, redis_url: str, prefix: str, index: str
) -> None:
    """The item may be another field, or the index another one: nothing is updated, and that is no success."""
    for name in ("p1", "p2"):
        opensearch.delete(index=index, id=name, refresh=True)
    code, said, talk = ran(tmp_path, opensearch_url, redis_url, prefix, index, "--allow", "no_object")
    assert (said["popularity"]["updated"], said["popularity"]["missing"]) == (0, said["popularity"]["items"])
    assert code == 1
    assert "nothing was updated" in talk


def test_a_dry_run_writes_nothing(
    tmp_path: Path, opensearch: OpenSearch, opensearch_url: str, redis_url: str, prefix: str, index: str
) -> None:
    code, said, _ = ran(tmp_path, opensearch_url, redis_url, prefix, index, "--dry-run")
    assert code == 0
    assert "popularity" not in said
    assert "popularity_8w" not in sources(opensearch, index)["p1"]


@pytest.mark.parametrize(("text", "seconds"), [("8w", 56 * DAY_S), ("1.5d", 1.5 * DAY_S), ("12h", DAY_S / 2)])
def test_a_half_life_has_a_unit(text: str, seconds: float) -> None:
    assert half_life(text) == seconds


@pytest.mark.parametrize("text", ["8", "w", "0w", "-1d", "8 weeks", ""])
def test_what_is_no_half_life_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="12h, 20d, 8w"):
        half_life(text)


@pytest.mark.parametrize("names", [["a", "b"], ["a*"]])
def test_updates_go_to_one_index(names: list[str]) -> None:
    settings = Settings.model_validate({"policies": {"shop": {"index": names}}})
    with pytest.raises(ConfigurationError, match="--popularity-index"):
        index_for(settings, None, None)
    assert index_for(settings, "mine", None) == "mine"
    assert index_for(settings, None, Path("x")) is None
    with pytest.raises(ConfigurationError, match="use one"):
        index_for(settings, "mine", Path("x"))
