"""`rewriter check` for people and programs: suggestions, what samples rendered, annotations and SARIF."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft7Validator, FormatChecker
from typer.testing import CliRunner, Result

from rewriter.boost.samples import HOSTILE, hostile
from rewriter.cli import app
from rewriter.cli.findings import RULES, Finding, github, sarif
from rewriter.cli.rendered_samples import MAX_TEXT
from rewriter.errors import Fault
from rewriter.settings import Settings
from rewriter.similar import did_you_mean
from tests.sarif_schema import SARIF

NOWHERE = "http://127.0.0.1:1"
TEMPLATE = (
    '[{% for a in affinities %}{"filter": {{ a.filter }}, "weight": WEIGHT}{{ "," if not loop.last }}{% endfor %}]'
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with settings and a template set in it."""
    monkeypatch.delenv("GITHUB_WORKSPACE", raising=False)
    monkeypatch.chdir(tmp_path)
    write(tmp_path, plain("{{ a.weight }}"))
    return tmp_path


def plain(weight: str) -> str:
    return TEMPLATE.replace('{{ "," if not loop.last }}', "{% if not loop.last %},{% endif %}").replace(
        "WEIGHT", weight
    )


def write(folder: Path, template: str, policy: str = "") -> None:
    (folder / "templates" / "own" / "samples").mkdir(parents=True, exist_ok=True)
    (folder / "templates" / "own" / "boosts.json.j2").write_text(template)
    (folder / "rewriter.toml").write_text(
        f"templates_dir = 'templates'\n[opensearch]\nhosts = '{NOWHERE}'\n"
        f"[policies.shop]\nindex = 'a'\ntemplates = 'own'\n{policy}[policies.shop.fields.brand]\n"
    )


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(app, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


# --- did you mean -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("wieght", "did you mean weight?"),
        ("Filter", "did you mean filter?"),
        ("colour", ""),
        ("", ""),
        ("w" * 10_000, ""),
    ],
)
def test_a_name_is_suggested_only_if_it_is_close(given: str, meant: str) -> None:
    assert did_you_mean(given, ["weight", "filter", "boost"]) == meant


@pytest.mark.parametrize(
    ("policy", "meant"),
    [
        ("max_bost = 2\n", "did you mean max_boost? `rewriter settings`"),
        ("cutoff_ms = 20\n", "did you mean cutoff_ms of [budget]? `rewriter settings`"),
        ("[policies.shop.fields.color]\nscales = 2\n", "did you mean scale? `rewriter settings`"),
        ("colour = 2\n", "(`rewriter settings`"),
    ],
)
def test_an_unknown_setting_names_the_one_that_was_meant(folder: Path, policy: str, meant: str) -> None:
    write(folder, plain("1"), policy)
    assert meant in run("check").stderr


@pytest.mark.parametrize(
    ("template", "meant"),
    [
        (plain("{{ a.wieght }}"), "(did you mean weight?)"),
        (plain("{{ policy.max_bost }}"), "(did you mean max_boost?)"),
        (plain("{{ session.event }}"), "(did you mean events?)"),
        (plain("{{ a.weight | rond }}"), "(did you mean round?)"),
        (plain("{{ 1 if a.weight is defind }}"), "(did you mean defined?)"),
        ("{{ affinites }}", "(did you mean affinities? this template can use"),
        ('[{"filter": {"trem": {"a": "b"}}, "weight": 1}]', "(did you mean term?)"),
        ('[{"filter": {"term": {"a": "b"}}, "wieght": 1, "weight": 1}]', "(did you mean weight?)"),
    ],
)
def test_a_misspelled_name_in_a_template_is_corrected(folder: Path, template: str, meant: str) -> None:
    write(folder, template)
    result = run("check")
    assert result.exit_code == 2
    assert meant in result.stderr


def test_a_template_set_and_a_policy_that_do_not_exist(folder: Path) -> None:
    assert "no policy is named 'shp' (did you mean shop?)" in run("render", "shp", "--user", "ann").stderr
    text = (folder / "rewriter.toml").read_text()
    (folder / "rewriter.toml").write_text(text.replace("templates = 'own'", "templates = 'owns'"))
    assert "owns: is not a folder (did you mean own? a template set" in run("check").stderr


# --- formats ----------------------------------------------------------------------------------------------------------


def test_annotations_stand_at_the_lines_of_faults(folder: Path) -> None:
    write(folder, "[\n{{ affinites }}\n]")
    result = run("check", "--format", "github")
    assert result.exit_code == 2
    (error,) = [line for line in result.stdout.splitlines() if line.startswith("::error")]
    assert error.startswith(
        "::error file=templates/own/boosts.json.j2,line=2,title=rewriter check%3A templates::undeclared name `affinites`"
    )
    assert all(line.startswith(("::error ", "::notice ")) for line in result.stdout.splitlines())
    assert result.stderr == ""  # a log would show each finding twice


def test_the_sarif_output_is_valid_sarif(folder: Path) -> None:
    write(folder, "[\n{{ affinites }}\n]", "max_functions = 3\n")
    result = run("check", "--format", "sarif")
    assert result.exit_code == 2
    found = json.loads(result.stdout)
    assert not list(Draft7Validator(SARIF, format_checker=FormatChecker()).iter_errors(found))
    (one,) = found["runs"]
    assert [rule["id"] for rule in one["tool"]["driver"]["rules"]] == list(RULES)
    assert all(
        RULES[each["ruleId"]] == one["tool"]["driver"]["rules"][each["ruleIndex"]]["shortDescription"]["text"]
        for each in one["results"]
    )
    levels = [(each["ruleId"], each["level"]) for each in one["results"]]
    assert ("templates", "error") in levels
    assert ("index", "note") in levels  # the cluster is not there
    places = json.loads(result.stdout)["runs"][0]["results"][levels.index(("templates", "error"))]["locations"]
    assert places == [
        {
            "physicalLocation": {
                "artifactLocation": {"uri": "templates/own/boosts.json.j2"},
                "region": {"startLine": 2},
            }
        }
    ]


@pytest.mark.parametrize(
    ("template", "line", "texts"),
    [
        (plain('{{ a.weight }}, "wieght": 1').replace("[{", "[\n{", 1), 2, ["'wieght' not allowed here"]),
        ("[\n\n" + plain("{{ a.wieght }}")[1:], 3, ["UndefinedError"]),
        (plain("{{ a.weight }},"), 1, ["is not JSON"]),
        (plain('"x", "wiehgt": 1'), 1, ["`weight` must be a number", "'wiehgt' not allowed"]),
        (
            "[\n{% for a in affinities %}{% if a.weight > 9 %}{% endif %}{% endfor %}\n{{ a }}]",
            3,
            ["undeclared name `a`"],
        ),
    ],
)
def test_one_mistake_of_a_template_is_one_finding_at_its_line(
    folder: Path, template: str, line: int, texts: list[str]
) -> None:
    write(folder, template)
    found = [one for one in run("check", "--format", "github").stdout.splitlines() if one.startswith("::error")]
    assert len(found) == len(texts)
    for one, text in zip(found, texts, strict=True):
        assert f"boosts.json.j2,line={line}," in one
        assert text in one
        assert ("on 4 samples" in one) == ("undeclared" not in text)


def test_every_mistake_of_a_template_is_named_and_counted(folder: Path) -> None:
    write(folder, plain('{{ a.weight }}, "wieght": {{ a.weigth }}'))
    (one,) = [one for one in run("check").stderr.splitlines() if "boosts.json.j2" in one]
    assert one.endswith("has no attribute 'weigth'; the same on 4 samples (did you mean weight?)")
    write(folder, plain('{{ a.weight }}, "wieght": 1'))
    (one,) = [one for one in run("check").stderr.splitlines() if "boosts.json.j2" in one]
    functions = sum(
        len(sample.given()[0])
        for sample in hostile(Settings.from_toml(folder / "rewriter.toml").policies["shop"]).values()
    )
    assert f"; the same {functions} times on 4 samples (did you mean weight?)" in one


def test_a_sample_is_faulty_at_its_key_and_a_note_stands_at_its_setting(folder: Path) -> None:
    write(folder, plain("1"), "max_functions = 3\n")
    (folder / "templates" / "own" / "samples" / "ann.json").write_text('{\n"sesion": {}\n}')
    lines = run("check", "--format", "github").stdout.splitlines()
    assert any("samples/ann.json,line=2," in one and "::sesion: Extra inputs" in one for one in lines)
    hosts = next(one for one in lines if "no index was checked" in one)
    assert "file=rewriter.toml,line=3," in hosts
    (folder / "templates" / "own" / "samples" / "ann.json").unlink()
    (repeats,) = [
        one for one in run("check", "--format", "github").stdout.splitlines() if "::policy shop: items" in one
    ]
    assert "file=rewriter.toml,line=4," in repeats
    text = (folder / "rewriter.toml").read_text()
    (folder / "rewriter.toml").write_text(text.replace("templates = 'own'", "templates = 'owns'"))
    (missing,) = [one for one in run("check", "--format", "github").stdout.splitlines() if one.startswith("::error")]
    assert "file=rewriter.toml,line=6," in missing


def test_paths_are_those_of_the_checkout_in_a_step_that_runs_below_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_WORKSPACE", str(folder.parent))
    write(folder, "[\n{{ affinites }}\n]")
    path = f"{folder.name}/templates/own/boosts.json.j2"
    assert f"::error file={path},line=2," in run("check", "--format", "github").stdout
    assert f'"uri": "{path}"' in run("check", "--format", "sarif").stdout


def test_a_correct_file_has_no_error_in_any_format(folder: Path) -> None:
    for form in ("text", "json", "github", "sarif"):
        assert run("check", "--format", form).exit_code == 0
    results = json.loads(run("check", "--format", "sarif").stdout)["runs"][0]["results"]
    assert {one["level"] for one in results} == {"note"}
    assert run("check", "--json").stdout == run("check", "--format", "json").stdout


def test_what_an_annotation_holds_cannot_end_it(tmp_path: Path) -> None:
    settings = tmp_path / "a,b:c.toml"
    settings.write_text("")
    (line,) = github([Finding("settings", "error", Fault(f"{settings}:7", "50%\n::error::x", "do"))], settings)
    assert "\n" not in line
    assert re.search(r"file=[^,:]*a%2Cb%3Ac\.toml,line=7,", line)
    assert line.endswith("::50%25%0A::error::x (do)")


def test_a_finding_on_no_file_stands_at_the_top_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Path("my settings.toml")
    findings = [
        Finding("store", "error", Fault("[store] url", "evicts")),
        Finding.of_note("index", "no index matches a*"),
        Finding.of_note("index", f"{settings}:3: in a: b is not mapped"),
    ]
    settings.write_text("")
    findings[2] = Finding.of_note("index", f"{settings}:3: in a: b is not mapped")
    found = sarif(findings, settings)["runs"][0]["results"]
    places = [one["locations"][0]["physicalLocation"] for one in found]
    assert [one["artifactLocation"]["uri"] for one in places] == ["my%20settings.toml"] * 3
    assert [one["region"]["startLine"] for one in places] == [1, 1, 3]
    assert [one["message"]["text"] for one in found] == [
        "[store] url: evicts",
        "no index matches a*",
        "in a: b is not mapped",
    ]


def test_a_draft_on_trial_is_checked_too(folder: Path) -> None:
    (folder / "templates" / "draft").mkdir()
    (folder / "templates" / "draft" / "boosts.json.j2").write_text("[\n{{ affinites }}]")
    write(folder, plain("1"), "[policies.shop.trial]\nversion = 'draft'\nsubjects = 'ann'\nheader = 'x-trial'\n")
    result = run("check")
    assert result.exit_code == 2
    assert "templates/draft/boosts.json.j2:2: undeclared name `affinites`" in result.stderr
    assert "note: policy shop: every search with the header x-trial is served the draft draft, which" in result.stderr
    assert "ann" not in result.output


def test_no_secret_is_in_any_format(folder: Path) -> None:
    text = (folder / "rewriter.toml").read_text()
    (folder / "rewriter.toml").write_text(f"{text}[store]\nurl = 'redis://:hunter2@127.0.0.1:1'\nurll = 'hunter2'\n")
    for form in ("text", "json", "github", "sarif"):
        result = run("check", "--format", form)
        assert result.exit_code == 2
        assert "hunter2" not in result.output


# --- what samples rendered --------------------------------------------------------------------------------------------


def test_what_samples_rendered_is_shown(folder: Path) -> None:
    sample = {"affinities": [{"kind": "attribute", "fields": ["brand"], "values": ["nike"], "weight": 0.25}]}
    (folder / "templates" / "own" / "samples" / "ann.json").write_text(json.dumps(sample))
    result = run("check", "--show")
    assert result.exit_code == 0
    assert (
        'shop on samples/ann.json: 1 affinity, 1 boost\n  +0.250 {"filter": {"term": {"brand": "nike"}}}\n'
        in result.stdout
    )
    assert "shop on a hostile sample (1): 12 affinities, 12 boosts" in result.stdout
    assert "shop on a hostile sample of field brand: 12 affinities" in result.stdout
    assert "\x1b" not in result.stdout
    assert "\x00" not in result.stdout


def test_what_samples_rendered_can_be_read(folder: Path) -> None:
    values = ["Kärcher", "花王", "del\x7f", "\u2028", "\ud800"]
    sample = {"affinities": [{"kind": "attribute", "fields": ["brand"], "values": values, "weight": 0.25}]}
    (folder / "templates" / "own" / "samples" / "ann.json").write_text(json.dumps(sample))
    shown = run("check", "--show").stdout
    assert r'["Kärcher", "花王", "del\u007f", "\u2028", "\ud800"]' in shown
    assert set("\x7f\u2028\x1b\x00").isdisjoint(shown)


def test_what_samples_rendered_is_json_and_as_it_would_be_sent(folder: Path) -> None:
    write(folder, plain("7"))
    result = run("check", "--show", "--json")
    rendered = {one["sample"]: one for one in json.loads(result.stdout)["rendered"]}
    assert {one["policy"] for one in rendered.values()} == {"shop"}
    boosts = rendered["a hostile sample (1)"]["boosts"]
    assert {one["weight"] for one in boosts} == {
        Settings.from_toml(folder / "rewriter.toml").policies["shop"].max_boost - 1
    }
    values = [one["filter"]["bool"]["filter"][0]["term"]["a"] for one in boosts]
    given = [one.values[0] for one in HOSTILE[1].given()[0]]
    assert [value for value in values if len(value) <= MAX_TEXT] == [value for value in given if len(value) <= MAX_TEXT]
    assert f"{'x' * MAX_TEXT}… (100,000 characters)" in values


def test_what_was_printed_is_shown_where_it_is_no_list_of_functions(folder: Path) -> None:
    write(folder, '[{% for a in affinities %}{"filter": "{{ a.values[0] }}"{% endfor %}]')
    result = run("check", "--show")
    assert result.exit_code == 2
    assert re.search(
        r"a hostile sample \(1\): 12 affinities, 0 boosts\n  fault: the output is not JSON: .*\n  printed: ",
        result.stdout,
    )


def test_what_is_rendered_is_no_finding(folder: Path) -> None:
    result = run("check", "--show", "--format", "sarif")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("--show: what is rendered is no finding")
