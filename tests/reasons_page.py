"""The tables of docs/reasons.md, made from the explanations that the wheel holds: `make docs` writes them into the page."""

from __future__ import annotations

from bench.markers import replaced
from rewriter.cli.explain import explanations
from tests.pages import ROOT

PAGE = ROOT / "docs" / "reasons.md"
BEGIN, END = "<!-- reasons: begin -->", "<!-- reasons: end -->"


def tables() -> str:
    """Return the table of reasons and the table of details, as Markdown."""
    every = explanations()
    lines = ["| reason | means | what to do |", "|---|---|---|"]
    lines += [f"| `{reason}` | {row.means} | {row.do} |" for reason, row in every.items()]
    lines += ["", "## Details", "A `…` stands for what differs from search to search.", ""]
    lines += ["| reason | detail | means, and what to do |", "|---|---|---|"]
    lines += [
        f"| `{reason}` | {detail} | {text} |" for reason, row in every.items() for detail, text in row.details.items()
    ]
    return "\n".join(lines)


def written(page: str) -> str:
    """Return a page's text with the tables between its markers."""
    return replaced(page, BEGIN, END, tables(), PAGE)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
