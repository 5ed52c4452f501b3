"""Rendering of a team's templates: Jinja2 files that list boosts, and the exploration leg's changes.

Every `{{ … }}` prints JSON, so a value cannot end a string or open a clause. An affinity's `filter` prints as a token, which
`functions` replaces by the clause, so that a subject's values never pass through text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from jinja2 import Template
from pydantic_core import from_json

from rewriter.boost.functions import MAX_FUNCTIONS, Boost, Refused, read_functions, unnamed, wrong_clause
from rewriter.settings import PolicySettings
from rewriter.signals.affinities import Affinity

MAX_OUTPUT_CHARS = 2 * 2**20


@dataclass(frozen=True, slots=True)
class TemplateSet:
    """One version of one policy's templates, compiled and validated."""

    name: str
    version: str
    boosts: Template
    exploration: Template | None


@dataclass(frozen=True, slots=True)
class Exploration:
    """The changes of the exploration leg to the caller's search: additional filters, and bounded functions of its own."""

    filters: tuple[Mapping[str, Any], ...] = ()
    functions: tuple[Boost, ...] = ()


def render_boosts(
    made: TemplateSet,
    affinities: Sequence[Affinity],
    session: Mapping[str, float],
    request: Mapping[str, Any],
    policy: PolicySettings,
) -> tuple[Boost, ...]:
    """Return the bounded boosts that a template lists, each with the field, value and source of its affinity.

    affinities: those of the subject for this search.
    session:    facts of the session, such as its number of events.
    request:    facts of the search: indices, from, size, body.
    Raises Refused for an invalid output, or an exception of Jinja2.
    """
    return boosts_in(boosts_output(made, affinities, session, request, policy), affinities, policy)


def boosts_output(
    made: TemplateSet,
    affinities: Sequence[Affinity],
    session: Mapping[str, float],
    request: Mapping[str, Any],
    policy: PolicySettings,
) -> str:
    """Return the text that a boosts template renders, in which tokens stand for clauses. Raises an exception of Jinja2."""
    return made.boosts.render(affinities=affinities, session=session, request=request, policy=policy)


def boosts_in(output: str, affinities: Sequence[Affinity], policy: PolicySettings) -> tuple[Boost, ...]:
    """Return the bounded boosts in a boosts template's output. Raises Refused for an invalid one."""
    return read_functions(_parsed(output), policy.max_boost, affinities)


def render_exploration(made: TemplateSet, request: Mapping[str, Any], policy: PolicySettings) -> Exploration:
    """Return the template's changes to the exploration leg. Raises Refused for an invalid output, or an exception of Jinja2."""
    if made.exploration is None:
        return Exploration()
    found = _parsed(made.exploration.render(request=request, policy=policy))
    if not isinstance(found, dict) or set(found) - {"filter", "functions"}:
        raise Refused(("an object with `filter` and `functions` is wanted, both optional",))
    filters = found.get("filter", [])
    if not isinstance(filters, list):
        raise Refused(("`filter` must be a list of query clauses",))
    if len(filters) > MAX_FUNCTIONS:
        raise Refused((f"{len(filters)} filters; {MAX_FUNCTIONS} at most",))
    if wrong := [what for one in filters if (what := wrong_clause(one, ()))]:
        raise Refused(tuple(f"`filter`: {what}" for what in wrong))
    return Exploration(
        tuple(map(unnamed, filters)), read_functions(found.get("functions", []), policy.max_boost, (), random=True)
    )


def _parsed(output: str) -> Any:
    if len(output) > MAX_OUTPUT_CHARS:
        raise Refused((f"{len(output)} characters of output",))
    # It accepts less than Python's own parser, in half the time; the errors are those of Python's.
    with suppress(ValueError):
        return from_json(output, allow_inf_nan=False)
    try:
        return _JSON.decode(output)
    except json.JSONDecodeError as error:
        raise Refused((f"the output is not JSON: {error.msg} at line {error.lineno}, column {error.colno}",)) from None
    except RecursionError:
        raise Refused(("the output is nested too deep",)) from None
    except ValueError:  # of Python's own limit
        raise Refused(("the output holds a number of thousands of digits",)) from None


def _refuse_constant(name: str) -> Any:
    raise Refused((f"{name} is no JSON number",))


_JSON = json.JSONDecoder(parse_constant=_refuse_constant)
