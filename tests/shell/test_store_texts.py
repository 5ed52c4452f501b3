"""Texts of several keys: one round trip, and in a cluster one key that cannot be read hides no other."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.exceptions import OutOfMemoryError

from rewriter.shell.background.sources import ReadTexts, Sources
from rewriter.shell.background.store_texts import read_texts, read_texts_async
from rewriter.signals.memory_store import AsyncMemoryStore, MemoryStore

KEYS = ("rw:switches", "rw:heartbeat", "rw:forgets")


class Counting(MemoryStore):
    """Counts the round trips. `away` are keys of a node that does not answer."""

    def __init__(self, *, is_cluster: bool = False, away: str = "") -> None:
        super().__init__()
        self.is_cluster = is_cluster
        self.away = away
        self.trips = 0

    def run(self, wanted: Any, *, atomic: bool = False) -> list[Any]:
        self.trips += 1
        if self.away and any(self.away in command for command in wanted):
            raise ConnectionError("the node is away")
        return super().run(wanted, atomic=atomic)


def test_three_keys_take_one_round_trip() -> None:
    store = Counting()
    store.write_text(KEYS[0], "personalization off")
    store.trips = 0
    assert read_texts(store, KEYS) == ["personalization off", None, None]
    assert store.trips == 1
    assert asyncio.run(read_texts_async(AsyncMemoryStore(store), KEYS)) == ["personalization off", None, None]


@pytest.mark.parametrize("away", KEYS[1:])
def test_in_a_cluster_the_switches_are_read_while_another_node_is_away(away: str) -> None:
    store = Counting(is_cluster=True, away=away)
    store.write_text(KEYS[0], "personalization off")
    found = read_texts(store, KEYS)
    assert found[0] == "personalization off"
    assert [type(one) for one in found].count(ConnectionError) == 1


def test_a_key_that_cannot_be_read_is_not_a_store_that_goes_and_comes() -> None:
    """One key of a wrong type: each round reads it beside others."""
    outcomes: list[Any] = []
    sources, wrong = Sources(outcomes.append), OSError()
    for heartbeat in (wrong, wrong, wrong, None):
        reading = sources.read_texts({"switches": KEYS[0], "heartbeat": KEYS[1]})
        next(reading)
        with pytest.raises(StopIteration):
            reading.send(["off", heartbeat])
    assert outcomes == [None, wrong, wrong, wrong, None]


@pytest.mark.parametrize(
    ("answers", "texts", "errors"),
    [
        (["off", None], {"switches": "off", "heartbeat": None}, {}),
        (["off", OSError()], {"switches": "off", "heartbeat": None}, {"heartbeat": "OSError"}),
        (OSError(), {"switches": None, "heartbeat": None}, {"switches": "OSError", "heartbeat": "OSError"}),
    ],
    ids=["both", "one key", "no answer"],
)
def test_each_source_has_its_own_error(answers: Any, texts: dict[str, Any], errors: dict[str, str]) -> None:
    outcomes: list[Any] = []
    sources = Sources(outcomes.append)
    reading = sources.read_texts({"switches": KEYS[0], "heartbeat": KEYS[1]})
    assert next(reading) == ReadTexts(KEYS[:2])
    with pytest.raises(StopIteration) as end:
        reading.throw(answers) if isinstance(answers, Exception) else reading.send(answers)
    assert (end.value.value, sources.errors) == (texts, errors)
    assert len(outcomes) == 2


def test_a_store_that_answers_reads_and_refuses_writes_does_not_answer_again_with_each_read() -> None:
    """As a full one does, and a replica. Otherwise the log would have two lines in each round."""
    outcomes: list[Any] = []
    sources, full = Sources(outcomes.append), OutOfMemoryError("used memory > 'maxmemory'")
    for refusal in (full, full, None):
        reading = sources.read_texts({"switches": KEYS[0]})
        next(reading)
        with pytest.raises(StopIteration):
            reading.send(["off"])
        writing = sources.read("fleet", ReadTexts(()))
        next(writing)
        with pytest.raises(StopIteration):
            writing.throw(refusal) if refusal else writing.send(None)
    assert outcomes == [None, full, full, None]
