"""`rewriter diff` on a real cluster and a real store: folders, template sets and git revisions over logged searches."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from opensearchpy import OpenSearch
from typer.testing import CliRunner, Result

from rewriter.cli import app
from rewriter.cli.diff import command
from rewriter.signals.counters import HalfLives, Observation, counted
from rewriter.signals.redis_store import RedisStore
from rewriter.signals.store import Keys
from tests.conftest import MakeIndex

BRANDS = ("asics", "nike", "puma", "hoka")
MAPPING = {"title": {"type": "text"}, "brand": {"type": "keyword"}}
LIVE = (
    '[{% for a in affinities %}{"filter": {{ a.filter }}, "weight": {{ a.weight * a.scale }}}'
    "{% if not loop.last %},{% endif %}{% endfor %}]"
)
STRONG = LIVE.replace("a.weight * a.scale", "0.5")
PEOPLE = {"ann": "nike", "bob": "puma"}


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(app, ["diff", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def found(*arguments: str) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code in (0, 1), result.output
    figures: dict[str, Any] = json.loads(result.stdout)
    return figures


@pytest.fixture
def shop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: MakeIndex, opensearch_url: str, redis_url: str, prefix: str
) -> str:
    """Return an index of 60 shoes; two versions, searches of two people and a stranger are in the working directory."""
    monkeypatch.chdir(tmp_path)
    documents = {f"p{n}": {"title": "shoe " * (1 + n % 5) + f"number {n}", "brand": BRANDS[n % 4]} for n in range(60)}
    name = index(MAPPING, documents=documents)
    for folder, template in (("one", LIVE), ("two", STRONG)):
        (tmp_path / folder / "templates" / "own").mkdir(parents=True)
        (tmp_path / folder / "templates" / "own" / "boosts.json.j2").write_text(template)
        (tmp_path / folder / "rewriter.toml").write_text(
            f"templates_dir = 'templates'\n[opensearch]\nhosts = '{opensearch_url}'\n"
            f"[store]\nurl = '{redis_url}'\nprefix = '{prefix}'\n[switches]\npersonalization = false\n"
            f"[policies.shop]\nindex = '{name}'\ntemplates = 'own'\n[policies.shop.fields.brand]\nscale = 0.05\n"
        )
    shutil.copy(tmp_path / "one" / "rewriter.toml", tmp_path)
    shutil.copytree(tmp_path / "one" / "templates", tmp_path / "templates")
    write(
        *(
            {"user_id": one, "body": {"query": {"match": {"title": "shoe number"[: 4 + 7 * (n - 1)]}}}}
            for n in (1, 2)
            for one in [*PEOPLE, "eve"]
        )
    )
    store, keys, now_s, half_lives = RedisStore(redis_url), Keys(prefix), time.time(), HalfLives(1e7)
    for one, brand in PEOPLE.items():
        store.write(
            keys.profile(one), counted([Observation((("brand", brand),), 1.0, now_s)] * 20, half_lives, now_s), 600
        )
    everybody = [Observation((("brand", brand),), 1.0, now_s) for brand in BRANDS for _ in range(50)]
    store.write(keys.population(), counted(everybody, half_lives, now_s), 600)
    store.close()
    return name


def write(*searches: Any) -> None:
    Path("searches.ndjson").write_text(
        "".join(one if isinstance(one, str) else json.dumps(one) + "\n" for one in searches)
    )


def test_a_version_equals_itself(shop: str) -> None:
    figures = found("one", "one", "--searches", "searches.ndjson", "--max-changed", "0%")
    assert (figures["compared"], figures["changed"], figures["failed"]) == (6, 0, [])
    assert (figures["overlap"]["mean"], figures["rbo"]["mean"]) == (1.0, pytest.approx(1.0))
    assert figures["products"] == {"up": [], "down": []}
    assert figures["versions"]["a"]["reasons"] == {"personalized": 4, "no_signals": 2}


def test_two_versions_differ_where_boosts_act(shop: str, opensearch: OpenSearch) -> None:
    figures = found("one", "two", "--searches", "searches.ndjson")
    changed = {page["line"] for page in figures["pages"]}
    assert changed
    assert changed <= {1, 2, 4, 5}  # eve is unknown: her pages are the plain ones
    assert figures["changed"] == len(changed)
    page = figures["pages"][0]
    assert page["rbo"] == min(one["rbo"] for one in figures["pages"])
    liked = PEOPLE["ann" if page["line"] in (1, 4) else "bob"]
    brands = {
        side: [BRANDS[int(hit["id"].rpartition("p")[2]) % 4] for hit in page[side]["hits"]] for side in ("a", "b")
    }
    assert brands["b"].count(liked) > brands["a"].count(liked)
    up = figures["products"]["up"]
    assert up
    assert {BRANDS[int(row["id"].rpartition("p")[2]) % 4] for row in up} <= set(PEOPLE.values())
    assert figures["versions"]["b"]["at_limit"] > figures["versions"]["a"]["at_limit"]
    assert figures["versions"]["b"]["searches"] == pytest.approx((4 * 2 + 2) / 6)
    assert [row["line"] for row in figures["people"]] == sorted(
        (row["line"] for row in figures["people"]),
        key=lambda line: next(r["rbo"] for r in figures["people"] if r["line"] == line),
    )


def test_the_gate_of_a_pipeline(shop: str) -> None:
    arguments = ("one", "two", "--searches", "searches.ndjson", "--json")
    assert run(*arguments, "--max-changed", "100%").exit_code == 0
    refused = run(*arguments, "--max-changed", "0.1%")
    assert refused.exit_code == 1, refused.stderr
    assert re.search(r"\d+\.\d% of the pages change, more than 0\.1%\n$", refused.stderr)
    wrong = run(*arguments, "--max-changed", "200%")
    assert (wrong.exit_code, wrong.stdout) == (2, "")


def test_a_template_set_and_git_revisions(shop: str, tmp_path: Path) -> None:
    by_folder = found(".", "two/templates/own", "--searches", "searches.ndjson")
    assert by_folder["changed"] > 0
    git = (
        "git",
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@b",
        "-c",
        "init.defaultBranch=main",
        "-c",
        "commit.gpgsign=false",
    )
    for arguments in (["init", "-q"], ["add", "rewriter.toml", "templates"], ["commit", "-qm", "one"], ["tag", "v1"]):
        subprocess.run([*git, *arguments], check=True, cwd=tmp_path, capture_output=True)
    (tmp_path / "templates" / "own" / "boosts.json.j2").write_text(STRONG)
    by_git = found("v1", ".", "--searches", "searches.ndjson")
    assert [page["line"] for page in by_git["pages"]] == [page["line"] for page in by_folder["pages"]]
    assert re.fullmatch(r"v1 \([0-9a-f]{10}\)", by_git["a"])
    assert by_git["templates"] == by_folder["templates"]
    assert found("HEAD", "v1", "--searches", "searches.ndjson")["changed"] == 0
    unknown = run("v2", "nowhere", "--searches", "searches.ndjson")
    assert unknown.exit_code == 2
    assert [line.partition(":")[0] for line in unknown.stderr.splitlines()] == ["v2", "nowhere"]


def test_what_cannot_be_compared_is_named_by_its_line_and_the_rest_is_compared(shop: str) -> None:
    rejected = {"user_id": "ann", "body": {"query": {"nonsense": {}}}}
    later = {"user_id": "ann", "body": {"query": {"match": {"title": "shoe"}}, "from": 10}}
    fine = {"user_id": "ann", "query": "shoe", "body": {"query": {"match": {"title": "shoe"}}}}
    write(rejected, later, fine)
    result = run("one", "two", "--searches", "searches.ndjson", "--json")
    assert result.exit_code == 1
    figures = json.loads(result.stdout)
    assert (figures["compared"], figures["left_out"]) == (1, {"asks for a later page": 1})
    assert [one["line"] for one in figures["failed"]] == [1]
    assert (
        "searches.ndjson:1: not compared: RequestError (400): parsing_exception: unknown query [nonsense]"
        in result.stderr
    )
    write(rejected)
    nothing = run("one", "two", "--searches", "searches.ndjson", "--json")
    assert (nothing.exit_code, nothing.stdout) == (2, "")
    assert "no search could be compared: RequestError (400): parsing_exception: unknown" in nothing.stderr


def test_faults_of_the_file_are_all_named_and_nothing_is_searched(shop: str) -> None:
    lines = (
        "nonsense\n",
        '{"user_id": "ann-s-id"}\n',
        '{"body": {}}\n',
        '{"user_id": "ann-s-id", "query": "x"}\n',
        '{"user": "ann-s-id"}\n',
    )
    write(*lines)
    result = run("one", "two", "--searches", "searches.ndjson")
    assert (result.exit_code, result.stdout) == (2, "")
    where = [line.partition(": ")[0] for line in result.stderr.splitlines()]
    assert dict.fromkeys(where) == dict.fromkeys(f"searches.ndjson:{n}" for n in range(1, 6))
    assert "ann-s-id" not in result.output


def test_words_go_through_the_search_template(shop: str) -> None:
    Path("search.mustache").write_text('{"query": {"match": {"title": "{{query}}"}}}')
    write({"client_id": "ann", "query": 'shoe "number" 7'}, {"client_id": "bob", "query": "shoe"})
    figures = found("one", "two", "--searches", "searches.ndjson", "--body", "search.mustache")
    assert figures["compared"] == 2
    assert figures["failed"] == []


def test_a_page_to_be_mailed(shop: str) -> None:
    write({"user_id": "ann", "query": "<b>shoe</b>", "body": {"query": {"match": {"title": "shoe"}}}})
    result = run("one", "two", "--searches", "searches.ndjson", "--html", "diff.html")
    assert (result.exit_code, result.stdout) == (0, "")
    page = Path("diff.html").read_text("utf-8")
    assert len(page) < 200_000
    assert "<script" not in page
    assert "<b>shoe" not in page
    assert not re.search(r"(src|href)=[\"']?(http|//)", page)
    assert "ann" not in page
    assert list(Path().glob(".*diff*")) == []


def test_an_interrupted_run_leaves_nothing(shop: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Path("diff.html").write_text("the former page")
    before = set(Path().rglob("*"))
    made: list[str] = []

    class Scratch(TemporaryDirectory[str]):
        def __enter__(self) -> str:
            made.append(super().__enter__())
            return made[0]

    def interrupted(*_: Any) -> Any:
        yield from ()
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "TemporaryDirectory", Scratch)
    monkeypatch.setattr(command, "paired", interrupted)
    result = CliRunner().invoke(app, ["diff", "one", "two", "--searches", "searches.ndjson", "--html", "diff.html"])
    assert result.exit_code == 2
    assert "interrupted: before there were figures; nothing was written" in result.stderr
    assert Path("diff.html").read_text() == "the former page"
    assert set(Path().rglob("*")) == before
    assert not Path(made[0]).exists()


def test_nothing_is_written_to_the_store(shop: str, redis_url: str, prefix: str) -> None:
    from redis import Redis

    with Redis.from_url(redis_url) as client:
        keys = set(client.keys(f"{prefix}*"))
        found("one", "two", "--searches", "searches.ndjson")
        made = {key.decode() for key in set(client.keys(f"{prefix}*")) - keys}
    assert [key for key in made if "plan" in key or "fleet" in key or ":p:" in key] == []


FRAGILE = LIVE.replace("a.weight * a.scale", "0.5 if a.values[0] != 'puma' else 1 / 0")
"""A template that fails for those who like puma: bob."""


def break_version(folder: str, template: str = FRAGILE) -> None:
    (Path(folder) / "templates" / "own" / "boosts.json.j2").write_text(template)


def test_a_gate_refuses_a_version_that_fails_where_the_other_does_not(shop: str) -> None:
    break_version("two")
    arguments = ("--searches", "searches.ndjson", "--max-changed", "100%")
    refused = run("one", "two", *arguments, "--html", "diff.html", "--json")
    assert refused.exit_code == 1, refused.stderr
    figures = json.loads(refused.stdout)
    assert figures["failures"]["a"] == {"searches": 0, "alone": 0, "lines": [], "causes": {}}
    b = figures["failures"]["b"]
    assert (b["searches"], b["alone"], b["lines"]) == (2, 2, [2, 5])
    assert list(b["causes"]) == ["template_failed: ZeroDivisionError: division by zero"]
    assert figures["problem"] == "B fails in 2 searches in which A does not"
    assert refused.stderr.endswith(f"{figures['problem']}\n")
    page = Path("diff.html").read_text("utf-8")
    assert "B fails in 2 of 6 searches, in 2 of which A does not (line 2, 5)" in page
    assert figures["problem"] in page
    shown = run("one", "two", "--searches", "searches.ndjson")
    assert shown.exit_code == 1, "without a gate too"
    assert "! B fails in 2 of 6 searches, in 2 of which A does not (line 2, 5)" in shown.stdout


def test_a_gate_passes_a_version_that_mends_a_failure_or_has_the_other_s_and_tells_it(shop: str) -> None:
    break_version("one")
    arguments = ("--searches", "searches.ndjson", "--max-changed", "100%")
    mended = run("one", "two", *arguments)
    assert mended.exit_code == 0
    assert "! A fails in 2 of 6 searches, in 2 of which B does not (line 2, 5)" in mended.stdout
    break_version("two")
    both = run("one", "two", *arguments)
    assert both.exit_code == 0
    assert "! B fails in 2 of 6 searches, and shows the plain page there" in both.stdout
    write({"user_id": "bob", "body": {"query": {"match": {"title": "shoe"}}}})
    nothing = run("one", "two", *arguments)
    assert nothing.exit_code == 1
    assert nothing.stderr.endswith("both versions fail in every search: nothing was compared\n")


def test_a_template_that_fails_for_some_is_no_failure_for_the_others(shop: str, redis_url: str, prefix: str) -> None:
    """In service it would be quarantined after eight failures in a row, for a time: in a comparison that would be chance."""
    store, keys, now_s, half_lives = RedisStore(redis_url), Keys(prefix), time.time(), HalfLives(1e7)
    for one in range(4):
        liked = counted([Observation((("brand", "puma"),), 1.0, now_s)] * 20, half_lives, now_s)
        store.write(keys.profile(f"bob-{one}"), liked, 600)
    store.close()
    body = {"query": {"match": {"title": "shoe"}}}
    write(*({"user_id": f"bob-{n % 4}", "body": body} for n in range(12)), {"user_id": "ann", "body": body})
    break_version("two")
    figures = found("one", "two", "--searches", "searches.ndjson")
    assert figures["failures"]["b"]["lines"] == list(range(1, 11))
    assert figures["failures"]["b"]["searches"] == 12
    assert figures["versions"]["b"]["reasons"] == {"template_failed": 12, "personalized": 1}
