"""The share of the items had that people used later, in histories with nothing to tell."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from rewriter.settings import Settings
from rewriter.signals.backfill.history import History
from rewriter.signals.ingest.batch import CountingRules

NOW_S = time.time() - 3_600.0
DAY_S = 86_400.0


class _None:
    def find(self, _: Any) -> dict[Any, Any]:
        return {}


def share_after(folder: Path, rows: list[tuple[str, str, float, str]]) -> float | None:
    """rows: person, item, days before the end, action."""
    file = folder / "h.ndjson"
    written = (
        {"user_id": who, "object_id": item, "action_name": action, "kind": "film"}
        | {"timestamp": datetime.fromtimestamp(NOW_S - days * DAY_S, UTC).isoformat()}
        for who, item, days, action in rows
    )
    file.write_text("\n".join(map(json.dumps, written)), "utf-8")
    settings = Settings.model_validate({"policies": {"shop": {"index": ["films"], "class_field": "kind"}}})
    history = History([str(file)], CountingRules.of(settings), 1, None, {})
    history.add_up(_None(), lambda *_: None)  # type: ignore[arg-type]
    return history.share_after()


def twice(first: str, second: str, days: float, count: int = 150) -> list[tuple[str, str, float, str]]:
    begun = [(f"u{n % 20}", f"i{n}", days + 3.0 + n / 100, first) for n in range(count)]
    return [*begun, *((who, item, at - 2.0, second) for who, item, at, _ in begun), ("zoe", "last", 0.0, first)]


@pytest.mark.parametrize(
    ("rows", "share"),
    [
        (twice("view", "purchase", 60.0), 0.0),
        (twice("purchase", "view", 60.0), 1.0),
        (twice("purchase", "purchase", 60.0), None),  # one action: nobody comes back before it
        (twice("view", "view", 1.0), None),
        (twice("view", "purchase", 1.0), None),  # too short to see a use again
        (twice("view", "purchase", 60.0, count=50), None),
        ([("ann", "i1", 2.0, "remove_from_cart")], None),  # no use at all
        ([("ann", "i1", 2.0, "view")], None),
    ],
)
def test_the_share_of_items_had_that_were_used_later(
    tmp_path: Path, rows: list[tuple[str, str, float, str]], share: float | None
) -> None:
    assert share_after(tmp_path, rows) == share
