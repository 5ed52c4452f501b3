"""The JSON Schemas of settings and of rendered templates: printed, in the wheel, and equal to what the code accepts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from rewriter.boost.functions import DECAYS, LEAF_QUERIES, MAX_FUNCTIONS, Refused, read_functions
from rewriter.boost.samples import HOSTILE
from rewriter.boost.schema import boosts_schema, exploration_schema
from rewriter.boost.templates import boosts_output, render_exploration
from rewriter.boost.validation import compiled_set
from rewriter.cli import app
from rewriter.settings import PolicySettings
from rewriter.shell.template_files import packaged_templates, template_files
from rewriter.signals.affinities import TOKEN
from tests.schema_files import FOLDER, made

BOOSTS = Draft202012Validator(boosts_schema())
EXPLORATION = Draft202012Validator(exploration_schema())
AFFINITIES = HOSTILE[1].given()[0]


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["settings", "--schema"], "rewriter.schema.json"),
        (["render", "--schema", "boosts"], "boosts.schema.json"),
        (["render", "--schema", "exploration"], "exploration.schema.json"),
    ],
)
def test_the_command_prints_the_schema_that_the_wheel_holds(command: list[str], name: str) -> None:
    printed = CliRunner().invoke(app, command)
    assert printed.exit_code == 0
    assert printed.stdout == (FOLDER / name).read_text("utf-8")


@pytest.mark.parametrize("found", made().values(), ids=list(made()))
def test_a_schema_is_valid(found: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(found)


# --- what a template renders ------------------------------------------------------------------------------------------

NAMES = st.sampled_from(
    ["term", "terms", "terms_set", "match", "trem", "script", "nested", "constant_score", "bool", TOKEN, "geo_distance"]
)
SPECS: st.SearchStrategy[Any] = st.one_of(
    st.dictionaries(st.sampled_from(["brand", "path"]), st.text(max_size=3), max_size=2),
    st.integers(-1, 3),
    st.just("x"),
    st.just({"brand": {"index": "i", "id": "1", "path": "p"}}),
    st.just({"brand": {"minimum_should_match_script": {}}}),
    st.just({"brand": {"_name": "x"}}),
    st.just({"brand": "x", "_name": "x"}),
)
CLAUSES = st.recursive(
    st.one_of(st.dictionaries(NAMES, SPECS, max_size=2), st.just({"term": {"brand": "nike"}}), st.just({TOKEN: 1})),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"bool": st.dictionaries(st.sampled_from(["filter", "must", "shuold", "boost"]), inner)}),
        st.fixed_dictionaries({"bool": st.fixed_dictionaries({"filter": st.lists(inner, max_size=3)})}),
        st.fixed_dictionaries(
            {
                "nested": st.fixed_dictionaries(
                    {"path": st.just("a"), "query": inner},
                    optional={"inner_hits": st.just({}), "score_mode": st.just("max")},
                )
            }
        ),
        st.fixed_dictionaries({"constant_score": st.dictionaries(st.sampled_from(["filter", "query"]), inner)}),
    ),
    max_leaves=4,
)
WEIGHTS = st.one_of(st.just(0.2), st.floats(-1, 20), st.integers(-1, 3), st.booleans(), st.none(), st.just("1"))
FUNCTIONS = st.one_of(
    st.fixed_dictionaries(
        {},
        optional={
            "weight": WEIGHTS,
            "filter": CLAUSES,
            "gauss": SPECS,
            "exp": SPECS,
            "random_score": st.just({}),
            "wieght": WEIGHTS,
            "script_score": SPECS,
        },
    ),
    st.fixed_dictionaries({"weight": st.just(0.2), "filter": CLAUSES}),
)


@settings(max_examples=400, deadline=None)
@given(listed=st.one_of(st.lists(FUNCTIONS, max_size=2), FUNCTIONS, st.none()), random=st.booleans())
def test_the_schema_accepts_what_the_code_accepts(listed: Any, random: bool) -> None:
    try:
        read_functions(listed, 1.5, AFFINITIES, random=random)
        accepted = True
    except Refused:
        accepted = False
    found = EXPLORATION.is_valid({"functions": listed}) if random else BOOSTS.is_valid(listed)
    assert found is accepted


@pytest.mark.parametrize("query", sorted(LEAF_QUERIES))
def test_the_schema_accepts_each_query_that_a_boost_may_hold(query: str) -> None:
    assert BOOSTS.is_valid([{"filter": {query: {}}, "weight": 1}])


@pytest.mark.parametrize("decay", sorted(DECAYS))
def test_the_schema_accepts_each_decay_function(decay: str) -> None:
    assert BOOSTS.is_valid([{decay: {"listed": {"scale": "30d"}}, "weight": 1}])


def test_the_schema_bounds_the_number_of_functions() -> None:
    one = {"filter": {"term": {"a": "b"}}, "weight": 1}
    assert BOOSTS.is_valid([one] * MAX_FUNCTIONS)
    assert not BOOSTS.is_valid([one] * (MAX_FUNCTIONS + 1))


@pytest.mark.parametrize("name", sorted(one.name for one in packaged_templates().iterdir()))
def test_what_the_packaged_templates_render_is_valid(name: str) -> None:
    policy = PolicySettings(index=("a",), date_field="listed")
    templates, samples = compiled_set(name, template_files(packaged_templates() / name), name)
    for sample in [*samples.values(), *HOSTILE]:
        affinities, session, request = sample.given()
        BOOSTS.validate(json.loads(boosts_output(templates, affinities, session, request, policy)))
        found = render_exploration(templates, request, policy)
        functions = [{"weight": one.weight, **(one.decay or {})} for one in found.functions]
        EXPLORATION.validate({"filter": list(found.filters), "functions": functions})
