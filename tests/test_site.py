"""The documentation as a site: links lead somewhere, every page is in an index, and it is searched offline."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in (ROOT / "docs").rglob("*.md"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site; every warning of Sphinx is a failure: a link that leads nowhere, a page that no index lists."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-d", str(folder / "doctrees")]
    built = subprocess.run(
        [*command, str(ROOT / "docs"), str(folder / "html")], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    return folder / "html"


def test_every_page_is_there(site: Path) -> None:
    assert [page for page in PAGES if not (site / f"{page}.html").is_file()] == []


def test_a_page_has_a_line_for_each_file(site: Path) -> None:
    page = (site / "files.html").read_text("utf-8")
    folders = (ROOT / "rewriter", ROOT / "engines" / "rewriter_engines")
    files = [path.relative_to(folder).as_posix() for folder in folders for path in folder.rglob("*.py")]
    listed = set(re.findall(r">([\w/.]+\.py)<", page))
    assert [name for name in files if name not in listed and not name.endswith("__init__.py")] == []


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    """Scripts, styles and fonts come with the site, so that it can be read without a network."""
    fetched = re.compile(r"<(?:script|img|link rel=\"stylesheet\")[^>]+(?:src|href)=\"(?:https?:)?//")
    assert [path.name for path in site.rglob("*.html") if fetched.search(path.read_text("utf-8"))] == []


@pytest.mark.parametrize("word", ["max_boost", "no_signals", "kill", "wait_ready"])
def test_it_can_be_searched_offline(site: Path, word: str) -> None:
    index = (site / "searchindex.js").read_text("utf-8")
    assert word.partition("_")[0] in index


def test_the_reference_shows_what_is_public(site: Path) -> None:
    text = (site / "api.html").read_text("utf-8")
    for name in (
        "Rewriter.search_details",
        "AsyncRewriter.search",
        "Subject",
        "Report",
        "Reason",
        "Settings",
        "Status",
        "Hook",
    ):
        assert f'id="rewriter.{name}"' in text
