"""`rewriter check` on real servers: what they keep, and what they would lose."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rewriter.cli.store_check import losses, risks
from rewriter_engines import Valkey
from tests.live.test_cli import run


@pytest.fixture
def toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "rewriter.toml"


def notes_and_faults(toml: Path, store: str) -> tuple[list[str], list[str]]:
    toml.write_text(f"{store}\n[policies.shop]\nindex = 'products*'\n")
    result = run("check", "--json")
    said = json.loads(result.stdout)
    own = [note for note in said["notes"] if note.startswith("[store]")]
    return own, [f"{one['where']}: {one['what']}" for one in said["faults"]]


@pytest.mark.parametrize(
    ("configuration", "note", "fault"),
    [
        ({"appendonly": "no"}, "appendonly is no: events that were acknowledged since the last snapshot are lost", ""),
        (
            {"appendonly": "yes", "appendfsync": "everysec"},
            "appendfsync is everysec: events that were acknowledged in",
            "",
        ),
        ({"appendonly": "yes", "appendfsync": "no"}, "appendfsync is no: events that were acknowledged in", ""),
        ({"appendonly": "yes", "appendfsync": "always"}, "", ""),
        (
            {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "volatile-ttl"},
            "maxmemory-policy is volatile-ttl: with a maxmemory",
            "",
        ),
        (
            {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "allkeys-lru", "maxmemory": "100mb"},
            "",
            "maxmemory-policy is allkeys-lru: once it is full, the server deletes streams, counters and switches",
        ),
    ],
)
def test_what_a_server_keeps(
    toml: Path, valkey_server: Callable[..., Valkey], configuration: dict[str, str], note: str, fault: str
) -> None:
    server = valkey_server()
    with server.client() as client:
        for name, value in configuration.items():
            client.config_set(name, value)
    notes, faults = notes_and_faults(toml, f"[store]\nurl = '{server.url}'")
    assert [one.startswith(f"[store] url: {note}") for one in notes] == ([True] if note else [])
    assert faults == ([f"rewriter.toml:2: {fault}"] if fault else [])
    server.kill()  # with such settings an orderly end takes ten seconds


def test_each_node_of_a_cluster_is_asked(toml: Path, redis_cluster_urls: list[str]) -> None:
    url = "redis+cluster://" + ",".join(one.removeprefix("redis://") for one in redis_cluster_urls)
    notes, _ = notes_and_faults(toml, f"[store]\nurl = '{url}'")
    assert [one.startswith("[store] url: appendonly is no") for one in notes] == [True]  # said once for three


def test_a_server_that_does_not_answer_or_say_is_a_note(toml: Path, valkey_server: Callable[..., Valkey]) -> None:
    server = valkey_server()
    with server.client() as client:
        client.acl_setuser(
            "shop", enabled=True, passwords=["+secret"], keys=["*"], categories=["+@all"], commands=["-config"]
        )
    url = server.url.replace("redis://", "redis://shop:secret@")
    notes, faults = notes_and_faults(toml, f"[store]\nurl = '{url}'\nprofile_url = 'redis://127.0.0.1:1'")
    refused, away = notes
    assert refused.startswith("[store] url: does not show its configuration (NoPermissionError)")
    assert away.startswith("[store] profile_url: ConnectionError: redis://127.0.0.1:1: nothing listens")
    assert not faults
    assert "secret" not in refused + away


def test_a_server_that_says_nothing_of_a_setting_is_taken_at_its_best() -> None:
    assert not [*losses({}), *risks({})]


@pytest.mark.parametrize(
    ("makes", "said"),
    [
        ([], ""),
        (
            [("CONFIG", "SET", "maxmemory", 1)],
            "OutOfMemoryError: {url}: is full (maxmemory) and takes no writes (raise its",
        ),
        (
            [("REPLICAOF", "127.0.0.1", 1)],
            "ReadOnlyError: {url}: is a replica, which takes no writes (name the primary",
        ),
        ([("CONFIG", "SET", "min-replicas-to-write", 1)], "ResponseError: {url}: has fewer replicas than min-replicas"),
    ],
    ids=["sound", "full", "a replica", "alone"],
)
def test_status_says_that_a_store_takes_no_writes(
    toml: Path, valkey_server: Callable[..., Valkey], makes: list[tuple[str, ...]], said: str
) -> None:
    """No process can announce itself there, and no event is taken, while all reads go well."""
    server = valkey_server()
    with server.client() as client:
        for command in makes:
            client.execute_command(*command)
        toml.write_text(
            f"[opensearch]\nhosts = 'http://127.0.0.1:1'\n[store]\nurl = '{server.url}'\n[policies.shop]\nindex = 'products'\n"
        )
        problems = json.loads(run("status", "--json").stdout)["problems"]
        assert [
            one.startswith(f"store: {said.format(url=server.url)}") for one in problems if one.startswith("store: ")
        ] == ([True] if said else [])
        assert client.keys() == []
