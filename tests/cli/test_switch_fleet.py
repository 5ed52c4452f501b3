"""Confirmation of a change by the fleet: which processes follow, which are named and with which value, and an empty fleet."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from redis.exceptions import ConnectionError as StoreGone

from rewriter.cli.switch import fleet as switch_fleet
from rewriter.cli.switch.change import Change
from rewriter.cli.switch.fleet import confirm, why_not
from rewriter.cli.switch.target import SwitchSource
from rewriter.decide.switches import SwitchValue
from rewriter.shell.background.refresh import ANNOUNCE_PERIOD_S
from rewriter.shell.fleet import fleet_key, parse_report, process_of
from rewriter.signals.memory_store import MemoryStore

KEY = fleet_key("rw")
OFF = Change("personalization", value=False, written={"here": None})

Said = Mapping[str, tuple[SwitchValue, str]]


def standing(said: Said, at: float = 0.0) -> str:
    return json.dumps(
        {"at": at, "switches": {name: {"value": value, "source": by} for name, (value, by) in said.items()}}
    )


def store_of(**said: Said) -> MemoryStore:
    store = MemoryStore()
    for name, its in said.items():
        store.announce(KEY, name, standing(its), 0.0)
    return store


class Clock:
    """Time that passes while somebody sleeps; `after` is done at each sleep."""

    def __init__(self, after: Callable[[float], None] = lambda _: None) -> None:
        self.now_s = 100.0
        self._after = after

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self._after(self.now_s)


def confirmed(
    store: MemoryStore | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    made: Change = OFF,
    only: SwitchSource | None = None,
    clock: Clock | None = None,
) -> tuple[bool, list[str]]:
    monkeypatch.setattr(switch_fleet, "time", clock or Clock())
    capsys.readouterr()
    follows = confirm(store, "rw", made, only, 3.0)
    return follows, capsys.readouterr().err.splitlines()


# --- who follows ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "said", "why"),
    [
        ("personalization", False, {"personalization": (False, "file")}, ""),
        ("personalization", False, {"personalization": (False, "environment")}, ""),
        ("personalization", False, {}, "personalization as set by its settings"),
        ("personalization", False, {"personalization": (True, "environment")}, "personalization on by environment"),
        (
            "personalization",
            False,
            {"personalization": (False, "store"), "shoes.personalization": (True, "environment")},
            "shoes.personalization on by environment",
        ),
        ("personalization", False, {"personalization": (False, "file"), "shoes.personalization": (False, "file")}, ""),
        ("shoes.max_boost", 1.2, {"shoes.max_boost": (1.2, "store")}, ""),
        ("shoes.max_boost", 1.2, {"max_boost": (1.2, "file")}, ""),
        ("shoes.max_boost", 1.2, {"max_boost": (1.1, "file")}, "max_boost 1.1 by file"),
        ("shoes.max_boost", 1.2, {"hats.max_boost": (1.1, "file")}, "max_boost as set by its settings"),
        (
            "shoes.max_boost",
            1.2,
            {"max_boost": (1.2, "store"), "shoes.max_boost": (1.3, "file")},
            "shoes.max_boost 1.3 by file",
        ),
        ("rollout", None, {}, ""),
        ("rollout", None, {"rollout": (0.5, "environment")}, "rollout 0.5 by environment"),
        ("shoes.rollout", None, {"rollout": (0.5, "file")}, ""),
        ("rollout", None, {"rollout": (0.5, "store")}, "rollout 0.5 by store"),
    ],
)
def test_a_process_that_does_not_follow_is_explained(
    name: str, value: SwitchValue | None, said: Said, why: str
) -> None:
    found = why_not(Change(name, value), process_of("search-7", parse_report(standing(said))))
    assert (found.what if found else "") == why


def test_a_policys_value_that_the_command_has_noted_is_not_named_again() -> None:
    made = Change(
        "personalization", value=False, values={"file": {"personalization": False, "shoes.personalization": True}}
    )
    said: Said = {"personalization": (False, "file"), "shoes.personalization": (True, "file")}
    assert why_not(made, process_of("search-7", parse_report(standing(said)))) is None


# --- what is said -----------------------------------------------------------------------------------------------------


def test_a_change_that_all_processes_follow_is_confirmed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = store_of(a={"personalization": (False, "file")}, b={"personalization": (False, "store")})
    assert confirmed(store, monkeypatch, capsys) == (True, ["in effect in 2 of 2 processes"])


def test_one_that_follows_soon_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = store_of(a={"personalization": (False, "file")}, b={})

    def follow(now_s: float) -> None:
        if now_s > 100.5:
            store.announce(KEY, "b", standing({"personalization": (False, "store")}), 0.5)

    clock = Clock(follow)
    assert confirmed(store, monkeypatch, capsys, clock=clock) == (True, ["in effect in 2 of 2 processes"])
    assert clock.now_s < 101.0


def test_those_that_do_not_follow_are_named_and_by_whose_value(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = store_of(**{"search-6": {"personalization": (False, "file")}, "search-7": {}})

    def speak(now_s: float) -> None:
        store.announce(KEY, "search-7", standing({"personalization": (True, "environment")}, at=now_s), 0.5)

    follows, said = confirmed(store, monkeypatch, capsys, clock=Clock(speak))
    assert not follows
    remedy = "restart it without that variable, or write a kill-switch file that it reads"
    assert said == ["in effect in 1 of 2 processes", f"search-7: personalization on by environment ({remedy})"]


def test_one_that_has_fallen_silent_is_told_from_one_that_does_not_follow(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    follows, said = confirmed(store_of(a={"personalization": (True, "store")}), monkeypatch, capsys, clock=clock)
    assert not follows
    silent = "a: personalization on by store, and has not reported since (it has ended, or does not reach the store)"
    assert said == ["in effect in 0 of 1 process", silent]
    assert clock.now_s >= 100.0 + ANNOUNCE_PERIOD_S


ODD: dict[str, Any] = {
    "no JSON": "x",
    "a list": "[1]",
    "nested deep": '{"switches":' * 3_000,
    "nested": '{"switches":' + "[" * 700 + "]" * 700 + "}",
    "no switches": "{}",
    "switches that are none": '{"switches": [1]}',
    "a word that is none": '{"switches": {"personalization": {"value": "off"}}}',
    "a word that is too much": '{"switches": {"personalization": {"value": 1e999}, "rollout": {"value": 1'
    + "0" * 400
    + "}}}",
    "a word without its source": '{"switches": {"personalization": true}}',
    "half a character": '{"switches": {"personalization": {"value": true, "source": "\\ud800\\u001b[31m"}}}',
    "an escape\x1b[31m\n": "{}",
}


def test_whatever_others_write_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    store = MemoryStore()
    for name, text in ODD.items():
        store.announce(KEY, name, text, 0.0)
    follows, said = confirmed(store, monkeypatch, capsys)
    assert not follows
    assert said[0] == f"in effect in 0 of {len(ODD)} processes"
    assert len(said) == 1 + len(ODD)
    assert all(line.isprintable() for line in said)


def test_many_that_do_not_follow_are_summed_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    follows, said = confirmed(store_of(**{f"p{n}": {} for n in range(50)}), monkeypatch, capsys)
    assert not follows
    assert (len(said), said[0]) == (22, "in effect in 0 of 50 processes")
    assert said[-1] == "and 30 more: `rewriter status` shows all"


def test_without_processes_a_change_is_made_and_not_confirmed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nobody = "not confirmed: no process has announced itself in the last 10 s"
    assert confirmed(MemoryStore(), monkeypatch, capsys) == (True, [nobody])


def test_a_file_alone_is_confirmed_on_its_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = socket.gethostname()
    store = store_of(**{f"{machine}:1:a": {"personalization": (False, "file")}, f"{machine}-2:1:a": {}})
    followed = f"in effect in 1 of 1 process on {machine}; elsewhere in 0 of 1"
    assert confirmed(store, monkeypatch, capsys, only="file") == (True, [followed])
    follows, said = confirmed(store_of(elsewhere={}), monkeypatch, capsys, only="file")
    assert follows
    nobody = f"not confirmed: no process has announced itself in the last 10 s on {machine}; elsewhere in 0 of 1"
    assert said == [nobody]


def test_a_store_that_goes_away_meanwhile(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Away(MemoryStore):
        def announced(self, key: str) -> dict[str, str]:
            raise StoreGone(f"{key} is gone")

    away = f"not confirmed: the store does not answer: ConnectionError: {KEY} is gone"
    assert confirmed(Away(), monkeypatch, capsys) == (True, [away])


def test_a_store_that_comes_back_in_time(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Back(MemoryStore):
        looks = 0

        def announced(self, key: str) -> dict[str, str]:
            self.looks += 1
            if self.looks < 3:
                raise StoreGone("gone")
            return super().announced(key)

    store = Back()
    store.announce(KEY, "a", standing({"personalization": (False, "store")}), 0.0)
    assert confirmed(store, monkeypatch, capsys) == (True, ["in effect in 1 of 1 process"])
