"""How often people use items again, in histories of several actions: what `rewriter init` and `backfill` find."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from rewriter.settings import Settings
from rewriter.signals.backfill.history import History
from rewriter.signals.backfill.uses import count_uses
from rewriter.signals.ingest.batch import CountingRules
from rewriter.signals.repeats import RepeatShare

NOW_S = time.time() - 3_600.0
DAY_S = 86_400.0
Rows = list[tuple[str, str, float, str]]


class _None:
    def find(self, _: Any) -> dict[Any, Any]:
        return {}


def repeat_share(folder: Path, rows: Rows, half_life_s: float = 2.4e8) -> RepeatShare | None:
    """rows: person, item, days before the end, action."""
    file = folder / "h.ndjson"
    written = (
        {"user_id": who, "object_id": item, "action_name": action, "kind": "film"}
        | {"timestamp": datetime.fromtimestamp(NOW_S - days * DAY_S, UTC).isoformat()}
        for who, item, days, action in rows
    )
    file.write_text("\n".join(map(json.dumps, written)), "utf-8")
    settings = Settings.model_validate(
        {
            "signals": {"profile_half_life_s": half_life_s},
            "policies": {"shop": {"index": ["films"], "class_field": "kind"}},
        }
    )
    history = History([str(file)], CountingRules.of(settings), 1, None, {})
    history.add_up(_None(), lambda *_: None)  # type: ignore[arg-type]
    return history.repeats().catalogue


def steps(*actions: str, count: int = 1_200) -> Rows:
    """Each item is one person's, who does one thing with it after another, each two days later and in a visit of its own."""
    people = [(f"u{number}", "first", 90.0, "view") for number in range(60)]
    return [
        *people,
        *(
            (f"u{n % 60}", f"i{n}", 60.0 - 2.0 * number - n / 1_000, action)
            for n in range(count)
            for number, action in enumerate(actions)
        ),
    ]


@pytest.mark.parametrize(
    ("rows", "share"),
    [
        (steps("view", "purchase"), 0.0),
        (steps("view", "view", "add_to_cart", "purchase"), 0.0),
        (steps("purchase", "view", "click"), 0.0),  # to see when it arrives
        (steps("view", "purchase", "purchase"), 0.5),
        (steps("view", "purchase", "view", "purchase", "view"), 0.5),
        (steps("view", "view"), 0.5),
        (steps("purchase", "purchase", "purchase", "purchase"), 0.75),
        ([*steps("view", "view"), *steps("purchase", count=1)], 0.5),  # a purchase in 2,400 is not what people come for
    ],
    ids=["bought", "in the cart", "looked at afterwards", "bought again", "both again", "views", "purchases", "hardly bought"],
)  # fmt: skip
def test_items_are_used_again_where_as_much_was_done_with_them_before(tmp_path: Path, rows: Rows, share: float) -> None:
    found = repeat_share(tmp_path, rows)
    assert found is not None
    assert found.share == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize(
    "rows",
    [[("ann", "i1", 2.0, "remove_from_cart")], [("ann", "i1", 2.0, "view")], steps("view", "purchase", count=400)],
)
def test_below_500_uses_nobody_can_tell(tmp_path: Path, rows: Rows) -> None:
    """Of the strongest action that people come for: 400 views more tell nothing."""
    assert repeat_share(tmp_path, rows) is None


def counting_s(*, rows: int, people: int, classes: int) -> float:
    """CPU seconds to count the uses of a history."""
    db = duckdb.connect()
    db.execute(
        f"CREATE TABLE chosen AS SELECT 'u' || range % {people} AS person, 0 AS part, hash(range) % 5000 AS doc,"
        f" range * 400.0 AS at_s, 1 + 7.0 * (range % 9 = 0)::INT AS weight, NULL::VARCHAR AS session FROM range({rows})"
    )
    db.execute(
        "CREATE TABLE described AS SELECT range AS doc, 'item' AS field,"
        f" 'item' || chr(31) || 'p' || range || chr(31) || 'c' || range % {classes} AS member FROM range(5000)"
    )
    began_s = time.process_time()
    count_uses(db, 0.0, 1e9, 3_600.0)
    return time.process_time() - began_s


def test_a_busy_person_takes_no_longer_than_many_others() -> None:
    """The events of a bot took the square of their number: two million would take a quarter of an hour."""
    spread_s = counting_s(rows=60_000, people=300, classes=500)
    assert counting_s(rows=60_000, people=1, classes=500) < 2 * spread_s
