"""Validation of a template set before it serves: syntax, undeclared names, trial renders on all samples, and their time.

A template can only loop over its input, so one that is fast on the largest sample stays fast.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from hashlib import blake2b
from math import inf
from typing import Any

from jinja2 import Template, TemplateError, TemplateSyntaxError, meta, nodes
from pydantic import ValidationError

from rewriter.boost.functions import Refused
from rewriter.boost.render_budget import charged
from rewriter.boost.sample_faults import SampleFaults, lines_with, only
from rewriter.boost.samples import Sample, hostile
from rewriter.boost.sandbox import environment, unbounded
from rewriter.boost.suggestions import suggested
from rewriter.boost.templates import TemplateSet, render_boosts, render_exploration
from rewriter.errors import ConfigurationError, Fault
from rewriter.plural import count_of
from rewriter.settings import PolicySettings
from rewriter.similar import did_you_mean

BOOSTS_FILE = "boosts.json.j2"
EXPLORATION_FILE = "exploration.json.j2"
MAX_RENDER_S = 0.05
TRIES = 5
MAX_SAMPLE_FAULTS = 10
"""Faults of a sample that are named."""
GIVEN: Mapping[str, frozenset[str]] = {
    BOOSTS_FILE: frozenset({"affinities", "session", "request", "policy"}),
    EXPLORATION_FILE: frozenset({"request", "policy"}),
}

_JINJA = environment()


def compile_set(
    name: str, files: Mapping[str, str], policy: PolicySettings, clock_s: Callable[[], float], where: str = ""
) -> TemplateSet:
    """Compile the templates in `files`, and render them on all samples.

    name:    of the template set.
    files:   path within the set's folder → text.
    clock_s: a monotonic clock in seconds, which times the trial renders.
    where:   the folder named in faults.
    Raises ConfigurationError with every fault: syntax, undeclared names, bad samples, invalid or slow renders.
    """
    where = where or f"templates/{name}"
    made, samples = compiled_set(name, files, where)
    found = SampleFaults()
    for label, sample in {**samples, **hostile(policy)}.items():
        _tried(made, label, sample, policy, clock_s, found)
    if faults := found.faults(where, files):
        raise ConfigurationError(faults)
    return made


def compiled_set(name: str, files: Mapping[str, str], where: str) -> tuple[TemplateSet, dict[str, Sample]]:
    """Compile the templates in `files`; return them and the set's own samples by path. Nothing is rendered.

    Raises ConfigurationError with every fault: syntax, undeclared names, bad samples.
    """
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
    boosts = compiled[BOOSTS_FILE]
    assert boosts is not None  # a template that did not compile is a fault, raised above
    made = TemplateSet(name, version_of(files), boosts, compiled.get(EXPLORATION_FILE))
    return made, {label: sample for label, sample in samples.items() if sample is not None}


def version_of(files: Mapping[str, str]) -> str:
    """Return the version of a template set: a hash (12 hex digits) of its templates, without its samples."""
    templates = sorted(file for file in files if file in GIVEN)
    return blake2b("\x1f".join(f"{file}\x1f{files[file]}" for file in templates).encode(), digest_size=6).hexdigest()


def _compiled(where: str, file: str, text: str, faults: list[Fault]) -> Template | None:
    try:
        tree = _JINJA.parse(text)
        if endless := list(unbounded(tree)):
            faults += [Fault(f"{where}:{line}", what, remedy) for line, what, remedy in endless]
            return None
        if unknown := meta.find_undeclared_variables(tree) - GIVEN[file]:
            lines = {name: _line_of_name(tree, name) or 1 for name in sorted(unknown)}
            can_use = f"this template can use {', '.join(sorted(GIVEN[file]))}"
            faults += [
                Fault(
                    f"{where}:{line}",
                    f"undeclared name `{name}`",
                    " ".join(filter(None, (did_you_mean(name, GIVEN[file]), can_use))),
                )
                for name, line in lines.items()
            ]
            return None
        return _JINJA.from_string(charged(tree))
    except TemplateSyntaxError as error:
        what = error.message or "syntax error"
        faults.append(Fault(f"{where}:{error.lineno}", what, suggested(what, _JINJA)))
    except (TemplateError, SyntaxError, RecursionError, ValueError) as error:
        faults.append(Fault(where, f"cannot be compiled: {error}"))
    return None


def _line_of_name(node: nodes.Node, name: str) -> int:
    """Return the line on which a template first reads a name outside the loops that set it, 0 if it does so nowhere."""
    if isinstance(node, nodes.Name):
        return node.lineno if node.name == name and node.ctx == "load" else 0
    sets_it = isinstance(node, nodes.For) and any(
        one.name == name for one in (node.target, *node.target.find_all(nodes.Name)) if isinstance(one, nodes.Name)
    )
    below = [node.iter] if isinstance(node, nodes.For) and sets_it else node.iter_child_nodes()
    return next((line for one in below if (line := _line_of_name(one, name))), 0)


def _sample(where: str, text: str, faults: list[Fault]) -> Sample | None:
    try:
        return Sample.model_validate(json.loads(text))
    except json.JSONDecodeError as error:
        faults.append(Fault(f"{where}:{error.lineno}", f"is not JSON: {error.msg}"))
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        faults += [_sample_fault(where, text, one["loc"], one["msg"]) for one in found[:MAX_SAMPLE_FAULTS]]
        if (more := len(found) - MAX_SAMPLE_FAULTS) > 0:
            faults.append(Fault(where, f"and {count_of(more, 'more fault')}"))
    except (ValueError, RecursionError) as error:
        faults.append(Fault(where, f"cannot be read: {error}"))
    return None


def _sample_fault(where: str, text: str, keys: tuple[int | str, ...], what: str) -> Fault:
    """Return a fault of a sample, with its line if only one line writes the key."""
    name = next((key for key in reversed(keys) if isinstance(key, str)), "")
    line = only(lines_with(text, json.dumps(name, ensure_ascii=False))) if name else 0
    at = f"{where}:{line}" if line else where
    return Fault(at, ": ".join(filter(None, (".".join(map(str, keys)), what))))


def _tried(
    made: TemplateSet,
    label: str,
    sample: Sample,
    policy: PolicySettings,
    clock_s: Callable[[], float],
    found: SampleFaults,
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
                rendered = render()
                took_s = min(took_s, clock_s() - started_s)
                _sendable(rendered)
                if took_s <= MAX_RENDER_S:
                    break
        except Refused as refused:
            for what in refused.faults:
                found.add(file, 0, label, what, suggested(what, _JINJA))
        except Exception as error:  # noqa: BLE001  whatever a template raises is a fault of the template
            what = f"{type(error).__name__}: {error}"
            found.add(file, _line_of(error), label, what, suggested(what, _JINJA))
        else:
            if took_s > MAX_RENDER_S:
                found.add(file, 0, label, f"took {took_s * 1000:.0f} ms", f"{MAX_RENDER_S * 1000:.0f} ms at most")


def _sendable(rendered: Any) -> None:
    """Raise Refused for clauses that no request can hold: JSON has no infinity, which 1e999 becomes, UTF-8 no half characters."""
    functions, filters = (rendered, ()) if isinstance(rendered, tuple) else (rendered.functions, rendered.filters)
    clauses = [*filters, *((one.filter, one.decay) for one in functions)]
    try:
        json.dumps(clauses, allow_nan=False, ensure_ascii=False).encode()
    except ValueError as error:
        why = "half a character" if isinstance(error, UnicodeError) else "a number that is not finite"
        raise Refused((f"a clause holds {why}, which no server accepts",)) from None


def _line_of(error: BaseException) -> int:
    """Return the template's line of an error: Jinja2 gives a template's frames in a traceback the template's own line numbers."""
    line, trace = 1, error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
