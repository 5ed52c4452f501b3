"""The examples of docs/signals.md run as they are, and write what searches read."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from rewriter.signals.commands import META
from rewriter.signals.events import Event, parse
from rewriter.signals.ingest.contract import partition_of
from rewriter.signals.redis_store import RedisStore
from rewriter.signals.store import Keys
from rewriter_engines import Valkey

DOCS = (Path(__file__).parents[2] / "docs" / "signals.md").read_text("utf-8")
FIELDS = ("brand", "type_and_brand", "item")
TWO_WEEKS = 2 ** (2 / 16)
# For machines without these programs: what the page needs of them, and no more.
# They are started dozens of times, so they import nothing that takes long.
REDIS_CLI = """
import socket, sys

def reply():
    kind, rest = (line := answers.readline()[:-2])[:1], line[1:]
    if kind == b"-":
        sys.exit(rest.decode())
    if kind == b"*":
        return [reply() for _ in range(int(rest))]
    if kind != b"$":
        return rest
    return answers.read(int(rest) + 2)[:-2] if int(rest) >= 0 else b""

words = [word.encode("utf-8", "surrogateescape") for word in sys.argv[3:]]
host, port = sys.argv[2].removeprefix("redis://").rstrip("/").split(":")
with socket.create_connection((host, int(port))) as link, link.makefile("rb") as answers:
    link.sendall(b"*%d\\r\\n" % len(words) + b"".join(b"$%d\\r\\n%b\\r\\n" % (len(word), word) for word in words))
    found = reply()
for part in found if isinstance(found, list) else [found]:
    sys.stdout.buffer.write((part if isinstance(part, bytes) else str(part).encode()) + b"\\n")
"""
B2SUM = """
import hashlib, sys
print(hashlib.blake2b(sys.stdin.buffer.read(), digest_size=16).hexdigest(), " -")
"""


def blocks(language: str) -> str:
    return "\n".join(re.findall(rf"^```{language}\n(.*?)^```", DOCS, re.DOTALL | re.MULTILINE))


def program(path: Path, text: str, *arguments: str) -> None:
    """Make `path` run the machine's program of that name with `arguments` first, or the stand-in where it has none."""
    stand_in = path.with_suffix(".py")
    stand_in.write_text(text)
    command = [found] if (found := shutil.which(path.name)) else [sys.executable, "-I", "-S", str(stand_in)]
    path.write_text(f'#!/bin/sh\nexec {shlex.join([*command, *arguments])} "$@"\n')
    path.chmod(0o755)


def test_the_shell_examples_write_what_is_read(valkey_server: Callable[..., Valkey], tmp_path: Path) -> None:
    url = valkey_server().url
    program(tmp_path / "redis-cli", REDIS_CLI, "-u", url)
    program(tmp_path / "b2sum", B2SUM)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "event": blocks("json")}
    command = ["sh", "-euc", blocks("sh")]
    shown = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=240).stdout
    store, keys = RedisStore(url), Keys("rw", "")
    profile, population = store.read_many([keys.profile("customer-17"), keys.population(0)], FIELDS, 64)
    store.close()
    twice = 1 + TWO_WEEKS
    assert profile is not None
    assert profile.weights == pytest.approx({("brand", "nike"): twice, ("type_and_brand", "shoe", "nike"): 1.0})
    assert profile.totals == pytest.approx({"brand": twice, "type_and_brand": 1.0})
    assert (profile.landmark_s, profile.last_event_s, profile.events) == (1767225600.0, 1768435200.0, 2.0)
    assert population is not None
    repeats = {value for value in population.weights if value[0].startswith("$")}
    assert repeats == {("$uses", "milk", "8"), ("$again", "milk", "8")}
    assert population.weights[("$uses", "milk", "8")] == population.weights[("$again", "milk", "8")] > 0
    weights = {value: weight for value, weight in population.weights.items() if value not in repeats}
    assert (weights, population.totals) == ({("brand", "puma"): 3.0, ("brand", "nike"): 1.0}, {"brand": 4.0})
    assert population.landmark_s == 1767225600.0
    assert b"type_and_brand\x1fshoe\x1fnike" in shown.splitlines()
    event = parse(blocks("json"))
    assert isinstance(event, Event)
    client: Any = redis.Redis.from_url(url)
    entries = client.xrange(f"rw:{{stream:{partition_of(event, 16)}}}")
    client.close()
    assert [parse(fields[b"event"]) for _, fields in entries] == [event]


def test_the_python_example_writes_what_is_read(valkey_server: Callable[..., Valkey]) -> None:
    url = valkey_server().url
    exec(blocks("python"), {"url": url})
    store = RedisStore(url)
    (profile,) = store.read_many([Keys("rw", "").profile("customer-18")], FIELDS, 64)
    store.close()
    assert profile is not None
    assert profile.weights[("brand", "puma")] == 1.0
    assert profile.weights[("item", "B0017")] == pytest.approx(1 / TWO_WEEKS)
    assert (profile.events, profile.last_event_s) == (2.0, 1768435200.0)


def test_the_page_names_every_part_of_the_hash() -> None:
    for name in (*META, "total:FIELD", "watermark:PARTITION"):
        assert f"`{name}`" in DOCS
