"""The JSON Schemas that the wheel holds, made from the types: `make docs` writes them."""

from __future__ import annotations

import json
import os
from typing import Any

from rewriter.boost.schema import boosts_schema, exploration_schema
from rewriter.cli.settings import schema
from tests.pages import ROOT

FOLDER = ROOT / "rewriter" / "schemas"


def made() -> dict[str, Any]:
    """Return each schema by the name of its file."""
    return {
        "rewriter.schema.json": schema(),
        "boosts.schema.json": boosts_schema(),
        "exploration.schema.json": exploration_schema(),
    }


def text(found: Any) -> str:
    """Return a schema as its file holds it, which is what the commands print."""
    return json.dumps(found, indent=2, ensure_ascii=False, default=os.fspath) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, found in made().items():
        (FOLDER / name).write_text(text(found), "utf-8")
