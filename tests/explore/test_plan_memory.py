"""Plans never fill a store that holds events: limits of age, of keys per subject, and of bytes per process."""

from __future__ import annotations

import random
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewriter import Subject
from rewriter.explore.plan_memory import MAX_WAITING, PlanKey, PlanMemory
from rewriter.settings import StoreSettings
from rewriter.signals.store import Keys

ANN = Subject("ann", "s1")


def key(memory: PlanMemory, number: int, subject: Subject = ANN) -> PlanKey:
    found = memory.key(Keys(), subject, f"{number:032x}"[::-1])
    assert found is not None
    return found


@pytest.mark.parametrize("most", [1, 16, 100])
def test_a_subject_has_so_many_keys_and_no_more(most: int) -> None:
    memory = PlanMemory(StoreSettings(plans_per_subject=most))
    chance = random.Random(1)
    searches = [f"{chance.getrandbits(128):032x}" for _ in range(5_000)]
    for subject in (ANN, Subject("ann"), Subject(None, "s1")):
        keys = {memory.key(Keys(), subject, search) for search in searches}
        assert len(keys) == 5_000
        assert len({one.store for one in keys if one}) == most


def test_a_subject_without_a_name_has_no_plans() -> None:
    assert PlanMemory(StoreSettings()).key(Keys(), Subject(segments=("vip",)), "0" * 32) is None


def test_another_search_s_plan_is_not_found_though_it_has_the_same_key_in_the_store() -> None:
    memory = PlanMemory(StoreSettings(plans_per_subject=1))
    one, other = key(memory, 1), key(memory, 2)
    assert one.store == other.store
    assert memory.wait(one, lambda: b"one", in_store=True)
    memory.saved(memory.all_waiting(), 0.0)
    assert memory.get(one, 1.0) == b"one"
    assert memory.get(other, 1.0) is None
    assert memory.get(one, 1801.0) is None


@given(
    st.lists(st.tuples(st.floats(0.0, 50.0), st.integers(0, 3_000)), max_size=300),
    st.integers(0, 20_000),
    st.integers(1, 600),
)
def test_no_more_bytes_are_alive_than_settings_say(writes: list[tuple[float, int]], limit: int, ttl_s: int) -> None:
    memory = PlanMemory(StoreSettings(plans_max_bytes=limit, plan_ttl_s=ttl_s))
    now_s, written = 0.0, []
    for after_s, size in writes:
        now_s += after_s
        if memory.may_store(PlanKey("k", "s"), b"x" * size, now_s):
            written.append((now_s, size))
        alive = sum(size for at_s, size in written if now_s - at_s < ttl_s)
        assert alive <= limit
    assert memory.refused == len(writes) - len(written)


def test_room_comes_back_when_plans_have_gone() -> None:
    memory = PlanMemory(StoreSettings(plans_max_bytes=10_000, plan_ttl_s=60))

    def fill(at_s: float) -> int:
        return sum(memory.may_store(PlanKey("k", "s"), b"x" * 500, at_s) for _ in range(100))

    first = fill(0.0)
    assert 10 <= first <= 20
    assert fill(30.0) == 0
    assert fill(63.0) == first


def test_threads_count_together() -> None:
    memory = PlanMemory(StoreSettings(plans_max_bytes=100_000))
    admitted: list[int] = []

    def write() -> None:
        admitted.append(sum(memory.may_store(PlanKey("k", "s"), b"x" * 300, 0.0) for _ in range(1_000)))

    threads = [Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(admitted) * 429 <= 100_000 < (sum(admitted) + 1) * 429
    assert memory.refused == 8_000 - sum(admitted)


def test_a_plan_that_is_not_in_the_store_yet_is_found_and_made_once() -> None:
    memory = PlanMemory(StoreSettings())
    made: list[int] = []

    def make() -> bytes:
        made.append(1)
        return b"plan"

    key = PlanKey("k", "s")
    assert memory.unstored(key, 0.0) is None
    assert memory.wait(key, make, in_store=True)
    assert memory.unstored(key, 0.0) == memory.get(key, 0.0) == b"plan"
    waiting = memory.all_waiting()
    assert memory.wait(key, lambda: b"newer", in_store=True)  # while the first one is being written
    memory.saved(waiting, 0.0, stored=[key])
    assert memory.unstored(key, 0.0) == b"newer"
    memory.saved(memory.all_waiting(), 0.0, stored=[key])
    assert (memory.unstored(key, 0.0), memory.get(key, 0.0)) == (None, b"newer")
    assert made == [1]


def test_a_plan_that_could_not_be_written_stays_newer_than_the_store_s() -> None:
    memory, one = PlanMemory(StoreSettings()), PlanKey("k", "s")
    assert memory.wait(one, lambda: b"plan", in_store=True)
    memory.saved(memory.all_waiting(), 0.0)
    assert memory.unstored(one, 0.0) == memory.get(one, 0.0) == b"plan"
    assert memory.wait(one, lambda: b"newer", in_store=True)
    memory.saved(memory.all_waiting(), 0.0, stored=[one])
    assert (memory.unstored(one, 0.0), memory.get(one, 0.0)) == (None, b"newer")


def test_a_plan_that_cannot_be_made_and_plans_beyond_the_bound_are_not_kept() -> None:
    memory = PlanMemory(StoreSettings())
    assert memory.wait(PlanKey("odd", "s"), lambda: b"%d" % (1 // 0), in_store=True)
    assert memory.get(PlanKey("odd", "s"), 0.0) is None
    memory.saved(memory.all_waiting(), 0.0)
    assert memory.waiting == 0
    assert all(memory.wait(PlanKey(f"k{n}", "s"), lambda: b"plan", in_store=True) for n in range(MAX_WAITING))
    assert not memory.wait(PlanKey("one more", "s"), lambda: b"plan", in_store=True)
    assert memory.wait(PlanKey("k0", "s"), lambda: b"newer", in_store=True)
    memory.clear()
    assert memory.waiting == 0
