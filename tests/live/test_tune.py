"""`rewriter tune` on a real index: chosen on one window, confirmed on a later one, and never more than a proposal."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from rewriter import Settings
from rewriter.cli import app
from rewriter.evaluate import drawing, tuning
from rewriter.evaluate.rescoring import Rescoring
from tests.live.test_evaluate import history, shop

__all__ = ["shop"]

TUNE = (
    "tune", "shop", "--from", "h.ndjson", "--body", "search.mustache", "--train", "2w", "--confirm", "2w", "--spare-new", "0",
    "--searches", "150", "--max-boost", "3",
)  # fmt: skip


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [*TUNE, *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code, result.stderr + result.stdout
    return result


def _nothing(_: object, leg: object) -> None:
    """Compute no leg, so that all go to the server."""


def weak(folder: Path) -> None:
    """Let the policy be one that can be bettered."""
    text = (folder / "rewriter.toml").read_text()
    weaker = text.replace("max_boost = 2", "max_boost = 1.1  # careful").replace("scale = 0.5", "scale = 0.02")
    (folder / "rewriter.toml").write_text(weaker)
    popular = {"field_value_factor": {"field": "sold", "modifier": "ln2p"}, "query": {"match": {"title": "{{query}}"}}}
    (folder / "search.mustache").write_text(json.dumps({"query": {"function_score": popular}}))


def test_what_the_later_window_confirms_is_proposed_as_a_diff(shop: str, tmp_path: Path) -> None:
    history(tmp_path / "h.ndjson", faithful=True)
    weak(tmp_path)
    before = (tmp_path / "rewriter.toml").read_text()
    result = run("--trials", "5", "--html", "tune.html")
    assert "Proposed." in result.stdout
    chosen: dict[str, Any] = json.loads(run("--trials", "5", "--json").stdout)["chosen"]["settings"]
    assert (tmp_path / "rewriter.toml").read_text() == before
    diff = (tmp_path / "tune.diff").read_text()
    assert diff.startswith("# nDCG@10, every search, on the later window (")
    assert "-max_boost = 1.1  # careful" in diff
    assert "# careful" in diff.split("+max_boost")[1]
    assert "<circle" in (tmp_path / "tune.html").read_text()
    assert "person-" not in result.stdout + diff
    applied = Settings.from_toml(patched(tmp_path, diff)).policies["shop"]
    assert applied.max_boost == pytest.approx(chosen["max_boost"])
    assert applied.fields["brand"].scale == pytest.approx(chosen["fields.brand.scale"])


def patched(folder: Path, diff: str) -> Path:
    """Apply the diff as the page says."""
    path = folder / "rewriter.toml"
    subprocess.run(["patch", str(path)], input=diff, text=True, check=True, capture_output=True)
    return path


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(
    shop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit: trials of the journal are not run again, and the others are drawn as they would have been."""
    history(tmp_path / "h.ndjson", faithful=True)
    weak(tmp_path)
    monkeypatch.setattr(drawing, "SOBOL", 2)
    whole = json.loads(run("--trials", "4", "--study", "whole.journal", "--json").stdout)
    run("--trials", "2", "--study", "parts.journal", "--json", code=0)
    resumed = json.loads(run("--trials", "4", "--study", "parts.journal", "--json").stdout)
    assert resumed["trials"] == whole["trials"]
    assert resumed["confirmation"] == whole["confirmation"]
    assert resumed["legs"]["computed"] < whole["legs"]["computed"]
    assert whole["legs"]["sent"] == 0
    result = run("--trials", "4", "--study", "parts.journal", "--seed", "2", code=2)
    assert "holds trials of other inputs" in result.stderr


def test_an_attribute_within_the_class_is_added_where_it_gains(shop: str, tmp_path: Path) -> None:
    """The policy counts no brand; in each kind of shoe everybody keeps to one."""
    history(tmp_path / "h.ndjson", faithful=True)
    weak(tmp_path)
    text = (tmp_path / "rewriter.toml").read_text().partition("[policies.shop.fields.brand]")[0]
    (tmp_path / "rewriter.toml").write_text(text.replace("max_boost = 1.1", 'class_field = "kind"\nmax_boost = 2'))
    found = json.loads(run("--trials", "3", "--json").stdout)
    assert found["added"] == {"kind_brand": ["kind", "brand"]}
    assert found["chosen"]["settings"]["fields.kind_brand.scale"] == 0.6
    applied = Settings.from_toml(patched(tmp_path, (tmp_path / "tune.diff").read_text())).policies["shop"]
    assert applied.fields["kind_brand"].of == ("kind", "brand")
    assert applied.fields["kind_brand"].scale == 0.6
    assert "new fields: kind_brand; run `rewriter backfill`" in (tmp_path / "tune.diff").read_text()
    (tmp_path / "rewriter.toml").write_text(text.replace("max_boost = 1.1", 'class_field = "kind"\nmax_boost = 2'))
    again = run("--trials", "3", "--spare-new", "1.9", code=1)  # the same trials, chosen anew
    assert "Not proposed: no trial surely keeps 190%: the nearest, trial " in again.stdout
    alone = json.loads(run("--trials", "1", "--no-add-fields", "--study", "alone.journal", "--json", code=1).stdout)
    assert alone["added"] == {}


def test_a_proposal_holds_what_changes_and_leaves_shared_half_lives(shop: str, tmp_path: Path) -> None:
    """Another policy counts brands too: with a half-life in one of them, the settings would be refused."""
    history(tmp_path / "h.ndjson", faithful=True)
    weak(tmp_path)
    text = (tmp_path / "rewriter.toml").read_text()
    (tmp_path / "rewriter.toml").write_text(text + '\n[policies.hats]\nindex = "hats"\n[policies.hats.fields.brand]\n')
    found = json.loads(run("--trials", "5", "--json").stdout)
    assert "half-lives are kept: other policies count brand, item too" in found["notes"]
    assert found["changes"].items() < found["chosen"]["settings"].items()
    diff = (tmp_path / "tune.diff").read_text()
    written = [line[1:].split(" = ")[0] for line in diff.splitlines() if line.startswith("+") and " = " in line]
    assert sorted(written) == sorted(name.rpartition(".")[2] for name in found["changes"])
    assert "half_life_s" not in diff
    assert Settings.from_toml(patched(tmp_path, diff)).policies["hats"].fields["brand"].half_life_s is None


def test_trials_in_process_measure_what_the_server_does(
    shop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history(tmp_path / "h.ndjson", faithful=True)
    weak(tmp_path)
    computed = json.loads(run("--trials", "3", "--study", "one.journal", "--json").stdout)
    monkeypatch.setattr(Rescoring, "_computed", _nothing)
    served = json.loads(run("--trials", "3", "--study", "other.journal", "--json").stdout)
    assert served["legs"]["computed"] == 0 < served["legs"]["sent"]
    assert served["trials"] == computed["trials"]
    assert served["confirmation"] == computed["confirmation"]


def test_what_the_later_window_does_not_confirm_is_refused(shop: str, tmp_path: Path) -> None:
    history(tmp_path / "h.ndjson", faithful=False)
    result = run("--trials", "4", code=1)
    assert "Not proposed: " in result.stdout
    assert not (tmp_path / "tune.diff").exists()


def test_where_the_query_is_the_limit_a_bare_weight_is_measured(shop: str, tmp_path: Path) -> None:
    """Squared sales are steep: what each brand's friends like lies below the first hits, out of reach of any boost."""
    history(tmp_path / "h.ndjson", faithful=True)
    steep = {"field_value_factor": {"field": "sold", "modifier": "square"}, "query": {"match": {"title": "{{query}}"}}}
    (tmp_path / "search.mustache").write_text(json.dumps({"query": {"function_score": steep}}))
    steepness, weight = json.loads(run("--trials", "1", "--json", code=1).stdout)["notes"][:2]
    assert "the query's scores are steep: the first hit scores 2.0" in steepness
    found = re.search(
        r'"weight": (\d+)}.* baseline goes from ([\d.]+) to ([\d.]+) .* the policy as it is from ([\d.]+) to ([\d.]+)',
        weight,
    )
    assert found is not None, weight
    number, base, plain, before, after = map(float, found.groups())
    assert 200.0 <= number <= 500.0
    assert plain == base > 0.0
    assert after > before


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("--train", "9x"), "--train 9x: is not a window"),
        (("--confirm", "9999w"), "--train: the window holds no event"),
        (("--index", "hats"), "policy shop: does not match hats"),
        (("--action", "dislike"), "no event of the window"),
        (("--study", "h.ndjson"), "is not a journal of tuning"),
    ],
)
def test_what_cannot_be_tuned_is_named(shop: str, tmp_path: Path, arguments: tuple[str, ...], fault: str) -> None:
    history(tmp_path / "h.ndjson", faithful=True, people=5)
    assert fault in run("--trials", "2", *arguments, code=2).stderr
    assert not (tmp_path / "tune.diff").exists()


def test_one_person_s_searches_are_too_few_to_choose_by(shop: str, tmp_path: Path) -> None:
    history(tmp_path / "h.ndjson", faithful=True, people=1)
    fault = run("--trials", "2", code=2).stderr
    assert re.search(r"--train: the window's \d+ searches are of fewer than 2 people", fault)
    assert not (tmp_path / "tune.journal").exists()


def test_an_interrupted_run_says_where_it_goes_on(shop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history(tmp_path / "h.ndjson", faithful=True, people=10)
    objective, begun = tuning._objective, list[int]()

    def interrupted(*arguments: Any) -> tuple[float, float]:
        begun.append(1)
        if len(begun) > 2:
            raise KeyboardInterrupt
        return objective(*arguments)

    monkeypatch.setattr(tuning, "_objective", interrupted)
    result = run("--trials", "40", code=2)
    assert "interrupted: after 2 of 40 trials; nothing is proposed" in result.stderr
    assert "the same command continues from tune.journal" in result.stderr
    assert not (tmp_path / "tune.diff").exists()


FRAGILE = (
    '[{% for a in affinities %}{"filter": {{ a.filter }}, "weight": {{ a.weight * a.scale if a.values[0] != "puma" else 1 / 0 }}}'
    "{% if not loop.last %},{% endif %}{% endfor %}]"
)
"""A template that fails for those who like puma."""


def own_template(folder: Path, template: str) -> None:
    (folder / "templates" / "own").mkdir(parents=True, exist_ok=True)
    (folder / "templates" / "own" / "boosts.json.j2").write_text(template)
    text = (folder / "rewriter.toml").read_text()
    (folder / "rewriter.toml").write_text(
        'templates_dir = "templates"\n' + text.replace("max_boost = 1.1", 'templates = "own"\nmax_boost = 1.1')
    )


def test_a_template_that_fails_for_some_people_is_named_and_counted(shop: str, tmp_path: Path) -> None:
    history(tmp_path / "h.ndjson", faithful=True)
    weak(tmp_path)
    own_template(tmp_path, FRAGILE)
    found = json.loads(run("--trials", "2", "--json").stdout)
    (training,) = (one for one in found["notes"] if "training searches, whose" in one)
    (later,) = (one for one in found["notes"] if "later searches, whose" in one)
    cause = r"whose pages are the plain ones: template_failed: ZeroDivisionError: division by zero \(\d+\)$"
    counted = re.match(rf"the policy as it is failed in (\d+) of \d+ training searches, {cause}", training)
    assert counted is not None, training
    assert 0 < int(counted[1]) < 60
    assert [one["failed"] for one in found["trials"]] == [int(counted[1])] * 2
    assert re.match(rf"the policy as it is failed in \d+ of \d+ later searches, {cause}", later)


def test_searches_that_the_index_rejects_are_named_and_counted(shop: str, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in history(tmp_path / "h.ndjson", faithful=True).read_text().splitlines()]
    odd = [row | ({"query": "[1 TO"} if row["query"] == "shoe trail" else {}) for row in rows]
    (tmp_path / "h.ndjson").write_text("".join(json.dumps(row) + "\n" for row in odd))
    weak(tmp_path)
    (tmp_path / "search.mustache").write_text(
        '{"query": {"query_string": {"query": "{{query}}", "fields": ["title"]}}}'
    )
    found = json.loads(run("--trials", "1", "--json", code=1).stdout)
    (note,) = (one for one in found["notes"] if "training searches are left out" in one)
    assert re.search(r"^\d+ training searches are left out: rejected by the server: \d+ searches \(h\d+, .*\): ", note)
    assert "Failed to parse query [[1 TO]" in note


def test_most_of_the_searches_by_one_person_is_said(shop: str, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in history(tmp_path / "h.ndjson", faithful=True).read_text().splitlines()]
    mine = [row | ({"user_id": "person-0"} if number % 7 else {}) for number, row in enumerate(rows)]
    (tmp_path / "h.ndjson").write_text("".join(json.dumps(row) + "\n" for row in mine))
    found = json.loads(run("--trials", "1", "--json", code=1).stdout)
    assert any(one.startswith("training window: one person made ") for one in found["notes"])


def test_a_window_without_an_event_is_named(shop: str, tmp_path: Path) -> None:
    rows = [
        json.loads(line) for line in history(tmp_path / "h.ndjson", faithful=True, people=5).read_text().splitlines()
    ]
    times = sorted(row["timestamp"] for row in rows)
    gap = [row for row in rows if row["timestamp"] < times[len(times) // 3] or row["timestamp"] == times[-1]]
    (tmp_path / "h.ndjson").write_text("".join(json.dumps(row) + "\n" for row in gap))
    fault = run("--trials", "1", code=2).stderr
    assert re.search(
        r"^--train: the window holds no event: none of \d+ events lie in 2026-\d\d-\d\d to 2026-\d\d-\d\d", fault
    )
    assert not (tmp_path / "tune.journal").exists()
