"""Templates: allowed constructs, faults at load with their line, and values that stay values whatever they contain."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewriter.boost.functions import Boost, Refused
from rewriter.boost.templates import TemplateSet, render_boosts, render_exploration
from rewriter.boost.validation import compile_set
from rewriter.errors import ConfigurationError
from rewriter.settings import FieldSettings, PolicySettings, Settings
from rewriter.shell.template_files import load_templates
from rewriter.signals.affinities import Affinity, clause

POLICY = PolicySettings(
    index=("*",),
    date_field="listed",
    fields={"brand": FieldSettings(), "type_brand": FieldSettings(of=("type", "brand"))},
)
REQUEST: Mapping[str, Any] = {"indices": ["products"], "from": 0, "size": 10, "body": {"query": {"match": {"t": "x"}}}}
PLAIN = '[{% for a in affinities %}{"filter": {{ a.filter }}, "weight": {{ a.weight }}}{{ "," if 0 }}{% endfor %}]'


def made(boosts: str = "[]", exploration: str | None = None, **samples: str) -> TemplateSet:
    files = {"boosts.json.j2": boosts, **({"exploration.json.j2": exploration} if exploration is not None else {})}
    files |= {f"samples/{name}.json": text for name, text in samples.items()}
    return compile_set("t", files, POLICY, perf_counter)


def faults(boosts: str = "[]", exploration: str | None = None, **samples: str) -> list[str]:
    with pytest.raises(ConfigurationError) as refused:
        made(boosts, exploration, **samples)
    return [str(fault) for fault in refused.value.faults]


def brand(*values: str, weight: float = 0.5) -> Affinity:
    return Affinity(
        "attribute", "brand", ("brand",), values, weight, 0.3, "profile", 0, clause("attribute", ("brand",), values, 0)
    )


def rendered(template: TemplateSet, *affinities: Affinity, request: Mapping[str, Any] = REQUEST) -> tuple[Boost, ...]:
    return render_boosts(template, affinities, {"events": 3.0}, request, POLICY)


def each(function: str) -> str:
    """A template with one function for each affinity `a`."""
    return "[{% for a in affinities %}" + function + "{% if not loop.last %},{% endif %}{% endfor %}]"


SHIPPED = load_templates(Settings(policies={"default": POLICY}))["default"]


# --- what they do -----------------------------------------------------------------------------------------------------


def test_the_shipped_set_boosts_each_affinity_by_weight_and_scale() -> None:
    (boost,) = rendered(SHIPPED, brand("nike", weight=0.5))
    assert boost == Boost({"term": {"brand": "nike"}}, 0.15, None, "brand", "nike", "profile")


def test_the_shipped_set_explores_what_is_new_where_a_date_is_named() -> None:
    (function,) = render_exploration(SHIPPED, REQUEST, POLICY).functions
    assert function.decay == {"exp": {"listed": {"origin": "now", "scale": "30d", "decay": 0.5}}}
    dateless = POLICY.model_copy(update={"date_field": None})
    assert render_exploration(SHIPPED, REQUEST, dateless).functions == ()


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ('[{"filter": {"term": {"sale": true}}, "weight": {{ session.events / 10 }}}]', 0.3),
        ('[{"filter": {"term": {"sale": true}}, "weight": {{ policy.fields.brand.scale }}}]', 0.3),
        ('[{"filter": {"term": {"sale": true}}, "weight": {{ request.size / 100 }}}]', 0.1),
        (
            '[{"filter": {"term": {"sale": true}}, "weight": {{ affinities | map(attribute="weight") | sum / 4 }}}]',
            0.125,
        ),
        ('{% set half = 0.5 %}[{"filter": {"exists": {"field": "sale"}}, "weight": {{ half * 0.5 }}}]', 0.25),
    ],
)
def test_what_a_template_is_given(template: str, expected: float) -> None:
    (boost,) = rendered(made(template), brand("nike"))
    assert boost.weight == pytest.approx(expected)


def test_without_an_exploration_template_the_exploration_leg_is_as_the_caller_s() -> None:
    exploration = render_exploration(made(), REQUEST, POLICY)
    assert (exploration.filters, exploration.functions) == ((), ())


def test_exploration_may_filter_and_draw_at_random() -> None:
    template = made(
        exploration='{"filter": [{"term": {"new": {"value": true, "_name": "ours"}}}],'
        ' "functions": [{"random_score": {}, "weight": 9}]}'
    )
    exploration = render_exploration(template, REQUEST, POLICY)
    assert exploration.filters == ({"term": {"new": {"value": True}}},)  # without a name that callers would see
    assert exploration.functions == (Boost(None, 0.5, {"random_score": {}}),)


def test_a_version_is_of_the_templates_texts_alone() -> None:
    versions = [one.version for one in (made("[]"), made("[]", s="{}"), made("[ ]"), made("[]", "{}"))]
    assert versions[0] == versions[1]
    assert len(set(versions)) == 3


def test_rendering_leaves_the_request_as_it_was() -> None:
    request = json.loads(json.dumps(REQUEST))
    rendered(made('[{"filter": {"term": {"a": {{ request.body | length }} }}, "weight": 0.1}]'), request=request)
    assert request == REQUEST


# --- a value stays a value --------------------------------------------------------------------------------------------

INJECTIONS = (
    '"', "'", "\\", '\\"', "}}", "{{ 7 * 7 }}", "{% raw %}", "{# x #}", '"}}, "weight": 99}, {"filter": {"term": {"a": "',
    '"}},"script":{"source":"1"}', "\x00", "\x1b[2J", "\n\r\u2028\u2029", "</script>", "1984", "true", "null", "NaN", "",
    "ü" * 1000, "x" * 1_000_000, '{"$affinity": 0}', "$affinity",
)  # fmt: skip


@pytest.mark.parametrize("value", INJECTIONS, ids=range(len(INJECTIONS)))
@pytest.mark.parametrize(
    "template",
    [
        each('{"filter": {{ a.filter }}, "weight": 0.1}'),
        each('{"filter": {"term": {"brand": {{ a["values"][0] }}}}, "weight": 0.1}'),
    ],
    ids=["by its clause", "by its value"],
)
def test_a_hostile_value_reaches_the_body_as_plain_data(template: str, value: str) -> None:
    (boost,) = rendered(made(template), brand(value))
    assert boost.filter == {"term": {"brand": value}}
    assert boost.weight == 0.1


@given(st.text())
def test_any_text_reaches_the_body_as_it_is(value: str) -> None:
    (boost,) = rendered(SHIPPED, brand(value))
    assert boost.filter == {"term": {"brand": value}}


def test_a_value_put_into_quotes_by_the_template_is_refused_at_load() -> None:
    found = faults(each('{"filter": {"term": {"brand": "{{ a["values"][0] }}"}}, "weight": 0.1}'))
    assert any("the output is not JSON" in fault for fault in found)


# --- what is refused, and where ---------------------------------------------------------------------------------------


class Escaped:
    """A pickle that would run code."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return pytest.fail, ("a template ran code",)


PICKLE = json.dumps(pickle.dumps(Escaped(), 0).decode())
TRICKS = (
    "{{ ''.__class__ }}",
    "{{ affinities.__class__.__mro__ }}",
    "{{ affinities | map(attribute='__class__') | list }}",
    "{{ policy.__init__.__globals__ }}",
    "{{ policy | attr('__class__') }}",
    "{{ policy.model_dump() }}",
    "{{ policy['model_dump']() }}",
    "{{ policy.fields.brand.copy() }}",
    "{% set x = policy.parse_raw(" + PICKLE + ", proto='pickle', allow_pickle=true) %}[]",
    "{% set x = policy.parse_file('/etc/passwd') %}[]",
    "{{ request.body.update({'min_score': 1}) }}",
    "{{ session.pop('events') }}",
    "{{ self.__init__ }}",
    "{{ cycler('a') }}",
    "{{ lipsum() }}",
    "{{ namespace(a=1) }}",
    "{% include 'exploration.json.j2' %}",
    "{% import 'x' as x %}[]",
    "{% extends 'x' %}",
)
BOMBS = (
    "{{ 'a' * 10**9 }}",
    "{{ [0] * 10**9 }}",
    "{{ 10 ** 10 ** 10 }}",
    "{{ 2.0 ** 5000 }}",
    "{{ range(10**9) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '{:>1000000000}'.format(1) }}",
    "{{ 'x'.ljust(10**9) }}",
    "{{ 'x' | center(10**9) }}",
    "{{ ['x'] | batch(10**9, 0) | list }}",
    "{% macro m(n) %}{{ m(n - 1) if n }}{{ m(n - 1) if n }}{% endmacro %}{{ m(99) }}[]",
    "{% for x in affinities recursive %}{{ loop(affinities) }}{% endfor %}[]",
    "{% set a = 'aaaaaaaa' %}" + "{% set a = a ~ a %}" * 20 + "[{{ a }}]",
    "{{ (" * 500 + "1" + ") }}" * 500,
    "{% for a in affinities %}" * 30 + "{% endfor %}" * 30 + "[]",
)


@pytest.mark.parametrize("template", TRICKS)
def test_tricks_are_refused(template: str) -> None:
    assert faults(template)


@pytest.mark.parametrize("template", BOMBS, ids=[bomb[:40] for bomb in BOMBS])
def test_bombs_are_refused_before_they_go_off(template: str) -> None:
    started_s = perf_counter()
    assert faults(template)
    assert perf_counter() - started_s < 2.0


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        (
            "[\n{{ affinitys }}\n]",
            "t/boosts.json.j2:2: undeclared name `affinitys` (did you mean affinities? this template can use affinities, ",
        ),
        (
            "[\n{% for a in affinities %}\n{{ a.wieght }}{% endfor %}]",
            "t/boosts.json.j2:3: on a hostile sample (1): Undef",
        ),
        ("[\n\n{% for %}]", "t/boosts.json.j2:3: Expected an expression"),
        ("[\n{% if 1 %}]", "t/boosts.json.j2:2: Unexpected end of template"),
        ("[\n{{ 1 | shuffle }}]", "t/boosts.json.j2:2: No filter named 'shuffle'"),
        ("\n{% macro m() %}{% endmacro %}[]", "t/boosts.json.j2:2: macros are not allowed"),
        ("[\n{{ 1 / 0 }}]", "t/boosts.json.j2:2: on a hostile sample (0): ZeroDivisionError"),
        ("[1,]", "t/boosts.json.j2: on a hostile sample (0): the output is not JSON: "),
        ("{}", "t/boosts.json.j2: on a hostile sample (0): a list of functions is wanted, not an object"),
        (
            each('{"filter": {{ a.filter }}, "weight": NaN}'),
            "t/boosts.json.j2: on a hostile sample (1): NaN is no JSON",
        ),
        (
            each('{"filter": {{ a.filter }}, "weight": 1e999}'),
            "t/boosts.json.j2:1: on a hostile sample (1): function 0: ",
        ),
        (each('{"filter": {{ a.filter }}, "weight": -1}'), "t/boosts.json.j2:1: on a hostile sample (1): function 0: "),
        (each('{"filter": {{ a.filter }}, "weigth": 1}'), "t/boosts.json.j2: on a hostile sample (1): function 0: "),
        (
            '[{"filter": {"range": {"price": {"gte": 1e999}}}, "weight": 1}]',
            "t/boosts.json.j2: on a hostile sample (0): a clause holds a number that is not finite",
        ),
        (
            r'[{"filter": {"term": {"brand": "\ud800"}}, "weight": 1}]',
            "t/boosts.json.j2: on a hostile sample (0): a clause holds half a character",
        ),
        (
            '[{"filter": {"match_all": {}}, "weight": 1' + "0" * 5_000 + "}]",
            "t/boosts.json.j2: on a hostile sample (0): the output holds a number of thousands of digits",
        ),
        ("[" * 100_000, "t/boosts.json.j2: on a hostile sample (0): the output is nested too deep"),
        ("\n{% autoescape true %}[]{% endautoescape %}", "t/boosts.json.j2:2: `autoescape` is not allowed"),
        ("\n{% from 'a' import b %}[]", "t/boosts.json.j2:2: `import` is not allowed"),
    ],
)
def test_each_fault_says_where_it_is(template: str, fault: str) -> None:
    assert faults(template)[0].removeprefix("templates/").startswith(fault)


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("[]", "an object with `filter` and `functions` is wanted"),
        ('{"query": {}}', "an object with `filter` and `functions` is wanted"),
        ('{"filter": {}}', "`filter` must be a list of query clauses"),
        ('{"filter": [{"script": {}}]}', "`filter`: the query `script` is not allowed in a boost"),
        ('{"filter": [' + '{"match_all": {}},' * 128 + '{"match_all": {}}]}', "129 filters; 128 at most"),
        ('{"filter": [{"terms": {"a": {"index": "b"}}}]}', "`filter`: `terms` must list its values"),
        ('{"filter": [{"term": {"a": 1e999}}]}', "a clause holds a number that is not finite"),
        (
            '{"functions": [{"gauss": {"a": {"scale": 1e999}}, "weight": 1}]}',
            "a clause holds a number that is not finite",
        ),
        ('{"functions": [{"weight": 1}]}', "function 0: needs a `filter` or a decay function"),
        ("{{ affinities }}", "undeclared name `affinities` (this template can use policy, request)"),
    ],
)
def test_faults_of_an_exploration_template(template: str, fault: str) -> None:
    assert fault in faults(exploration=template)[0]


@pytest.mark.parametrize(
    ("sample", "fault"),
    [
        ('{\n"affinities": [\n}', "samples/s.json:3: is not JSON: "),
        ("[]", "samples/s.json: Input should be a valid dictionary"),
        ('{"affinity": []}', "samples/s.json:1: affinity: Extra inputs are not permitted"),
        ('{"affinities": [{"kind": "taste", "fields": ["a"], "values": ["b"], "weight": 1}]}', "affinities.0.kind: "),
        ('{"affinities": [{"kind": "item", "fields": ["a"], "values": ["b"], "weight": 2}]}', "affinities.0.weight: "),
        (
            '{"affinities": [{"kind": "item", "fields": ["a"], "values": ["b"], "weight": NaN}]}',
            "affinities.0.weight: ",
        ),
        (
            '{"affinities": [{"kind": "combination", "fields": ["a"], "values": ["b", "c"], "weight": 1}]}',
            "one value for each",
        ),
        ('{"session": {"events": ' + "9" * 5000 + "}}", "samples/s.json: cannot be read: "),
        ("[" * 100_000, "samples/s.json: cannot be read: "),
    ],
)
def test_a_bad_sample_is_a_fault(sample: str, fault: str) -> None:
    assert fault in faults(s=sample)[0]


def test_a_template_must_survive_its_samples() -> None:
    template = '[{"filter": {"term": {"a": 1}}, "weight": {{ 1 / session.visits }}}]'
    assert "templates/t/samples/new.json" in faults(template, new='{"session": {"visits": 0}}')[0]


def test_every_fault_of_every_file_is_named_at_once() -> None:
    found = faults("{{ nobody }}{{ noone }}", "{% for %}", one="[", two="{}", three='{"x": 1}')
    assert len(found) == 5


def test_a_set_without_boosts_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"boosts\.json\.j2: is missing"):
        compile_set("t", {"exploration.json.j2": "{}"}, POLICY, perf_counter)


def seconds(*steps: float) -> Callable[[], float]:
    """A clock that shows that each rendering took the next of `steps`, and the last one from then on."""

    def readings() -> Iterator[float]:
        now_s = 0.0
        for number in count():
            yield now_s
            now_s += steps[min(number, len(steps) - 1)]
            yield now_s

    return readings().__next__


def test_a_template_that_is_slow_every_time_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"took 60 ms; the same on 6 samples \(50 ms at most\)"):
        compile_set("t", {"boosts.json.j2": "[]"}, POLICY, seconds(0.06))


def test_a_busy_machine_is_not_the_template_s_fault() -> None:
    assert compile_set("t", {"boosts.json.j2": "[]"}, POLICY, seconds(0.5, 0.06, 0.001)).name == "t"


# --- at run time ------------------------------------------------------------------------------------------------------


def test_what_only_fails_for_some_subject_is_refused_when_it_does() -> None:
    template = made('[{"filter": {"term": {"a": 1}}, "weight": {% if session.events == 3 %}-1{% else %}0{% endif %}}]')
    with pytest.raises(Refused, match="`weight` must be finite and ≥ 0"):
        rendered(template)


def test_an_output_without_end_is_refused() -> None:
    template = made(each('{"filter": {"term": {"a": {{ a["values"] }}}}, "weight": 0.1}'))
    with pytest.raises(Refused, match="characters of output"):
        rendered(template, brand("x" * 2_100_000))
