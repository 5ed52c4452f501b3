"""`rewriter switch` and processes that follow it, on a real store: two that search, of which one reads the kill-switch file."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from rewriter import Reason, Rewriter, Settings, Subject
from rewriter.shell.fleet import fleet_key
from rewriter.signals.redis_store import RedisStore
from rewriter_engines import Valkey
from tests.fakes import Client, FakeEngine, waited
from tests.live.test_cli import run

SEARCH = {"index": "products", "body": {"query": {"match": {"title": "shoe"}}, "size": 10}}


class Fleet:
    """Processes that search; each has a rewriter of its own."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.rewriters = []
        for toml in ("rewriter.toml", "elsewhere.toml"):
            settings = Settings.from_toml(folder / toml)
            rewriter = Rewriter(Client(FakeEngine(), "baseline"), settings=settings, leg_client=Client(FakeEngine()))
            self.rewriters.append(stack.enter_context(rewriter))

    def reasons(self) -> list[Reason]:
        return [rewriter.search_details(subject=Subject("ann"), **SEARCH)[1].reason for rewriter in self.rewriters]

    def announced(self) -> int:
        return len(self.rewriters[0].status().fleet)


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_url: str, prefix: str) -> Iterator[Fleet]:
    """Two processes that have announced themselves; the first reads the file `switches`."""
    monkeypatch.chdir(tmp_path)
    shared = f"[store]\nurl = '{redis_url}'\nprefix = '{prefix}'\n[policies.shop]\nindex = 'products'\n"
    (tmp_path / "elsewhere.toml").write_text(shared)
    (tmp_path / "rewriter.toml").write_text(f"{shared}[switches]\nfile = 'switches'\n")
    with ExitStack() as stack:
        made = Fleet(tmp_path, stack)
        assert Reason.SWITCHED_OFF not in made.reasons()
        assert waited(lambda: made.announced() == 2)
        yield made


@pytest.fixture
def store(redis_url: str) -> Iterator[RedisStore]:
    store = RedisStore(redis_url)
    yield store
    store.close()


def test_one_command_reaches_processes_that_read_the_file_and_those_that_do_not(fleet: Fleet, prefix: str) -> None:
    for value, off in (("off", True), ("on", False), ("default", False)):
        result = run("switch", "personalization", value, "--wait", "10")
        assert (result.exit_code, result.stdout) == (0, "")
        file, key, confirmed = result.stderr.splitlines()
        assert f" {fleet.folder / 'switches'}: personalization " in file
        assert f" store key {prefix}:switches: personalization " in key
        assert confirmed == "in effect in 2 of 2 processes"
        # What the command says is so.
        assert [reason is Reason.SWITCHED_OFF for reason in fleet.reasons()] == [off, off]


def test_the_command_waits_no_longer_than_it_must(fleet: Fleet) -> None:
    began_s = time.monotonic()
    assert run("switch", "personalization", "off", "--wait", "60").exit_code == 0
    assert time.monotonic() - began_s < 30.0


def test_a_target_that_fails_keeps_the_value_from_no_other(fleet: Fleet) -> None:
    (fleet.folder / "switches").mkdir()
    result = run("switch", "personalization", "off", "--wait", "10")
    failed, key, confirmed = result.stderr.splitlines()
    assert result.exit_code == 1
    assert "Is a directory; not written: processes that read this file keep its value of personalization" in failed
    assert key.endswith(": personalization default -> off")
    assert confirmed == "in effect in 2 of 2 processes"  # a file that says nothing leaves the store's value
    assert [reason is Reason.SWITCHED_OFF for reason in fleet.reasons()] == [True, True]


def test_a_switch_in_one_target_alone_names_what_overrides_it(fleet: Fleet) -> None:
    assert run("switch", "personalization", "off", "--only", "file", "--wait", "1").exit_code == 1  # one reads no file
    assert waited(lambda: [one is Reason.SWITCHED_OFF for one in fleet.reasons()] == [True, False])
    result = run("switch", "personalization", "on", "--only", "store", "--wait", "4")
    assert result.exit_code == 1
    file = fleet.folder / "switches"
    assert (
        f"note: {file} sets personalization off, which overrides this in processes that read the file\n"
        in result.stderr
    )
    assert "in effect in 1 of 2 processes\n" in result.stderr
    assert ": personalization off by file (its kill-switch file overrides the change: " in result.stderr


def test_a_process_with_a_value_of_its_own_is_named(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REWRITER_SWITCH_PERSONALIZATION", "on")
    assert waited(lambda: all("personalization" in rewriter.status().switches for rewriter in fleet.rewriters))
    result = run("switch", "personalization", "off")
    assert result.exit_code == 1
    assert "in effect in 1 of 2 processes\n" in result.stderr
    assert ": personalization on by environment (restart it without that variable" in result.stderr
    assert [reason is Reason.SWITCHED_OFF for reason in fleet.reasons()] == [True, False]


@pytest.mark.parametrize(
    ("file", "key", "note"),
    [
        ("shop.max_boost 1.2", "{}", "note: shop.max_boost stays 1.2, which overrides this for its policy"),
        (
            "shop.max_boost 1.2",
            '{"shop.max_boost": 1.2}',
            "note: shop.max_boost stays 1.2, which overrides this for its policy",
        ),
        (
            "",
            '{"shop.max_boost": 1.2}',
            "note: shop.max_boost stays 1.2 in processes that do not read {file}, which overrides this for its policy",
        ),
    ],
)
def test_values_of_policies_that_stay_are_noted_and_no_fault(
    fleet: Fleet, store: RedisStore, prefix: str, file: str, key: str, note: str
) -> None:
    (fleet.folder / "switches").write_text(file)
    store.write_text(f"{prefix}:switches", key)
    result = run("switch", "max_boost", "1.1", "--wait", "10")
    assert result.exit_code == 0, result.stderr
    notes = [line for line in result.stderr.splitlines() if line.startswith("note: ")]
    assert notes == [note.format(file=fleet.folder / "switches")]
    assert result.stderr.endswith("in effect in 2 of 2 processes\n")


def test_releasing_a_switch_needs_one_target_that_holds_it(fleet: Fleet, store: RedisStore, prefix: str) -> None:
    store.write_text(f"{prefix}:switches", "personalization off")
    assert waited(lambda: [one is Reason.SWITCHED_OFF for one in fleet.reasons()] == [True, True])
    result = run("switch", "personalization", "default", "--wait", "10")
    assert result.exit_code == 0
    assert not (fleet.folder / "switches").exists()
    nobody = run("switch", "personalization", "default")
    assert nobody.exit_code == 2
    assert nobody.stderr.splitlines() == [
        f"{fleet.folder / 'switches'}: does not set 'personalization'",
        f"store key {prefix}:switches: does not set 'personalization'",
    ]


def test_a_store_that_lost_the_key_releases_nothing_with_the_next_value(
    fleet: Fleet, store: RedisStore, prefix: str
) -> None:
    assert run("switch", "personalization", "off", "--only", "store", "--wait", "10").exit_code == 0
    store.run([("UNLINK", f"{prefix}:switches")])
    assert json.loads(run("switch", "--json").stdout)["personalization"] == {"value": False, "source": "store"}
    result = run("switch", "rollout", "0.5", "--wait", "10")
    assert result.exit_code == 0
    lost = (
        f"note: store key {prefix}:switches was lost; the values that processes still use are kept: personalization off"
    )
    assert lost in result.stderr.splitlines()
    assert json.loads(store.read_text(f"{prefix}:switches") or "") == {"personalization": False, "rollout": 0.5}
    assert fleet.reasons() == [Reason.SWITCHED_OFF] * 2
    store.run([("UNLINK", f"{prefix}:switches")])
    assert run("switch", "personalization", "default", "--wait", "10").exit_code == 0
    assert Reason.SWITCHED_OFF not in fleet.reasons()


def test_who_changed_what_can_be_looked_up(fleet: Fleet) -> None:
    assert run("switch", "--log").stderr.endswith(":switches:log: no change is logged\n")
    run("switch", "personalization", "off", "--wait", "0")
    run("switch", "max_boost", "1.2", "--policy", "shop", "--only", "file", "--wait", "0")
    head, latest, first = run("switch", "--log").stdout.splitlines()
    assert head.split() == ["at", "who", "switch", "value", "written", "to"]
    assert latest.split(None, 4)[2:] == ["shop.max_boost", "1.2", f"{fleet.folder / 'switches'} (was default)"]
    assert "personalization  " in first
    found = json.loads(run("switch", "--log", "--json").stdout)
    assert [(one["switch"], one["value"]) for one in found] == [("shop.max_boost", 1.2), ("personalization", False)]


def test_whatever_the_store_holds_the_value_is_written(fleet: Fleet, store: RedisStore, prefix: str) -> None:
    store.run([("SADD", f"{prefix}:switches:log", "x")])
    for name, text in (("odd", "[" * 5_000), ("other", '{"switches": {"personalization": 1e999}}')):
        store.announce(fleet_key(prefix), name, text, time.time())
    result = run("switch", "personalization", "off", "--wait", "4")
    assert result.exit_code == 1
    assert f"note: {prefix}:switches:log: ResponseError: " in result.stderr
    assert "in effect in 2 of 4 processes\n" in result.stderr
    assert [reason is Reason.SWITCHED_OFF for reason in fleet.reasons()] == [True, True]


def test_a_store_that_hangs_keeps_nobody_from_the_file(fleet: Fleet, valkey_server: Callable[..., Valkey]) -> None:
    valkey = valkey_server()
    (fleet.folder / "hung.toml").write_text(
        f"[store]\nurl = '{valkey.url}'\n[switches]\nfile = 'hung'\n[policies.shop]\nindex = 'products'\n"
    )
    valkey.pause()
    result = run("switch", "personalization", "off", "--toml", "hung.toml")
    valkey.resume()
    assert result.exit_code == 1
    assert (fleet.folder / "hung").read_text() == "personalization off\n"
    assert "store key rw:switches: TimeoutError: " in result.stderr
