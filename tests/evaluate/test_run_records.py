"""Folders of runs: what another version or a broken disk left is named, and is no error of ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rewriter.errors import ConfigurationError
from rewriter.evaluate.records import FORMAT, read_run

RUN: dict[str, Any] = {"format": FORMAT, "figures": {"measure": "nDCG@10"}, "inputs": {"seed": 1}}
SEARCH: dict[str, Any] = {
    "search": "h1", "relevant": ["p1"], "person": "4f", "pages": {"baseline": ["p1"]}, "nDCG@10": {"baseline": 1.0},
}  # fmt: skip


def folder_of(path: Path, run: Any, *searches: Any) -> Path:
    (path / "run.json").write_text(json.dumps(run))
    (path / "searches.ndjson").write_text("\n".join(map(json.dumps, searches)))
    return path


def test_a_whole_run_is_read(tmp_path: Path) -> None:
    assert read_run(folder_of(tmp_path, RUN, SEARCH, SEARCH)) == (RUN, [SEARCH, SEARCH])


@pytest.mark.parametrize(
    ("run", "search", "what"),
    [
        (RUN | {"format": FORMAT + 1}, SEARCH, f"has format {FORMAT + 1}, and this version reads format {FORMAT}"),
        ([], SEARCH, "has format None"),
        (RUN | {"figures": None}, SEARCH, "is damaged: run.json lacks its measure"),
        (RUN | {"inputs": []}, SEARCH, "is damaged: run.json lacks its measure or its inputs"),
        *((RUN, {**SEARCH, key: None}, "is damaged: line 2 of searches.ndjson") for key in SEARCH),
        (RUN, {"id": "x"}, "is damaged: line 2 of searches.ndjson"),
        (RUN, 5, "is damaged: line 2 of searches.ndjson"),
    ],
)
def test_a_run_of_another_form_is_named(tmp_path: Path, run: Any, search: Any, what: str) -> None:
    with pytest.raises(ConfigurationError, match=what):
        read_run(folder_of(tmp_path, run, SEARCH, search))
