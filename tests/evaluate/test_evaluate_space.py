"""The settings that `rewriter tune` varies: ranges whose ends the settings accept."""

from __future__ import annotations

from typing import Any

import pytest

from rewriter.evaluate.drawing import _from_all, changed_a_little, distribution
from rewriter.evaluate.space import (
    HALF_LIFE,
    MAX_FIRST,
    TRIED_SCALE,
    changes,
    counted_by_others,
    current,
    first_values,
    settings_of,
    space,
    with_fields,
    with_half_lives,
    with_settings,
    without_unused,
)
from rewriter.settings import WEEK_S, PolicySettings, Settings

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


ADDED = {"kind_brand": ("kind", "brand"), "kind_colour": ("kind", "colour")}


def test_added_fields_are_tried_at_once_and_each_by_itself() -> None:
    own = with_fields(policy(), ADDED)
    first = first_values(own, space(own, 3.0), ADDED)
    scales = [f"fields.{name}.scale" for name in ADDED]
    tried = [tuple(one[name] for name in scales) for one in first]
    assert tried[0] == (0.0, 0.0)
    assert {(TRIED_SCALE, TRIED_SCALE), (TRIED_SCALE, 0.0), (0.0, TRIED_SCALE)} <= set(tried)
    without_others = [one for one in first if one[scales[0]] and not one["fields.brand.scale"]]
    assert {one["discovery"] for one in without_others} == {0.0, 0.5, 1.0}


def test_a_proposal_holds_only_the_added_fields_that_boost() -> None:
    own = with_fields(policy(), ADDED)
    values = current(own, space(own, 3.0)) | {"fields.kind_brand.scale": 0.4, "fields.kind_colour.scale": 0.01}
    settings = settings_of(own, values, ADDED)
    assert settings["fields.kind_brand.scale"] == 0.4
    assert not [name for name in settings if "colour" in name]
    proposal = without_unused(with_settings(own, settings), ADDED, settings)
    assert set(proposal.fields) == {*FIELDS, "kind_brand"}
    assert proposal.fields["kind_brand"].of == ("kind", "brand")


def test_small_changes_stay_in_their_ranges_and_depend_on_the_seed_alone() -> None:
    own = policy()
    parameters = space(own, 2.0)
    values = {one.name: one.high if one.is_log else one.low for one in parameters}
    ranges = {one.name: (one.low, one.high) for one in parameters}
    changes = [changed_a_little(values, parameters, seed) for seed in range(200)]
    assert all(ranges[name][0] <= value <= ranges[name][1] for one in changes for name, value in one.items())
    differing = [sum(one[name] != values[name] for name in values) for one in changes]
    assert 1.0 < sum(differing) / len(differing) < 4.0
    assert changes == [changed_a_little(values, parameters, seed) for seed in range(200)]
    assert all(type(one[HALF_LIFE]) is int for one in changes)


@pytest.mark.parametrize("default_weeks", [4, 16])
def test_a_policy_s_own_values_and_defaults_are_no_changes(default_weeks: int) -> None:
    given = policy(max_boost=1.87654)
    own = with_half_lives(with_fields(given, ADDED), default_weeks * WEEK_S)
    values = current(own, space(own, 2.0))
    settings = settings_of(own, values, ADDED)
    assert settings["item_half_life_s"] == default_weeks * WEEK_S
    assert changes(given, settings, ADDED, default_weeks * WEEK_S) == {}
    tried = values | {"fields.kind_brand.scale": 0.6, "discovery": 0.5, HALF_LIFE: 3, "fields.brand.pseudo_count": 50.0}
    changed = changes(given, settings_of(own, tried, ADDED), ADDED, default_weeks * WEEK_S)
    lives = [name for name in changed if name.endswith("half_life_s")]
    assert {name: value for name, value in changed.items() if name not in lives} == {
        "discovery": 0.5, "fields.brand.pseudo_count": 50.0, "fields.kind_brand.scale": 0.6,
        "fields.kind_brand.pseudo_count": 2.0,
    }  # fmt: skip
    assert len(lives) == (0 if default_weeks == 16 else 4)


def test_half_lives_that_other_policies_share_are_kept() -> None:
    """All policies have the same counters: with another half-life in one of them, the settings are refused."""
    shop, hats = policy(), policy(index=["hats"], fields={"brand": {}}, item_field=None, class_field=None)
    policies = {"shop": shop, "hats": hats}
    assert counted_by_others("shop", policies) == ["brand"]
    assert counted_by_others("hats", {"hats": hats}) == []
    own = with_half_lives(shop, WEEK_S)
    chosen = {one.name: one.high for one in space(own, 2.0, keeps_half_lives=True)}
    changed = with_settings(shop, changes(shop, settings_of(own, chosen), (), WEEK_S))
    assert changed.fields["kind_size"].scale == 1.5
    tables = {name: one.model_dump() for name, one in {"shop": changed, "hats": hats}.items()}
    assert Settings.model_validate({"policies": tables}).policies["shop"] == changed


def test_a_draw_heeds_the_limit_of_this_run() -> None:
    """The journal may hold trials of a run with another limit, and trials of another sampler."""
    optuna = pytest.importorskip("optuna")
    parameters = [one for one in space(policy(), 2.0) if one.name in ("max_boost", "discovery")]
    ranges = {one.name: distribution(one) for one in parameters}
    done = [
        optuna.trial.create_trial(
            params={"max_boost": 1.5, "discovery": at / 40}, distributions=ranges, values=[1.0 - at / 40, at / 40],
            user_attrs={"new_low": at / 40},
        )
        for at in range(41)
    ]  # fmt: skip
    means = []
    for least in (0.0, 0.8):
        drawn = [_from_all(done, parameters, seed, least)["discovery"] for seed in range(12)]
        assert drawn == [_from_all(done, parameters, seed, least)["discovery"] for seed in range(12)]
        means.append(sum(drawn) / len(drawn))
    assert means[1] > means[0] + 0.2
