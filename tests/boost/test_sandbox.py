"""Templates of a few hundred characters that would take all memory or run for ever: each is refused at load, and cheaply.

They are loaded in another process, each in a child of its own that may have 64 MiB and two seconds more than it begins with.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from jinja2 import UndefinedError, nodes
from jinja2.compiler import CodeGenerator
from jinja2.exceptions import SecurityError

from rewriter.boost.generated_code import GeneratedCode
from rewriter.boost.render_budget import MAX_ELEMENTS
from rewriter.boost.sandbox import environment
from rewriter.boost.templates import render_boosts
from rewriter.boost.validation import compile_set
from rewriter.errors import ConfigurationError
from rewriter.settings import PolicySettings, Settings
from rewriter.signals.affinities import Affinity, clause

POLICY = PolicySettings(index=("*",))
LOADER = """
import json, os, resource, sys
from time import perf_counter
from rewriter.boost.validation import compile_set
from rewriter.errors import ConfigurationError
from rewriter.settings import PolicySettings

def load(template):
    try:
        compile_set("t", {"boosts.json.j2": template}, PolicySettings(index=("*",)), perf_counter)
        return ["served"]
    except ConfigurationError as refused:
        return [str(fault) for fault in refused.faults]

load("[{% for a in affinities %}{% endfor %}]")  # whatever the first load alone takes
for line in sys.stdin:
    if os.fork() == 0:
        pages = int(open("/proc/self/statm").read().split()[0])
        most = pages * os.sysconf("SC_PAGE_SIZE") + 64 * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        used = resource.getrusage(resource.RUSAGE_SELF)
        resource.setrlimit(resource.RLIMIT_CPU, (2 + int(used.ru_utime + used.ru_stime),) * 2)
        print(json.dumps(load(json.loads(line))), flush=True)
        os._exit(0)
    if os.wait()[1]:
        print(json.dumps(["died"]), flush=True)
"""


def doubled(statement: str, times: int = 40, first: str = "x") -> str:
    """A template that begins with `first` and then says `x` anew, so many times."""
    return "{% set x = " + first + " %}" + statement * times


LONG = ", ".join("0" * 300)
FOUR = "".join("{% for v" + str(n) + " in [" + LONG + "] %}" for n in range(4))
LONGEST = (
    "{% for a in affinities[11:12] %}{% for n in [" + LONG + "] %}"
)  # of a hostile sample's values, 100,000 characters
SPENT = "produces and repeats more than 4,194,304 characters in all"
HOLDS = "holds more than 1,024 elements or 1,048,576 characters"
TWICE = "{% set x = [x, x] %}"
BOMBS = {
    "~": (doubled("{% set x = x ~ x %}", first="'x'") + "[]", "`~` makes a text of more than 1,048,576 characters"),
    "~ of a list": ("{% set x = [1] ~ [2] %}[]", "`~` joins only texts and numbers"),
    "~ a thousand times": (
        doubled("{% set x = x ~ x %}", 19, "'xx'") + "{{ " + "x ~ " * 1000 + "x }}",
        "`~` makes a text of more than 1,048,576 characters",
    ),
    "+ of texts": (doubled("{% set x = x + x %}", first="'x'") + "[]", "`+` works only on numbers"),
    "+ of lists": (doubled("{% set x = x + x %}", first="[1]") + "[]", "`+` works only on numbers"),
    "sum of lists": ("{% set x = [[1], [2]] | sum(start=[]) %}[]", "the arguments of `sum` are not bounded"),
    "a list of lists": (doubled(TWICE, first="1") + "{{ x }}", HOLDS),
    "a tuple of tuples": (doubled("{% set x = (x, x) %}", first="1") + "{{ {x: 1} }}", HOLDS),
    "an object of objects": (doubled("{% set x = {'a': x, 'b': x} %}", first="1") + "{{ x }}", HOLDS),
    "an object of its items": (
        doubled("{% set x = {'a': x.items(), 'b': x.items()} %}", first="{'a': 1}") + "{{ x }}",
        "cannot hold the keys, values or items of another",
    ),
    "lists, compared": (
        doubled(TWICE + "{% set y = [y, y] %}", first="1 %}{% set y = 1") + "{{ x == y }}",
        HOLDS,
    ),
    "lists, compared often": (
        doubled(TWICE + "{% set y = [y, y] %}", 8, "1 %}{% set y = 1")
        + FOUR.replace("v", "w") + "{% if x == y %}{% endif %}" * 20 + "{% endfor %}" * 4 + "[]",
        SPENT,
    ),
    "a list of a long text": (
        doubled("{% set x = x ~ x %}", 18, "'xx'") + "{{ [" + "x, " * 500 + "x] }}",
        HOLDS,
    ),
    "a list in a list, in loops": (
        "{% for a in [" + "affinities, " * 300 + "] %}{% for b in [" + "a, " * 300 + "] %}{{ b }}{% endfor %}{% endfor %}",
        HOLDS,
    ),
    "map of a list": ("{% set x = ['', ''] | map('default', affinities, true) %}[]", "the arguments of `map` are not"),
    "groupby": (doubled("{% set x = x | groupby('list') %}", 60, "[]") + "[]", "No filter named 'groupby'"),
    "join": (
        doubled("{% set x = x | list | join(x) %}", 9, "'xxxx'") + "[{{ x }}]", "the arguments of `join` are not bounded"
    ),
    "list of a text": (
        doubled("{% set x = x ~ x %}", 18, "'\U0001f600\U0001f601'") + "{% set y = x | list %}[]",
        SPENT,
    ),
    "round": ("[{{ 1.5 | round(1000000000, 'floor') }}]", "the arguments of `round` are not bounded"),
    "round by a name": ("[{% set n = 10 %}{{ 15 | round(n) }}]", "the arguments of `round` are not bounded"),
    "unpacked arguments": ("{{ [1] | join(*['x']) }}", "the arguments of `join` are not bounded"),
    "set as a block": (doubled("{% set x %}{{ x }}{{ x }}{% endset %}", first="1") + "[]", "`set` needs its value in the same tag"),
    "filter as a block": ("{% filter upper %}x{% endfilter %}[]", "`filter` as a block is not allowed"),
    "blocks": (
        "{% block b0 %}1{% endblock %}"
        + "".join(
            f"{{% block b{n + 1} %}}{{{{ self.b{n}() }}}}{{{{ self.b{n}() }}}}{{% endblock %}}" for n in range(40)
        ),
        "`block` is not allowed",
    ),
    "loops in loops": (FOUR + "{% endfor %}" * 4 + "[]", SPENT),
    "loops that print": ("[" + FOUR.replace("0]", "0]") + "{{ 1.5 }}," + "{% endfor %}" * 4 + "0]", SPENT),
    "text in a loop": (
        "[" + "".join("{% for v" + str(n) + " in [" + LONG + "] %}" for n in range(2)) + "1," * 1000
        + "{% endfor %}{% endfor %}0]",
        SPENT,
    ),
    "a subject's values in loops": (
        "[{% for a in affinities %}{% for b in affinities %}{{ affinities }}{% endfor %}{% endfor %}]", SPENT,
    ),
    "filters in a loop": (
        "{% for a in affinities %}{% for b in affinities %}{% set x = affinities" + " | list" * 90
        + " %}{% endfor %}{% endfor %}[]",
        SPENT,
    ),
    "slices in a loop": (
        LONGEST + "{% set x = a['values'][0][::-1] %}" * 50 + "{% endfor %}{% endfor %}[]",
        SPENT,
    ),
    "a long text's largest character": (
        LONGEST + "{% set x = a['values'][0] | max %}" * 50 + "{% endfor %}{% endfor %}[]",
        SPENT,
    ),
    "a long text, searched": (
        LONGEST + "{% if 'xy' in a['values'][0] %}{% endif %}" * 50 + "{% endfor %}{% endfor %}[]",
        SPENT,
    ),
    "a long text, searched by a test": ("{% if 1 is in('x') %}{% endif %}[]", "No test named 'in'"),
    "a long text, searched by select": (
        "{% set x = affinities | map(attribute='field') | select('in', 'a') | list %}[]", "No test named 'in'"
    ),
    "loop.cycle": ("{% for a in affinities %}{{ loop.cycle(1, 2) }}{% endfor %}[]", "only get, items, keys, values can be called"),
    "a number without end": ("[{{ " + "9" * 5000 + " }}]", "cannot be compiled: Exceeds the limit"),
}  # fmt: skip
ORDINARY = (
    '[{"filter": {"term": {"a": {{ a["values"] | join(" ") }}}}, "weight": {{ [a.weight * 0.5, 0.2] | min }}}]',
    '[{"filter": {{ {"terms": {a.field: a["values"]}} }}, "weight": {{ (a.weight + 0.1) | round(2) }}}]',
    '[{"filter": {"term": {"a": {{ a.field ~ ":" ~ a.kind }}}}, "weight": {{ loop.index + 1 }}}]',
    '[{"filter": {"terms": {"a": {{ a["values"][:3] }}}}, "weight": 0.1}]',
    '[{"filter": {"term": {"a": {{ a["values"][0] | lower | trim }}}}, "weight": {{ affinities | length / 128 }}}]',
    """[{% for b in affinities if b.field == a.field %}{"filter": {{ b.filter }}, "weight": 0.1}
    {%- if not loop.last %},{% endif %}{% endfor %}]""",
    '[{% for name, field in policy.fields.items() %}{% endfor %}{"filter": {{ a.filter }}, "weight": 0.1}]',
    '[{% for field in affinities | map(attribute="field") | unique %}{% endfor %}{% with n = 1 %}{% endwith %}]',
    '[{% if request.body.get("query") and a.field in ["brand", "item"] %}{% endif %}]',
    """[{% set w = affinities | selectattr("kind", "eq", "item") | sum(attribute="weight") %}
    {"filter": {{ a.filter }}, "weight": {{ w }}}]""",
)


@pytest.fixture(scope="module")
def loaded() -> dict[str, list[str]]:
    """The faults of each bomb, or that its child died of it."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("only Linux says how much memory a process has")
    told = subprocess.run(
        [sys.executable, "-c", LOADER],
        input="\n".join(json.dumps(template) for template, _ in BOMBS.values()),
        capture_output=True, text=True, check=True, timeout=300, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    return dict(zip(BOMBS, map(json.loads, told.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_and_named_within_64_mib_and_two_seconds(name: str, loaded: dict[str, list[str]]) -> None:
    template, what = BOMBS[name]
    assert len(template.encode()) < 8_192
    faults = loaded[name]
    assert any(what in fault for fault in faults), faults
    assert not any("MemoryError" in fault for fault in faults)
    assert all(fault.startswith("templates/t/boosts.json.j2:") for fault in faults)


def affinity(*values: str) -> Affinity:
    return Affinity(
        "attribute", "brand", ("brand",), values, 0.5, 0.3, "profile", 0, clause("attribute", ("brand",), values, 0)
    )


def load(template: str) -> Any:
    return compile_set("t", {"boosts.json.j2": template}, POLICY, perf_counter)


@pytest.mark.parametrize("template", ORDINARY)
def test_what_templates_need_is_left(template: str) -> None:
    assert load("{% for a in affinities[:1] %}" + template + "{% else %}[]{% endfor %}").name == "t"


def test_the_account_is_of_one_rendering() -> None:
    template = load("[{% for a in affinities %}{% for n in [" + LONG + "] %}{% endfor %}{% endfor %}]")
    for _ in range(1_000):
        assert render_boosts(template, [affinity("nike")] * 10, {}, {}, POLICY) == ()


def test_sorting_is_charged_for_the_time_that_it_takes() -> None:
    template = "{% for n in request.get('n', []) %}{% if request.n | sort %}{% endif %}{% endfor %}[]"
    made = compile_set("t", {"boosts.json.j2": template}, POLICY, perf_counter)
    numbers = [float(number) for number in range(1_000)]  # 200 times one of 200 numbers: 4 · 16 + 16 for each
    assert render_boosts(made, (), {}, {"n": numbers[:200]}, POLICY) == ()
    with pytest.raises(SecurityError, match=SPENT):
        render_boosts(made, (), {}, {"n": numbers[:250]}, POLICY)


def test_what_is_too_much_for_some_subject_alone_is_refused_when_it_comes() -> None:
    template = load("[{% for a in affinities %}{% set x = a['values'] | list %}{% endfor %}]")
    render_boosts(template, [affinity(*"x" * MAX_ELEMENTS)], {}, {}, POLICY)
    with pytest.raises(Exception, match="`list` returns a list of more than 1,024 elements"):
        render_boosts(template, [affinity(*"x" * (MAX_ELEMENTS + 1))], {}, {}, POLICY)


def test_a_fault_names_line_and_remedy() -> None:
    with pytest.raises(ConfigurationError) as refused:
        load("[\n{% set x %}1{% endset %}\n{{ x | join(x) }}]")
    assert [str(fault) for fault in refused.value.faults] == [
        "templates/t/boosts.json.j2:2: `set` needs its value in the same tag (write {% set NAME = VALUE %})",
        (
            "templates/t/boosts.json.j2:3: the arguments of `join` are not bounded "
            "(write them as literals: numbers, or texts of up to 64 characters)"
        ),
    ]


class Pretender(Affinity):
    """A value of another type with the same attributes."""

    @property
    def scale(self) -> float:
        return 7.0


@pytest.mark.parametrize(
    ("template", "printed"),
    [
        ("{{ one.weight * one.scale }}", "0.125"),
        ("{{ one.weight * 2 }}", "1.0"),
        ("{{ 2 * 3 }}", "6.0"),
        ("{{ one.filter }}", '{"$affinity": 0}'),
        ("{{ request.filter }}", '"own"'),
        ("{{ other.scale }}", "7.0"),
        (
            "{% for a in [one, one] if a.weight > 0.1 %}{{ loop.index }}{% if not loop.last %},{% endif %}{% endfor %}",
            "1,2",
        ),
    ],
)
def test_the_generated_code_prints_what_the_sandbox_would(template: str, printed: str) -> None:
    one = Affinity(
        "attribute", "brand", ("brand",), ("b",), 0.5, 0.25, "profile", 0, clause("attribute", ("brand",), ("b",), 0)
    )
    made = environment().from_string(template)
    assert made.render(one=one, other=Pretender(*one), request={"filter": "own"}) == printed


NESTED = """
{%- set scale = 2.5 -%}
{%- for a in affinities if a.weight * scale > 0.5 -%}
  {%- with half = a.weight * 0.5 -%}
    {%- for b in affinities if b.weight * half > loop.index * 0.01 or not loop.first -%}
      {{ [a.weight * b.weight, loop.index * scale, {"x": (b.scale if b.source == "profile" else half * half)}] }}
      {{- (a.weight * b.weight * half) | round(3) }}{{ b.filter }}{{ a.field ~ b.values[0] }}
    {%- endfor -%}
    {{ affinities | map(attribute="weight") | sum * half }}{{ (affinities | first).weight }}
  {%- endwith -%}
{%- else -%}
  {{ none }}
{%- endfor -%}
{{ (affinities[-1].weight * scale > 1 and loops.length * 2.0) }}
"""


def test_nested_shortcuts_print_what_jinja_s_own_code_does() -> None:
    """Also for values of other types, of which the generated code has a branch of its own."""
    ones = [
        Affinity(
            "attribute", "brand", ("brand",), (f"b{number}",), weight, 0.25, ("profile", "session")[number % 2], number,
            clause("attribute", ("brand",), ("b",), number),
        )
        for number, weight in enumerate((0.5, 1, 0.1, 3.0))
    ]  # fmt: skip
    given = {"affinities": ones, "loops": {"length": 3}}
    made, plain = environment(), environment()
    plain.code_generator_class = CodeGenerator
    assert made.code_generator_class is GeneratedCode
    printed = made.from_string(NESTED).render(given)
    assert printed == plain.from_string(NESTED).render(given)
    assert printed.count("$affinity") > 4


@pytest.mark.parametrize("hook", ["_output_child_post", "visit_Mul", "visit_Getattr"])
def test_without_the_hooks_of_the_generated_code_jinja_s_own_is_used(
    hook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later Jinja2 may call them in another way: templates then render as before, and slower."""

    def other(self: GeneratedCode, node: nodes.Node) -> None:
        raise TypeError

    monkeypatch.setattr(GeneratedCode, hook, other)
    made = environment()
    assert made.code_generator_class is CodeGenerator
    assert made.from_string("{{ 2.5 * 3 }}{{ one }}").render(one="text") == '7.5"text"'


@pytest.mark.parametrize(
    "template",
    [
        "{{ one.weight.real.__class__ }}", "{{ one.values.__class__ }}", "{{ ('a' * 3) }}", "{{ policy.scale }}",
        "{{ hidden.weight * inf }}",
    ],
)  # fmt: skip
def test_the_generated_code_opens_nothing(template: str) -> None:
    one = Affinity(
        "attribute", "brand", ("brand",), ("b",), 0.5, 0.25, "profile", 0, clause("attribute", ("brand",), ("b",), 0)
    )
    with pytest.raises((SecurityError, UndefinedError, ValueError)):
        environment().from_string(template).render(one=one, hidden=one, policy=Settings(), inf=float("inf"))
