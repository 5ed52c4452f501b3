"""`rewriter check` on the scores of given searches: steep, flat or neither, and the bare weight that it suggests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.live.test_cli import run
from tests.live.test_evaluate import KINDS, shop

__all__ = ["shop"]

STEEP = {"field_value_factor": {"field": "sold", "modifier": "square"}, "query": {"match": {"title": "{{query}}"}}}
JUDGED = ("check", "--judged", "judged.ndjson", "--body", "search.mustache")


def searches(path: Path, *, more: str = "") -> None:
    """Write searches whose relevant document is a shoe that sells less than others."""
    with path.open("w") as file:
        for n in range(12):
            row = {"user_id": f"person-{n}", "query": f"shoe {KINDS[n % 3]}", "relevant": [f"p{n % 3 + 78}"]}
            file.write(json.dumps(row) + "\n")
        file.write(more)


def spread(*arguments: str) -> tuple[Any, list[str]]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    said = json.loads(result.stdout)
    assert "person-" not in result.stdout + result.stderr
    return said["policies"]["shop"]["spread"], [one for one in said["notes"] if "scor" in one]


def test_a_steep_query_is_suggested_a_weight_with_its_ndcg(shop: str, tmp_path: Path) -> None:
    """The first of a kind sells 87 to 89, the tenth 60 to 62: squared, 2.06 to 2.1 times. (w + 89²) / (w + 62²) ≤ 2 from 233."""
    searches(tmp_path / "judged.ndjson")
    (tmp_path / "search.mustache").write_text(json.dumps({"query": {"function_score": STEEP}}))
    found, notes = spread(*JUDGED)
    assert found["spread"] == {"kind": "steep", "ratio": pytest.approx(2.081, abs=0.01), "searches": 12}
    weight = found["bare_weight"]
    assert 200.0 <= weight["weight"] <= 500.0
    assert weight["ratio"] <= 2.0
    ndcg = weight["nDCG@10"]
    assert (ndcg["searches"], ndcg["people"]) == (12, 12)
    assert 0.0 < ndcg["before"] < 1.0
    assert ndcg["after"] == pytest.approx(ndcg["before"])  # equal words: the order is that of sales, with any weight
    assert len(notes) == 1
    assert f'one function more, {{"weight": {weight["weight"]:g}}}' in notes[0]
    assert "nDCG@10 of the plain page is then" in notes[0]
    searches(tmp_path / "logged.ndjson")
    found, (note,) = spread("check", "--searches", "logged.ndjson", "--body", "search.mustache")
    assert found["bare_weight"]["weight"] == weight["weight"]
    assert found["bare_weight"]["nDCG@10"] is None
    assert "is not measured" in note


def test_scores_that_are_not_steep_are_tried_with_a_weight_where_searches_are_judged(shop: str, tmp_path: Path) -> None:
    """By sales alone the first scores 1.4 to 1.5 times the tenth: two fifths less from a weight of some 41 on."""
    searches(tmp_path / "judged.ndjson")
    linear = {**STEEP, "field_value_factor": {"field": "sold"}}
    (tmp_path / "search.mustache").write_text(json.dumps({"query": {"function_score": linear}}))
    found, (note,) = spread(*JUDGED)
    kind, before = found["spread"]["kind"], found["spread"]["ratio"]
    assert (kind, before) == ("even", pytest.approx(1.443, abs=0.01))
    assert found["bare_weight"]["weight"] == 50.0
    assert found["bare_weight"]["ratio"] - 1.0 <= 0.6 * (before - 1.0)
    assert found["bare_weight"]["nDCG@10"]["searches"] == 12
    assert "neither steep nor flat" in note
    found, _ = spread("check", "--searches", "judged.ndjson", "--body", "search.mustache")
    assert found["bare_weight"] is None


def test_flat_scores_other_searches_and_none(shop: str, tmp_path: Path) -> None:
    more = [
        {"user_id": "person-a", "body": {"query": {"match_all": {}}, "sort": ["sold"]}, "relevant": ["p1"]},
        {"user_id": "person-b", "body": {"query": {"match_all": {}}}, "index": "elsewhere", "relevant": ["p1"]},
        {"user_id": "person-c", "body": {"query": {"nosuch": {}}}, "relevant": ["p1"]},
    ]
    searches(tmp_path / "judged.ndjson", more="".join(json.dumps(one) + "\n" for one in more))
    found, notes = spread(*JUDGED)
    assert found["spread"]["kind"] == "flat"
    assert found["bare_weight"] is None
    assert (found["searches"], found["failed"]) == (13, 1)
    assert "any boost decides the order" in notes[0]
    assert "failed searches: 1" in notes[0]
    assert notes[1:] == [
        "left out of the spread of scores: 1, since they are sorted",
        "left out of the spread of scores: 1, since no policy matches their index",
    ]
    unmeasured, notes = spread("check")
    assert unmeasured is None
    assert notes == []


def test_files_that_cannot_be_used_are_faults(shop: str, tmp_path: Path) -> None:
    (tmp_path / "judged.ndjson").write_text('{"user_id": "u", "query": "shoe"}\n')
    result = run(*JUDGED)
    assert result.exit_code == 2
    assert "judged.ndjson:1: `relevant` is neither" in result.stderr
    result = run(*JUDGED, "--searches", "judged.ndjson")
    assert "--searches and --judged: are both given" in result.stderr
    searches(tmp_path / "judged.ndjson")
    result = run("check", "--judged", "judged.ndjson")
    assert result.exit_code == 2
    assert "no `body`: " in result.stderr
    assert "--body: belongs to searches" in run("check", "--body", "search.mustache").stderr
    result = run(*JUDGED, "--opensearch", "http://127.0.0.1:1")
    assert "the spread of scores was not measured: no policy, or no answer of the cluster" in result.stderr
