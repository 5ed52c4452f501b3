"""Copies of answers have the classes of the caller's deserializer, whichever page is served."""

from __future__ import annotations

import json
from collections import OrderedDict, UserDict, defaultdict
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest

from rewriter import Reason, Settings, Subject
from rewriter.alike import alike
from rewriter.signals.store import Keys
from tests.fakes import HARNESSES, FakeStore, Harness
from tests.reason_cases import LIKED, SEARCH

ANN = Subject("ann", "s1")


class Dotted(dict[str, Any]):
    """Keys are attributes, looked up."""

    __getattr__ = dict.__getitem__


class Recipe(dict[str, Any]):
    """Keys are attributes, since both are one."""

    def __init__(self, *items: Any) -> None:
        super().__init__(*items)
        self.__dict__ = self


class Filled(dict[str, Any]):
    """Cannot be made of a dict."""

    def __init__(self, *, of: str = "") -> None:
        super().__init__()
        self.of = of


class Deaf(dict[str, Any]):
    """Makes nothing of what it is given."""

    def __init__(self, _: Any = None) -> None:
        super().__init__()


@pytest.mark.parametrize(
    ("original", "kind"),
    [
        ({"a": 1}, dict),
        (Dotted(a=1), Dotted),
        (Recipe({"a": 1}), Recipe),
        (OrderedDict(a=1), OrderedDict),
        (defaultdict(int, a=1), defaultdict),
        (UserDict(a=1), UserDict),
        (Filled(of="x"), dict),
        (Deaf(), dict),
        (MappingProxyType({"a": 1}), MappingProxyType),
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_copy_is_of_the_same_class_where_that_holds_the_items(original: Any, kind: Any) -> None:
    before = dict(original)
    made: Any = alike(original, {"a": 2, "b": [3]})
    assert made.__class__ is kind
    assert dict(made) == {"a": 2, "b": [3]}
    assert dict(original) == before
    if kind in (Dotted, Recipe):
        assert (made.a, made.b) == (2, [3])
    if kind is defaultdict:
        assert made["c"] == 0


def classes(part: Any) -> set[type]:
    """The classes of all mappings in an answer."""
    if isinstance(part, Mapping):
        return {type(part)}.union(*map(classes, part.values()))
    return set().union(*map(classes, part)) if isinstance(part, list) else set()


def odd(kind: type, found: Any) -> Any:
    for number, hit in enumerate(found["hits"]["hits"]):
        inner = {"total": 1, "hits": [{"_id": f"i{number}", "matched_queries": ["rewriter:0"]}]}
        hit["inner_hits"] = {"parts": {"hits": inner}}
    return json.loads(json.dumps(found), object_hook=kind)


@pytest.mark.parametrize("kind", [Dotted, Recipe, OrderedDict])
@pytest.mark.parametrize("harness", HARNESSES)
def test_a_page_is_of_the_classes_of_the_caller_s_deserializer(harness: type[Harness], kind: type) -> None:
    store = FakeStore()
    store.write(Keys().profile("ann"), LIKED, None)
    settings = Settings.model_validate(
        {
            "experiment": {"holdout": 0},
            "budget": {"signals_ms": 2_000, "cutoff_ms": 5_000},
            "policies": {"shop": {"index": "products*", "item_repeat_share": 1.0}},
        }
    )
    with harness(settings, store) as one:
        one.engine.on = dict.fromkeys(("baseline", "personal", "explored"), lambda found: odd(kind, found))
        for _ in range(2):  # the second takes its slot's hit from the shared pool
            answer, report = one.search(ANN, SEARCH)
            assert report.reason is Reason.PERSONALIZED
            assert len(report.slots) == 1
            assert classes(answer) == {kind}
            one.until(lambda status: status.in_flight == 0)
        assert len(one.engine.asked["explored"]) == 1
        one.engine.on["personal"] = lambda _: None
        answer, report = one.search(ANN, {**SEARCH, "body": {**SEARCH["body"], "from": 5}})
        assert report.reason is Reason.SEARCH_FAILED
        assert "left out" in report.detail
        assert classes(answer) == {kind}
