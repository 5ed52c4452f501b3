"""The gate's name: the server gives it only in searches whose hits tell the classes of their query."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from bench.facts import read_facts
from bench.straight import Straight
from rewriter import Reason, Settings
from rewriter.core import Core
from rewriter.shell.template_files import load_templates
from rewriter.signals.counters import Counters

NOW_S = 1.8e9
MAPPING = {"title": {"type": "text"}, "type": {"type": "keyword"}}


def core_of(class_field: str | None) -> Core:
    policy = {"index": "products", "item_repeat_share": 1.0, "named_share": 0.0, "class_field": class_field}
    settings = Settings.model_validate({"policies": {"shop": policy}, "experiment": {"holdout": 0.0}})
    core = Core(settings, load_templates(settings), ("store",))
    read_facts(core, {"products": {"mappings": {"properties": MAPPING}}}, {"products": {"settings": {}}})
    return core


def answered(sent: Mapping[str, Any]) -> dict[str, Any]:
    """Answer a search; hits have what they are asked for besides their source."""
    more = {"fields": {"type": ["shoe"]}} if "docvalue_fields" in sent["body"] else {}
    hits = [{"_index": "products", "_id": str(n), "_score": 9.0 - n / 10, **more} for n in range(sent["body"]["size"])]
    return {"hits": {"max_score": 9.0, "hits": hits}}


def searched(core: Core, words: str) -> str:
    """Search for some words, and return the body of the personalized leg as text."""
    profile = Counters({("item", "3"): 9.0}, {"item": 9.0}, NOW_S, NOW_S, 3.0)
    arguments = {"index": "products", "body": {"query": {"match": {"title": words}}, "size": 10}}
    run = Straight(arguments, lambda _: profile, lambda _: {}, answered, answered)
    _, report = run.run(core, "ann", seed=1, now_s=NOW_S)
    assert report.reason is Reason.PERSONALIZED, report
    return next(text for leg in run.sent if "rescore" in (text := str(leg["body"])))


@pytest.mark.parametrize(("class_field", "named"), [("type", [True, False, True, False]), (None, [False] * 4)])
def test_the_gate_is_named_where_classes_are_learned(class_field: str | None, named: list[bool]) -> None:
    core = core_of(class_field)
    bodies = [searched(core, words) for words in ("trail shoe", "trail shoe", "red shoe", "red shoe")]
    assert ["rewriter:words" in body for body in bodies] == named
    assert ["docvalue_fields" in body for body in bodies] == named
    assert all("'operator': 'and'" in body for body in bodies)
