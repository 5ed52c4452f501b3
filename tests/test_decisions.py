"""Decision records: one layout, numbers of their own, and an index that lists them all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "docs/adr"
RECORDS = sorted(FOLDER.glob("[0-9]*.md"))
SECTIONS = ["Context", "Decision", "Rejected", "Consequences"]


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem[:4])
def test_each_record_has_the_same_sections_in_the_same_order(path: Path) -> None:
    text = path.read_text("utf-8")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert [one for one in headings if one in SECTIONS] == SECTIONS
    assert text.startswith(f"# {int(path.stem[:4])}. ")


def test_no_number_is_used_twice() -> None:
    numbers = [path.stem[:4] for path in RECORDS]
    assert len(set(numbers)) == len(numbers)


def test_the_index_lists_every_record_by_its_title() -> None:
    rows = re.findall(r"^\| \[(\d+)\]\((.+?)\) \| (.+) \|$", (FOLDER / "README.md").read_text("utf-8"), re.MULTILINE)
    titles = [(path.name, path.read_text("utf-8").splitlines()[0]) for path in RECORDS]
    assert [(name, f"# {number}. {title}") for number, name, title in rows] == titles
