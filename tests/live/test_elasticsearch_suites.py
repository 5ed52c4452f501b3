"""The live suites on Elasticsearch: every row that its modules allow, and none skipped that the table does not name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from rewriter_engines.elasticsearch_layout import MISSING_MODULES
from tests.live.engine import DIFFERENT, SKIPPED, SUITES, TYPES, left_out
from tests.pages import ROOT
from tests.versions import Run, client_version, python_version, ran, server_version, store_version

DEADLINE_S = 1_500
DOC = (ROOT / "docs/elasticsearch.md").read_text("utf-8")


def test_each_row_that_is_skipped_names_a_module_that_is_missing() -> None:
    assert {*SKIPPED.values(), *TYPES.values()} <= set(MISSING_MODULES)


def test_the_page_names_each_missing_module_and_each_difference() -> None:
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (.*) \|$", DOC, re.MULTILINE))
    assert {name: rows.get(name) for name in MISSING_MODULES} == dict(MISSING_MODULES)
    assert [what for what in DIFFERENT.values() if what.partition(" (")[0] not in DOC] == []


def test_a_row_that_no_table_names_is_run() -> None:
    assert left_out("tests/live/test_shapes.py::test_every_ratio_lies_in_bounds[body0-params0-auto-rescore]") == ""
    assert left_out("tests/live/test_shapes.py::test_every_ratio_lies_in_bounds[body11-params11-auto-rescore]")


@pytest.mark.full
def test_the_suites_run_on_elasticsearch(elasticsearch_url: str, redis_url: str, tmp_path: Path) -> None:
    found = tmp_path / "found.xml"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-W",
        "ignore::DeprecationWarning",
        f"--junitxml={found}",
    ]
    run = subprocess.run(
        [*command, *SUITES],
        cwd=ROOT,
        env={
            **os.environ,
            "TEST_ENGINE": "elasticsearch",
            "ELASTICSEARCH_URL": elasticsearch_url,
            "REDIS_URL": redis_url,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )
    assert run.returncode == 0, run.stdout[-10_000:]
    rows = list(ET.parse(found).getroot().iter("testcase"))
    named = [f"{row.get('classname', '').replace('.', '/')}.py::{row.get('name')}" for row in rows]
    skipped = [name for name, row in zip(named, rows, strict=True) if row.find("skipped") is not None]
    assert [name for name in skipped if not left_out(name)] == []
    patterns = [*SKIPPED, *DIFFERENT]
    assert [one for one in patterns if not any(fnmatchcase(name, one) for name in skipped)] == []
    assert len(named) - len(skipped) >= 250, (len(named), len(skipped))
    passed = f"{len(named) - len(skipped)} passed, {len(skipped)} skipped"
    suites = ", ".join(f"`{Path(one).stem.removeprefix('test_')}`" for one in SUITES)
    versions = server_version(elasticsearch_url), client_version("elasticsearch-py"), store_version(redis_url)
    ran("Elasticsearch", Run(*versions, python_version(), suites, passed, ("server",)))
