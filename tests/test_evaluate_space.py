"""The settings that `rewriter tune` varies: ranges whose ends the settings accept."""

from __future__ import annotations

from typing import Any

import pytest

from rewriter.evaluate.space import HALF_LIFE, MAX_FIRST, current, first_values, settings_of, space, with_settings
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


def test_the_policy_as_it_is_and_single_changes_come_first() -> None:
    own = policy()
    parameters = space(own, 3.0)
    first = first_values(own, parameters)
    assert first[0] == current(own, parameters)
    changed = [{name for name in one if one[name] != first[0][name]} for one in first[1:]]
    assert changed == [
        {"max_boost"}, {"fields.brand.scale", "fields.kind_size.scale"}, {"discovery"}, {"discovery"}, {"item_scale"},
        {"item_scale"}, {"fields.brand.scale"}, {"fields.kind_size.scale"},
    ]  # fmt: skip
    ranges = {one.name: (one.low, one.high) for one in parameters}
    assert all(ranges[name][0] <= value <= ranges[name][1] for one in first for name, value in one.items())
    many = policy(fields={f"f{at}": {"scale": 0.3} for at in range(40)})
    assert len(first_values(many, space(many, 3.0))) == MAX_FIRST
    assert len(first_values(policy(fields={}, item_field=None), space(policy(fields={}, item_field=None), 3.0))) == 2
