"""`rewriter ingest --file` reports the fates of its own lines, whichever worker counts them; `rewriter dead-letters` replays."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from typing import Any

import pytest

from tests.conftest import MakeIndex
from tests.fakes import waited
from tests.live.shop import Shop, an_event, toml_of

COMMAND = [sys.executable, "-c", "from rewriter.cli import main; main()"]


@pytest.fixture
def toml(tmp_path: Path, redis_url: str, opensearch_url: str, prefix: str, index: MakeIndex) -> Path:
    return toml_of(tmp_path, redis_url, opensearch_url, prefix, index, "retry_s = 0.5")


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, arguments)], check=False, capture_output=True, text=True, timeout=60)


def ingest(toml: Path, file: Path) -> tuple[int, dict[str, Any], str]:
    ended = run("ingest", "--toml", toml, "--file", file)
    return ended.returncode, json.loads(ended.stdout), ended.stderr


def plain(user: str = "u1", item: str = "p1", **more: Any) -> dict[str, Any]:
    event = an_event(user, item, **more)
    event.pop("event_id", None)
    return event


@contextmanager
def working(shop: Shop) -> Iterator[None]:
    """Another worker, which holds every partition before the replay begins."""
    stopping = Flag()
    worker = shop.worker()
    worker.step()
    assert len(worker.held) == 4
    thread = Thread(target=worker.run, args=(stopping,))
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside another worker"])
def test_every_fate_is_of_the_file_s_lines_alone(
    toml: Path, tmp_path: Path, redis_url: str, prefix: str, beside: bool
) -> None:
    shop = Shop(redis_url, prefix, retry_s=0.5)
    file = tmp_path / "events.ndjson"
    same = plain("u1")
    lines = [
        *[json.dumps(same)] * 3,
        json.dumps(an_event("u2", "p2", event_id="e-1")),
        json.dumps(an_event("u2", "p2", event_id="e-1")),
        json.dumps(plain("u3", consent=False)),
        json.dumps(plain("u4") | {"action_name": "scroll"}),
        json.dumps(plain("u5", "nowhere")),
        json.dumps(plain("u6", at_s=1.0)),
        "no json",
    ]
    file.write_text("\n".join(lines) + "\n")
    with working(shop) if beside else nullcontext():
        shop.append([an_event(f"other{number}") for number in range(50)])
        code, fates, said = ingest(toml, file)
    assert code == 1
    assert fates == {"appended": 9, "counted": 4, "duplicate": 1, "missing": 1, "no_consent": 1, "refused": 2}
    assert f"{file}:10: event" in said
    assert "lines that are not events: 1\n" in said
    assert "1 refused: action_name: has no weight" in said
    assert "1 refused: timestamp: is N s old" in said
    assert "is not in the index" in said
    assert not [name for number in range(4) for name in shop.state(number) if name.startswith("replay:")]


def test_a_file_whose_events_all_count_ends_with_0_and_can_be_begun_anew(toml: Path, tmp_path: Path) -> None:
    file = tmp_path / "events.ndjson"
    file.write_text((json.dumps(plain()) + "\n") * 30)
    assert ingest(toml, file) == (0, {"appended": 30, "counted": 30}, "")
    assert ingest(toml, file) == (0, {"appended": 30, "duplicate": 30}, "")
    other = tmp_path / "other.ndjson"
    other.write_text(file.read_text())
    assert ingest(toml, other) == (0, {"appended": 30, "counted": 30}, "")


@pytest.mark.parametrize(
    ("encoding", "end"),
    [("utf-8", "\r\n"), ("utf-8-sig", "\n"), ("utf-16", "\r\n"), ("utf-16-le", "\n"), ("utf-16-be", "\r\n")],
)
def test_a_file_in_any_encoding(toml: Path, tmp_path: Path, encoding: str, end: str) -> None:
    file = tmp_path / "events.ndjson"
    text = "".join(json.dumps(plain(f"üser{number}"), ensure_ascii=False) + end for number in range(20))
    file.write_bytes(text.encode(encoding))
    assert ingest(toml, file) == (0, {"appended": 20, "counted": 20}, "")


def test_files_with_marks_put_together(toml: Path, tmp_path: Path) -> None:
    one = (json.dumps(plain()) + "\n").encode("utf-8-sig")
    (tmp_path / "events.ndjson").write_bytes(one * 3)
    assert ingest(toml, tmp_path / "events.ndjson") == (0, {"appended": 3, "counted": 3}, "")


def test_an_empty_file_appends_nothing(toml: Path, tmp_path: Path) -> None:
    (tmp_path / "events.ndjson").write_text("\n\n")
    assert ingest(toml, tmp_path / "events.ndjson") == (0, {"appended": 0}, "")


# --- dead letters -----------------------------------------------------------------------------------------------------


def test_dead_letters_are_shown_grouped_and_replayed(toml: Path, redis_url: str, prefix: str) -> None:
    shop = Shop(redis_url, prefix, retry_s=0.2)
    shop.append(
        [
            an_event("u1", "later", event_id="e-1"),
            an_event("u2", "later", event_id="e-2"),
            plain("u3") | {"action_name": "scroll"},
            plain("u4", at_s=1.0),
            plain("u5", at_s=2.0),
        ]
    )
    _until_retried(shop)
    reasons = run("dead-letters", "--toml", toml, "--reasons", "--json")
    counts = {one["reason"].partition(":")[0]: one["count"] for one in json.loads(reasons.stdout)}
    assert counts == {"event_attributes.object.object_id": 2, "timestamp": 2, "action_name": 1}
    shown = run("dead-letters", "--toml", toml)
    assert shown.stdout.splitlines()[0].split() == ["at", "partition", "entry", "reason"]
    assert len(shown.stdout.splitlines()) == 6
    assert "u3" not in shown.stdout
    assert '"user_id": "u3"' in run("dead-letters", "--toml", toml, "--events").stdout
    # The cause is mended: the object is in the index now.
    shop.index.documents["later"] = {"brand": "nike", "type": "shoe"}
    replayed = run("dead-letters", "--toml", toml, "--replay", "--reason", "is not in the index")
    assert (replayed.returncode, json.loads(replayed.stdout)) == (0, {"replayed": 2, "kept": 0})
    shop.drain(worker := shop.worker())
    worker.close()
    assert worker.counts == {"counted": 2}  # no duplicates of what they were
    assert len(shop.dead()) == 3
    again = run("dead-letters", "--toml", toml, "--replay")
    assert (again.returncode, json.loads(again.stdout)) == (0, {"replayed": 3, "kept": 0})
    shop.drain(worker := shop.worker())
    assert worker.counts == {"refused": 3}
    assert len(shop.dead()) == 3


def test_what_was_counted_in_part_or_is_no_event_is_kept(toml: Path, redis_url: str, prefix: str) -> None:
    shop = Shop(redis_url, prefix)
    shop.store.run([("SET", "".join([shop.plan.keys.profile("u1"), ":z"]), "x")])
    shop.append([an_event("u1")])
    shop.drain(shop.worker())
    shop.store.run([("XADD", shop.keys.of_stream(0, "dead"), "*", "entry", "", "reason", "5 were lost", "event", "")])
    before = len(shop.dead())
    assert before == 2
    replayed = run("dead-letters", "--toml", toml, "--replay")
    assert (replayed.returncode, json.loads(replayed.stdout)) == (1, {"replayed": 0, "kept": 2})
    assert "kept 1: N were lost" in replayed.stderr
    assert len(shop.dead()) == before


def test_without_letters_or_store(toml: Path, tmp_path: Path) -> None:
    for options in ([], ["--reasons"]):
        empty = run("dead-letters", "--toml", toml, *options)
        assert (empty.returncode, empty.stdout, empty.stderr) == (0, "", "no dead letters\n")
    assert json.loads(run("dead-letters", "--toml", toml, "--replay").stdout) == {"replayed": 0, "kept": 0}
    other = tmp_path / "other.toml"
    other.write_text('[store]\nurl = "redis://127.0.0.1:1"\n')
    away = run("dead-letters", "--toml", other)
    assert (away.returncode, away.stdout) == (1, "")
    assert away.stderr.startswith("store: ConnectionError")


def test_one_partition_s_broken_key_hides_no_other_partition_s_letters(toml: Path, redis_url: str, prefix: str) -> None:
    shop = Shop(redis_url, prefix)
    letter = ("*", "entry", "1-1", "reason", "has no weight", "event", json.dumps(plain("u1")))
    shop.store.run(
        [
            ("SET", shop.keys.partitions, 4),
            ("SET", shop.keys.of_stream(0, "dead"), "something else"),
            ("XADD", shop.keys.of_stream(2, "dead"), *letter),
        ]
    )
    fault = f"WRONGTYPE {shop.keys.of_stream(0, 'dead')} holds something else than it should: restore or delete it"
    shown = run("dead-letters", "--toml", toml, "--reasons", "--json")
    assert (shown.returncode, shown.stderr) == (1, f"the dead letters of a partition cannot be read: {fault}\n")
    assert [one["count"] for one in json.loads(shown.stdout)] == [1]
    assert f"of a partition, cannot be read: {fault}" in run("status", "--toml", toml).stdout
    assert json.loads(run("dead-letters", "--toml", toml, "--replay").stdout) == {"replayed": 1, "kept": 0}


def _until_retried(shop: Shop) -> None:
    """Let a worker work until what waited was looked up again."""
    worker = shop.worker()

    def is_through() -> bool:
        worker.due()
        worker.step()
        return len(shop.dead()) == 5

    assert waited(is_through), shop.dead()
    worker.close()
