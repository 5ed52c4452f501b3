"""`rewriter settings` names every key of rewriter.toml with its meaning, and its schema takes what the settings take."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

import pytest
from typer.testing import CliRunner

from rewriter.cli import app
from rewriter.cli.settings import keys, meanings, reference, schema, sections
from rewriter.settings import Settings
from rewriter.settings_file import read_settings
from tests.pages import ROOT, blocks


def test_every_key_has_one_meaning() -> None:
    assert {section: list(keys(section)) for section in sections()} == {
        section: list(texts) for section, texts in meanings().items()
    }, "add the key, in the settings' order, to rewriter/cli/settings.toml"


def test_every_meaning_is_a_sentence() -> None:
    assert [text for texts in meanings().values() for text in texts.values() if not re.match(r"[A-Z].*\.$", text)] == []


@pytest.mark.parametrize("section", sections())
def test_a_section_is_printed_key_by_key(section: str) -> None:
    shown = CliRunner().invoke(app, ["settings", section])
    assert shown.exit_code == 0
    assert re.findall(r"^(\w+) = ", shown.stdout, re.MULTILINE) == list(keys(section))
    for key in reference(section):
        assert f"    {key.meaning}\n    {key.type}" in shown.stdout


def test_all_sections_are_printed_without_a_name() -> None:
    shown = CliRunner().invoke(app, ["settings"])
    assert shown.exit_code == 0
    assert re.findall(r"^\[(.*)\]$", shown.stdout, re.MULTILINE)[-2:] == [
        "policies.NAME.fields.FIELD",
        "policies.NAME.trial",
    ]


def test_defaults_that_are_printed_are_the_defaults() -> None:
    tables = [name for name in sections() if name not in ("top", "policies", "fields", "trials")]
    shown = "\n".join(
        f"[{name}]\n" + "\n".join(f"{key.name} = {key.default}" for key in reference(name) if key.default != "none")
        for name in tables
    )
    assert Settings.model_validate(tomllib.loads(shown)) == Settings()


@pytest.mark.parametrize(
    ("section", "name", "expected"),
    [
        ("budget", "max_in_flight", ("integer", "16", "at least 1, at most 1,024", "REWRITER_BUDGET__MAX_IN_FLIGHT")),
        ("signals", "on_late", ("string", '"skip"', '"skip", "stale"', "REWRITER_SIGNALS__ON_LATE")),
        ("store", "key_salt", ("string", '""', "", "REWRITER_STORE__KEY_SALT")),
        ("policies", "index", ("list of strings", "required", "at least one", "REWRITER_POLICIES__NAME__INDEX")),
        ("policies", "max_boost", ("number", "1.5", "above 1, at most 10", "REWRITER_POLICIES__NAME__MAX_BOOST")),
        ("top", "templates_dir", ("path", "none", "", "REWRITER_TEMPLATES_DIR")),
    ],
)
def test_keys_in_words(section: str, name: str, expected: tuple[str, ...]) -> None:
    key = next(one for one in reference(section) if one.name == name)
    assert (key.type, key.default, key.range, key.variable) == expected


def test_variables_that_are_printed_set_their_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    key = next(one for one in reference("budget") if one.name == "cutoff_ms")
    monkeypatch.setenv(key.variable, "45")
    assert read_settings(Settings, None).budget.cutoff_ms == 45.0


def test_an_unknown_section_is_refused() -> None:
    shown = CliRunner().invoke(app, ["settings", "stor"])
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert shown.stderr.startswith("stor: is not a section (one of top, opensearch, store, ")


def test_the_schema_describes_every_key_and_is_printed() -> None:
    printed = json.loads(CliRunner().invoke(app, ["settings", "--schema"]).stdout)
    assert printed == json.loads(json.dumps(schema(), default=str))
    assert printed["$schema"].startswith("https://json-schema.org/")
    for section, model in sections().items():
        part = printed if section == "top" else printed["$defs"][model.__name__]
        assert part["additionalProperties"] is False
        assert {name: part["properties"][name]["description"] for name in keys(section)} == meanings()[section]


@pytest.mark.parametrize("block", blocks(ROOT / "docs" / "settings.md", "toml"))
def test_the_schema_takes_the_file_that_the_docs_show(block: str) -> None:
    assert list(faults(tomllib.loads(block), schema(), schema())) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('[policies.a]\nindex = "one"', None),
        ('[policies.a]\nindex = ["one", "two"]', None),
        ("[policies.a]\nindex = []", "policies.a.index"),
        ("[policies.a]\nmax_boost = 2", "policies.a"),
        ('[policies.a]\nindex = "a"\nmax_boost = 1', "policies.a.max_boost"),
        ("[budget]\ncutoff_ms = 0", "budget.cutoff_ms"),
        ("[budget]\ncutof_ms = 1", "budget.cutof_ms"),
        ('[signals]\non_late = "wait"', "signals.on_late"),
    ],
)
def test_the_schema_refuses_what_the_settings_refuse(text: str, fault: str | None) -> None:
    assert list(faults(tomllib.loads(text), schema(), schema())) == ([fault] if fault else [])


def faults(value: Any, node: dict[str, Any], root: dict[str, Any], where: str = "") -> list[str]:
    """Judge a value by the parts of JSON Schema that the settings' schema uses, and return where it is wrong."""
    if "$ref" in node:
        return faults(value, root["$defs"][node["$ref"].rpartition("/")[2]], root, where)
    if "anyOf" in node:
        return [] if any(not faults(value, one, root, where) for one in node["anyOf"]) else [where]
    kinds: dict[str, Any] = {
        "object": dict,
        "array": list,
        "string": str,
        "boolean": bool,
        "number": (int, float),
        "integer": int,
    }
    kind = node.get("type")
    if kind == "null" or (kind and not isinstance(value, kinds[kind])):
        return [where]
    found: list[str] = []
    if isinstance(value, dict):
        known, more = node.get("properties", {}), node.get("additionalProperties", True)
        found += [where for name in node.get("required", ()) if name not in value]
        for name, one in value.items():
            below = f"{where}.{name}".lstrip(".")
            if name in known or isinstance(more, dict):
                found += faults(one, known.get(name, more), root, below)
            elif not more:
                found.append(below)
    elif isinstance(value, list):
        found += [where] if len(value) < node.get("minItems", 0) else []
    elif isinstance(value, str):
        found += [where] if "enum" in node and value not in node["enum"] else []
        found += [where] if not re.search(node.get("pattern", ""), value) else []
    elif not isinstance(value, bool):
        low, above = node.get("minimum", float("-inf")), node.get("exclusiveMinimum", float("-inf"))
        high = node.get("maximum", float("inf"))
        found += [] if low <= value <= high and value > above else [where]
    return found
