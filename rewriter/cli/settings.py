"""`rewriter settings`: print the reference of rewriter.toml, generated from the settings' types, or its JSON Schema."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Annotated, Any

import typer
from pydantic import BaseModel, SecretStr

from rewriter.cli.output import print_json, refused
from rewriter.errors import Fault
from rewriter.settings import FieldSettings, PolicySettings, Settings, TrialSettings
from rewriter.settings_file import BETWEEN, PREFIX

TOP = "top"
TABLES = {
    TOP: "",
    "policies": "policies.NAME",
    "fields": "policies.NAME.fields.FIELD",
    "trials": "policies.NAME.trial",
}
"""The tables of rewriter.toml whose name is not that of their section."""
BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}


@dataclass(frozen=True, slots=True)
class Key:
    """One key of rewriter.toml: table and name, texts on type, default, range and meaning, and its environment variable."""

    table: str
    name: str
    type: str
    default: str
    range: str
    meaning: str
    variable: str


@cache
def meanings() -> dict[str, dict[str, str]]:
    """Return the meaning of each key, by section."""
    return tomllib.loads(files("rewriter.cli").joinpath("settings.toml").read_text("utf-8"))


def sections() -> dict[str, type[BaseModel]]:
    """Return the model of each section, in the order of the reference."""
    own = {name: type(value) for name, value in dict(Settings()).items() if isinstance(value, BaseModel)}
    return {TOP: Settings, **own, "policies": PolicySettings, "fields": FieldSettings, "trials": TrialSettings}


def keys(section: str) -> Iterator[str]:
    """Yield the names of a section's keys. A nested table is a section of its own, not a key."""
    nested = {TOP: {*sections()}, "policies": {"fields", "trial"}}.get(section, set())
    yield from (name for name in sections()[section].model_fields if name not in nested)


def schema() -> dict[str, Any]:
    """Return the JSON Schema of rewriter.toml: types, ranges, defaults and meanings. A lone string may stand for a list of one."""
    whole = Settings.model_json_schema()
    for section, model in sections().items():
        part = whole if section == TOP else whole["$defs"][model.__name__]
        part["description"] = f"[{table_of(section)}]"
        for name in keys(section):
            node = part["properties"][name]
            if node.get("type") == "array":
                least = {"minItems": node.pop("minLength")} if "minLength" in node else {}  # as pydantic writes it
                listed = {"type": node.pop("type"), "items": node.pop("items"), **least}
                node["anyOf"] = [listed, {"type": "string"}]
            node["description"] = meanings()[section][name]
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return head | whole | {"title": "rewriter.toml", "description": "The settings of a rewriter."}


def reference(section: str) -> Iterator[Key]:
    """Yield the keys of a section."""
    model, whole, table = sections()[section], Settings.model_json_schema(), table_of(section)
    part = whole if section == TOP else whole["$defs"][model.__name__]
    for name in keys(section):
        node, info = part["properties"][name], model.model_fields[name]
        default = "required" if info.is_required() else _shown(info.get_default())
        variable = PREFIX + BETWEEN.join([*filter(None, table.split(".")), name]).upper()
        yield Key(table, name, _type(node), default, _range(node), meanings()[section][name], variable)


def table_of(section: str) -> str:
    """Return the name of a section's table in rewriter.toml; "" for the keys above all tables."""
    return TABLES.get(section, section)


def _alternatives(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [one for one in node.get("anyOf", [node]) if one.get("type") != "null"]


def _type(node: Mapping[str, Any]) -> str:
    found = []
    for one in _alternatives(node):
        kind = one.get("type", "string")
        if kind == "array":
            kind = "list of strings"
        elif kind == "object":
            kind = "table of numbers"
        found.append("path" if one.get("format") == "path" else kind)
    return " or ".join(dict.fromkeys(found))


def _range(node: Mapping[str, Any]) -> str:
    parts: list[str] = []
    for one in _alternatives(node):
        parts += [", ".join(map(json.dumps, one["enum"]))] if "enum" in one else []
        parts += [f"{phrase} {one[bound]:,}".removesuffix(".0") for bound, phrase in BOUNDS.items() if bound in one]
        parts += [f"matches {one['pattern']}"] if "pattern" in one else []
        parts += ["at least one"] if one.get("type") == "array" and one.get("minLength") else []
    return ", ".join(parts)


def _shown(default: Any) -> str:
    """Return a default as it is written in TOML, or "none"."""
    if default is None:
        return "none"
    if isinstance(default, SecretStr):
        return '""'
    if isinstance(default, tuple):
        return "[" + ", ".join(json.dumps(str(one)) for one in default) + "]"
    if isinstance(default, dict):
        return "{ " + ", ".join(f"{key} = {_shown(value)}" for key, value in default.items()) + " }"
    return json.dumps(default)


def settings(
    section: Annotated[
        str,
        typer.Argument(
            help="A section, such as store; without it, all of them.", autocompletion=lambda: list(sections())
        ),
    ] = "",
    as_schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of rewriter.toml.")] = False,
) -> None:
    """Print every setting: its type, default and range, what it means, and its environment variable."""
    known = sections()
    if section and section not in known:
        raise refused([Fault(section, "is not a section", f"one of {', '.join(known)}")])
    if as_schema:
        print_json(schema())
        return
    for name in [section] if section else known:
        table = table_of(name)
        typer.echo(f"[{table}]" if table else "# above all tables")
        for key in reference(name):
            limits = f"; {key.range}" if key.range else ""
            typer.echo(f"{key.name} = {key.default}\n    {key.meaning}\n    {key.type}{limits}; {key.variable}")
        typer.echo()
