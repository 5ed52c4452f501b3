"""`rewriter evaluate` on a real index: the code that serves is what is judged, and nothing of the future reaches it."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from opensearchpy import OpenSearch
from typer.testing import CliRunner, Result

from rewriter.cli import app
from rewriter.evaluate.subject_replay import SubjectReplay
from tests.conftest import MakeIndex

BRANDS = ("asics", "nike", "puma", "hoka", "brooks")
MAPPING = {
    "title": {"type": "text"},
    "brand": {"type": "keyword"},
    "kind": {"type": "keyword"},
    "sold": {"type": "integer"},
    "listed": {"type": "date"},
}
TEMPLATE = '{"query": {"match": {"title": "{{query}}"}}, "size": 10}'
START_S = 1_780_000_000.0
DAY_S = 86_400.0
KINDS = ("trail", "road", "track")


def run(*arguments: str, code: int | None = 0) -> Result:
    result = CliRunner().invoke(app, ["evaluate", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert code is None or result.exit_code == code, result.stderr
    return result


def figures(*arguments: str, code: int | None = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*arguments, "--json", code=code).stdout)
    return found


def history(path: Path, *, faithful: bool, seed: int = 5, people: int = 60, segments: bool = False) -> Path:
    """Write purchases over eight weeks. faithful: everybody keeps to one brand; else all is chance. segments: named by brand."""
    chance = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for person in range(people):
            brand = chance.randrange(len(BRANDS))
            for visit in range(10):
                at_s = START_S + visit * 5.6 * DAY_S + chance.random() * DAY_S
                kind = chance.randrange(3)
                liked = [n for n in range(90) if n % 3 == kind and (not faithful or n % 5 == brand)]
                row = {
                    "timestamp": datetime.fromtimestamp(at_s, UTC).isoformat(),
                    "user_id": f"person-{person}",
                    "object_id": f"p{chance.choice(liked)}",
                    "query": f"shoe {KINDS[kind]}",
                    **({"segments": [f"fans-of-{BRANDS[brand]}"]} if segments else {}),
                }
                file.write(json.dumps(row) + "\n")
    return path


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: MakeIndex, opensearch_url: str) -> str:
    """Return an index of 90 shoes of five brands; settings and a search template are in the working directory."""
    monkeypatch.chdir(tmp_path)
    name = index(
        MAPPING,
        documents={
            f"p{n}": {
                "title": f"shoe {KINDS[n % 3]} {n}",
                "brand": BRANDS[n % 5],
                "kind": KINDS[n % 3],
                "sold": n,
                "listed": int(1000 * (START_S - n * DAY_S)),
            }
            for n in range(90)
        },
    )
    write_settings(tmp_path, name, opensearch_url)
    (tmp_path / "search.mustache").write_text(TEMPLATE)
    return name


def write_settings(folder: Path, index: str, url: str, more: str = "") -> None:
    (folder / "rewriter.toml").write_text(
        f"[opensearch]\nhosts = '{url}'\n[policies.shop]\nindex = '{index}'\nexploration_share = 0\nitem_repeat_share = 0.5\n"
        f"max_boost = 2\n{more}[policies.shop.fields.brand]\nscale = 0.5\npseudo_count = 10\n"
    )


HELD = ("--from", "h.ndjson", "--hold-out", "2w", "--body", "search.mustache", "--no-variations")


def main_of(found: Mapping[str, Any], part: str = "all") -> dict[str, Any]:
    one: dict[str, Any] = found["policies"][0]["measures"][part]["nDCG@10"]
    return one


def test_a_history_s_last_weeks_judge_and_the_verdict_is_in_words(shop: str, tmp_path: Path) -> None:
    history(tmp_path / "h.ndjson", faithful=True)
    result = run(*HELD, "--placebo")
    assert "shop: Switch it on: nDCG@10 rises by" in result.stdout
    assert "another person's signals" in result.stdout
    (folder,) = (tmp_path / "runs").iterdir()
    run_json = json.loads((folder / "run.json").read_text())
    found = run_json["figures"]
    every, new = main_of(found), main_of(found, "new")
    assert every["low"] > 0.0
    assert every["people"] > 50
    assert new["searches"] <= every["searches"]
    assert found["policies"][0]["personalized"] > 0.9
    placebo = found["policies"][1]
    assert placebo["placebo"]
    assert placebo["measures"]["all"]["nDCG@10"]["mean"] < every["mean"]
    assert "person-" not in (folder / "searches.ndjson").read_text() + json.dumps(run_json) + result.stdout
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "times.json"}
    run(*HELD, "--placebo")
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "times.json"} == before
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_where_purchases_are_chance_nothing_helps_and_a_leak_would_show(
    shop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The placebo test: with the search's own outcome among its signals, chance would look like a gain."""
    history(tmp_path / "h.ndjson", faithful=False)
    honest = main_of(figures(*HELD, code=None))
    assert honest["low"] < 0.02
    assert honest["difference"] < 0.05
    advance = SubjectReplay.advance
    monkeypatch.setattr(SubjectReplay, "advance", lambda self, until_s: advance(self, until_s + 1.0))
    leaking = main_of(figures(*HELD, code=None))
    assert leaking["low"] > 0.05
    assert leaking["mean"] > honest["mean"] + 0.1


def test_neighbours_find_what_is_new_to_a_person(shop: str, tmp_path: Path, opensearch_url: str) -> None:
    """Without attributes only `discovery` knows of items that a person has not used: those that the brand's others used."""
    history(tmp_path / "h.ndjson", faithful=True)
    gains, placebos = [], []
    for discovery in (0, 1):
        more = f"class_field = 'kind'\ndiscovery = {discovery}\nneighbour_scale = 1\n"
        write_settings(tmp_path, shop, opensearch_url, more)
        text = (tmp_path / "rewriter.toml").read_text().partition("[policies.shop.fields")[0]
        (tmp_path / "rewriter.toml").write_text(text)
        found = figures(*HELD, "--placebo")
        gains.append(main_of(found, "new")["mean"])
        placebos.append(found["policies"][-1]["measures"]["new"]["nDCG@10"]["mean"])
    assert gains[1] > 1.3 * gains[0]
    assert gains[1] > 1.2 * placebos[1]


def test_newcomers_have_the_taste_of_their_segment(shop: str, tmp_path: Path) -> None:
    history(tmp_path / "h.ndjson", faithful=True, segments=True)
    liked = [f"p{n}" for n in range(0, 90, 15)]  # of the first brand and kind
    known, unknown = (
        {"user_id": f"newcomer-{name}", "segments": [name], "query": "shoe trail", "relevant": liked,
         "timestamp": START_S + 40 * DAY_S}
        for name in ("fans-of-asics", "fans-of-nobody")
    )  # fmt: skip
    (tmp_path / "judged.ndjson").write_text(json.dumps(known) + "\n" + json.dumps(unknown) + "\n")
    found = figures("--from", "h.ndjson", "--judged", "judged.ndjson", "--body", "search.mustache", "--no-variations")
    assert found["policies"][0]["reasons"] == {"personalized": 1, "no_signals": 1}
    assert main_of(found)["mean"] > main_of(found)["compared"]
    assert "2 of 2 searches are of people whom the history does not know" in found["warnings"]
    (silent,) = (line for line in found["warnings"] if "in segments that no event" in line)
    assert silent.startswith("1 search is of people")


def test_judged_searches_of_a_file_and_qrels_give_the_same(shop: str, tmp_path: Path) -> None:
    history(tmp_path / "h.ndjson", faithful=True)
    chance = random.Random(2)
    at = datetime.fromtimestamp(START_S + 40 * DAY_S, UTC).isoformat()
    asked = [(f"person-{n}", f"shoe {KINDS[n % 3]}", [f"p{chance.randrange(90)}", "gone"]) for n in range(40)]
    lines = [
        {"id": f"q{n}", "user_id": one, "query": words, "timestamp": at} for n, (one, words, _) in enumerate(asked)
    ]
    judged = [line | {"relevant": asked[n][2]} for n, line in enumerate(lines)]
    (tmp_path / "judged.ndjson").write_text("\n".join(map(json.dumps, judged)))
    (tmp_path / "queries.ndjson").write_text("\n".join(map(json.dumps, [*lines, lines[0] | {"id": "unjudged"}])))
    qrels = [f"q{n} 0 {one} 1" for n, (*_, ids) in enumerate(asked) for one in ids]
    (tmp_path / "qrels.txt").write_text("\n".join([*qrels, "unknown 0 p1 1", "q0 0 p2 -1"]))
    shared = ("--from", "h.ndjson", "--body", "search.mustache")
    one = figures(*shared, "--judged", "judged.ndjson", code=None)
    other = figures(*shared, "--qrels", "qrels.txt", "--queries", "queries.ndjson", code=None)
    assert main_of(one)["mean"] == main_of(other)["mean"]
    assert one["searches"] == other["searches"] == 40
    assert other["left_out"] == {
        "judged queries that the queries' file lacks": 1,
        "queries without a relevant document": 1,
    }
    assert any("1 of" in line and "not in the index" in line for line in one["warnings"])


def test_clicks_of_ubi_judge(shop: str, tmp_path: Path) -> None:
    history(tmp_path / "h.ndjson", faithful=True)
    chance = random.Random(4)
    queries, events = [], []
    for number in range(60):
        shown = [f"p{n}" for n in chance.sample(range(90), 10)]
        at = datetime.fromtimestamp(START_S + 40 * DAY_S + number, UTC).isoformat(timespec="milliseconds")
        asked = {"query_id": f"q{number}", "client_id": f"person-{number}", "user_query": "shoe", "timestamp": at}
        queries.append(asked | {"query_response_hit_ids": shown})
        clicked = {"object": {"object_id": shown[number % 10]}}
        events.append({"query_id": f"q{number}", "action_name": "click", "event_attributes": clicked})
    (tmp_path / "q.ndjson").write_text("\n".join(map(json.dumps, queries)))
    (tmp_path / "e.ndjson").write_text("\n".join(map(json.dumps, events)))
    ubi = ("--ubi-queries", "q.ndjson", "--ubi-events", "e.ndjson")
    found = figures("--from", "h.ndjson", *ubi, "--body", "search.mustache", code=None)
    assert (found["searches"], found["judgments"]) == (60, 600)
    assert "60 clicks, weighed against their position" in found["warnings"][0]


def test_exploration_has_a_price_and_classes_of_queries_a_table(shop: str, tmp_path: Path, opensearch_url: str) -> None:
    history(tmp_path / "h.ndjson", faithful=True)
    write_settings(tmp_path, shop, opensearch_url, "class_field = 'kind'\ndate_field = 'listed'\n")
    text = (tmp_path / "rewriter.toml").read_text().replace("exploration_share = 0\n", "exploration_share = 0.15\n")
    (tmp_path / "rewriter.toml").write_text(text)
    found = figures(*HELD, "--html", "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg") >= 4
    assert "http" not in page.replace("http://www.w3.org", "")
    assert len(page) < 200_000
    ranking, explored = found["policies"]
    assert explored["explores"]
    assert explored["compared_with"] == "shop"
    assert explored["slots_per_page"] == 1
    assert explored["verdict"].startswith("Exploration ")
    assert {row["name"] for row in ranking["classes"]} == set(KINDS)
    assert ranking["measures"]["first search"]["nDCG@10"]["searches"] == 3
    assert ranking["page"]["categories@10"] is not None
    assert 0.0 < ranking["page"]["intra_list_diversity@10"] < ranking["page"]["baseline_intra_list_diversity@10"] <= 1.0
    assert 30.0 < ranking["page"]["item_age_median_days"] < 150.0


def test_two_runs_are_compared_search_by_search(shop: str, tmp_path: Path, opensearch_url: str) -> None:
    history(tmp_path / "h.ndjson", faithful=True)
    run(*HELD, "--runs", "one")
    text = (tmp_path / "rewriter.toml").read_text().replace("max_boost = 2", "max_boost = 1.05")
    (tmp_path / "rewriter.toml").write_text(text)
    run(*HELD, "--runs", "other", code=None)
    ((one,), (other,)) = ([*(tmp_path / name).iterdir()] for name in ("one", "other"))
    found = json.loads(run("--compare", str(one), "--compare", str(other), "--json").stdout)
    assert [row["what"] for row in found["inputs"]] == ["policies.shop"]
    baseline, shop_row = found["policies"]
    assert baseline["before"] == baseline["after"]
    assert shop_row["after"] != shop_row["before"]
    assert shop_row["pages_changed"] > 0
    assert "difference" in run("--compare", str(one), "--compare", str(other)).stdout
    (one / "run.json").write_text(json.dumps({"format": 0}))
    assert "has format 0" in run("--compare", str(one), "--compare", str(other), code=2).stderr


def test_titles_stand_for_missing_queries_with_a_warning(shop: str, tmp_path: Path) -> None:
    path = history(tmp_path / "h.ndjson", faithful=True)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("\n".join(json.dumps({k: v for k, v in row.items() if k != "query"}) for row in rows))
    found = figures(*HELD, "--title-field", "kind", code=None)
    assert any("titles replace queries" in line for line in found["warnings"])
    assert found["searches"] > 100


def test_a_body_that_does_not_parse_costs_its_own_search_alone(shop: str, tmp_path: Path) -> None:
    """One such body fails a whole `_msearch`."""
    history(tmp_path / "h.ndjson", faithful=True)
    search = {"user_id": "person-1", "query": "shoe", "timestamp": START_S + 40 * DAY_S, "relevant": ["p1"]}
    broken = search | {"body": {"query": {"mtach": {}}}}
    (tmp_path / "judged.ndjson").write_text("\n".join(map(json.dumps, [search, broken, search | {"query": "trail"}])))
    result = run("--from", "h.ndjson", "--judged", "judged.ndjson", "--body", "search.mustache", "--json", code=None)
    found = json.loads(result.stdout)
    assert (found["searches"], found["left_out"]) == (2, {"rejected by the server": 1})
    assert "search 2: parsing_exception" in result.stderr


def test_a_template_that_fails_for_some_people_is_named_and_costs_the_others_nothing(
    shop: str, tmp_path: Path, opensearch_url: str
) -> None:
    """In service it would be quarantined after eight failures in a row."""
    history(tmp_path / "h.ndjson", faithful=True)
    (tmp_path / "templates" / "own").mkdir(parents=True)
    function = '{"filter": {{ a.filter }}, "weight": {{ a.weight * a.scale if a.values[0] != "puma" else 1 / 0 }}}'
    template = "[{% for a in affinities %}" + function + "{% if not loop.last %},{% endif %}{% endfor %}]"
    (tmp_path / "templates" / "own" / "boosts.json.j2").write_text(template)
    write_settings(tmp_path, shop, opensearch_url, "templates = 'own'\n")
    text = (tmp_path / "rewriter.toml").read_text()
    (tmp_path / "rewriter.toml").write_text("templates_dir = 'templates'\n" + text)
    found = figures(*HELD, code=None)
    reasons = found["policies"][0]["reasons"]
    assert reasons.keys() == {"personalized", "template_failed"}
    assert reasons["personalized"] > 2 * reasons["template_failed"] > 0
    cause = f"template_failed: ZeroDivisionError: division by zero ({reasons['template_failed']})"
    whole = f"shop failed in {reasons['template_failed']} of {found['searches']} searches, whose pages are the plain ones: {cause}"
    assert whole in found["warnings"]


@pytest.mark.parametrize(
    ("rows", "faults"),
    [
        ([], ["--hold-out: the history holds no row"]),
        (
            [
                {"timestamp": "yesterday"},
                {"timestamp": START_S, "object_id": "gone"},
                {"timestamp": START_S, "user_id": ""},
            ],
            [
                "nor does the history: 3 rows count",
                "no_time: 1 of 3 rows",
                "no_person: 1 of 3 rows",
                "no_object: 1 of 3 rows",
            ],
        ),
    ],
)
def test_a_window_without_an_event_is_named_with_what_became_of_the_rows(
    shop: str, tmp_path: Path, rows: list[dict[str, Any]], faults: list[str]
) -> None:
    row = {"user_id": "u", "object_id": "p1", "query": "shoe"}
    (tmp_path / "h.ndjson").write_text("".join(json.dumps(row | one) + "\n" for one in rows))
    result = run(*HELD, code=2)
    assert all(fault in result.stderr for fault in faults), result.stderr
    assert not (tmp_path / "runs").exists()


def test_policies_of_other_indices_are_left_out_and_named(shop: str, tmp_path: Path, opensearch_url: str) -> None:
    history(tmp_path / "h.ndjson", faithful=True, people=5)
    write_settings(tmp_path, shop, opensearch_url, "[policies.books]\nindex = 'books'\n")
    result = run(*HELD, "--searches", "5", "--json")
    assert "note: policy books is left out: it does not match" in result.stderr
    assert {one["name"] for one in json.loads(result.stdout)["policies"]} == {"shop"}
    refused = CliRunner().invoke(app, ["evaluate", *HELD, "--policy", "shop", "--policy", "books"])
    assert refused.exit_code == 2
    assert "to search what it matches, add --index books" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("--hold-out", "4w"), "--from: is missing"),
        (("--from", "h.ndjson"), "come from one of"),
        (("--from", "h.ndjson", "--hold-out", "soon"), "is not a window"),
        (("--from", "h.ndjson", "--hold-out", "2w", "--policy", "hats"), "is not a policy"),
        (("--from", "h.ndjson", "--hold-out", "2w"), "no `body`: "),
        (("--from", "h.ndjson", "--hold-out", "2w", "--action", "click"), "no event of the window is click"),
        (("--from", "h.ndjson", "--judged", "bad.ndjson"), "bad.ndjson:2: no document is relevant"),
        (("--from", "h.ndjson", "--judged", "elsewhere.ndjson", "--body", "search.mustache"), "none of the 1 judged"),
        (("--from", "h.ndjson", "--judged", "broken.ndjson"), "search 1: parsing_exception"),
        (("--from", "h.ndjson", "--hold-out", "2w", "--body", "rejected.mustache"), "searches (h"),
        (("--from", "h.ndjson", "--hold-out", "2w", "--index", "hats"), "policy shop: does not match hats"),
        (("--from", "h.ndjson", "--hold-out", "2w", "--body", "plain.json"), "does not hold the words"),
        (("--compare", "."), "needs two runs"),
        (("--compare", ".", "--compare", "."), "is not a run"),
    ],
)
def test_what_cannot_be_evaluated_is_named_and_nothing_is_written(
    shop: str, tmp_path: Path, arguments: tuple[str, ...], fault: str
) -> None:
    history(tmp_path / "h.ndjson", faithful=True, people=5)
    search = {"user_id": "person-1", "query": "shoe"}
    (tmp_path / "bad.ndjson").write_text(
        "\n".join(map(json.dumps, [search | {"relevant": ["p1"]}, search | {"relevant": {"p1": 0}}]))
    )
    (tmp_path / "elsewhere.ndjson").write_text(json.dumps(search | {"relevant": ["x9"]}))
    (tmp_path / "broken.ndjson").write_text(json.dumps(search | {"relevant": ["p1"], "body": {"query": {"mtach": {}}}}))
    (tmp_path / "plain.json").write_text('{"query": {"match": {"title": "shoe"}}}')
    (tmp_path / "rejected.mustache").write_text('{"query": {"mtach": {"title": "{{query}}"}}}')
    result = run(*arguments, code=2)
    assert fault in result.stderr
    assert result.stderr.count("unknown query [mtach]") <= 1
    assert not (tmp_path / "runs").exists()
    assert "person-" not in result.stderr


def test_an_interrupted_run_is_a_partial_one_that_says_so(
    shop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history(tmp_path / "h.ndjson", faithful=True)
    monkeypatch.setattr("rewriter.evaluate.run.FIRST_BATCH", 20)
    monkeypatch.setattr("rewriter.evaluate.run.BATCH", 20)
    calls: list[int] = []

    def progress(done: int, total: int) -> None:
        calls.append(done)
        if len(calls) > 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("rewriter.cli.evaluate.command.progress", lambda: _Lines(progress))
    found = figures(*HELD, code=1)
    assert not found["complete"]
    assert found["searches"] == calls[-1] < 150
    assert "interrupted" in found["warnings"][0]
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.endswith("-partial")


def test_a_short_run_has_figures_too_when_it_is_interrupted(
    shop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history(tmp_path / "h.ndjson", faithful=True)

    def progress(*_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rewriter.cli.evaluate.command.progress", lambda: _Lines(progress))
    found = figures(*HELD, code=1)
    assert not found["complete"]
    assert 64 <= found["searches"] < 150


@pytest.mark.parametrize("where", ["Inputs.past", "_Run._searches", "_times"])
def test_a_run_that_is_interrupted_before_it_has_figures_says_so_and_writes_nothing(
    shop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    history(tmp_path / "h.ndjson", faithful=True, people=5)

    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"rewriter.cli.evaluate.command.{where}", interrupted)
    result = run(*HELD, code=2)
    assert "interrupted: before there were figures; nothing was written" in result.stderr
    assert not (tmp_path / "runs").exists()


class _Lines:
    """Lines of progress, of which that of the searches calls `progress`."""

    def __init__(self, progress: Any) -> None:
        self._progress = progress

    def __enter__(self) -> Any:
        return lambda name: self._progress if name == "searches" else (lambda *_: None)

    def __exit__(self, *_: object) -> None:
        pass


def test_judgments_of_other_tools_are_evaluated_and_the_exported_configuration_is_the_search(
    shop: str, tmp_path: Path, opensearch: OpenSearch
) -> None:
    history(tmp_path / "h.ndjson", faithful=True)
    (tmp_path / "ratings.csv").write_text("query,docid,rating\nshoe trail,p3,3\nshoe road,p4,1\nshoe track,p5,0\n")
    shared = ("--from", "h.ndjson", "--body", "search.mustache", "--import", "quepid", "--judged", "ratings.csv")
    found = figures(*shared, code=None)
    assert found["searches"] == 2
    assert found["left_out"] == {"queries without a relevant document": 1}
    assert found["policies"][0]["personalized"] == 0.0  # nobody is known
    assert found["policies"][0]["details"] == {"no_signals": 2}
    run(*shared, "--export", "srw", "--to", "srw")
    configuration = json.loads((tmp_path / "srw" / "search_configuration_baseline.json").read_text())
    words = 'say "shoe" \\ {{x}}'
    for source, name in ((TEMPLATE, "query"), (configuration["query"], "queryText")):
        rendered = opensearch.render_search_template(body={"source": source, "params": {name: words}})
        assert rendered["template_output"] == {"query": {"match": {"title": words}}, "size": 10}


def test_an_exported_configuration_gives_each_person_the_page_that_the_policy_gives(
    shop: str, tmp_path: Path, opensearch: OpenSearch
) -> None:
    """Rendered by the server's Mustache with an entry's fields, as the workbench renders it."""
    history(tmp_path / "h.ndjson", faithful=True)
    run(*HELD, "--export", "srw", "--to", "srw")
    whole, entries = (
        [json.loads(line) for line in (tmp_path / "srw" / f"{name}.ndjson").read_text().splitlines()]
        for name in ("query_set", "query_set_shop")
    )
    assert "person-" not in "".join(path.read_text() for path in (tmp_path / "srw").iterdir())
    assert 20 < len(entries) <= len(whole)
    assert not any(set(value) & set('"\\\\<>') for one in entries for value in one.values())
    run(*HELD)
    (folder,) = (tmp_path / "runs").iterdir()
    pages = [json.loads(line) for line in (folder / "searches.ndjson").read_text().splitlines()]
    shown = {tuple(one["pages"]["shop"]) for one in pages}
    configurations = {
        name: json.loads((tmp_path / "srw" / f"search_configuration_{name}.json").read_text())
        for name in ("baseline", "shop")
    }
    differ = 0
    for one in entries[:40]:
        answers = {
            name: opensearch.search_template(index=shop, body={"source": made["query"], "params": one})
            for name, made in configurations.items()
        }
        ids = {name: tuple(hit["_id"] for hit in answer["hits"]["hits"]) for name, answer in answers.items()}
        differ += ids["baseline"] != ids["shop"]
        assert ids["shop"] in shown
    assert differ > 10
