"""The teams' part: Jinja2 files that list functions, held against everything we can think of before they serve.

Every `{{ … }}` prints JSON, so a value can end no string and open no clause; an affinity's ready `filter` prints a token that
`functions` exchanges for the clause, so that what a subject's values hold does not pass through text at all.

The sandbox stops attribute tricks; what it does not stop is taken away: string methods, text repetition, `range` and every filter
that can make much out of little. What is left is loops over what a template was given, so rendering is bounded by its input; at
load it is also timed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import inf, isfinite
from typing import Any, Self

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, meta
from jinja2.exceptions import SecurityError
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rewriter.boost.functions import Boost, Refused, read_functions, wrong_clause
from rewriter.errors import ConfigurationError, Fault
from rewriter.report import Source
from rewriter.settings import PolicySettings
from rewriter.signals.affinities import Affinity, Clause, Kind, clause

BOOSTS_FILE = "boosts.json.j2"
EXPLORATION_FILE = "exploration.json.j2"
MAX_OUTPUT_CHARS = 256 * 1024
MAX_RENDER_S = 0.05
TRIES = 5
GIVEN: Mapping[str, frozenset[str]] = {
    BOOSTS_FILE: frozenset({"affinities", "session", "request", "policy"}),
    EXPLORATION_FILE: frozenset({"request", "policy"}),
}
FILTERS = (
    "abs", "batch", "count", "default", "d", "dictsort", "first", "float", "groupby", "int", "items", "join", "last", "length",
    "list", "lower", "map", "max", "min", "reject",
    "rejectattr", "round", "select", "selectattr", "sort", "sum", "trim", "unique", "upper",
)  # fmt: skip


_AFFINITY = frozenset(Affinity.__slots__)
_LOOP = frozenset({"first", "index", "index0", "last", "length"})


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(("*", "**", "%"))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if type(left) is float and type(right) is float and operator == "*":
            return left * right
        if not (isinstance(left, (int, float)) and isinstance(right, (int, float))):
            raise SecurityError(f"`{operator}` works on numbers alone")
        return super().call_binop(context, operator, float(left), right)

    def getattr(self, obj: Any, attribute: str) -> Any:
        # Nearly all look-ups are these, and they give plain data: the sandbox has nothing to ask.
        if (type(obj) is Affinity and attribute in _AFFINITY) or (type(obj) is LoopContext and attribute in _LOOP):
            return getattr(obj, attribute)
        return super().getattr(obj, attribute)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return not isinstance(obj, (str, bytes, int, float)) and super().is_safe_attribute(obj, attr, value)


_encode = json.JSONEncoder(allow_nan=False, default=str).encode


def _print(value: Any) -> str:
    if type(value) is Clause:
        return value.text
    if type(value) is float and isfinite(value):
        return repr(value)
    return _encode(value)


def _environment() -> _Environment:
    environment = _Environment(
        undefined=StrictUndefined, finalize=_print, autoescape=False, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.clear()
    environment.filters = {name: environment.filters[name] for name in FILTERS}
    return environment


_JINJA = _environment()


@dataclass(frozen=True, slots=True)
class TemplateSet:
    """One version of one policy's templates, compiled and tried."""

    name: str
    version: str
    boosts: Template
    exploration: Template | None


@dataclass(frozen=True, slots=True)
class Exploration:
    """What leg 3 changes in the caller's search: further filters, and bounded functions of its own."""

    filters: tuple[Mapping[str, Any], ...] = ()
    functions: tuple[Boost, ...] = ()


class _SampleAffinity(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Kind
    field: str = ""
    fields: tuple[str, ...] = Field(min_length=1)
    values: tuple[str, ...] = Field(min_length=1)
    weight: float = Field(ge=0, le=1)
    scale: float = Field(default=0.3, ge=0, le=100)
    source: Source = "profile"

    @model_validator(mode="after")
    def _one_value_for_each_field(self) -> Self:
        if self.kind == "combination" and len(self.values) != len(self.fields):
            raise ValueError("a combination has one value for each field")
        return self


class Sample(BaseModel):
    """A subject that a template must survive, as `samples/*.json` describes it."""

    model_config = ConfigDict(extra="forbid")
    affinities: list[_SampleAffinity] = []
    session: dict[str, float] = {"events": 0}
    request: dict[str, Any] = {"indices": ["products"], "from": 0, "size": 10, "body": {}}

    def given(self) -> tuple[tuple[Affinity, ...], dict[str, float], dict[str, Any]]:
        """Return affinities, session and request as a template gets them."""
        return (
            tuple(
                Affinity(
                    one.kind,
                    one.field or one.fields[0],
                    one.fields,
                    one.values,
                    one.weight,
                    one.scale,
                    one.source,
                    at,
                    clause(one.kind, one.fields, one.values, at),
                )
                for at, one in enumerate(self.affinities)
            ),
            self.session,
            self.request,
        )


HOSTILE_VALUES = (
    '"',
    "'}]",
    '"}}],"min_score":0,"x":[{"',
    "{{ 7*7 }}",
    "{% raw %}",
    "\\",
    "\x00\x1b\n",
    "\u2028",
    "ü" * 250,
    "1984",
    "true",
    "x" * 100_000,
)
HOSTILE = (
    Sample(),
    Sample(
        affinities=[
            _SampleAffinity(kind="combination", fields=("a", "b"), values=(value, value), weight=1, source="blend")
            for value in HOSTILE_VALUES
        ],
        session={"events": 1e6},
    ),
    Sample(
        affinities=[_SampleAffinity(kind="item", fields=("_id",), values=(str(n),), weight=n / 128) for n in range(128)]
    ),
)


def compile_set(
    name: str, files: Mapping[str, str], policy: PolicySettings, clock_s: Callable[[], float], where: str = ""
) -> TemplateSet:
    """Compile and try the templates in `files` (path within the folder → text); `clock_s` times the trial renders.

    Raises ConfigurationError with every fault: syntax, undeclared names, bad samples, what rendering gives on any sample.
    """
    where = where or f"templates/{name}"
    faults: list[Fault] = []
    if BOOSTS_FILE not in files:
        faults.append(
            Fault(f"{where}/{BOOSTS_FILE}", "is missing", "a template set needs it; start from templates/default")
        )
    compiled = {
        file: _compiled(f"{where}/{file}", file, files[file], faults)
        for file in (BOOSTS_FILE, EXPLORATION_FILE)
        if file in files
    }
    samples = {
        f"{where}/{file}": _sample(f"{where}/{file}", text, faults)
        for file, text in sorted(files.items())
        if file.startswith("samples/")
    }
    if faults:
        raise ConfigurationError(faults)
    version = blake2b(
        "\x1f".join(f"{file}\x1f{files[file]}" for file in sorted(compiled)).encode(), digest_size=6
    ).hexdigest()
    boosts = compiled[BOOSTS_FILE]
    assert boosts is not None  # a template that did not compile is a fault, raised above
    made = TemplateSet(name, version, boosts, compiled.get(EXPLORATION_FILE))
    for label, sample in [*samples.items(), *((f"a hostile sample ({n})", one) for n, one in enumerate(HOSTILE))]:
        if sample:
            _tried(made, where, label, sample, policy, clock_s, faults)
    if faults:
        raise ConfigurationError(faults)
    return made


def render_boosts(
    made: TemplateSet,
    affinities: Sequence[Affinity],
    session: Mapping[str, float],
    request: Mapping[str, Any],
    policy: PolicySettings,
) -> tuple[Boost, ...]:
    """Return the bounded boosts that a template lists for these affinities, labelled with the affinity they stand for.

    Raises Refused, or what Jinja2 raises.
    """
    output = made.boosts.render(affinities=affinities, session=session, request=request, policy=policy)
    return read_functions(_parsed(output), policy.max_boost, affinities)


def render_exploration(made: TemplateSet, request: Mapping[str, Any], policy: PolicySettings) -> Exploration:
    """Return what a template changes in leg 3. Raises Refused, or what Jinja2 raises."""
    if made.exploration is None:
        return Exploration()
    found = _parsed(made.exploration.render(request=request, policy=policy))
    if not isinstance(found, dict) or set(found) - {"filter", "functions"}:
        raise Refused(("an object with `filter` and `functions` is wanted, both optional",))
    filters = found.get("filter", [])
    if not isinstance(filters, list):
        raise Refused(("`filter` must be a list of query clauses",))
    if wrong := [what for one in filters if (what := wrong_clause(one, ()))]:
        raise Refused(tuple(f"`filter`: {what}" for what in wrong))
    return Exploration(tuple(filters), read_functions(found.get("functions", []), policy.max_boost, (), random=True))


def _compiled(where: str, file: str, text: str, faults: list[Fault]) -> Template | None:
    try:
        tree = _JINJA.parse(text)
        if unknown := meta.find_undeclared_variables(tree) - GIVEN[file]:
            lines = {
                name: next((n for n, line in enumerate(text.splitlines(), 1) if name in line), 1)
                for name in sorted(unknown)
            }
            known = ", ".join(sorted(GIVEN[file]))
            faults += [
                Fault(f"{where}:{line}", f"undeclared name `{name}`", f"a template is given {known}")
                for name, line in lines.items()
            ]
            return None
        return _JINJA.from_string(text)
    except TemplateSyntaxError as error:
        faults.append(Fault(f"{where}:{error.lineno}", error.message or "syntax error"))
    except TemplateError as error:
        faults.append(Fault(where, str(error)))
    return None


def _sample(where: str, text: str, faults: list[Fault]) -> Sample | None:
    try:
        return Sample.model_validate(json.loads(text))
    except json.JSONDecodeError as error:
        faults.append(Fault(f"{where}:{error.lineno}", f"is not JSON: {error.msg}"))
    except ValidationError as error:
        faults += [Fault(where, f"{'.'.join(map(str, one['loc']))}: {one['msg']}") for one in error.errors()]
    return None


def _tried(
    made: TemplateSet,
    where: str,
    label: str,
    sample: Sample,
    policy: PolicySettings,
    clock_s: Callable[[], float],
    faults: list[Fault],
) -> None:
    affinities, session, request = sample.given()
    for file, render in (
        (BOOSTS_FILE, lambda: render_boosts(made, affinities, session, request, policy)),
        (EXPLORATION_FILE, lambda: render_exploration(made, request, policy)),
    ):
        took_s = inf
        try:
            # A busy machine can make one rendering slow; only one that is slow every time is the template's fault.
            for _ in range(TRIES):
                started_s = clock_s()
                render()
                took_s = min(took_s, clock_s() - started_s)
                if took_s <= MAX_RENDER_S:
                    break
        except Refused as refused:
            first, more = refused.faults[:3], len(refused.faults) - 3
            faults += [Fault(f"{where}/{file}", f"on {label}: {what}") for what in first]
            if more > 0:
                faults.append(Fault(f"{where}/{file}", f"on {label}: and {more} more faults like these"))
        except Exception as error:  # noqa: BLE001  whatever a template raises is a fault of the template
            faults.append(Fault(f"{where}/{file}:{_line_of(error)}", f"on {label}: {type(error).__name__}: {error}"))
        else:
            if took_s > MAX_RENDER_S:
                faults.append(
                    Fault(
                        f"{where}/{file}",
                        f"on {label}: took {took_s * 1000:.0f} ms",
                        f"{MAX_RENDER_S * 1000:.0f} ms at most",
                    )
                )


def _line_of(error: BaseException) -> int:
    """Jinja2 rewrites tracebacks so that a template's frames carry the template's own lines."""
    line, trace = 1, error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _parsed(output: str) -> Any:
    if len(output) > MAX_OUTPUT_CHARS * 8:
        raise Refused((f"{len(output)} characters of output",))
    try:
        return json.loads(output, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise Refused((f"the output is not JSON: {error.msg} at line {error.lineno}, column {error.colno}",)) from None


def _refuse_constant(name: str) -> Any:
    raise Refused((f"{name} is no JSON number",))
