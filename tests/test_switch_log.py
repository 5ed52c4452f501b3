"""The log of changes: what is kept, what is shown, and what becomes of what is no log."""

from __future__ import annotations

import json

import pytest

from rewriter.cli.switch_log import KEPT, logged, print_log
from rewriter.signals.commands import MAX_TEXT_BYTES
from rewriter.signals.memory_store import MemoryStore

KEY = "rw:switches:log"


def log(store: MemoryStore, number: int = 0, where: str = "store key rw:switches") -> None:
    logged(
        store,
        KEY,
        f"2026-11-24T03:00:{number:02}Z",
        "ann@bastion",
        "personalization",
        word=False,
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
    assert head.split() == ["at", "who", "switch", "said", "in"]
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
        ('[{"at": 5}, null, "x\\u001b", {"word": NaN}]', {"at": 5}),
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


def test_two_who_write_at_the_same_moment_are_both_in_it() -> None:
    class Shared(MemoryStore):
        others = 0

        def write_text(self, key: str, text: str) -> None:
            super().write_text(key, text)
            if not self.others:  # somebody who had read before us writes after us
                self.others += 1
                super().write_text(key, json.dumps(["theirs"]))

    store = Shared()
    log(store)
    assert kept(store)[0] == "theirs"
    assert len(kept(store)) == 2


def test_one_that_cannot_be_kept_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    class Deaf(MemoryStore):
        def write_text(self, key: str, text: str) -> None:
            pass

    log(Deaf())
    assert "and this change is not in it" in capsys.readouterr().err
