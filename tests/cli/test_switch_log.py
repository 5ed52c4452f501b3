"""The log of changes: what is kept, what is shown, and what becomes of what is no log."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from rewriter.cli.switch.log import KEPT, logged, print_log
from rewriter.errors import StoreError
from rewriter.signals.commands import MAX_TEXT_BYTES, Command
from rewriter.signals.memory_store import MemoryStore

KEY = "rw:switches:log"


def log(store: MemoryStore, number: int = 0, where: str = "store key rw:switches") -> None:
    logged(
        store,
        KEY,
        f"2026-11-24T03:00:{number:02}Z",
        "ann@bastion",
        "personalization",
        value=False,
        written={where: None},
    )


def kept(store: MemoryStore) -> list[object]:
    found: list[object] = json.loads(store.read_text(KEY) or "")
    return found


def test_the_latest_changes_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    store = MemoryStore()
    for number in range(KEPT + 5):
        log(store, number)
    assert len(kept(store)) == KEPT
    print_log(store, KEY, as_json=False)
    head, first, *_ = capsys.readouterr().out.splitlines()
    assert head.split() == ["at", "who", "switch", "value", "written", "to"]
    assert first.split(None, 4) == [
        "2026-11-24T03:00:104Z", "ann@bastion", "personalization", "off", "store key rw:switches (was default)",
    ]  # fmt: skip


def test_it_stays_within_what_a_key_may_hold() -> None:
    store = MemoryStore()
    for number in range(20):
        log(store, number, "/x" * 5_000)
    assert len(store.read_text(KEY) or "") <= MAX_TEXT_BYTES
    assert 1 < len(kept(store)) < 20


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("{broken", "{broken"),
        ('{"a": 1}', '{"a": 1}'),
        ("[" * 60_000, "[" * 1_000),
        ("5", "5"),
        ("\x1b[31m", "\x1b[31m"),
        ('[{"at": 5}, null, "x\\u001b", {"value": NaN}]', {"at": 5}),
    ],
)
def test_what_is_no_log_is_kept_and_shown_beside_the_changes(
    text: str, first: object, capsys: pytest.CaptureFixture[str]
) -> None:
    store = MemoryStore()
    store.write_text(KEY, text)
    log(store)
    assert "this change is not in it" not in capsys.readouterr().err
    assert kept(store)[0] == first
    print_log(store, KEY, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert "ann@bastion" in lines[1]
    assert len(lines) == 1 + len(kept(store)) >= 3
    assert all(line.isprintable() for line in lines)
    print_log(store, KEY, as_json=True)
    assert json.loads(capsys.readouterr().out)[0]["who"] == "ann@bastion"


def test_those_who_write_at_the_same_moment_are_all_in_it() -> None:
    store = MemoryStore()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: log(store, number), range(60)))
    assert len(kept(store)) == 60


def test_one_that_cannot_be_kept_raises_what_the_store_does() -> None:
    class Busy(MemoryStore):
        def run(self, wanted: Sequence[Command], *, atomic: bool = False) -> list[Any]:
            if wanted[0][0] == "EVAL":
                return [0]
            return super().run(wanted, atomic=atomic)

    with pytest.raises(StoreError, match="other clients changed it"):
        log(Busy())
