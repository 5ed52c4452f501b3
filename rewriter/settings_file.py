"""Reader of settings: a TOML file and the environment variables that override it, with every fault located by line or variable."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_settings import EnvSettingsSource

from rewriter.errors import ConfigurationError, Fault
from rewriter.secret import without_credentials
from rewriter.similar import did_you_mean

PREFIX = "REWRITER_"
BETWEEN = "__"
SECRET = frozenset({"hosts", "username", "password", "url", "profile_url", "key_salt", "subjects"})
"""Keys whose values never appear in a fault."""
SECRET_TABLES = {("opensearch",), ("store",)}

_KEY = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
"""One part of a name in TOML."""

Model = TypeVar("Model", bound=BaseModel)


def read_settings(model: type[Model], path: Path | None) -> Model:
    """Return the settings of a TOML file overridden by the environment; with `path` None, those of the environment.

    Raises ConfigurationError with every fault, each with file and line or with the variable's name.
    """
    text = "" if path is None else _text(path)
    data = {} if path is None else _with_absolute_paths(_parsed(path, text), path.parent)
    variables = _Environment(model)()
    faults = list(_misspelled(model, os.environ))
    try:
        found = model.model_validate(_merged(data, variables))
    except ValidationError as error:
        faults += [_fault(model, path, text, variables, one) for one in error.errors()]
        raise ConfigurationError(faults) from None
    if faults:
        raise ConfigurationError(faults)
    return found


def _misspelled(model: type[BaseModel], environment: Collection[str]) -> Iterator[Fault]:
    """Yield a fault for each variable that sets nothing, since one underscore stands where two belong: REWRITER_STORE_URL."""
    for section, field in model.model_fields.items():
        keys = getattr(field.annotation, "model_fields", {})
        wrong = {f"{PREFIX}{section}_{key}".upper(): _variable((section, key)) for key in keys}
        for variable in environment:
            if meant := wrong.get(variable.upper()):
                yield Fault(f"environment {variable}", "sets nothing", f"write {meant}")


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


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except FileNotFoundError as error:
        remedy = "`rewriter init URL INDEX` writes one; or name the one that you have"
        raise ConfigurationError([Fault(str(path), error.strerror or "is missing", remedy)]) from None
    except OSError as error:
        raise ConfigurationError([Fault(str(path), error.strerror or "cannot be read")]) from None
    except UnicodeDecodeError:
        raise ConfigurationError([Fault(str(path), "is not UTF-8")]) from None


def _parsed(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError([Fault(f"{path}:{_line_in(str(error), text)}", f"is not TOML: {error}")]) from None
    except RecursionError:
        raise ConfigurationError([Fault(str(path), "is nested too deep")]) from None


def _merged(data: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
    """Override a file's keys by variables. A variable's name is the key's, with `_` for characters that no variable may contain."""
    merged = dict(data)
    written = {re.sub(r"\W", "_", key).lower(): key for key in data}
    for name, value in variables.items():
        key = written.get(name, name)
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _line_in(message: str, text: str) -> int:
    """Return the line that a TOML error names, or the last line if it names none."""
    found = re.search(r"line (\d+)", message)
    return int(found[1]) if found else len(text.splitlines())


def _with_absolute_paths(data: dict[str, Any], base: Path) -> dict[str, Any]:
    def absolute(table: Any, key: str) -> None:
        if isinstance(table, dict) and isinstance(table.get(key), str):
            table[key] = str(base / table[key])

    absolute(data, "templates_dir")
    absolute(data.get("switches"), "file")
    absolute(data.get("opensearch"), "ca_certs")
    return data


def _fault(model: type[BaseModel], path: Path | None, text: str, variables: dict[str, Any], error: Any) -> Fault:
    is_key = error["loc"][-1:] == ("[key]",)  # the name of a table's key is wrong, not its value
    keys = tuple(str(part) for part in error["loc"][: -1 if is_key else None])
    what = without_credentials(error["msg"].removeprefix("Value error, "))
    where = (
        f"environment {_variable(keys)}" if _sets(variables, keys) or path is None else f"{path}:{line_of(text, keys)}"
    )
    if error["type"] == "extra_forbidden":
        remedies = filter(None, (_meant(model, keys), "`rewriter settings` lists all keys"))
        return Fault(where, f"unknown key {'.'.join(keys)}", " ".join(remedies))
    wrong = "" if error["type"] == "missing" else f", not {_shown(keys, error['input'])}"
    named = ".".join(key if re.fullmatch(r"[\w.-]+", key) else repr(key[:80]) for key in keys)
    return Fault(where, f"{named}: {what}{wrong}")


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


def _shown(keys: tuple[str, ...], given: Any) -> str:
    """Return a wrong value as text; for a secret, a table or a list (which may contain a secret), only its type."""
    if not SECRET.isdisjoint(keys) or keys in SECRET_TABLES or isinstance(given, (dict, list)):
        return f"of type {type(given).__name__}"
    return without_credentials(repr(given))[:80]


def _sets(variables: Any, keys: tuple[str, ...]) -> bool:
    """Whether variables set the value at `keys`, or a table that contains it."""
    for key in keys:
        if not isinstance(variables, dict):
            return True
        found = [name for name in variables if name == re.sub(r"\W", "_", key).lower() or name == key]
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
    table: tuple[str, ...] = ()
    best, best_depth = 1, 0
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(rf"\s*\[+\s*({_KEY}(?:\s*\.\s*{_KEY})*)\s*\]", line):
            path = table = _parts(header[1])
        elif assignment := re.match(rf"\s*({_KEY}(?:\s*\.\s*{_KEY})*)\s*=", line):
            path = table + _parts(assignment[1])
        else:
            continue
        if path == keys[: len(path)] and len(path) > best_depth:
            best, best_depth = number, len(path)
    return best
