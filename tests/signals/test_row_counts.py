"""Row counts of a history: rows = events + left-out rows by reason, whatever the rows contain."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from rewriter.errors import ConfigurationError
from rewriter.signals.absent import consent_of
from rewriter.signals.backfill.row_counts import REASONS, REQUESTED, RowCounts
from rewriter.signals.events import Event, parse
from rewriter.subject import pseudonym
from tests.histories import DAY_S, NOW_S, T_S, T, added_up, left_out, of_users, plan, profiles

ROW: Mapping[str, Any] = {
    "timestamp": T,
    "object_id": "p1",
    "user_id": "u1",
    "brand": "nike",
    "action_name": "purchase",
}


def written(folder: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path = folder / "h.ndjson"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def iso(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        *(({"timestamp": one}, "no_time") for one in (None, "", "yesterday", "01/05/2026", "NaN", "2026-13-01", "infinity")),
        *(({"timestamp": iso(NOW_S + ahead_s)}, "in_future") for ahead_s in (61, DAY_S, 400 * 365 * DAY_S)),
        *(({"timestamp": one}, "too_old") for one in ("2019-05-01T10:00:00Z", "1970-01-01", "0001-01-01T00:00:00Z")),
        *(({"user_id": one}, "no_person") for one in (None, "", " ", "nan", "null")),
        *(({"action_name": one}, "unknown_action") for one in ("Purchase", "purchase ", "", None, "buy")),
        *(({"consent": one}, "no_consent") for one in (None, False, "false", "denied", "", 0, "no", "NULL")),
        *(({"object_id": one}, "no_object") for one in (None, "", "nan", "null", " Undefined ", "[object Object]")),
    ],
)  # fmt: skip
def test_a_row_is_left_out_for_one_reason_that_is_counted(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    history = added_up(written(tmp_path, [ROW, {**ROW, **changes}, ROW]))
    assert left_out(history) == {reason: 1}
    assert history.row_counts.first[reason].endswith("h.ndjson, row 2")
    assert (history.row_counts.events, history.until_s) == (2, T_S)


@pytest.mark.parametrize("given", [True, "true", "TRUE", "yes", "granted", "Granted", 1, "1", "on"])
def test_consent_is_given_in_history_as_in_events(tmp_path: Path, given: Any) -> None:
    assert left_out(added_up(written(tmp_path, [{**ROW, "consent": given}]))) == {}
    assert consent_of(given) is True
    found = parse(json.dumps(event(given)))
    assert isinstance(found, Event)
    assert found.consent is True


@pytest.mark.parametrize("given", [None, False, "false", "No", "denied", 0, "0", "", "null", "off", "nan"])
def test_consent_is_refused_in_history_as_in_events(given: Any) -> None:
    assert consent_of(given) is False
    found = parse(json.dumps(event(given)))
    assert isinstance(found, Event)
    assert found.consent is False


def event(consent: Any) -> dict[str, Any]:
    return {
        "action_name": "view",
        "timestamp": T,
        "user_id": "u",
        "consent": consent,
        "event_attributes": {"object": {"object_id": "p"}},
    }


@pytest.mark.parametrize("given", ["maybe", 2, "ja", ["true"], {"a": 1}])
def test_consent_that_is_neither_is_refused_in_history_as_in_events(tmp_path: Path, given: Any) -> None:
    with pytest.raises(ConfigurationError, match="column consent"):
        added_up(written(tmp_path, [ROW, {**ROW, "consent": given}]))
    assert not isinstance(parse(json.dumps(event(given))), Event)


def test_without_a_consent_column_nobody_was_asked(tmp_path: Path) -> None:
    (tmp_path / "h.csv").write_text(f"timestamp,object_id,user_id,brand,consent\n{T},p,u1,b,true\n{T},p,u2,b,\n")
    assert left_out(added_up(tmp_path / "h.csv")) == {"no_consent": 1}
    (tmp_path / "h.csv").write_text(f"timestamp,object_id,user_id,brand\n{T},p,u1,b\n")
    assert left_out(added_up(tmp_path / "h.csv")) == {}


def test_one_row_from_the_future_does_not_make_all_others_too_old(tmp_path: Path) -> None:
    history = added_up(written(tmp_path, [ROW, {**ROW, "timestamp": "2062-05-01T10:00:00Z"}]))
    assert (history.until_s, left_out(history)) == (T_S, {"in_future": 1})


def test_a_clock_slightly_ahead_counts_as_now(tmp_path: Path) -> None:
    history = added_up(written(tmp_path, [{**ROW, "timestamp": iso(NOW_S + 30)}]))
    assert (history.until_s, left_out(history)) == (NOW_S, {})


def test_what_is_later_than_until_is_left_to_the_streams(tmp_path: Path) -> None:
    history = added_up(written(tmp_path, [ROW, {**ROW, "timestamp": iso(T_S + 60)}]), until_s=T_S + 30)
    assert left_out(history) == {"after_until": 1}
    assert history.row_counts.too_many(()) == []


def test_a_doubled_event_counts_once_the_earliest(tmp_path: Path) -> None:
    rows = [{**ROW, "event_id": "e1", "timestamp": iso(T_S - 60 * number)} for number in range(3)]
    rows += [{**ROW, "event_id": one} for one in ("", None, "nan", "e2")]
    rows += [{**ROW, "event_id": "e3", "action_name": "yawn", "timestamp": iso(T_S - 600)}, {**ROW, "event_id": "e3"}]
    history = added_up(written(tmp_path, rows))
    assert left_out(history) == {"doubled": 2, "unknown_action": 1}
    assert history.row_counts.first["doubled"].endswith("row 1")


def test_who_was_forgotten_and_what_was_asked_for_fails_nothing(tmp_path: Path) -> None:
    history = added_up(written(tmp_path, [ROW, {**ROW, "user_id": "u2"}]), forgotten={pseudonym("u", "u2", ""): NOW_S})
    assert left_out(history) == {"forgotten": 1}
    assert history.row_counts.too_many(()) == []
    assert set(profiles(history)) == {pseudonym("u", "u1", "")}


def test_an_action_weighted_zero_is_known(tmp_path: Path) -> None:
    rows = [ROW, {**ROW, "action_name": "view"}]
    history = added_up(written(tmp_path, rows), of=plan(action_weights={"purchase": 2.0, "view": 0.0}))
    assert left_out(history) == {}
    assert of_users(history, ["u1"]) == {"u1": {"brand|nike": 2.0, "item|p1": 2.0}}


def test_unknown_actions_are_named_the_most_frequent_first(tmp_path: Path) -> None:
    names = ["Purchase"] * 5 + ["buy"] * 3 + [None] * 2 + [f"x{n}" for n in range(9)] + ["y" * 500] * 4
    history = added_up(written(tmp_path, [ROW, *({**ROW, "action_name": one} for one in names)]))
    assert history.row_counts.actions == [("Purchase", 5), ("y" * 64, 4), ("buy", 3), ("", 2), ("x0", 1)]
    (line,) = history.row_counts.lines()
    assert "'Purchase' 5, " in line
    assert "(empty) 2" in line


def test_an_object_with_none_of_the_fields_is_counted_as_such(tmp_path: Path) -> None:
    history = added_up(written(tmp_path, [ROW, {**ROW, "object_id": "\U0001f600" * 256, "brand": None}]))
    assert left_out(history) == {"no_value": 1}


@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize(("count", "is_too_many"), [(0, False), (10, False), (11, True), (1_000, True)])
def test_above_one_percent_a_reason_fails_unless_it_is_allowed(reason: str, count: int, is_too_many: bool) -> None:
    account = RowCounts(1_000, 1_000 - count, dict.fromkeys(REASONS, 0) | {reason: count})
    assert account.too_many(()) == ([reason] if is_too_many and reason not in REQUESTED else [])
    assert account.too_many({reason}) == []
    assert len(account.lines()) == (count > 0)


@pytest.mark.parametrize("seed", range(4))
def test_the_account_is_that_of_a_count_by_hand(tmp_path: Path, seed: int) -> None:
    """Rows with several things wrong at once; each is judged by the first of them."""
    draw = random.Random(seed)
    rows = [
        {
            "timestamp": draw.choice(
                [T, T, iso(T_S - DAY_S), iso(T_S - 3 * 365 * DAY_S), iso(NOW_S + DAY_S), None, "x"]
            ),
            "user_id": draw.choice(["u1", "u2", "u3", "", None]),
            "client_id": draw.choice(["c1", None, ""]),
            "action_name": draw.choice(["view", "purchase", "click", "yawn", ""]),
            "object_id": draw.choice(["p1", "p2", "", None]),
            "event_id": draw.choice([None, "", *(f"e{number}" for number in range(20))]),
            "brand": draw.choice(["nike", "puma", None]),
        }
        | draw.choice([{}, {}, {"consent": True}, {"consent": None}, {"consent": False}])
        for _ in range(300)
    ]
    history = added_up(written(tmp_path, [ROW, *rows]))
    assert left_out(history) == by_hand([ROW, *rows])


def by_hand(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    fates: Counter[str] = Counter()
    numbered: dict[str, list[tuple[float, int]]] = {}
    for number, row in enumerate(rows):
        at_s = None if row["timestamp"] in (None, "x") else datetime.fromisoformat(row["timestamp"]).timestamp()
        if at_s is None:
            fates["no_time"] += 1
        elif at_s > NOW_S + 60:
            fates["in_future"] += 1
        elif at_s < T_S - 52 * 7 * DAY_S:
            fates["too_old"] += 1
        elif not (row["user_id"] or row.get("client_id")):
            fates["no_person"] += 1
        elif row["action_name"] not in ("view", "purchase", "click"):
            fates["unknown_action"] += 1
        elif row.get("consent", True) is not True:
            fates["no_consent"] += 1
        elif not row["object_id"]:
            fates["no_object"] += 1
        elif row.get("event_id"):
            numbered.setdefault(row["event_id"], []).append((at_s, number))
    fates["doubled"] = sum(len(found) - 1 for found in numbered.values())
    return {reason: count for reason, count in fates.items() if count}
