"""`rewriter render`: print the boosts that a policy's template renders for a subject, before it serves anybody."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import ValidationError

from rewriter.boost.all_words import all_words
from rewriter.boost.body import bounded_body, optional_leg
from rewriter.boost.functions import Boost, Refused
from rewriter.boost.samples import Sample
from rewriter.boost.schema import boosts_schema, exploration_schema
from rewriter.boost.templates import TemplateSet, render_boosts
from rewriter.cli.output import UNHEALTHY, faults_refused, print_json, print_line, store_needed
from rewriter.cli.personal_preview import preview_personal
from rewriter.client.seam import SearchArguments
from rewriter.errors import ConfigurationError, Fault
from rewriter.flow.steps import Personal
from rewriter.index_facts import IndexFacts
from rewriter.parsed_search import ParsedSearch, parse_search
from rewriter.report import Reason
from rewriter.settings import PolicySettings, Settings
from rewriter.shell.template_files import load_templates
from rewriter.similar import did_you_mean
from rewriter.subject import Subject

NO_QUERY = {"query": {"match": {"title": "any text"}}}
"""A stand-in for the caller's search if only the boosts are printed; it is not part of the output."""


def _print_schema(wanted: str | None) -> None:
    if wanted is not None:
        print_json({"boosts": boosts_schema, "exploration": exploration_schema}[wanted]())
        raise typer.Exit


def render(
    policy: Annotated[str, typer.Argument(help="The policy's name.")],
    sample: Annotated[Path | None, typer.Option(help="A subject in the form of samples/*.json.")] = None,
    user: Annotated[str | None, typer.Option(help="The user_id of a subject of the store.")] = None,
    session: Annotated[str | None, typer.Option(help="The session_id of a subject of the store.")] = None,
    body: Annotated[Path | None, typer.Option(help="A search body: print it as it would be sent with boosts.")] = None,
    index: Annotated[
        str | None, typer.Option(help="The index that is searched; by default the policy's first.")
    ] = None,
    toml: Annotated[Path, typer.Option(help="The settings file.")] = Path("rewriter.toml"),
    schema: Annotated[  # noqa: ARG001  its callback ends the command
        Literal["boosts", "exploration"] | None,
        typer.Option(callback=_print_schema, is_eager=True, help="Print the JSON Schema of what a template renders."),
    ] = None,
) -> None:
    """Print the boosts that a policy renders for a subject, as JSON; with a search body, the body as it would be sent."""
    with faults_refused():
        if (sample is None) == (user is None and session is None):
            raise ConfigurationError(
                [Fault("render", "needs one subject", "give --sample FILE, or --user or --session")]
            )
        settings, chosen = alone(Settings.from_toml(toml), toml, policy)
        templates = load_templates(settings)[policy]
        given_body = _json(body) if body else NO_QUERY
        request = parse_search(SearchArguments(index or chosen.index[0], given_body), settings, {})
        if request.policy is None:
            where, what = f"--index {index or chosen.index[0]}", f"policy {policy!r} does not match it"
            raise ConfigurationError([Fault(where, what, f"its `index` is {', '.join(chosen.index)}")])
        if request.passed:
            print_line(f"{request.passed}: {request.detail}")
            raise typer.Exit(UNHEALTHY)
        if sample:
            part = sample_part(sample, templates, chosen, request)
        else:
            with store_needed():
                part = preview_personal(Subject(user, session), settings, policy, templates, request)
    if body is None:
        print_json(_as_json(part))
    elif part.reason is Reason.PERSONALIZED:
        print_json(whole_body(part, chosen, request)[1])
    else:
        print_line(f"{part.reason}: {part.detail or 'no boost was rendered'}; the search would be the caller's own")
        raise typer.Exit(UNHEALTHY)


def alone(settings: Settings, path: Path, name: str) -> tuple[Settings, PolicySettings]:
    """Return the settings with one policy alone, so that no earlier policy matches instead."""
    chosen = settings.policies.get(name)
    if chosen is None:
        remedy = did_you_mean(name, settings.policies) or f"there are {', '.join(settings.policies)}"
        raise ConfigurationError([Fault(str(path), f"no policy is named {name!r}", remedy)])
    return settings.model_copy(update={"policies": {name: chosen}}), chosen


def sample_part(path: Path, templates: TemplateSet, policy: PolicySettings, request: ParsedSearch) -> Personal:
    """Return the personal part that a sample file makes of a search. Raises ConfigurationError for a file that is no sample."""
    try:
        given = Sample.model_validate(_json(path))
    except ValidationError as error:
        faults = [Fault(str(path), f"{'.'.join(map(str, one['loc']))}: {one['msg']}") for one in error.errors()]
        raise ConfigurationError(faults) from None
    affinities, session, facts = given.given()
    try:
        boosts = render_boosts(templates, affinities, session, facts, policy)
    except Refused as refused:
        raise ConfigurationError([Fault(f"{templates.name} on {path}", what) for what in refused.faults]) from None
    reason = Reason.PERSONALIZED if boosts else Reason.NO_SIGNALS
    return Personal(
        reason, boosts=boosts, max_boost=policy.max_boost, strategy=request.strategy, version=templates.version
    )


def whole_body(part: Personal, policy: PolicySettings, request: ParsedSearch) -> tuple[Personal, dict[str, Any]]:
    """Return the part, with whether it is gated, and the body of the personalized leg, as it would be sent for the first page."""
    window = request.rescore_window(policy.window_size)
    leg = optional_leg(request.body, 0, request.from_ + request.size)
    gate = all_words(request.body["query"], IndexFacts()).clause if policy.all_words else None
    body = bounded_body(leg, part.boosts, part.max_boost, part.strategy or "rescore", window, gate)
    return replace(part, gated=gate is not None), body


def _as_json(part: Personal) -> dict[str, Any]:
    return {
        "reason": part.reason,
        "detail": part.detail,
        "source": part.source,
        "template_version": part.version,
        "max_boost": part.max_boost,
        "boosts": [_boost(one) for one in part.boosts],
    }


def _boost(boost: Boost) -> dict[str, Any]:
    names = ("field", "value", "weight", "source", "filter", "decay")
    return {name: value for name in names if (value := getattr(boost, name)) not in (None, "")}


def _json(path: Path) -> Any:
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise ConfigurationError([Fault(str(path), error.strerror or "cannot be read")]) from None
    except UnicodeDecodeError:
        raise ConfigurationError([Fault(str(path), "is not UTF-8")]) from None
    return parsed_json(text, path)


def parsed_json(text: str, path: Path, remedy: str = "") -> Any:
    """Return the value of a file's JSON text. Raises ConfigurationError with the remedy for a text that is not JSON."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigurationError([Fault(f"{path}:{error.lineno}", f"is not JSON: {error.msg}", remedy)]) from None
    except (ValueError, RecursionError):
        what = "is not JSON that can be read: nested too deep, or a number is too long"
        raise ConfigurationError([Fault(str(path), what)]) from None
