"""The settings that `rewriter tune` varies: ranges whose ends the settings accept."""

from __future__ import annotations

from typing import Any

import pytest

from rewriter.evaluate.space import HALF_LIFE, current, settings_of, space, with_settings
from rewriter.settings import PolicySettings

FIELDS = {"brand": {"scale": 0.3}, "kind_size": {"of": ["kind", "size"], "scale": 0.6}}


def policy(**more: Any) -> PolicySettings:
    return PolicySettings.model_validate({"index": ["shop"], "class_field": "kind", "fields": FIELDS} | more)


@pytest.mark.parametrize(
    ("more", "tuned"),
    [({}, True), ({"class_field": None}, False), ({"item_field": None}, False), ({"discovery": 0.4}, True)],
)
def test_discovery_is_tuned_where_items_have_a_class(more: dict[str, Any], tuned: bool) -> None:
    own = policy(**more)
    parameters = space(own, 2.0)
    assert any(one.name == "discovery" for one in parameters) is tuned
    assert current(own, parameters).get("discovery") == (own.discovery if tuned else None)


@pytest.mark.parametrize("end", ["low", "high"])
def test_a_policy_with_the_ends_of_all_ranges_is_sound(end: str) -> None:
    own = policy()
    chosen = {one.name: getattr(one, end) for one in space(own, 2.0)}
    changed = with_settings(own, settings_of(own, chosen))
    assert PolicySettings.model_validate(changed.model_dump()) == changed
    assert changed.discovery == (0.0 if end == "low" else 1.0)
    assert changed.fields["kind_size"].half_life_s == changed.item_half_life_s
    assert set(chosen) >= {HALF_LIFE, "fields.kind_size.scale", "max_boost"}
