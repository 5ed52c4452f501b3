"""Judged searches to and from other tools, against the documents of those tools.

The examples are those of https://docs.opensearch.org/3.8/search-plugins/search-relevance/ (query sets, judgments), of
https://github.com/opensearch-project/dashboards-search-relevance/issues/697 (CSV), and of Quepid's own views and import.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from rewriter import ConfigurationError, Subject
from rewriter.cli import app
from rewriter.evaluate import quepid, workbench
from rewriter.evaluate.judged import JudgedSearch
from rewriter.evaluate.ratings import csv_of, merged, read_csv, searches_of

PUT_JUDGMENTS = {
    "name": "Imported Judgments",
    "description": "Judgments generated outside SRW",
    "type": "IMPORT_JUDGMENT",
    "judgmentRatings": [
        {
            "query": "red dress",
            "ratings": [{"docId": "B077ZJXCTS", "rating": "3.000"}, {"docId": "B07QRCGL3G", "rating": "0.000"}],
        },
        {"query": "blue jeans", "ratings": [{"docId": "B01N0DSRJC", "rating": "1.000"}]},
    ],
}
GRADES = {"red dress": {"B077ZJXCTS": 3.0, "B07QRCGL3G": 0.0}, "blue jeans": {"B01N0DSRJC": 1.0}}
DASHBOARDS_CSV = (
    "query,docid,rating\n120v power supply,3488015,0.0\n120v power supply,637052,0.0\n120v power supply,2274126,1.0\n"
)
QUEPID_CASE = {
    "case_name": "shop",
    "scorer": {"name": "nDCG@10"},
    "queries": [
        {
            "arranged_at": 0,
            "query_text": "star wars",
            "options": {},
            "notes": None,
            "ratings": {"11": 3, "1892": 2, "7": None},
        },
        {"arranged_at": 1, "query_text": "rambo", "options": {}, "information_need": "the film"},
    ],
    "try": {},
}


def answered(source: Mapping[str, Any]) -> dict[str, Any]:
    """What `GET …/judgments/ID` and `…/query_sets/ID` answer."""
    return {"took": 36, "hits": {"total": {"value": 1}, "hits": [{"_id": "b54f791a", "_score": 1, "_source": source}]}}


def search(name: str, person: str, words: str, relevant: Mapping[str, float], **more: Any) -> JudgedSearch:
    return JudgedSearch(name, Subject(person, segments=more.pop("segments", ())), words, relevant, **more)


# --- the Search Relevance Workbench -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    [
        PUT_JUDGMENTS,
        answered(PUT_JUDGMENTS),
        {"judgmentRatings": {one["query"]: one["ratings"] for one in PUT_JUDGMENTS["judgmentRatings"]}},  # type: ignore[index]
    ],
    ids=["request", "answer", "first versions"],
)
def test_judgments_of_the_workbench_are_read(document: Any) -> None:
    assert workbench.read_judgments(json.dumps(document), "j.json").grades == GRADES


def test_query_sets_of_the_workbench_are_read_in_all_forms() -> None:
    entries = [
        {"queryText": "phone", "person": "ann", "segment": "vip"},
        {"queryText": "phone"},
        {"queryText": "steel", "category": "x"},
    ]
    expected = {"phone": [("ann", "vip"), ("", "")], "steel": [("", "")]}
    body = {"name": "TVs", "sampling": "manual", "querySetQueries": entries}
    for text in (json.dumps(body), json.dumps(answered(body)), "\n".join(map(json.dumps, entries)) + "\n"):
        assert workbench.read_query_set(text, "q") == expected
    assert workbench.read_query_set('{"queryText": "tv"}\n', "q") == {"tv": [("", "")]}


def test_an_export_has_the_form_of_the_documents_and_no_identifier() -> None:
    searches = [
        search("1", "ann@example.com", "red dress", {"p1": 1.0}, segments=("vip",)),
        search("2", "bob@example.com", "red dress", {"p1": 1.0, "p2": 1.0}),
        search("3", "bob@example.com", "red dress", {"p3": 0.0, "p1": 1.0}),
        search("4", "bob@example.com", "", {"p9": 1.0}, body={"query": {}}),
        search("5", "bob@example.com", 'say "a, b"', {"p4": 1.0}),
    ]
    files, ratings = workbench.exported(searches, '{"query": {"match": {"title": "{{query}}"}}}', "products", "salt")
    assert "@example" not in "".join(files.values())
    query_set = json.loads(files["query_set.json"])
    assert set(query_set) == {"name", "description", "sampling", "querySetQueries"}
    assert (query_set["sampling"], len(query_set["name"]) <= 50, len(query_set["description"]) <= 250) == (
        "manual",
        True,
        True,
    )
    entries = query_set["querySetQueries"]
    assert [one["queryText"] for one in entries] == ["red dress", "red dress", "say a, b"]
    assert all(isinstance(value, str) for one in entries for value in one.values())
    assert (entries[0]["segment"], "segment" in entries[1]) == ("vip", False)
    assert entries[1]["person"] == entries[2]["person"] != entries[0]["person"]
    assert [json.loads(line) for line in files["query_set.ndjson"].splitlines()] == entries
    judgments = json.loads(files["judgments.json"])
    assert judgments["type"] == "IMPORT_JUDGMENT"
    assert judgments["judgmentRatings"][0] == {
        "query": "red dress",
        "ratings": [
            {"docId": "p1", "rating": "1.000"},
            {"docId": "p2", "rating": "0.333"},
            {"docId": "p3", "rating": "0.000"},
        ],
    }
    rows = list(csv.reader(io.StringIO(files["judgments.csv"])))
    assert rows[0] == ["query", "docid", "rating"]
    assert rows[-1] == ["say a, b", "p4", "1"]
    configuration = json.loads(files["search_configuration_baseline.json"])
    assert json.loads(configuration.pop("query")) == {"query": {"match": {"title": "{{queryText}}"}}}
    assert configuration == {"name": "rewriter baseline", "index": "products"}
    assert (ratings.merged, ratings.left_out) == (1, {"searches without words": 1})
    assert ratings.notes == {workbench.CLEANED: 1}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (
            "{{query}} {{ query }} {{{query}}} {{&query}}",
            "{{queryText}} {{ queryText }} {{{queryText}}} {{&queryText}}",
        ),
        ("{{#query}}x{{/query}}{{^query}}y{{/query}}", "{{#queryText}}x{{/queryText}}{{^queryText}}y{{/queryText}}"),
        ("{{#toJson}}query{{/toJson}}", "{{#toJson}}queryText{{/toJson}}"),
        ('{"query": {"match": "{{segment}}"}}', '{"query": {"match": "{{segment}}"}}'),
        ("{{queryText}} {{query_string}}", "{{queryText}} {{query_string}}"),
    ],
)
def test_the_variable_of_a_search_template_becomes_the_workbench_s(template: str, expected: str) -> None:
    assert workbench.of_workbench(template) == expected


def is_accepted(value: str) -> bool:
    """The check of `TextValidationUtil.validateQuerySetValue`, which refuses the whole query set."""
    return 0 < len(value) <= 2_000 and not set(value) & set('"\\\\<>\n\r')


def test_each_policy_has_a_configuration_with_its_boosts_and_a_query_set_that_opens_them() -> None:
    people = ("ann", "bob", "cid")
    searches = [search(str(at), who, "shoe", {"p1": 1.0}) for at, who in enumerate(people, 1)]
    clause = '{"window_size": 200, "x": "{{y}}"}'
    template = '{"query": {"match": {"title": "{{query}}"}}}\n'
    files, _ = workbench.exported(searches, template, "products", "salt", {"my.shop": {"1": clause, "3": clause}})
    ann, cid = map(json.loads, files["query_set_my_shop.ndjson"].splitlines())
    assert ann["my_shop_1"] == cid["my_shop_1"] == "1"
    assert ann["person"] != cid["person"]
    assert len(files["query_set.ndjson"].splitlines()) == 3
    configuration = json.loads(files["search_configuration_my_shop.json"])
    assert configuration["name"] == "rewriter my.shop"
    end = '{{#my_shop_1}}, "rescore": {"window_size": 200, "x": "{\\u007by}}"}{{/my_shop_1}}}'
    assert configuration["query"] == '{"query": {"match": {"title": "{{queryText}}"}}' + end
    one = [(searches[0], clause)]
    assert workbench.with_clauses('{"query": {}, "rescore": {}}', "shop", one) is None
    assert workbench.with_clauses("{{> partial", "shop", one) is None


def test_a_policy_s_query_set_ends_where_its_template_would_be_too_large() -> None:
    searches = [search(str(at), f"u{at}", "shoe", {"p1": 1.0}) for at in range(100)]
    clauses = {str(at): json.dumps({"filter": "ü" * 1_000, "at": at}, ensure_ascii=False) for at in range(100)}
    files, ratings = workbench.exported(searches, '{"query": {}}', "products", "salt", {"shop": clauses})
    query = json.loads(files["search_configuration_shop.json"])["query"]
    kept = len(files["query_set_shop.ndjson"].splitlines())
    assert 60_000 < len(query.encode()) <= 65_535
    assert 25 < kept < 40
    assert list(ratings.notes.values()) == [100 - kept]


@given(st.lists(st.tuples(st.text(max_size=30), st.text(max_size=10)), min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_no_value_is_refused_and_judgments_name_the_same_queries(rows: list[tuple[str, str]]) -> None:
    searches = [search(str(at), who or "x", words, {"p": 1.0}) for at, (words, who) in enumerate(rows)]
    files, _ = workbench.exported(searches, None, "products", "salt")
    entries = json.loads(files["query_set.json"])["querySetQueries"]
    assert all(is_accepted(value) for entry in entries for value in entry.values())
    judged = {one["query"] for one in json.loads(files["judgments.json"])["judgmentRatings"]}
    assert judged == {one["queryText"] for one in entries}


# --- Quepid -----------------------------------------------------------------------------------------------------------


def test_ratings_and_cases_of_quepid_are_read() -> None:
    assert quepid.read(DASHBOARDS_CSV, "r.csv").grades == {
        "120v power supply": {"3488015": 0.0, "637052": 0.0, "2274126": 1.0}
    }
    unrated = quepid.read("query,docid,rating\nstar wars,11,3\nrambo\n", "r.csv")
    case = quepid.read(json.dumps(QUEPID_CASE), "case.json")
    assert case.grades == {"star wars": {"11": 3.0, "1892": 2.0}, "rambo": {}}
    for ratings in (unrated, case):
        searches, left_out = searches_of(ratings)
        assert [one.query for one in searches] == ["star wars"]
        assert left_out == {"queries without ratings": 1}


def test_an_export_passes_the_checks_of_quepid_s_import() -> None:
    """As `import_ratings_modal_instance_controller.js` checks a file: its first line, and at most three parts between commas."""
    searches = [search("1", "ann", 'say "a, b"', {"p1": 1.0, "p,2": 1.0}), search("2", "bob", "=1+1", {"p3": 0.5})]
    files, ratings = quepid.exported(searches)
    first, *lines = files["ratings.csv"].split("\n")
    assert first == "query,docid,rating"
    assert [line.split(",") for line in lines if line] == [["say a b", "p1", "1"], ["=1+1", "p3", "0.5"]]
    assert ratings.left_out == {"documents whose id has a comma, which Quepid cannot import": 1}


# --- both -------------------------------------------------------------------------------------------------------------

WORDS = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters=chr(34) + chr(92) + "<>"),
    min_size=1,
    max_size=12,
).map(lambda text: " ".join(text.split()))
IDS = st.text("abc01,\"'=\u00fc", min_size=1, max_size=4)
SEARCHES = st.lists(
    st.tuples(WORDS.filter(bool), st.dictionaries(IDS, st.sampled_from([0.0, 1.0, 2.0, 3.0]), min_size=1, max_size=4)),
    min_size=1,
    max_size=5,
    unique_by=lambda one: one[0],
)


@settings(max_examples=100, deadline=None)
@given(SEARCHES)
def test_what_is_written_is_read_again(given_searches: list[tuple[str, dict[str, float]]]) -> None:
    searches = [search(str(at), f"u{at}", words, grades) for at, (words, grades) in enumerate(given_searches)]
    expected = dict(given_searches)
    files, _ = workbench.exported(searches, None, "products", "salt")
    assert not [name for name in files if name.startswith("search_configuration")]
    assert workbench.read_judgments(files["judgments.json"], "j").grades == expected
    assert read_csv(files["judgments.csv"], "j").grades == expected
    assert set(workbench.read_query_set(files["query_set.ndjson"], "q")) == set(expected)
    assert workbench.read_query_set(files["query_set.json"], "q") == workbench.read_query_set(
        files["query_set.ndjson"], "q"
    )
    assert read_csv(csv_of(merged(searches).grades), "j").grades == expected


@pytest.mark.parametrize(
    ("text", "read", "faults"),
    [
        ("query,doc,rating\n", read_csv, ["f:1: its columns are not query,docid,rating"]),
        (
            "query,docid,rating\na,b,x\n,b,1\na,b,1,2\na,b,nan\n",
            read_csv,
            ["f:2: its rating", "f:3: is not", "f:4: is not", "f:5: its rating"],
        ),
        ("{", workbench.read_judgments, ["f: is not JSON"]),
        ("{}", workbench.read_judgments, ["f: holds no `judgmentRatings`"]),
        (
            '{"judgmentRatings": [{"query": "a"}, 5]}',
            workbench.read_judgments,
            ["f: judgmentRatings[0]", "f: judgmentRatings[1]"],
        ),
        (
            '{"judgmentRatings": [{"query": "a", "ratings": [{"docId": 5, "rating": "1"}, {"docId": "x", "rating": "-1"}]}]}',
            workbench.read_judgments,
            ["f: judgmentRatings[0].ratings[0]", "f: judgmentRatings[0].ratings[1]"],
        ),
        ('{"queryText": 5}', workbench.read_query_set, ["f: entry 0 has no `queryText`"]),
        ('{"queryText": "a"}\nx\n', workbench.read_query_set, ["f:2: is not JSON"]),
        ('{"a": 1}', quepid.read, ["f: holds no `queries`"]),
        (
            '{"queries": [{"ratings": {}}, {"query_text": "a", "ratings": {"1": "x"}}]}',
            quepid.read,
            ["f: queries[0]", "f: queries[1]"],
        ),
    ],
)
def test_faults_are_all_named(text: str, read: Any, faults: list[str]) -> None:
    with pytest.raises(ConfigurationError) as raised:
        read(text, "f")
    found = list(map(str, raised.value.faults))
    assert len(found) == len(faults)
    assert all(one.startswith(fault) for one, fault in zip(found, faults, strict=True)), found


def test_people_and_segments_of_a_query_set_come_back() -> None:
    ratings = workbench.read_judgments(json.dumps(PUT_JUDGMENTS), "j")
    searches, left_out = searches_of(ratings, {"red dress": [("ann", "vip"), ("bob", "")]})
    assert [(one.search_id, one.subject.user_id, one.subject.segments, one.segment) for one in searches] == [
        ("1", "ann", ("vip",), "vip"),
        ("1.2", "bob", (), ""),
        ("2", "nobody-2", (), ""),
    ]
    assert left_out == {}
    assert workbench.unjudged(ratings, {"red dress": [], "green hat": []}) == {"queries without judgments": 1}


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rewriter.toml").write_text(
        "[opensearch]\nhosts = 'http://127.0.0.1:1'\n[policies.shop]\nindex = 'products'\n"
    )
    lines = [
        {"user_id": "ann@example.com", "query": "red dress", "relevant": ["p1"]},
        {"user_id": "bob", "query": "jeans", "relevant": {"p2": 3}},
    ]
    (tmp_path / "judged.ndjson").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "search.mustache").write_text('{"query": {"match": {"title": "{{query}}"}}}')
    return tmp_path


def test_the_command_exports_without_a_cluster_and_imports_what_it_wrote(folder: Path) -> None:
    runner = CliRunner()
    exported = runner.invoke(
        app, ["evaluate", "--judged", "judged.ndjson", "--export", "srw", "--to", "srw", "--body", "search.mustache"]
    )
    assert exported.exit_code == 0, exported.output
    names = [
        "judgments.csv",
        "judgments.json",
        "query_set.json",
        "query_set.ndjson",
        "search_configuration_baseline.json",
    ]
    assert sorted(path.name for path in (folder / "srw").iterdir()) == names
    for judged in ("srw/judgments.csv", "srw/judgments.json"):
        again = runner.invoke(
            app,
            [
                "evaluate",
                "--import",
                "srw",
                "--judged",
                judged,
                "--queries",
                "srw/query_set.json",
                "--export",
                "quepid",
                "--to",
                "q",
            ],
        )
        assert again.exit_code == 0, again.output
        assert (folder / "q" / "ratings.csv").read_text() == "query,docid,rating\nred dress,p1,1\njeans,p2,3\n"
    trec = folder / "qrels.txt"
    trec.write_text("1 0 p1 1\n")
    (folder / "queries.ndjson").write_text('{"id": "1", "user_id": "ann", "query": "red dress"}')
    from_trec = runner.invoke(
        app,
        [
            "evaluate",
            "--import",
            "trec",
            "--judged",
            "qrels.txt",
            "--queries",
            "queries.ndjson",
            "--export",
            "quepid",
            "--to",
            "t",
        ],
    )
    assert from_trec.exit_code == 0, from_trec.output
    assert (folder / "t" / "ratings.csv").read_text() == "query,docid,rating\nred dress,p1,1\n"
    assert "@example" not in exported.output


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--import", "quepid"], "--import quepid: gives the format of --judged"),
        (["--import", "trec", "--judged", "judged.ndjson"], "belong together; so do --import trec and --queries"),
        (["--import", "quepid", "--judged", "judged.ndjson"], "judged.ndjson: is not JSON"),
        (["--judged", "judged.ndjson"], "--from: is missing"),
        (["--import", "srw", "--judged", "empty.csv"], "holds no judged search: it is empty"),
    ],
)
def test_what_cannot_be_exchanged_is_refused(folder: Path, arguments: list[str], fault: str) -> None:
    (folder / "empty.csv").write_text("query,docid,rating\n")
    ends = [] if fault.startswith("--from") else ["--export", "quepid"]
    result = CliRunner().invoke(app, ["evaluate", *arguments, *ends])
    assert (result.exit_code, result.stdout) == (2, "")
    assert fault in result.stderr
    assert not (folder / "export").exists()
