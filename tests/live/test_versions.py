"""The versions under the whole suite are those of docs/versions.md, and the page is what its record makes."""

from __future__ import annotations

import os
import tomllib
from dataclasses import replace

import pytest

from tests.pages import ROOT
from tests.versions import (
    PAGE,
    WHOLE,
    Run,
    client_version,
    differences,
    numbers,
    python_version,
    ran,
    record,
    server_version,
    short,
    store_version,
    written,
)

SOME = Run("OpenSearch 3.8.0", "opensearch-py 3.2.0", "Valkey 9.1.2", "3.11.7", "all tests", chosen=("server",))


def test_the_whole_suite_runs_on_what_the_table_states(opensearch_url: str, redis_url: str) -> None:
    """Servers that a developer names by a URL need only be of a product that ran."""
    server, store = server_version(opensearch_url), store_version(redis_url)
    known = record().get(WHOLE)
    products = {product for run in record().values() for product, _ in run.versions} | {"Redis"}
    if known and "OPENSEARCH_URL" in os.environ and server.partition(" ")[0] in products:
        server = known.server
    if known and "REDIS_URL" in os.environ and store.partition(" ")[0] in products:
        store = known.store
    suites = "all tests but those marked `full`"
    ran(
        WHOLE,
        Run(
            server, client_version("opensearch-py"), store, python_version(), suites, "in each `make test`", ("server",)
        ),
    )


def test_the_page_is_what_the_record_makes() -> None:
    page = PAGE.read_text("utf-8")
    assert written(page) == page, "run `make docs`"


@pytest.mark.parametrize(
    ("other", "wrong"),
    [
        (SOME, []),
        (replace(SOME, server="OpenSearch 3.8.1", client="opensearch-py 3.9.0", store="Valkey 9.2.0"), []),
        (replace(SOME, server="OpenSearch 3.9.0"), ["server OpenSearch 3.8.0, ran OpenSearch 3.9.0"]),
        (replace(SOME, server="Elasticsearch 3.8.0"), ["server OpenSearch 3.8.0, ran Elasticsearch 3.8.0"]),
        (replace(SOME, client="opensearch-py 4.0.0"), ["client opensearch-py 3.2.0, ran opensearch-py 4.0.0"]),
        (replace(SOME, suites="a few"), ["suites 'all tests', ran 'a few'"]),
    ],
)
def test_a_run_on_other_versions_fails(other: Run, wrong: list[str]) -> None:
    assert differences(SOME, other) == wrong
    assert differences(None, other) == ["this run is not recorded"]


def test_what_the_package_allows_was_run() -> None:
    """The oldest version of each requirement, and Pythons of the classifiers alone."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    every = {(product, short(version)) for run in record().values() for product, version in run.versions}
    assert {("opensearch-py", "2.4"), ("elasticsearch-py", "8.14")} <= every
    assert "opensearch-py>=2.4,<4" in project["dependencies"]
    assert project["optional-dependencies"]["elasticsearch"] == ["elasticsearch[async]>=8.14,<10"]
    named = {one.rpartition(" ")[2] for one in project["classifiers"] if "Python :: 3." in one}
    assert "3.11" in {version for product, version in every if product == "Python"} <= named
    assert (3, 11) <= numbers(python_version()) < (3, 15)
