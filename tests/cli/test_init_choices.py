"""The choices of `rewriter init`, from figures that are given."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from rewriter.boost.validation import compile_set
from rewriter.cli.init.choices import Choices, Chosen, Facet
from rewriter.cli.init.chooser import choose
from rewriter.cli.init.command import _policy_name
from rewriter.cli.init.facets import MAX_FACETS, setting_name, with_names
from rewriter.cli.init.figures import plain, share_of
from rewriter.cli.init.index_profile import FieldDates, FieldValues, IndexProfile
from rewriter.cli.init.set_choice import ITEM_USE, ItemUses, SetChoice, class_field_of, set_of, why_unexplored
from rewriter.cli.init.settings_text import Surroundings, settings_text
from rewriter.cli.init.template_sets import SETS, set_settings, set_templates
from rewriter.cli.init.template_text import fresh_days, template_files
from rewriter.index_facts import IndexFacts
from rewriter.settings import Settings
from rewriter.signals.repeats import RepeatGuard
from rewriter.toml_text import quoted

NOW_S = 1_800_000_000.0
DAY_S = 86_400.0
AROUND = Surroundings(
    "http://127.0.0.1:9200", "redis://127.0.0.1:6379", "OpenSearch 3.8.0", "shop", ("shop",), "2027-01-15"
)


UNKNOWN = ItemUses(None, "the store has no counters yet")


def values(name: str, distinct: int, documents: int = 1_000, kind: str = "keyword", **more: Any) -> FieldValues:
    """A field with evenly spread values, of which each document has one."""
    top = tuple((f"{name} {number}", documents // distinct) for number in range(min(distinct, 200)))
    return replace(FieldValues(name, kind, documents, distinct, documents, top), **more)


def dates(name: str, first_days: float, last_days: float = 0, documents: int = 1_000, ahead: int = 0) -> FieldDates:
    """A date between two ages in days."""
    first_s, last_s = NOW_S - first_days * DAY_S, NOW_S - last_days * DAY_S
    return FieldDates(
        name, documents, first_s, last_s, (first_s + last_s) / 2, first_s + 0.75 * (last_s - first_s), ahead
    )


def profile(
    *found: FieldValues | FieldDates, types: Mapping[str, str] | None = None, documents: int = 1_000, **more: Any
) -> IndexProfile:
    kinds = {one.name: one.kind if isinstance(one, FieldValues) else "date" for one in found} | dict(types or {})
    return IndexProfile(
        "shop",
        ("shop",),
        IndexFacts(fields=kinds),
        documents,
        documents,
        {one.name: one for one in found if isinstance(one, FieldValues)},
        {one.name: one for one in found if isinstance(one, FieldDates)},
        **more,
    )


def chosen(*found: FieldValues | FieldDates, **more: Any) -> Choices:
    return choose(profile(*found, **more), NOW_S)


def text_of(found: IndexProfile, choices: Choices, name: str = "default", uses: ItemUses = UNKNOWN) -> str:
    own = set_settings(name)
    class_field = class_field_of(found, choices, wanted=True, set_name=name)
    unexplored = why_unexplored(uses, own.policy.get("item_use", "again"))
    chosen = SetChoice(*set_of(found, choices, uses, name), class_field, unexplored)
    return settings_text(found, choices, AROUND, chosen, own)


def files_of(found: IndexProfile, choices: Choices, name: str = "default") -> dict[str, str]:
    return template_files(found, choices, set_templates(name), set_settings(name).attribute, None)


def fields(choices: Choices) -> list[str]:
    return [one.field for one in choices.facets]


def reasons(choices: Choices) -> dict[str, str]:
    return {one.field: one.why for one in choices.left_out}


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (values("code", 600), "1.7 documents a value"),
        (values("tag", 5, documents=30), "only 3% of the documents"),
        (values("kind", 1), "have the same one"),
        (values("origin", 2, top=(("here", 990), ("there", 10))), "99% of the documents with a value have the same one"),
        (values("customer_email", 20), "by its name it identifies people"),
        (values("contact", 2, top=(("a@b.example", 500), ("c@d.example", 500))), "identifies people"),
        (values("who", 2, top=(("a@b.example", 500), ("c@d.example", 500))), "addresses, paths or hashes"),
        (values("page", 2, top=(("https://a.example/1", 500), ("https://a.example/2", 500))), "addresses, paths or"),
        (values("peer", 2, top=(("10.0.0.1", 500), ("10.0.0.2", 500))), "addresses, paths or hashes"),
        (values("remark", 2, top=(("x" * 90, 500), ("y" * 90, 500))), "texts of more than 80 characters"),
        (values("stock", 40, kind="integer"), "nobody prefers an exact one"),
        (values("status", 4), "it describes the record"),
        (values("nothing", 0, documents=0, top=()), "no document has a value"),
    ],
)  # fmt: skip
def test_a_field_that_is_no_facet_is_left_out_with_its_figures(one: FieldValues, why: str) -> None:
    choices = chosen(one, values("brand", 40))
    assert fields(choices) == ["brand"]
    assert why in reasons(choices)[one.name]


def test_no_value_that_may_identify_somebody_is_shown() -> None:
    one = values("who", 2, top=(("anna@shop.example", 500), ("otto@shop.example", 500)))
    found = profile(one, values("brand", 40))
    choices = choose(found, NOW_S)
    written = text_of(found, choices) + "".join(files_of(found, choices).values())
    assert "@shop.example" not in written


def test_a_number_is_a_facet_where_it_is_named_like_a_reference() -> None:
    assert fields(chosen(values("brand_id", 40, kind="integer"), values("rating", 40, kind="integer"))) == ["brand_id"]


def test_of_many_facets_those_that_tell_most_are_kept_the_class_among_them() -> None:
    many = [values(f"prop{number}", 40, documents=900 - 100 * number) for number in range(6)]
    choices = chosen(*many, values("category", 12, documents=600))
    assert len(choices.facets) == MAX_FACETS
    assert choices.category.field == "category"
    assert "category" in fields(choices)
    assert {one.field for one in choices.left_out if one.is_possible} == {"prop3", "prop4", "prop5"}


def test_of_a_text_and_its_keyword_and_an_alias_one_is_chosen() -> None:
    types = {"brand": "text", "maker": "keyword"}
    found = profile(
        values("brand.keyword", 40), values("brand.raw", 40), values("maker", 40), types=types,
        alias_fields=frozenset({"maker"}),
    )  # fmt: skip
    choices = choose(found, NOW_S)
    assert fields(choices) == ["brand.keyword"]
    assert reasons(choices) == {
        "brand.raw": 'holds the values of "brand.keyword"',
        "maker": "is an alias of another field",
    }


def test_the_class_is_the_field_within_which_finer_fields_have_few_values() -> None:
    found = [values("a", 12), values("b", 10), values("c", 60)]
    narrowing = {("a", "c"): 0.3, ("b", "c"): 0.98, ("b", "a"): 0.97, ("c", "a"): 0.1}
    choices = chosen(*found, narrowing=narrowing)
    assert choices.category.field == "a"
    assert "30% of the values of finer facets that chance would give" in choices.category.why


def test_without_narrowing_and_without_a_name_there_is_no_class() -> None:
    choices = chosen(values("a", 12), values("c", 60), narrowing={("a", "c"): 0.95})
    assert (choices.category.field, choices.combination) == ("", None)
    assert choices.category.why


def test_a_class_is_named_by_the_field_of_the_documents() -> None:
    choices = chosen(values("category.keyword", 12), values("brand", 40), types={"category": "text"})
    assert choices.category.field == "category"
    assert choices.combination is not None
    assert [one.field for one in choices.combination] == ["category.keyword", "brand"]


@pytest.mark.parametrize(
    ("found", "field"),
    [
        ([dates("created", 700), dates("updated", 700)], "created"),
        ([dates("updated", 700)], ""),
        ([dates("a", 700), dates("published_at", 300)], "published_at"),
        ([dates("listed", 0.4)], ""),
        ([dates("available_until", 20, -90, ahead=800)], ""),
        ([dates("listed", 20, -90, ahead=80)], ""),
        ([dates("listed", 700, documents=200)], ""),
        ([dates("b", 700), dates("a", 100)], "b"),
        ([], ""),
    ],
)
def test_the_listing_date(found: list[FieldDates], field: str) -> None:
    choices = chosen(*found, values("brand", 40))
    assert choices.date.field == field
    assert choices.date.why
    assert {one.name for one in found} - {field} == {one.field for one in choices.left_out}


@pytest.mark.parametrize(("first_days", "days"), [(400, 100), (1.2, 1), (100_000, 365)])
def test_freshness_follows_the_newest_quarter(first_days: float, days: int) -> None:
    found = profile(dates("listed", first_days))
    choices = choose(found, NOW_S)
    assert fresh_days(choices) == days
    assert f'half_at = "{days}d"' in files_of(found, choices)["exploration.json.j2"]


def test_the_item_is_the_id_unless_the_server_made_it_up() -> None:
    sku = values("sku", 1_000)
    assert chosen(sku).item.field == "_id"
    assert chosen(sku, has_generated_ids=True).item.field == "sku"
    assert chosen(values("headline", 1_000), has_generated_ids=True).item.field == "_id"
    stream = chosen(values("level", 4), has_generated_ids=True, is_data_stream=True).item
    assert (stream.field, stream.is_boosted) == ("_id", False)


def test_variants_of_a_product_are_pointed_out() -> None:
    assert '`item_field = "product_id"`' in reasons(chosen(values("product_id", 450)))["product_id"]


def test_an_empty_index_is_judged_by_names_alone() -> None:
    types = {"brand": "keyword", "category": "keyword", "x17": "keyword", "user_id": "keyword", "created": "date"}
    choices = chosen(documents=0, types=types)
    assert fields(choices) == ["brand", "category"]
    assert (choices.category.field, choices.date.field) == ("category", "created")
    assert all("no document yet" in one.why for one in choices.facets)


HOSTILE = [
    'quote"quote', "new\nline", "tab\t", "back\\slash", "#:schema", "]", "[policies]", " blank ", "ü.ß", "😀", "\U000e0001",
    "x" * 300, "item", "a.b.c", "a-b", "{{ 7*7 }}", "{% raw %}", "'''", '"""', "\x7f", "\u202egnirts", "0", "-",
]  # fmt: skip


def test_hostile_names_and_values_stay_what_they_are() -> None:
    found = [replace(values(name, 40), top=tuple((name + str(at), 25) for at in range(40))) for name in HOSTILE]
    for batch in range(0, len(found), 3):
        three = found[batch : batch + 3]
        whole = profile(*three, dates(f"{three[0].name} date", 400))
        choices = choose(whole, NOW_S)
        text = text_of(whole, choices)
        settings = Settings.model_validate(tomllib.loads(text) | {"templates_dir": None})
        policy = settings.policies["shop"]
        assert {one for field in policy.fields.values() for one in field.of} == set(fields(choices))
        assert policy.date_field == f"{three[0].name} date"
        assert all(line.isprintable() for line in text.splitlines())
        for name in fields(choices):
            assert name in {one.name for one in three}


@pytest.mark.parametrize("text", HOSTILE)
def test_a_quoted_text_is_one_line_of_toml(text: str) -> None:
    assert tomllib.loads(f"key = {quoted(text)}") == {"key": text}
    assert plain(text).isprintable()
    assert len(plain(text)) <= 200


@pytest.mark.parametrize(
    ("name", "is_facet"),
    [("genres", True), ("category", True), ("brand", True), ("brand_id", True), ("pages", False), ("size", False)],
)
def test_numbers_are_codes_where_their_name_is_that_of_a_property(name: str, is_facet: bool) -> None:
    facets = choose(profile(values(name, 18, kind="integer"), values("maker", 40)), NOW_S).facets
    assert (name in [one.field for one in facets]) is is_facet


def test_names_in_the_settings_are_short_and_their_own() -> None:
    assert setting_name("product.brand.keyword", ()) == "brand"
    assert setting_name("brand", ("brand", "brand_2")) == "brand_3"
    assert setting_name("item", ("item",)) == "item_2"
    assert setting_name("😀", ()) == "field"
    assert len(setting_name("x" * 300, ("x" * 56,))) <= 64


def test_a_field_with_a_name_that_signals_have_gets_another_in_the_settings() -> None:
    named = with_names([Facet("", name, (), "") for name in ("neighbour", "item", "a.neighbour")])
    fields = {one.name: {"of": one.field} for one in named}
    assert (
        len(Settings.model_validate({"policies": {"shop": {"index": "*", "fields": fields}}}).policies["shop"].fields)
        == 3
    )


@pytest.mark.parametrize(
    "names",
    [
        ("rewriter",),
        ("Switches-*",),
        ("switches",),
        ("*",),
        ("-x", "*"),
        ("größe",),
        ("日本",),
        ("x" * 255,),
        ("_.", "a"),
    ],
)
def test_a_policy_is_named_after_its_index_as_the_settings_allow(names: tuple[str, ...]) -> None:
    name = _policy_name(names)
    (policy,) = Settings.model_validate({"policies": {name: {"index": "*", "templates": name}}}).policies
    assert policy == name


def test_shares_are_not_rounded_to_none_or_all() -> None:
    assert [share_of(*pair) for pair in ((0, 9), (1, 900), (899, 900), (9, 9), (1, 3))] == [
        "0%", "under 1%", "over 99%", "100%", "33%",
    ]  # fmt: skip


# --- the template set -------------------------------------------------------------------------------------------------


def uses(share: float, count: float = 5_000.0, chance: float | None = None, **more: Any) -> ItemUses:
    totals = {"$uses": count, "$again": share * count}
    if chance is not None:
        totals |= {"$controls": count, "$chance": chance * count}
    weights: dict[tuple[str, ...], float] = {(mark, "milk"): weight for mark, weight in totals.items()}
    return ItemUses(RepeatGuard(weights, totals), "counted in h.ndjson", **more)


def picked(known: ItemUses, *found: FieldValues | FieldDates, given: str | None = None, **more: Any) -> tuple[str, str]:
    whole = profile(*found, **{"types": {"title": "text"}} | more)
    name, why = set_of(whole, choose(whole, NOW_S), known, given)
    return name, "; ".join(why)


OLD, YOUNG = dates("listed", 700), replace(dates("listed", 28), recent=1_000)


@pytest.mark.parametrize(
    ("known", "listed", "name"),
    [
        (uses(0.4), OLD, "shop"),
        (uses(0.1), OLD, "shop"),
        (uses(0.4, chance=0.1), OLD, "shop"),
        (uses(0.15, chance=0.14), OLD, "shop"),
        (uses(0.15, chance=0.3), OLD, "catalogue"),
        (uses(0.15, chance=0.3), YOUNG, "news"),
        (uses(0.09), OLD, "catalogue"),
        (uses(0.0), OLD, "catalogue"),
        (uses(0.0), YOUNG, "news"),
        (uses(0.4), YOUNG, "shop"),
        (uses(0.0, median_age_s=1.5 * DAY_S), OLD, "news"),
        (uses(0.0, median_age_s=20 * DAY_S), YOUNG, "catalogue"),
        (uses(0.4, count=499.0), OLD, "default"),
        (uses(0.4, count=499.0), YOUNG, "news"),
        (UNKNOWN, OLD, "default"),
        (UNKNOWN, YOUNG, "news"),
        (UNKNOWN, replace(YOUNG, recent=500), "default"),
    ],
)
def test_the_set_is_picked_by_repeats_and_by_age(known: ItemUses, listed: FieldDates, name: str) -> None:
    found, why = picked(known, listed, values("brand", 40))
    assert found == name
    assert "%" in why or "nothing tells" in why


def test_a_set_that_nothing_speaks_for_is_the_safe_one_and_it_is_said() -> None:
    assert "the store has no counters yet), so the safe set was chosen" in picked(UNKNOWN, OLD)[1]
    assert "499 of 500 uses" in picked(uses(0.4, count=499.0), OLD)[1]


def test_a_history_that_is_too_short_is_not_asked_for_again() -> None:
    assert "init --history FILE" in picked(uses(0.4, count=499.0), OLD)[1]
    assert "init --history FILE" not in picked(uses(0.4, count=499.0, is_of_history=True), OLD)[1]


def test_the_words_for_a_share_are_those_of_the_picked_set() -> None:
    assert "0.0% of 5,000 uses: what is unused is boosted" in picked(uses(0.0), OLD)[1]
    assert "0.0% of 5,000 uses: what is unused is boosted" in picked(uses(0.0), OLD, given="default")[1]
    assert "40.0% of 5,000 uses: item boosts" in picked(uses(0.4), OLD, given="default")[1]
    assert "0.0% of 5,000 uses: no item boosts" in picked(uses(0.0), OLD, given="shop")[1]


def test_the_words_know_what_each_set_does_with_items() -> None:
    assert {name: set_settings(name).policy.get("item_use", "again") for name in SETS} == {
        name: ITEM_USE.get(name, "again") for name in SETS
    }


@pytest.mark.parametrize(
    ("name", "known", "share"),
    [
        ("shop", uses(0.4, chance=0.1), 0.1),
        ("shop", uses(0.4), 0.1),
        ("shop", uses(0.15, chance=0.14), 0),
        ("catalogue", uses(0.0, chance=0.1), 0.1),
        ("catalogue", uses(0.09, chance=0.05), 0),
        ("default", uses(0.4, count=499.0), 0.1),
        ("default", uses(0.4, count=499.0, is_of_history=True), 0),
        ("default", uses(0.0, chance=0.1), 0.1),
        ("default", UNKNOWN, 0.1),
    ],
)
def test_exploration_needs_item_boosts_that_pay_for_it(name: str, known: ItemUses, share: float) -> None:
    found = profile(values("category", 12), values("brand", 40), OLD, types={"title": "text"})
    policy = tomllib.loads(text_of(found, choose(found, NOW_S), name, known))["policies"]["shop"]
    assert policy["exploration_share"] == share


def test_an_index_without_texts_is_browsed_and_a_named_set_is_taken() -> None:
    assert picked(uses(0.4), OLD, values("brand", 40), types={})[0] == "browse"
    name, why = picked(uses(0.4), OLD, given="news")
    assert name == "news"
    assert why == (
        "--set news; people use items again in 40.0% of 5,000 uses: no boosts of what is unused;"
        " the template set `shop` would suit (counted in h.ndjson)"
    )


def test_items_are_counted_by_class_where_documents_have_one() -> None:
    def classed(one: FieldValues, *, wanted: bool = True) -> Chosen:
        whole = profile(one, values("brand", 40))
        return class_field_of(whole, choose(whole, NOW_S), wanted=wanted, set_name="news")

    assert classed(values("category", 12)).field == "category"
    assert classed(values("category", 12), wanted=False) == Chosen(
        "", "the set news boosts no items, so that counters by class would only cost"
    )
    several = classed(values("category", 12, occurrences=3_000))
    assert (several.field, several.why) == ("", "a document has 3.0 of category, and an item counts in one")
    assert classed(values("other", 40)).why == "there is no class"
    spelled = profile(values("category", 12))
    spelled = replace(spelled, facts=replace(spelled.facts, normalizers={"category": "lowercase"}))
    own = class_field_of(spelled, choose(spelled, NOW_S), wanted=True, set_name="news")
    assert own == Chosen("", "the normalizer lowercase spells category otherwise than the documents do")


@pytest.mark.parametrize("name", SETS)
def test_the_settings_and_samples_of_each_set_are_sound(name: str) -> None:
    found = profile(values("category", 12), values("brand", 40), OLD, types={"title": "text"})
    choices = choose(found, NOW_S)
    own = set_settings(name)
    settings = Settings.model_validate(tomllib.loads(text_of(found, choices, name)) | {"templates_dir": None})
    policy = settings.policies["shop"]
    assert own.policy.items() <= policy.model_dump().items()
    assert own.signals.items() <= settings.signals.model_dump().items()
    assert {one.scale for one in policy.fields.values()} == {own.attribute["scale"]}
    files = files_of(found, choices, name)
    compile_set(name, files, policy, time.perf_counter)
    assert f"A copy of the shipped template set `{name}`" in text_of(found, choices, name)


def test_freshness_of_news_follows_the_age_at_which_they_are_read() -> None:
    found = profile(YOUNG, values("section", 12))
    shipped = set_templates("news")
    for age_s, written in ((0.5 * DAY_S, "24h"), (60.0, "1h"), (1.5 * DAY_S, "3d"), (None, "7d")):
        files = template_files(found, choose(found, NOW_S), shipped, {"scale": 0.3}, age_s)
        assert all(f'half_at = "{written}"' in files[name] for name in shipped)
