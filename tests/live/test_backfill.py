"""Backfill: the sums of a history, events that arrive meanwhile, and left-out rows."""

from __future__ import annotations

import csv
import json
import random
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from rewriter.cli import app
from rewriter.errors import ConfigurationError, StoreError
from rewriter.signals.affinities import united
from rewriter.signals.backfill.history import History
from rewriter.signals.backfill.row_counts import REASONS
from rewriter.signals.backfill.swap import Swap
from rewriter.signals.counters import Counters, HalfLives, Observation, counted
from rewriter.signals.ingest.erasure import forget
from tests.live.shop import PRODUCTS, Shop, an_event

DAY_S = 86_400.0
NOW_S = time.time()


def rows(count: int = 60) -> list[dict[str, Any]]:
    """Purchases of three users over the last days, an hour apart."""
    return [
        {
            "user_id": f"u{number % 3}",
            "object_id": f"p{number * 7 % 200}",
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW_S - 3_600 * (count - number))),
            "action_name": ("purchase", "click")[number % 2],
        }
        for number in range(count)
    ]


@pytest.fixture
def shop(redis_url: str, prefix: str) -> Shop:
    return Shop(redis_url, prefix, max_counters=100)


def written(path: Path, events: list[dict[str, Any]]) -> list[str]:
    path.write_text("\n".join(map(json.dumps, events)))
    return [str(path)]


def backfilled(
    shop: Shop, files: list[str], until_s: float | None = None, forgotten: Mapping[str, float] | None = None
) -> dict[str, int]:
    history = History(files, shop.plan, 4, until_s, forgotten or {})
    said = history.add_up(shop.objects(), lambda *_: None)
    with Swap(shop.store, shop.store, shop.plan, 4) as swap:
        swap.refuse_gap(history.until_s)
        return said | swap.write(history, shop.objects(), "files", lambda _: None)


def profile(shop: Shop, user: str) -> Counters | None:
    (found,) = shop.store.read_many([shop.plan.keys.profile(user)], tuple(shop.plan.fields), 500)
    return found


def expected(events: list[dict[str, Any]], user: str, landmark_s: float) -> Counters:
    seen = []
    for one in events:
        if one["user_id"] == user:
            from datetime import datetime

            of = PRODUCTS[one["object_id"]]
            at_s = datetime.fromisoformat(one["timestamp"]).timestamp()
            values = (("brand", of["brand"]), ("type_brand", of["type"], of["brand"]), ("item", one["object_id"]))
            seen.append(Observation(values, {"purchase": 8.0, "click": 2.0}[one["action_name"]], at_s))
    return counted(seen, HalfLives(DAY_S, {"type_brand": DAY_S / 2}), landmark_s)


@pytest.mark.parametrize("kind", ["ndjson", "csv", "parquet"])
def test_profiles_are_what_the_arithmetic_says(shop: Shop, tmp_path: Path, kind: str) -> None:
    import duckdb

    (file,) = written(tmp_path / "h.ndjson", rows())
    if kind != "ndjson":
        duckdb.sql(f"COPY (SELECT * FROM read_json_auto('{file}')) TO '{tmp_path}/h.{kind}'")
    said = backfilled(shop, [f"{tmp_path}/h.{kind}"])
    assert (said["users"], said["events"], said["written"], said["objects_missing"]) == (3, 60, 3, 0)
    for user in ("u0", "u1", "u2"):
        found = profile(shop, user)
        assert found is not None
        wanted = expected(rows(), user, found.landmark_s)
        assert dict(found.weights) == pytest.approx(dict(wanted.weights))
        assert dict(found.totals) == pytest.approx(dict(wanted.totals))
        assert (found.events, found.last_event_s) == (wanted.events, wanted.last_event_s)
    parts = shop.store.read_many([shop.plan.keys.population(n) for n in range(4)], ("brand",), 500)
    assert sum(part.events for part in parts if part) == 60


def test_events_that_come_before_during_and_after_are_counted_once(shop: Shop, tmp_path: Path) -> None:
    """The history ends between two live events; a third arrives while the workers pause, a fourth after."""
    files = written(tmp_path / "h.ndjson", rows())
    until_s = NOW_S - 1_800
    live = [an_event("u1", "p1", at_s=until_s + shift_s) for shift_s in (-60, 60, 120, 180)]
    worker = shop.worker()
    shop.append(live[:2])
    shop.drain(worker)
    worker.close()
    history = History(files, shop.plan, 4, until_s, {})
    history.add_up(shop.objects(), lambda *_: None)
    with Swap(shop.store, shop.store, shop.plan, 4) as swap:
        swap.write(history, shop.objects(), "files", lambda _: None)
        shop.append(live[2:3])
        for _ in range(3):
            worker.due()
            assert worker.step() == 0  # it pauses
    shop.append(live[3:])
    worker.due()
    shop.drain(worker)
    found = profile(shop, "u1")
    assert found is not None
    assert found.events == 20 + 3
    as_rows = [
        {"user_id": "u1", "object_id": "p1", "action_name": "click", "timestamp": one["timestamp"]} for one in live[1:]
    ]
    wanted = expected(rows() + as_rows, "u1", found.landmark_s)
    assert dict(found.weights) == pytest.approx(dict(wanted.weights))


def test_it_goes_on_where_it_broke_off(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewriter.signals.backfill.swap.KEYS_AT_ONCE", 1)
    files = written(tmp_path / "h.ndjson", rows())
    history = History(files, shop.plan, 4, None, {})
    history.add_up(shop.objects(), lambda *_: None)

    def breaks(done: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Swap(shop.store, shop.store, shop.plan, 4) as swap:
        swap.write(history, shop.objects(), "files", breaks)
    said = backfilled(shop, files)
    assert (said["written"], said["written_before"]) == (1, 2)
    assert backfilled(shop, files)["written"] == 3
    assert not list(shop.store.keys(f"{shop.settings.store.prefix}:pause"))


@pytest.mark.parametrize("changed", ["", "[signals.action_weights]\npurchase = 2\nclick = 1"])
def test_it_goes_on_by_the_same_rules_alone(
    redis_url: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    """A run that was interrupted and is started again with other settings begins anew: else some profiles were of the old ones."""
    (file,) = written(tmp_path / "h.ndjson", [one | {"brand": "nike"} for one in rows()])
    monkeypatch.setattr("rewriter.signals.backfill.swap.KEYS_AT_ONCE", 1)
    toml, policy = tmp_path / "rewriter.toml", "[policies.shop]\nindex = 'products'\nfields.brand = {}"
    store = f"[store]\nurl = '{redis_url}'\nprefix = '{prefix}'\n[ingest]\npartitions = 2\n"
    toml.write_text(store + policy)
    real: Callable[..., None] = Swap._note

    def ends(self: Swap, fingerprint: str, last: str) -> None:
        real(self, fingerprint, last)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Swap, "_note", ends)
        CliRunner().invoke(app, ["backfill", file, "--toml", str(toml)])
    toml.write_text(store + changed + "\n" + policy)
    ended = CliRunner().invoke(app, ["backfill", file, "--toml", str(toml)])
    assert ended.exit_code == 0, ended.output
    before = 0 if changed else 1
    assert {name: json.loads(ended.stdout)[name] for name in ("written", "written_before")} == {
        "written": 3 - before, "written_before": before,
    }  # fmt: skip


def as_list(names: list[str]) -> list[str] | None:
    return names or None


@pytest.mark.parametrize("written_as", [as_list, ", ".join])
def test_segments_are_counted_as_ingest_counts_them(
    shop: Shop, tmp_path: Path, written_as: Callable[[list[str]], Any]
) -> None:
    named: tuple[list[str], ...] = (["vip", "new.s-1"], ["vip", "vip"], [], ["new.s-1"])
    told = [(one, named[number % 4]) for number, one in enumerate(rows())]
    shop.append(
        one | {"event_attributes": {"object": {"object_id": one["object_id"]}, "segments": names}}
        for one, names in told
    )
    shop.drain(worker := shop.worker())
    worker.close()
    ingested = {name: segment(shop, name) for name in ("new.s-1", "vip")}
    shop.store.run([("DEL", shop.keys.segments)])
    for base in (shop.plan.keys.segment(name, number) for name in ingested for number in range(4)):
        shop.store.write(base, Counters({("brand", "old"): 9.0}, {"brand": 9.0}, NOW_S), ttl_s=60)
    said = backfilled(shop, written(tmp_path / "h.ndjson", [one | {"segments": written_as(n)} for one, n in told]))
    assert said["segments"] == 2
    assert json.loads(shop.store.read_text(shop.keys.segments) or "") == list(ingested)
    for name, wanted in ingested.items():
        found = segment(shop, name)
        assert dict(found.weights) == pytest.approx(dict(wanted.weights))
        assert dict(found.totals) == pytest.approx(dict(wanted.totals))
        assert (found.events, found.last_event_s) == (wanted.events, wanted.last_event_s)


def test_a_segment_keeps_what_is_later_than_the_history(shop: Shop, tmp_path: Path) -> None:
    until_s = NOW_S - 1_800
    live = [an_event("u1", "p1", at_s=until_s + shift_s) for shift_s in (-60, 60, 120)]
    for one, name in zip(live, ("vip", "vip", "other"), strict=True):
        one["event_attributes"]["segments"] = [name]
    shop.append(live)
    shop.drain(worker := shop.worker())
    worker.close()
    files = written(tmp_path / "h.ndjson", [one | {"segments": "vip"} for one in rows() if one["user_id"] == "u0"])
    said = backfilled(shop, files, until_s)
    assert segment(shop, "vip").events == said["events"] + 1
    assert segment(shop, "other").events == 1
    assert sorted(json.loads(shop.store.read_text(shop.keys.segments) or "")) == ["other", "vip"]


def segment(shop: Shop, name: str) -> Counters:
    """The sum of a segment's parts, as a search reads it."""
    parts = shop.store.read_many([shop.plan.keys.segment(name, n) for n in range(4)], tuple(shop.plan.fields), 500)
    found = united(parts, shop.plan.scopes["population"].half_lives, NOW_S)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("segments", "said"),
    [
        (["a", "two words"], "column segments: 1 names are not 1 to 64 of A-Z a-z 0-9 _ . -"),
        (["a", "b;c", "x" * 65], "2 names are not"),
        ("a, b c,", "1 names are not"),
        ([f"s{number}" for number in range(9)], "1 row names more than 8"),
    ],
)
def test_segments_that_an_event_could_not_name_are_refused(
    shop: Shop, tmp_path: Path, segments: Any, said: str
) -> None:
    events = [rows(1)[0] | {"segments": segments}]
    with pytest.raises(ConfigurationError, match=said):
        History(written(tmp_path / "h.ndjson", events), shop.plan, 4, None, {})


@pytest.mark.parametrize("segments", [["a", None, " "], "a,,"])
def test_an_absent_name_of_a_segment_is_left_out_as_in_events(shop: Shop, tmp_path: Path, segments: Any) -> None:
    history = History(written(tmp_path / "h.ndjson", [rows(1)[0] | {"segments": segments}]), shop.plan, 4, None, {})
    history.add_up(shop.objects(), lambda *_: None)
    assert history.row_counts.events == 1


def test_who_was_forgotten_stays_so(shop: Shop, tmp_path: Path) -> None:
    forget(shop.store, shop.store, shop.plan, "u1", time.time())
    (pairs,) = shop.store.run([("ZRANGE", shop.keys.forgotten, 0, -1)])
    backfilled(shop, written(tmp_path / "h.ndjson", rows()), forgotten={pairs[0].decode(): time.time()})
    assert profile(shop, "u1") is None
    assert profile(shop, "u2") is not None


def test_what_does_not_count_is_left_out(shop: Shop, tmp_path: Path) -> None:
    events = [one | {"event_id": str(number // 2), "consent": number >= 4} for number, one in enumerate(rows(20))]
    events[-1]["action_name"] = "yawn"
    events[-2]["object_id"] = "not-there"
    said = backfilled(shop, written(tmp_path / "h.ndjson", events))
    assert said["rows"] == 20
    assert said["events"] == 7
    assert {reason: said[reason] for reason in REASONS if said[reason]} == {
        "unknown_action": 1, "no_consent": 4, "no_object": 1, "doubled": 7
    }  # fmt: skip
    assert said["objects_missing"] == 1


def test_a_worker_that_does_not_pause_is_not_run_over(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rewriter.signals.backfill.hold.time.monotonic", iter(range(0, 1_000, 10)).__next__)
    shop.store.run([("SET", shop.keys.of_stream(2, "lease"), "another", "EX", 60)])
    with pytest.raises(StoreError, match="does not pause"):
        backfilled(shop, written(tmp_path / "h.ndjson", rows()))
    assert profile(shop, "u1") is None


def test_a_history_that_ends_before_the_streams_begin_is_refused(shop: Shop, tmp_path: Path) -> None:
    shop.append([an_event("u1") for _ in range(20)])
    shop.drain(worker := shop.worker())
    worker.close()
    for number in range(4):
        shop.store.run([("XTRIM", shop.keys.stream(number), "MAXLEN", "1")])
    with pytest.raises(ConfigurationError, match="before the oldest entry"):
        backfilled(shop, written(tmp_path / "h.ndjson", rows()))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("h.xml", "", "is of no kind that is read"),
        ("h.ndjson", '{"user_id": "u1"}', "no column timestamp"),
        ("h.ndjson", '{"timestamp": "2026-01-01T00:00:00Z", "object_id": "p"}', "no column user_id or client_id"),
        ("h.parquet", "no parquet", "cannot be read"),
    ],
)
def test_files_that_cannot_be_read_are_refused(shop: Shop, tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        History([str(tmp_path / name)], shop.plan, 4, None, {})


ODD_IDS = (
    "1",
    "1.0",
    "true",
    "-0",
    "1e3",
    "x" * 200,
    "a:b:c",
    "u\x00x",
    "ü",
    "u\u0308",
    "😀",
    "a|b",
    " a",
    "%20",
    "01",
)


def columns(count: int, seed: int) -> list[dict[str, Any]]:
    """Rows of odd people and items, with weights, segments, refused consent, an unknown item, and rows that came twice."""
    draw = random.Random(seed)
    found = [
        {
            "timestamp": datetime.fromtimestamp(NOW_S - 60 - 3 * DAY_S * draw.random(), UTC).isoformat(),
            "action_name": draw.choice(["view", "click", "add_to_cart", "purchase"]),
            "user_id": draw.choice(ODD_IDS) if draw.random() < 0.8 else None,
            "client_id": f"c-{draw.choice(ODD_IDS)}",
            "object_id": draw.choice([*ODD_IDS, "p1", "p2", "gone"]),
            "event_id": f"e{number}",
            "consent": draw.choice(["true"] * 9 + ["false"]),
            "segments": draw.choice(["", "s1", "s1,s2"]),
        }
        for number in range(count)
    ]
    return [*found, *found[:10]]


@pytest.mark.parametrize("kind", ["ndjson", "csv", "parquet"])
def test_odd_people_and_items_count_as_in_ingest(redis_url: str, prefix: str, tmp_path: Path, kind: str) -> None:
    rows, people = columns(120, seed=5), {*ODD_IDS, *(f"c-{one}" for one in ODD_IDS)}
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "h.parquet")
    with (tmp_path / "h.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    (tmp_path / "h.ndjson").write_text("\n".join(map(json.dumps, rows)))
    found = []
    for name in ("live", "past"):
        shop = Shop(redis_url, prefix[:-1] + name[0], max_counters=500)
        shop.index.documents |= {one: {"brand": ["b1", "ü"], "type": f"t{len(one) % 3}"} for one in ODD_IDS}
        if name == "live":
            shop.append(
                {key: value for key, value in row.items() if key not in ("object_id", "segments")}
                | {"event_attributes": {"object": {"object_id": row["object_id"]}, "segments": row["segments"]}}
                for row in rows
            )
            shop.drain(shop.worker())
        else:
            backfilled(shop, [str(tmp_path / f"h.{kind}")])
        keys = shop.plan.keys
        bases = {one: keys.profile(one) for one in people}
        bases |= {f"population {n}": keys.population(n) for n in range(4)}
        bases |= {f"{one} {n}": keys.segment(one, n) for one in ("s1", "s2") for n in range(4)}
        read = zip(bases, shop.store.read_many(list(bases.values()), tuple(shop.plan.fields), 5_000), strict=True)
        half_lives = shop.plan.scopes["profile"].half_lives
        found.append(
            {
                (base, value): weight * 2 ** ((counters.landmark_s - NOW_S) / half_lives.of(value[0]))
                for base, counters in read
                if counters is not None
                for value, weight in counters.weights.items()
                if value[0] in shop.plan.fields
            }
        )
    assert found[0] == pytest.approx(found[1], rel=1e-3)
    assert len(found[0]) > 200
