"""The demo from end to end, as a user starts it, on the engines that need no installation."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from rewriter_engines.osmem import Osmem
from tests.needed import needed

SCENES = [
    "Households and their queries",
    "The same for many",
    "A new session",
    "Unknown visitors",
    "The kill switch",
    "The store stops",
]


@pytest.fixture(scope="module")
def shown() -> str:
    """What the demo prints."""
    with needed():
        Osmem().close()
    environment = {name: value for name, value in os.environ.items() if name not in ("ENGINE", "COLUMNS")}
    command = [sys.executable, "-m", "rewriter", "demo"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_every_scene_is_shown_within_the_80_columns_of_a_pipe(shown: str) -> None:
    lines = shown.splitlines()
    assert [line.split(" ──")[0] for line in lines if " ──" in line] == SCENES
    assert max(map(len, lines)) <= 80
    assert "…" not in shown, "something was cut off"


def test_it_says_what_the_data_is(shown: str) -> None:
    assert "simulated on real shopping patterns" in " ".join(shown.split())


def test_three_pages_are_shown_with_exploration_and_reasons(shown: str) -> None:
    personalized = shown.count("personalized by profile, ")
    assert personalized + shown.count("That means: ") == 3, "a page that is not personalized explains its reason"
    assert shown.count("explored, p ") == personalized > 0
    assert "so that people also see what they do not know yet" in " ".join(shown.split())
    assert re.search(r"↑ (in|\d)\s+×1\.\d\d bought \d+×", shown)


def test_products_have_names_and_no_ids(shown: str) -> None:
    assert re.search(r"^ 1 (House|[A-Z][a-z]+) .*│  1 ", shown, re.MULTILINE)
    assert not re.search(r"│ .*\b\d{5,}\b", shown)


def test_the_machine_s_own_lateness_stands_beside_the_bound(shown: str) -> None:
    text = " ".join(shown.split())
    assert re.search(r"the demo's bound is \d+ ms \(cutoff_ms\). A service keeps the default of 30 ms", text)
    assert re.search(r"kept a thread that only sleeps waiting up to \d+ ms longer", text)


def test_personalized_pages_hold_more_of_what_was_bought_later(shown: str) -> None:
    found = re.search(r"hits that the household bought later +(\d+) +(\d+)", shown)
    assert found is not None
    own, rewritten = map(int, found.groups())
    assert rewritten > own > 0


def test_a_session_blends_in(shown: str) -> None:
    rows = re.findall(r"^(\d)  +(profile|blend)  +(\d+)%", shown, re.MULTILINE)
    assert rows == [
        ("0", "profile", "0"),
        *(("1248"[at], "blend", part) for at, part in enumerate(["8", "14", "22", "31"])),
    ]


@pytest.mark.parametrize(
    "row",
    [
        r"names nobody +no_subject +– +the shop's own",
        r"known, without consent +no_consent +– +the shop's own",
        r"never seen before +no_signals +– +the shop's own",
        r"the same, after a first click +personalized +session +personalized",
        r"personalization off +switched_off +[01]\.\d s +the shop's own",
        r"\(taken away\) +personalized +\d\.\d s +personalized",
        r"has stopped +60 of 60 +60 .*breaker_open \d+",
        r"back for \d+\.\d s +(\d+) of \1 [\s\S]*?personalized 1",
    ],
)
def test_what_steps_aside_and_comes_back(shown: str, row: str) -> None:
    assert re.search(rf"^{row}", shown, re.MULTILINE), shown
