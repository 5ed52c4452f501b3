"""`rewriter ingest` as a process: a replay that ends by itself, a worker that a signal ends."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests.conftest import MakeIndex
from tests.live.shop import Shop, an_event, many_events, toml_of

COMMAND = [sys.executable, "-c", "from rewriter.cli import main; main()", "ingest"]


@pytest.fixture
def toml(tmp_path: Path, redis_url: str, opensearch_url: str, prefix: str, index: MakeIndex) -> Path:
    return toml_of(tmp_path, redis_url, opensearch_url, prefix, index)


def run(toml: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, "--toml", str(toml), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


def test_a_file_is_replayed_and_its_faults_are_named(toml: Path, tmp_path: Path, redis_url: str, prefix: str) -> None:
    events: list[Any] = list(many_events(2_500))
    for event in events[:500]:
        event.pop("event_id", None)
    named = {event["event_id"] for event in events[500:]}
    distinct = 500 + len(named)  # lines without an `event_id` that read alike are different events
    file = tmp_path / "events.ndjson"
    lines = [json.dumps(event) for event in events]
    file.write_text("\n".join([*lines[:10], "no json", "", *lines[10:]]))
    first = run(toml, "--file", str(file))
    assert first.returncode == 1
    assert f"{file}:11: event" in first.stderr
    assert json.loads(first.stdout) == {
        "appended": 2_500, "counted": distinct, "duplicate": 2_500 - distinct
    }  # fmt: skip
    again = run(toml, "--file", str(file))
    assert json.loads(again.stdout) == {"appended": 2_500, "duplicate": 2_500}
    assert Shop(redis_url, prefix).total("counted") == distinct


def test_a_signal_finishes_the_batch_and_frees_the_leases(toml: Path, redis_url: str, prefix: str) -> None:
    shop = Shop(redis_url, prefix)
    with subprocess.Popen([*COMMAND, "--toml", str(toml)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        shop.append([an_event("u1")])
        late_at = time.monotonic() + 30
        while shop.total("counted") < 1:
            assert process.poll() is None
            assert time.monotonic() < late_at
        process.send_signal(signal.SIGTERM)
        try:
            said, _ = process.communicate(timeout=30)
        finally:
            process.kill()  # leaving the block waits for its end
    assert process.returncode == 0
    assert json.loads(said) == {"counted": 1}
    leases = shop.store.run([("EXISTS", shop.keys.of_stream(number, "lease")) for number in range(4)])
    assert leases == [0] * 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "store.url: names no Redis or Valkey"),
        ('[store]\nurl = "memory://"', "store.url: names no Redis or Valkey"),
        (
            '[store]\nurl = "redis://127.0.0.1:1"\n[policies.shop]\nindex = "*"\nfields.brand = {}',
            "ingest.objects_index: is not set",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "rewriter.toml"
    path.write_text(text)
    ended = run(path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert said in ended.stderr


def test_a_store_that_is_away_is_said_at_once(tmp_path: Path) -> None:
    path = tmp_path / "rewriter.toml"
    path.write_text('[store]\nurl = "redis://127.0.0.1:1"\n[policies.all]\nindex = "*"')
    ended = run(path)
    assert ended.returncode == 1
    assert ended.stderr.startswith("store: ConnectionError")
    assert "Traceback" not in ended.stderr


def test_a_user_is_forgotten(toml: Path, redis_url: str, prefix: str) -> None:
    shop = Shop(redis_url, prefix)
    shop.append([an_event("u1"), an_event("u2")])
    shop.drained()
    command = [*COMMAND[:-1], "forget", "u1", "--toml", str(toml)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0
    removed = {"dead_letters": 0, "plans": 0, "profiles": 1, "sessions": 1, "unknown": 0, "users": 1}
    assert json.loads(ended.stdout) == removed
    people = toml.with_name("people.txt")
    people.write_bytes("\ufeffu1\r\nu2\r\n\r\nmistyped\r\n".encode())
    command = [*COMMAND[:-1], "forget", "--file", str(people), "--toml", str(toml)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert json.loads(ended.stdout) == removed | {"users": 3, "unknown": 1}
    assert "1 of 3 users had no data (number 3)" in ended.stderr
    assert "mistyped?" not in ended.stderr
    command = [*COMMAND[:-1], "forget", "--toml", str(toml)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert "USER: is missing" in ended.stderr


def test_a_history_becomes_profiles_and_a_dry_run_writes_nothing(toml: Path, redis_url: str, prefix: str) -> None:
    file = toml.with_name("history.ndjson")
    file.write_text("\n".join(json.dumps({
        "user_id": f"u{number % 5}", "object_id": f"p{number}", "timestamp": "2026-01-01T00:00:00Z"
    }) for number in range(50)))  # fmt: skip
    shop = Shop(redis_url, prefix)
    said = []
    for options in (["--dry-run"], []):
        command = [*COMMAND[:-1], "backfill", str(file), "--toml", str(toml), *options]
        ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        assert ended.returncode == 0, ended.stderr
        said.append((json.loads(ended.stdout), len(shop.counters())))
    (dry, before), (wet, after) = said
    assert (dry["events"], dry["users"], dry["objects"], before) == (50, 5, 50, 0)
    assert wet == dry | {"written": 5, "written_before": 0}
    assert after >= 2 * 5 + 2


def test_a_worker_serves_its_metrics(toml: Path, redis_url: str, prefix: str) -> None:
    Shop(redis_url, prefix).append([an_event(f"u{number}") for number in range(20)])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    worker = subprocess.Popen(
        [*COMMAND, "--toml", str(toml), "--metrics-port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wanted, until_s, text = 'rewriter_ingested_entries_total{outcome="counted"} 20.0', time.monotonic() + 30, ""
        while wanted not in text and time.monotonic() < until_s:
            time.sleep(0.1)
            with suppress(OSError), urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        assert wanted in text
        assert "rewriter_ingest_lag_seconds" in text
        taken = run(toml, "--metrics-port", str(port))
        assert taken.returncode == 2
        assert f"--metrics-port: cannot listen on 127.0.0.1:{port}" in taken.stderr
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=30)


def test_a_worker_follows_an_index_of_events(toml: Path, index: MakeIndex) -> None:
    """Events as documents, one of them a kind without a weight; what became of them is printed at the end."""
    documents: dict[str, dict[str, Any]] = {f"d{number}": an_event(f"u{number}") for number in range(30)}
    documents["d0"] = {**documents["d0"], "action_name": "impression"}
    name = index({"timestamp": {"type": "date"}}, documents=documents)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [*COMMAND, "--toml", str(toml), "--from-index", name, "--metrics-port", str(port)]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wanted, until_s, text = 'rewriter_ingested_entries_total{outcome="counted"} 29.0', time.monotonic() + 40, ""
    while wanted not in text and time.monotonic() < until_s:
        time.sleep(0.1)
        with suppress(OSError), urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    worker.send_signal(signal.SIGTERM)
    stdout, stderr = worker.communicate(timeout=30)
    assert worker.returncode == 0, stderr
    assert json.loads(stdout)["followed"] == {"appended": 29, "no_weight": 1}
    assert json.loads(stdout)["counted"] == 29
