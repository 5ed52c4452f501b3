from __future__ import annotations

import tomllib

import pytest

from rewriter.evaluate.proposal import as_table, proposed
from rewriter.evaluate.space import current, settings_of, space, with_settings
from rewriter.settings import WEEK_S, PolicySettings

TOML = """\
[policies.shop]  # the shop
index = "products"
max_boost = 1.5  # agreed in May

[policies.shop.fields.brand]
scale = 0.3
[policies.other]
max_boost = 1.2
"""


def test_values_are_replaced_in_their_lines_and_added_behind_their_header() -> None:
    settings = {"max_boost": 1.8, "item_scale": 0.7, "fields.brand.scale": 0.55, "fields.brand.half_life_s": 4 * WEEK_S}
    diff = proposed(TOML, "shop", settings, "rewriter.toml")
    assert diff is not None
    changed = [line for line in diff.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    assert changed == [
        "+item_scale = 0.7",
        "-max_boost = 1.5  # agreed in May",
        "+max_boost = 1.8  # agreed in May",
        "-scale = 0.3",
        "+half_life_s = 2419200",
        "+scale = 0.55",
    ]


@pytest.mark.parametrize(
    "text", ['[policies]\nshop = {index = "p"}\n', "", "[policies.shop]\nindex='p'\nfields.brand = {scale = 0.1}\n"]
)
def test_a_form_that_cannot_be_edited_line_by_line_has_no_diff(text: str) -> None:
    assert proposed(text, "shop", {"fields.brand.scale": 0.5}, "rewriter.toml") is None
    assert as_table("shop", {"fields.brand.scale": 0.5}) == "policies.shop.fields.brand.scale = 0.5\n"


def test_the_current_values_are_a_point_of_the_space() -> None:
    policy = PolicySettings.model_validate(
        {"index": "p", "max_boost": 1.7, "fields": {"brand": {"scale": 0.4, "half_life_s": 9 * WEEK_S}}}
    )
    parameters = space(policy, 2.0)
    chosen = current(policy, parameters)
    assert set(chosen) == {one.name for one in parameters}
    settings = settings_of(policy, chosen)
    assert settings["fields.brand.half_life_s"] == settings["item_half_life_s"] == 8 * WEEK_S
    again = with_settings(policy, settings)
    assert (again.max_boost, again.fields["brand"].scale, again.fields["brand"].pseudo_count) == (1.7, 0.4, 100.0)
    assert with_settings(policy, {}).model_dump() == policy.model_dump()


def test_an_attribute_within_the_class_is_turned_on_from_scale_0() -> None:
    """As `init` writes it: counted, without a boost. Tuning may give it a scale, and the proposal is one line."""
    text = """\
[policies.shop]
index = "p"
class_field = "type"

[policies.shop.fields.type_brand]
of = ["type", "brand"]
scale = 0
"""
    policy = PolicySettings.model_validate(tomllib.loads(text)["policies"]["shop"])
    parameters = {one.name: one for one in space(policy, 2.0)}
    assert (
        current(policy, [*parameters.values()])["fields.type_brand.scale"]
        == parameters["fields.type_brand.scale"].low
        == 0.0
    )
    assert with_settings(policy, {"fields.type_brand.scale": 0.4}).fields["type_brand"].scale == 0.4
    diff = proposed(text, "shop", {"fields.type_brand.scale": 0.4}, "rewriter.toml")
    assert diff is not None
    assert diff.splitlines()[-2:] == ["-scale = 0", "+scale = 0.4"]


def test_a_new_field_gets_a_table_behind_the_policy_s_last_one() -> None:
    added = {"kind_brand": ["kind", "brand"], "kind_size": ["kind", "size"]}
    settings = {"fields.brand.scale": 0.3, "fields.kind_brand.scale": 0.55, "fields.kind_brand.pseudo_count": 2.0}
    diff = proposed(TOML, "shop", settings, "rewriter.toml", added)
    assert diff is not None
    assert [line for line in diff.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")] == [
        "+",
        "+[policies.shop.fields.kind_brand]",
        "+pseudo_count = 2",
        "+scale = 0.55",
        '+of = ["kind", "brand"]',
    ]
    assert 'fields.kind_brand.of = ["kind", "brand"]' in as_table("shop", settings, added)
    assert proposed("", "shop", settings, "rewriter.toml", added) is None
