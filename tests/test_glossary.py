"""The glossary explains its terms in a sentence or two, other pages link to each, and links within the pages lead to headings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.pages import PAGES, ROOT, named

GLOSSARY = ROOT / "docs" / "glossary.md"
TERMS = re.findall(r"^### (.+)\n((?:(?!#).+\n)+)", GLOSSARY.read_text("utf-8"), re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def prose(page: Path) -> str:
    """Return a page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


def slug(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)}


def links(page: Path) -> list[tuple[Path, str]]:
    """Return the pages and anchors that a page links to, within the project."""
    found = [link.partition("#") for link in LINK.findall(prose(page)) if "://" not in link]
    return [((page.parent / path).resolve() if path else page, anchor) for path, _, anchor in found]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_to_headings(page: Path) -> None:
    assert [(named(to), anchor) for to, anchor in links(page) if anchor and anchor not in anchors(to)] == []


def test_there_are_thirty_terms_each_once() -> None:
    assert len(TERMS) >= 30
    assert len({slug(term) for term, _ in TERMS}) == len(TERMS)


@pytest.mark.parametrize(("term", "text"), TERMS, ids=[term for term, _ in TERMS])
def test_a_term_is_explained_in_few_sentences(term: str, text: str) -> None:
    without_source = re.sub(r"\((?:[^()]|\([^()]*\))*\)\s*$", "", text.strip(), flags=re.DOTALL)
    assert 1 <= len(re.findall(r"\.(?:\s|$)", without_source)) <= 2, term


@pytest.mark.parametrize("term", [term for term, _ in TERMS])
def test_another_page_links_to_a_term(term: str) -> None:
    linking = [page for page in PAGES if page != GLOSSARY and (GLOSSARY, slug(term)) in links(page)]
    assert linking, f"no page links to glossary.md#{slug(term)}"
