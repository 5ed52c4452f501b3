"""A proposed change of a settings file as a unified diff. Pure: nothing is edited.

Values are replaced in their lines, or added after their table's header, so that comments stay. The result is parsed again: unless
it holds exactly the proposed values, there is no diff, and the values are printed as a table.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from difflib import unified_diff

from rewriter.evaluate.space import NOTHING_ADDED
from rewriter.toml_text import toml_key


def proposed(
    text: str, policy: str, settings: Mapping[str, float], path: str, added: Mapping[str, Sequence[str]] = NOTHING_ADDED
) -> str | None:
    """Return the diff that gives a policy these settings, or None if the file's form does not allow it.

    added: the document fields of signal fields that the policy does not have yet, by their names; each gets a table.
    """
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    for name, of in added.items():
        if f"fields.{name}.scale" in settings and not _added(lines, policy, name, of):
            return None
    for name, value in settings.items():
        table, _, key = f"policies.{policy}.{name}".rpartition(".")
        if not _placed(lines, table, key, value):
            return None
    after = "".join(lines)
    return (
        "".join(unified_diff(text.splitlines(keepends=True), lines, path, path))
        if _holds(after, policy, settings, added)
        else None
    )


def as_table(policy: str, settings: Mapping[str, float], added: Mapping[str, Sequence[str]] = NOTHING_ADDED) -> str:
    """Return the settings as TOML with whole names."""
    new = [
        f"policies.{policy}.fields.{name}.of = {json.dumps(list(of))}\n"
        for name, of in added.items()
        if f"fields.{name}.scale" in settings
    ]
    return "".join([*new, *(f"policies.{policy}.{name} = {_number(value)}\n" for name, value in settings.items())])


def _added(lines: list[str], policy: str, name: str, of: Sequence[str]) -> bool:
    """Insert the table of a new signal field behind the policy's last table."""
    headers = [(at, found) for at, line in enumerate(lines) if (found := _header(line)) is not None]
    own = f"policies.{policy}"
    last = next(
        (number for number in reversed(range(len(headers))) if f"{headers[number][1]}.".startswith(f"{own}.")), None
    )
    if last is None:
        return False
    end = headers[last + 1][0] if last + 1 < len(headers) else len(lines)
    start = headers[last][0] + 1
    while end > start and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
        end -= 1  # comments above the next table belong to it
    lines[end:end] = [
        "\n",
        f"[policies.{toml_key(policy)}.fields.{toml_key(name)}]\n",
        f"of = {json.dumps(list(of))}\n",
    ]
    return True


def _placed(lines: list[str], table: str, key: str, value: float) -> bool:
    start = next((at for at, line in enumerate(lines) if _header(line) == table), None)
    if start is None:
        return False
    end = next((at for at in range(start + 1, len(lines)) if _header(lines[at]) is not None), len(lines))
    for at in range(start + 1, end):
        if found := re.match(rf"(\s*{re.escape(key)}\s*=\s*)[^#\n]*?(\s*(?:#.*)?)$", lines[at].rstrip("\n")):
            lines[at] = f"{found[1]}{_number(value)}{found[2]}\n"
            return True
    lines.insert(start + 1, f"{key} = {_number(value)}\n")
    return True


def _header(line: str) -> str | None:
    found = re.match(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(?:#.*)?$", line.rstrip("\n"))
    return re.sub(r"[\s\"']", "", found[1]) if found else None


def _holds(text: str, policy: str, settings: Mapping[str, float], added: Mapping[str, Sequence[str]]) -> bool:
    try:
        table = tomllib.loads(text)["policies"][policy]
        used = {name: of for name, of in added.items() if f"fields.{name}.scale" in settings}
        if any(table["fields"][name]["of"] != list(of) for name, of in used.items()):
            return False
        for name, value in settings.items():
            *path, key = name.split(".")
            part = table
            for one in path:
                part = part[one]
            if part[key] != value and float(f"{part[key]:g}") != float(f"{_number(value)}"):
                return False
    except (tomllib.TOMLDecodeError, KeyError, TypeError):
        return False
    return True


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:.6g}"
