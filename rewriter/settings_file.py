"""Reader of settings: a TOML file and the environment variables that override it, with every fault located by line or variable."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import date, time
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_settings import EnvSettingsSource

from rewriter.encodings import decoded
from rewriter.errors import ConfigurationError, Fault
from rewriter.read_file import read_file
from rewriter.secret import without_credentials
from rewriter.similar import did_you_mean
from rewriter.toml_text import quoted

PREFIX = "REWRITER_"
BETWEEN = "__"
SWITCHES = "REWRITER_SWITCH_"
"""Prefix of the variables that `decide.switch_text` reads."""
SECRET = frozenset({"hosts", "username", "password", "url", "profile_url", "key_salt", "subjects"})
"""Keys whose values never appear in a fault."""
SECRET_TABLES = {("opensearch",), ("store",)}
PIPE_S = 10.0
"""Seconds that a pipe has, such as that of `rewriter ingest --toml <(sops -d rewriter.toml)`."""
MAX_BYTES = 4 * 2**20
"""Limit of a settings file: a thousand policies with thirty settings each have about a megabyte."""
MAX_SHOWN = 80
"""Characters of a wrong name or value that a fault shows."""
UNITS = {"_ms": "milliseconds, such as 30", "_s": "seconds, such as 1800", "_bytes": "bytes, such as 65536"}

_KEY = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
"""One part of a name in TOML."""

Model = TypeVar("Model", bound=BaseModel)


def read_settings(model: type[Model], path: Path | None) -> Model:
    """Return the settings of a TOML file overridden by the environment; with `path` None, those of the environment.

    Raises ConfigurationError with every fault, each with file and line or with the variable's name.
    """
    text = "" if path is None else settings_text(path)
    data = {} if path is None else _with_absolute_paths(_parsed(path, text), path.parent)
    variables = _Environment(model)()
    faults = [*_misspelled(model, os.environ), *_ambiguous(data, variables)]
    try:
        found = model.model_validate(_merged(data, variables))
    except ValidationError as error:
        lines = _lines(text)
        faults += [_fault(model, path, lines, variables, one) for one in error.errors()]
        raise ConfigurationError(faults) from None
    if faults:
        raise ConfigurationError(faults)
    return found


def _misspelled(model: type[BaseModel], environment: Collection[str]) -> Iterator[Fault]:
    """Yield a fault for each variable that sets nothing: REWRITER_STORE_URL, with one underscore for two, or of no section."""
    wrong = {
        f"{PREFIX}{section}_{key}".upper(): f"write {_variable((section, key))}"
        for section, field in model.model_fields.items()
        for key in getattr(field.annotation, "model_fields", {})
    }
    for variable in environment:
        if remedy := wrong.get(variable.upper()) or _section_meant(variable.upper(), model.model_fields):
            yield Fault(f"environment {variable}", "sets nothing", remedy)


def _section_meant(variable: str, sections: Collection[str]) -> str:
    """Return "did you mean SECTION?" for a variable of the settings that names no section, else ""."""
    section, between, _ = variable.removeprefix(PREFIX).lower().partition(BETWEEN)
    if not between or section in sections or variable.startswith(SWITCHES) or not variable.startswith(PREFIX):
        return ""
    return did_you_mean(section, sections)


def _ambiguous(data: dict[str, Any], variables: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[Fault]:
    """Yield a fault for each variable that may mean several keys of the file: REWRITER_POLICIES__A_B__… for `a-b` and `a.b`."""
    for name, value in variables.items():
        meant = [key for key in data if _in_variable(key) == name]
        if len(meant) > 1:
            both = " and ".join(".".join((*above, quoted(key))) for key in meant)
            yield Fault(f"environment {_variable((*above, name))}", f"may mean {both}", "set it in the file")
        elif meant and isinstance(value, dict) and isinstance(below := data[meant[0]], dict):
            yield from _ambiguous(below, value, (*above, meant[0]))


class _Environment(EnvSettingsSource):
    """Variables like REWRITER_STORE__URL. A value that is not JSON is read as text, so that a list of one needs no brackets."""

    def __init__(self, model: type[BaseModel]) -> None:
        super().__init__(model, case_sensitive=False, env_prefix=PREFIX, env_nested_delimiter=BETWEEN)  # type: ignore[arg-type]

    def decode_complex_value(self, field_name: str, field: Any, value: Any) -> Any:
        """Return a list, table or text."""
        del field_name, field
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value


def settings_text(path: Path) -> str:
    """Return the text of a settings file, in any of the encodings that editors write. Raises ConfigurationError."""
    try:
        text = decoded(read_file(path, MAX_BYTES, "name the settings file", PIPE_S))
    except FileNotFoundError as error:
        remedy = "`rewriter init URL INDEX` writes one; or name the one that you have"
        raise ConfigurationError([Fault(str(path), error.strerror or "is missing", remedy)]) from None
    except OSError as error:
        raise ConfigurationError([Fault(str(path), error.strerror or "cannot be read")]) from None
    except UnicodeDecodeError:
        raise ConfigurationError([Fault(str(path), "is not UTF-8", "save it in this encoding")]) from None
    except ValueError as error:  # a path with a zero byte
        raise ConfigurationError([Fault(repr(str(path)), f"cannot be read: {error}")]) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _parsed(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        where = f"{path}:{_line_in(str(error), text)}"
        remedy = "KEY = VALUE, with texts in quotes and numbers without a unit"
        raise ConfigurationError([Fault(where, f"is not TOML: {error}", remedy)]) from None
    except RecursionError:
        raise ConfigurationError([Fault(str(path), "is nested too deep")]) from None
    except ValueError:  # of Python's own limit
        raise ConfigurationError([Fault(str(path), "holds a number of thousands of digits")]) from None


def _merged(data: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
    """Override a file's keys by variables. A variable's name is the key's, with `_` for characters that no variable may contain."""
    merged = dict(data)
    written = {_in_variable(key): key for key in data}
    for name, value in variables.items():
        key = written.get(name, name)
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _in_variable(key: str) -> str:
    """Return a key as a variable's name holds it, in lower case."""
    return re.sub(r"\W", "_", key).lower()


def _line_in(message: str, text: str) -> int:
    """Return the line that a TOML error names, or the last line if it names none."""
    found = re.search(r"line (\d+)", message)
    return int(found[1]) if found else len(text.splitlines())


def _with_absolute_paths(data: dict[str, Any], base: Path) -> dict[str, Any]:
    def absolute(table: Any, key: str) -> None:
        if isinstance(table, dict) and isinstance(table.get(key), str) and table[key]:
            table[key] = str(base / table[key])

    absolute(data, "templates_dir")
    absolute(data.get("switches"), "file")
    absolute(data.get("opensearch"), "ca_certs")
    return data


def _fault(model: type[BaseModel], path: Path | None, lines: _Lines, variables: dict[str, Any], error: Any) -> Fault:
    is_key = error["loc"][-1:] == ("[key]",)  # the name of a table's key is wrong, not its value
    keys = tuple(str(part) for part in error["loc"][: -1 if is_key else None])
    what = without_credentials(error["msg"].removeprefix("Value error, "))
    where = f"environment {_variable(keys)}" if _sets(variables, keys) or path is None else f"{path}:{lines.of(keys)}"
    if error["type"] == "extra_forbidden":
        remedies = filter(None, (_meant(model, keys), "`rewriter settings` lists all keys"))
        return Fault(where, f"unknown key {_named(keys)}", " ".join(remedies))
    given = error["input"]
    if is_key or error["type"] == "missing" or (error["type"] == "value_error" and isinstance(given, (dict, list))):
        return Fault(where, f"{_named(keys)}: {what}")  # the text says all
    shown = _shown(keys, given, is_table=error["type"].startswith(("dict", "model")))
    return Fault(where, f"{_named(keys)}: {what}, not {shown}", _of_unit(keys[-1] if keys else "", given))


def _named(keys: tuple[str, ...]) -> str:
    """Return a key as text. It may be anything that a file holds, a URL with a password too."""
    return ".".join(key if re.fullmatch(r"[\w.-]{1,80}", key) else _cut(repr(without_credentials(key))) for key in keys)


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def _of_unit(key: str, given: Any) -> str:
    """Return how a number with a unit is written, if a text was given for one: `cutoff_ms = "30ms"`."""
    unit = next((words for end, words in UNITS.items() if key.endswith(end)), "")
    return f"write the number of {unit}" if unit and isinstance(given, str) else ""


def _meant(model: type[BaseModel], keys: tuple[str, ...]) -> str:
    """Return what an unknown key was probably meant to be: a similar name of its table, or the same name in another table."""
    *table, key = keys
    if close := did_you_mean(key, _keys_at(model, tuple(table))):
        return close
    others = [name for name in model.model_fields if key in _keys_at(model, (name,))]
    return f"did you mean {key} of [{others[0]}]?" if others else ""


def _keys_at(model: type[BaseModel], table: tuple[str, ...]) -> tuple[str, ...]:
    """Return the keys of a table of the settings, () where there is no such table."""
    found: Any = model
    for key in table:
        if get_origin(found) is dict:
            found = get_args(found)[1]
        elif key in (fields := getattr(found, "model_fields", {})):
            found = fields[key].annotation
        else:
            return ()
        if get_origin(found) is not dict:  # of a table that may be left out, its model
            found = next((one for one in get_args(found) if hasattr(one, "model_fields")), found)
    return tuple(getattr(found, "model_fields", ()))


def _shown(keys: tuple[str, ...], given: Any, *, is_table: bool = False) -> str:
    """Return a wrong value as TOML writes it; for a secret, a table or a list (which may contain a secret), only its type.

    is_table: whether a table belongs there. A text in its place may be one, as JSON with a mistake.
    """
    if not SECRET.isdisjoint(keys) or keys in SECRET_TABLES or isinstance(given, (dict, list)):
        return f"of type {type(given).__name__}"
    if is_table and isinstance(given, str):
        return "a text"
    if isinstance(given, (date, time)):  # a time of day, a date, or both
        return given.isoformat()
    return _cut(without_credentials(str(given).lower() if isinstance(given, bool) else repr(given)))


def _sets(variables: Any, keys: tuple[str, ...]) -> bool:
    """Whether variables set the value at `keys`, or a table that contains it."""
    for key in keys:
        if not isinstance(variables, dict):
            return True
        found = [name for name in variables if name in (_in_variable(key), key)]
        if not found:
            return False
        variables = variables[found[0]]
    return True


def _variable(keys: tuple[str, ...]) -> str:
    return PREFIX + BETWEEN.join(re.sub(r"\W", "_", key).upper() for key in keys)


def _parts(name: str) -> tuple[str, ...]:
    """Return the parts of a dotted name; a quoted part may contain dots, blanks and escapes. () if it is none: a line of a text."""
    try:
        found: Any = tomllib.loads(f"{name} = 0")
    except tomllib.TOMLDecodeError:
        return ()
    parts = []
    while isinstance(found, dict):
        ((part, found),) = found.items()
        parts.append(part)
    return tuple(parts)


def line_of(text: str, keys: tuple[str, ...]) -> int:
    """Return the line (from 1) on which TOML `text` sets `keys`, or the nearest table that encloses it."""
    return _lines(text).of(keys)


@dataclass(frozen=True, slots=True)
class _Lines:
    """The lines (from 1) of a TOML text: `own` by the whole name that a line sets, `inner` by the tables that it lies in."""

    own: dict[tuple[str, ...], int]
    inner: dict[tuple[str, ...], int]

    def of(self, keys: tuple[str, ...]) -> int:
        """Return the line that sets `keys`, else the first one within them, else that of the nearest table around them."""
        if line := self.own.get(keys) or self.inner.get(keys):
            return line
        return next((self.own[part] for end in range(len(keys), 0, -1) if (part := keys[:end]) in self.own), 1)


@lru_cache(maxsize=2)
def _lines(text: str) -> _Lines:
    found = _Lines({}, {})
    table: tuple[str, ...] = ()
    inside = ""  # of a text of several lines: its quotes
    for number, line in enumerate(text.split("\n"), 1):
        if inside:
            inside = "" if inside in line else inside
            continue
        if header := re.match(rf"\s*\[+\s*({_KEY}(?:\s*\.\s*{_KEY})*)\s*\]", line):
            path = table = _parts(header[1])
        elif assignment := re.match(rf"\s*({_KEY}(?:\s*\.\s*{_KEY})*)\s*=", line):
            path = table + _parts(assignment[1])
            quotes, rest = (value := line[assignment.end() :].lstrip())[:3], value[3:]
            inside = quotes if quotes in ('"""', "'''") and quotes not in rest else ""
        else:
            continue
        found.own.setdefault(path, number)
        for end in range(1, len(path)):
            found.inner.setdefault(path[:end], number)
    return found
