"""Switches from a real OpenFeature SDK: followed, overridden, and held while the provider hangs or fails."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from openfeature import api
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

from rewriter import Reason, Settings, Subject
from rewriter.shell.background import flag_source
from rewriter.shell.background.flag_source import FlagSource
from tests.fakes import HARNESSES, FakeStore, Harness, waited

ARGUMENTS: dict[str, Any] = {"index": "products", "body": {"query": {"match": {"title": "shoe"}}, "size": 10}}


class Provider(InMemoryProvider):
    """A provider that hangs or raises as it is told."""

    def __init__(self, **flags: bool | float) -> None:
        super().__init__(self._made(flags))
        self.hung = Event()
        self.released = Event()
        self.raises = False
        self.asked = 0

    @staticmethod
    def _made(flags: dict[str, Any]) -> dict[str, InMemoryFlag[Any]]:
        return {
            f"rewriter.{name.replace('__', '.')}": InMemoryFlag("is", {"is": value}) for name, value in flags.items()
        }

    def says(self, **flags: Any) -> None:
        self._flags = self._made(flags)

    def resolve_boolean_details(self, *arguments: Any, **options: Any) -> Any:
        self.asked += 1
        if self.hung.is_set():
            self.released.wait(20.0)
        if self.raises:
            raise RuntimeError("the provider's own")
        return super().resolve_boolean_details(*arguments, **options)


@pytest.fixture
def domain() -> str:
    return f"search-{uuid4()}"


@pytest.fixture
def provider(domain: str) -> Iterator[Provider]:
    made = Provider(personalization=True)
    api.set_provider(made, domain)
    yield made
    made.released.set()


def settings(domain: str, **switches: Any) -> Settings:
    return Settings.model_validate(
        {
            "experiment": {"holdout": 0},
            "switches": {"openfeature": domain, **switches},
            "budget": {"signals_ms": 2000, "cutoff_ms": 5000},
            "policies": {"shop": {"index": "products*"}},
        }
    )


def reason(harness: Harness) -> Reason:
    return harness.search(Subject("ann", "s1"), ARGUMENTS)[1].reason


@pytest.mark.parametrize("kind", HARNESSES)
def test_a_flag_switches_off_and_on_again(kind: type[Harness], domain: str, provider: Provider) -> None:
    with kind(settings(domain), FakeStore()) as harness:
        harness.until(lambda status: status.switches.get("personalization", {}).get("source") == "openfeature")
        assert reason(harness) is Reason.NO_SIGNALS
        provider.says(shop__personalization=False, rollout=0.25)
        harness.until(lambda status: status.switches.get("shop.personalization", {}).get("value") is False)
        assert reason(harness) is Reason.SWITCHED_OFF
        assert harness.status().experiment["rollout"] == 0.25
        provider.says()
        harness.until(lambda status: "rollout" not in status.switches)
        assert reason(harness) is Reason.NO_SIGNALS


@pytest.mark.parametrize("kind", HARNESSES)
def test_while_a_provider_hangs_the_last_value_holds_and_no_search_waits(
    kind: type[Harness], domain: str, provider: Provider
) -> None:
    provider.says(personalization=False)
    with kind(settings(domain), FakeStore()) as harness:
        harness.until(lambda status: "personalization" in status.switches)
        provider.hung.set()
        asked = provider.asked
        assert waited(lambda: provider.asked > asked)
        began_s = time.perf_counter()
        assert [reason(harness) for _ in range(5)] == [Reason.SWITCHED_OFF] * 5
        assert time.perf_counter() - began_s < 2.0


@pytest.mark.parametrize("kind", HARNESSES)
def test_what_a_provider_raises_is_a_problem_of_the_status_alone(
    kind: type[Harness], domain: str, provider: Provider
) -> None:
    provider.says(rollout=0.0)
    with kind(settings(domain), FakeStore()) as harness:
        harness.until(lambda status: "rollout" in status.switches)
        provider.raises = True
        harness.until(
            lambda status: any("cannot be evaluated" in one or "raised" in one for one in map(str, status.problems))
        )
        assert reason(harness) is Reason.NOT_ROLLED_OUT


@pytest.mark.parametrize("kind", HARNESSES)
def test_the_kill_switch_file_overrides_a_flag(
    kind: type[Harness], domain: str, provider: Provider, tmp_path: Path
) -> None:
    file = tmp_path / "switches"
    file.write_text("personalization off")
    with kind(settings(domain, file=str(file)), FakeStore()) as harness:
        assert waited(lambda: provider.asked > 0)
        assert reason(harness) is Reason.SWITCHED_OFF
        assert harness.status().switches["personalization"]["source"] == "file"


def test_whole_numbers_are_numbers_and_other_types_keep_the_last_value(domain: str, provider: Provider) -> None:
    """1 in a provider's JSON is an integer, which OpenFeature does not give as a float."""
    source = FlagSource(domain, ["shop"])
    provider.says(rollout=1, personalization=False, shop__exploration_share=0)
    source.fetch()
    assert source.read().values == {"rollout": 1.0, "personalization": False, "shop.exploration_share": 0.0}
    provider.says(rollout="all", personalization="off", shop__exploration_share=[0.1])
    source.fetch()
    read = source.read()
    assert read.values == {"rollout": 1.0, "personalization": False, "shop.exploration_share": 0.0}
    assert "TYPE_MISMATCH" in str(read.faults)


@pytest.mark.parametrize("value", [None, "off", {"on": True}, object()])
def test_a_client_that_checks_no_types_breaks_nothing(value: object) -> None:
    details = SimpleNamespace(value=value, error_code=None)
    client = SimpleNamespace(
        get_boolean_details=lambda *_: details,
        get_float_details=lambda *_: details,
        get_integer_details=lambda *_: details,
    )
    source = FlagSource("search", [], lambda _: client)
    source.fetch()
    read = source.read()
    assert not read.values
    assert "TYPE_MISMATCH" in str(read.faults)


def test_a_provider_that_hangs_for_long_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, released = Event(), Event()

    def hangs(_: str) -> Any:
        asked.set()
        released.wait(20.0)
        raise OSError

    source = FlagSource("search", [], hangs, period_s=0.01)
    monkeypatch.setattr(flag_source, "HANGS_S", 0.05)
    source.read()
    source.read()
    assert asked.wait(20.0)
    assert waited(lambda: "has not answered for" in str(source.read().faults))
    released.set()
    assert waited(lambda: "raised OSError" in str(source.read().faults))


def test_a_value_that_is_none_keeps_the_last_one(domain: str, provider: Provider) -> None:
    source = FlagSource(domain, ["shop"])
    provider.says(rollout=0.5)
    source.fetch()
    assert source.read().values == {"rollout": 0.5}
    provider.says(rollout=7.0)
    source.fetch()
    read = source.read()
    assert read.values == {}
    assert "rollout" in read.unclear
    assert read.faults


def test_without_the_sdk_the_status_says_what_to_install() -> None:
    def missing(_: str) -> Any:
        raise ImportError

    source = FlagSource("search", [], missing)
    source.fetch()
    assert "pip install 'rewriter[openfeature]'" in str(source.read().faults[0])


def test_the_thread_ends_with_its_source(domain: str, provider: Provider) -> None:
    def read(source: FlagSource) -> Callable[[], object]:
        source.read()
        source.read()
        return weakref.ref(source)

    held = read(FlagSource(domain, [], period_s=0.01))

    def gone() -> bool:
        gc.collect()
        return held() is None

    assert waited(gone)
