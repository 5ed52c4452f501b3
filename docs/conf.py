"""The documentation as a site, by Sphinx, MyST and the furo theme: `make site` builds it into .site/, searchable offline."""

from __future__ import annotations

import re
from importlib.metadata import version as version_of

from sphinx.application import Sphinx

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


def setup(app: Sphinx) -> None:
    """Connect the hook."""
    app.connect("autodoc-process-docstring", as_list)
