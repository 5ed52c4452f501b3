"""What a policy's templates render on its samples and on the hostile ones, for `rewriter check --show`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import typer

from rewriter.boost.functions import Boost, Refused
from rewriter.boost.samples import Sample, hostile
from rewriter.boost.templates import TemplateSet, boosts_in, boosts_output, render_exploration
from rewriter.boost.validation import compiled_set
from rewriter.errors import ConfigurationError
from rewriter.plural import count_of
from rewriter.settings import PolicySettings, Settings
from rewriter.shell.template_files import template_files, template_folder

MAX_TEXT = 60
"""Characters that are shown of a text: one hostile value has 100,000."""
MAX_OUTPUT = 400
MAX_SHOWN = 6
"""Functions that are shown of a sample in the terminal."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """What the templates of a policy rendered on one sample.

    boosts, exploration: functions as they are sent, weights clamped; of the exploration template its filters too.
    faults: what is wrong with them; output: what the boosts template printed where that is not valid, up to its first characters.
    """

    policy: str
    sample: str
    affinities: int
    boosts: list[dict[str, Any]]
    exploration: dict[str, Any]
    faults: list[str]
    output: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return asdict(self)


def rendered_samples(settings: Settings) -> Iterator[Rendered]:
    """Yield what each policy's templates render. A set that cannot be compiled renders nothing: `check` names its faults."""
    for name, policy in settings.policies.items():
        folder = template_folder(settings, policy.templates)
        try:
            made, samples = compiled_set(policy.templates, template_files(folder), str(folder))
        except ConfigurationError:
            continue
        for label, sample in {**samples, **hostile(policy)}.items():
            yield _rendered(name, made, label.removeprefix(f"{folder}/"), sample, policy)


def print_rendered(samples: Iterator[Rendered]) -> None:
    """Print what the templates rendered, sample by sample."""
    for one in samples:
        typer.echo(
            f"{one.policy} on {one.sample}: {count_of(one.affinities, 'affinity')}, {count_of(len(one.boosts), 'boost')}"
        )
        for function in one.boosts[:MAX_SHOWN]:
            typer.echo(f"  {_line(function)}")
        if len(one.boosts) > MAX_SHOWN:
            typer.echo(f"  and {len(one.boosts) - MAX_SHOWN} more")
        if any(one.exploration.values()):
            typer.echo(f"  exploration: {_readable(one.exploration)}")
        for fault in one.faults:
            typer.echo(f"  fault: {fault}")
        if one.output:
            typer.echo(f"  printed: {_readable(one.output)}")


def _readable(what: Any) -> str:
    """Return JSON with its letters as people read them; control characters stay escaped, so that none reaches the terminal."""
    text = json.dumps(what, ensure_ascii=False).replace("\x7f", "\\u007f")  # JSON has no need to escape it
    return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)


def _line(function: dict[str, Any]) -> str:
    what = {key: value for key, value in function.items() if key != "weight"}
    return f"+{function['weight']:.3f} {_readable(what)}"


def _rendered(name: str, made: TemplateSet, label: str, sample: Sample, policy: PolicySettings) -> Rendered:
    affinities, session, request = sample.given()
    boosts: list[dict[str, Any]] = []
    exploration: dict[str, Any] = {}
    faults: list[str] = []
    output = ""
    try:
        output = boosts_output(made, affinities, session, request, policy)
        boosts = [_function(one) for one in boosts_in(output, affinities, policy)]
        output = ""
    except Exception as error:  # noqa: BLE001  whatever a template raises is shown
        faults += _faults(error)
    try:
        found = render_exploration(made, request, policy)
        functions = [_function(one) for one in found.functions]
        exploration = {"filter": [_short(one) for one in found.filters], "functions": functions}
    except Exception as error:  # noqa: BLE001  as above
        faults += [f"exploration: {one}" for one in _faults(error)]
    return Rendered(name, label, len(affinities), boosts, exploration, faults, output[:MAX_OUTPUT])


def _faults(error: Exception) -> list[str]:
    return list(error.faults) if isinstance(error, Refused) else [f"{type(error).__name__}: {error}"]


def _function(boost: Boost) -> dict[str, Any]:
    found: dict[str, Any] = {"weight": boost.weight, **_short(dict(boost.decay or {}))}
    return found if boost.filter is None else {**found, "filter": _short(boost.filter)}


def _short(part: Any) -> Any:
    if isinstance(part, str) and len(part) > MAX_TEXT:
        return f"{part[:MAX_TEXT]}… ({len(part):,} characters)"
    if isinstance(part, list):
        return [_short(one) for one in part]
    if isinstance(part, dict):
        return {key: _short(value) for key, value in part.items()}
    return part
