"""`rewriter preview` on a real cluster and a real store: the page that the service would show, and nothing written for it."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from opensearchpy import OpenSearch
from typer.testing import CliRunner, Result

from rewriter.boost.validation import BOOSTS_FILE
from rewriter.cli import app
from rewriter.shell.template_files import packaged_templates
from rewriter.signals.counters import HalfLives, Observation, counted
from rewriter.signals.redis_store import RedisStore
from rewriter.signals.store import Keys
from tests.conftest import MakeIndex

BRANDS = ("asics", "nike", "puma", "hoka")
MAPPING = {
    "title": {"type": "text"},
    "brand": {"type": "keyword"},
    "kind": {"type": "keyword"},
    "listed": {"type": "date"},
}
TEMPLATE = '{"query": {"match": {"title": "{{query}}"}}, "size": {{size}}{{^size}}10{{/size}}}'


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(app, ["preview", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def shop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: MakeIndex, opensearch_url: str, redis_url: str, prefix: str
) -> str:
    """Return an index of 40 shoes; settings, a search and a sample are in the working directory; u-1 likes nike."""
    monkeypatch.chdir(tmp_path)
    name = index(
        MAPPING,
        documents={
            f"p{n}": {
                "title": "shoe " * (1 + n % 3) + f"<b>number</b> {n}",
                "brand": BRANDS[n % 4],
                "kind": ("trail", "road")[n % 2],
                "listed": f"2026-0{1 + n % 9}-01",
                "picture": "javascript:alert(1)" if n % 2 else "https://shop.example/p.png",
            }
            for n in range(40)
        },
    )
    (tmp_path / "rewriter.toml").write_text(
        f"[opensearch]\nhosts = '{opensearch_url}'\n[store]\nurl = '{redis_url}'\nprefix = '{prefix}'\n"
        "[ingest]\nsegments = ['vip']\n[switches]\npersonalization = false\n[experiment]\nholdout = 1.0\n"
        f"[policies.shop]\nindex = '{name}'\ncategory_field = 'kind'\ndate_field = 'listed'\n[policies.shop.fields.brand]\n"
    )
    (tmp_path / "search.json").write_text('{"query": {"match": {"title": "shoe"}}}')
    (tmp_path / "search.mustache").write_text(TEMPLATE)
    affinity = {"kind": "attribute", "fields": ["brand"], "values": ["hoka"], "weight": 0.9, "scale": 0.4}
    (tmp_path / "sample.json").write_text(json.dumps({"affinities": [affinity]}))
    store, keys, now_s = RedisStore(redis_url), Keys(prefix), time.time()
    half_lives = HalfLives(1e7)
    mine = [Observation((("brand", "nike"),), 1.0, now_s) for _ in range(20)]
    everybody = [Observation((("brand", brand),), 1.0, now_s) for brand in BRANDS for _ in range(50)]
    store.write(keys.profile("u-1"), counted(mine, half_lives, now_s), 600)
    store.write(
        keys.segment("vip"), counted([Observation((("brand", "puma"),), 1.0, now_s)] * 30, half_lives, now_s), 600
    )
    store.write_text(f"{prefix}:segments", '["vip"]')
    store.write(keys.population(), counted(everybody, half_lives, now_s), 600)
    return name


def pages(*arguments: str) -> list[dict[str, Any]]:
    result = run("shop", *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def test_a_subject_s_page_stands_beside_the_plain_one(shop: str) -> None:
    """Whatever the experiment and the switches are set to: the policy can be looked at before it serves anybody."""
    (page,) = pages("--body", "search.json", "--user", "u-1")
    assert (page["reason"], page["source"], page["subject"]) == ("personalized", "profile", "user u-1")
    assert [row["was"] for row in page["plain"]] == [row["now"] for row in page["plain"]] == list(range(10))
    liked = [row for row in page["shown"] if row["boosts"]]
    assert liked
    assert all(1.0 < row["factor"] <= page["max_boost"] * (1 + 1e-6) for row in liked)
    weights = [one["weight"] for one in page["boosts"]]
    for row in liked:
        assert row["factor"] == pytest.approx(
            min(page["max_boost"], 1.0 + sum(weights[at] for at in row["boosts"])), rel=1e-5
        )
    assert [row["propensity"] is not None for row in page["shown"]].count(True) == 1
    assert {row["category"] for row in page["shown"]} <= {"trail", "road"}
    assert all(0 < row["age_days"] < 400 for row in page["shown"])


def test_a_draft_s_page_follows_the_live_one(shop: str, tmp_path: Path) -> None:
    """A template set on trial by its name, the same set as a folder, and a folder with settings."""
    draft = tmp_path / "templates" / "shop-draft"
    shutil.copytree(packaged_templates() / "default", draft)
    text = (draft / BOOSTS_FILE).read_text()
    (draft / BOOSTS_FILE).write_text(text.replace("a.weight * a.scale", "0.5 * a.weight * a.scale"))
    toml = (tmp_path / "rewriter.toml").read_text()
    trial = "[policies.shop.trial]\nversion = 'shop-draft'\nsubjects = ['ann']\n"
    (tmp_path / "rewriter.toml").write_text("templates_dir = 'templates'\n" + toml + trial)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "rewriter.toml").write_text(toml.replace("index =", "max_boost = 1.1\nindex ="))
    drafts = ("shop-draft", "templates/shop-draft", "other")
    of = [part for name in drafts for part in ("--draft", name)]
    found = pages("--body", "search.json", "--user", "u-1", "--sample", "sample.json", *of)
    assert [page["subject"] for page in found] == [
        f"{subject}{end}"
        for subject in ("sample sample", "user u-1")
        for end in ("", ", draft shop-draft", ", draft templates/shop-draft", ", draft other")
    ]
    for live, named, folder, other in (found[:4], found[4:]):
        assert named["boosts"][0]["weight"] == pytest.approx(live["boosts"][0]["weight"] / 2, rel=1e-4)
        assert folder["boosts"][0]["weight"] == pytest.approx(named["boosts"][0]["weight"], rel=1e-4)
        assert (other["max_boost"], live["max_boost"]) == (1.1, 1.5)
    page = run("shop", "--body", "search.json", "--user", "u-1", "--draft", "shop-draft", "--html", "page.html")
    assert page.exit_code == 0
    assert "<h2>user u-1, draft shop-draft</h2>" in (tmp_path / "page.html").read_text()
    refused = run("shop", "--body", "search.json", "--user", "u-1", "--draft", "nothing")
    assert refused.exit_code == 2
    assert "nothing: is neither a folder nor a git revision" in refused.stderr


def test_the_plain_page_is_the_client_s(shop: str, opensearch: OpenSearch) -> None:
    (page,) = pages("--body", "search.json", "--user", "u-1")
    hits = opensearch.search(index=shop, body={"query": {"match": {"title": "shoe"}}})["hits"]["hits"]
    assert [row["id"] for row in page["plain"]] == [hit["_id"] for hit in hits]


@pytest.mark.parametrize("who", [("--user", "u-1"), ("--sample", "sample.json")])
def test_a_hit_that_the_plain_page_lacks_has_a_factor_too(shop: str, tmp_path: Path, who: tuple[str, str]) -> None:
    (tmp_path / "short.json").write_text('{"query": {"match": {"title": "shoe"}}, "size": 3}')
    (page,) = pages("--body", "short.json", *who)
    added = [row for row in page["shown"] if row["was"] is None and row["propensity"] is None]
    assert added
    for row in added:
        weights = [page["boosts"][at]["weight"] for at in row["boosts"]]
        assert row["factor"] == pytest.approx(min(page["max_boost"], 1.0 + sum(weights)))


@pytest.mark.parametrize("who", [("--user", "u-1"), ("--sample", "sample.json")])
@pytest.mark.parametrize("width", [64, 80, 200])
def test_both_pages_and_every_cause_fit_the_terminal(
    shop: str, monkeypatch: pytest.MonkeyPatch, width: int, who: tuple[str, str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = run("shop", "--body", "search.json", *who).stdout.splitlines()
    head = next(line for line in lines if "personalized" in line and "moved" in line)
    rows = [line for line in lines if re.match(r" ?[0-9]+ ", line)]
    assert "plain" in head
    assert len(rows) == 10
    assert max(map(len, lines)) <= width
    boosted = [line for line in rows if re.search(r"×1\.[0-9]*[1-9]", line)]
    assert boosted
    for line in boosted:  # the cause, or the number of the boost below
        assert re.search(r"brand = \w+$" if "why" in head else r" [0-9](, [0-9])*$", line.rstrip())
    assert any(line.startswith("  boost 1: brand = ") for line in lines)


def test_a_search_without_hits_has_no_lists(shop: str) -> None:
    shown = run("shop", "nonsense", "--body", "search.mustache", "--user", "u-1").stdout
    assert "no_hits; the page is the plain one" in shown
    assert "moved" not in shown
    assert "0 of 0" not in shown


def test_words_go_through_a_search_template(shop: str) -> None:
    (page,) = pages('shoe "number"', "--body", "search.mustache", "--user", "u-1")
    assert len(page["shown"]) == 10


def test_samples_segments_and_strangers(shop: str) -> None:
    found = pages(
        "--body", "search.json", "--sample", "sample.json", "--segment", "vip", "--user", "u-1", "--user", "nobody"
    )  # fmt: skip
    assert [(page["subject"], page["reason"], page["source"]) for page in found] == [
        ("sample sample", "personalized", None), ("user u-1", "personalized", "profile"), ("user nobody", "no_signals", None),
        ("newcomer, segment vip", "personalized", "segment"),
    ]  # fmt: skip
    sample = found[0]
    assert {boost["value"] for boost in sample["boosts"]} == {"hoka"}
    assert any(row["boosts"] and row["factor"] is not None for row in sample["shown"])


def test_a_boost_that_the_gate_held_back_is_not_shown(shop: str, tmp_path: Path) -> None:
    """The server names a boost on every hit that its filter matches; the gate lets it act only on hits that hold all words."""
    (tmp_path / "words.json").write_text('{"query": {"match": {"title": "shoe 7"}}, "size": 40}')
    (page,) = pages("--body", "words.json", "--sample", "sample.json")
    acted = [row for row in page["shown"] if row["boosts"]]
    assert [row["id"] for row in acted] == ["p7"]
    assert all(row["factor"] > 1.0 for row in acted)
    assert all(abs(row["factor"] - 1.0) < 1e-6 for row in page["shown"] if not row["boosts"])


def test_a_preview_writes_nothing_into_the_store(shop: str, redis_url: str, prefix: str) -> None:
    store = RedisStore(redis_url)

    def keys() -> list[Any]:
        return sorted(key for key in store.run([("KEYS", f"{prefix}:*")])[0] if b"population" not in key)

    before = keys()
    pages("--body", "search.json", "--user", "u-1")
    assert [key for key in keys() if key not in before and b"maker" not in key and b"segments" not in key] == []


def test_a_terminal_of_any_width_shows_boosts_and_categories(shop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for width in ("80", "140"):
        monkeypatch.setenv("COLUMNS", width)
        result = run("shop", "--body", "search.json", "--user", "u-1")
        assert result.exit_code == 0
        assert max(map(len, result.stdout.splitlines())) <= int(width)
        assert "brand = nike" in result.stdout
        assert "categories" in result.stdout


def test_as_one_html_page(shop: str, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    result = run(
        "shop",
        "--body",
        "search.json",
        "--user",
        "u-1",
        "--sample",
        "sample.json",
        "--html",
        str(file),
        "--image",
        "picture",
    )
    assert result.exit_code == 0
    text = file.read_text("utf-8")
    assert len(text.encode()) <= 200 * 1024
    assert "<script" not in text
    assert "javascript:" not in text
    assert "<b>number</b>" not in text
    assert set(re.findall(r'(?:src|href)="([^"]*)"', text)) == {"https://shop.example/p.png"}
    assert text.count("<section>") == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("shop", "--body", "search.json"), "whose page?"),
        (("shop", "--user", "u-1"), "give --body FILE"),
        (("nothing", "--body", "search.json", "--user", "u-1"), "no policy is named 'nothing'"),
        (("shop", "--body", "missing.json", "--user", "u-1"), "missing.json: cannot be read"),
        (("shop", "--body", "search.mustache", "--user", "u-1"), "give WORDS, if it is a search template"),
        (("shop", "--body", "search.json", "--user", "u-1", "--index", "other"), "does not match it"),
        (("shop", "--body", "bad.json", "--user", "u-1"), "the search failed"),
        (("shop", "shoe", "--body", "broken.mustache", "--user", "u-1"), "is not rendered to JSON"),
        (("shop", "--body", "list.json", "--user", "u-1"), "is not a search body"),
        (("shop", "--body", "search.json", "--sample", "search.json"), "search.json"),
    ],
)
def test_what_cannot_be_shown_is_named(shop: str, tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    (tmp_path / "bad.json").write_text('{"query": {"no_such_query": {}}}')
    (tmp_path / "broken.mustache").write_text('{"query": {"match": {"title": {{query}}}}}')
    (tmp_path / "list.json").write_text("[]")
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_page_that_is_not_personalized_ends_with_1_and_says_why(shop: str) -> None:
    result = run("shop", "--body", "search.json", "--user", "nobody")
    assert result.exit_code == 1
    assert "no_signals" in result.stdout
