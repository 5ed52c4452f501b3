"""The documentation as a site, by Sphinx, MyST and the furo theme: `make site` builds it into .site/, searchable offline."""

from __future__ import annotations

import ast
import re
from importlib.metadata import version as version_of
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

project = "rewriter"
author = "the rewriter project"
copyright = "the rewriter project, Apache-2.0"  # noqa: A001  Sphinx reads this name
version = release = version_of("rewriter")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["adr/template.md"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]
highlight_language = "none"

html_theme = "furo"
html_title = f"rewriter {version}"
html_show_sourcelink = False
html_copy_source = False

default_role = "literal"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True

ROOT = Path(__file__).parents[1]
FIRST_SENTENCE = re.compile(r".*?[.?](?=\s|$)", re.DOTALL)
TERM = re.compile(r"^(\w[\w, ]{0,40}): +(\S.*)$")


def as_list(_app: Sphinx, _what: str, _name: str, _obj: object, _options: object, lines: list[str]) -> None:
    """Make a list of the lines `name: meaning` of a docstring, which would run together otherwise."""
    found: list[str] = []
    inside = False
    for line in lines:
        match = TERM.match(line)
        if match:
            if not inside and found and found[-1]:
                found.append("")
            found.append(f"* ``{match[1]}``: {match[2]}")
            inside = True
        elif inside and line.strip() and not line.startswith(("Raises", "Returns")):
            found.append(f"  {line.strip()}")
        else:
            if inside and line.strip():
                found.append("")
            found.append(line)
            inside = False
    lines[:] = found


def purpose_of(module: Path) -> str:
    """Return the first sentence of a module's docstring, without its period."""
    text = " ".join((ast.get_docstring(ast.parse(module.read_text("utf-8"))) or "").split())
    sentence = FIRST_SENTENCE.match(text)
    return (sentence[0] if sentence else text).removesuffix(".")


class Files(SphinxDirective):
    """`files`: a table of the modules below a folder of the repository, with the purpose of each."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the table, made anew at each build."""
        folder = ROOT / self.arguments[0]
        files = sorted(folder.rglob("*.py"), key=lambda path: (path.parent.parts, path.name))
        lines = [
            f"| `{path.relative_to(folder).as_posix()}` | {purpose.replace('|', chr(92) + '|')} |"
            for path in files
            if (purpose := purpose_of(path))
        ]
        return self.parse_text_to_nodes("\n".join(["| file | purpose |", "|---|---|", *lines]))


def setup(app: Sphinx) -> None:
    """Connect the hook and the directive."""
    app.add_directive("files", Files)
    app.connect("autodoc-process-docstring", as_list)
