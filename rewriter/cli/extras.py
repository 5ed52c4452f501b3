"""The fault of a command whose extra is not installed: found before the command does anything, or as it imports the extra."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from rewriter.errors import ConfigurationError, Fault


def require_extra(command: str, extra: str, *modules: str) -> None:
    """Raise ConfigurationError that names the extra if one of its modules is missing."""
    missing = [module.replace("_", "-") for module in modules if find_spec(module) is None]
    if missing:
        raise _without(command, extra, ", ".join(missing))


@contextmanager
def of_extra(command: str, extra: str) -> Iterator[None]:
    """Raise ConfigurationError that names the extra if a module that is imported in this block is missing."""
    try:
        yield
    except ImportError as error:
        raise _without(command, extra, f"{error.name}") from None


def _without(command: str, extra: str, modules: str) -> ConfigurationError:
    return ConfigurationError([Fault(f"rewriter {command}", f"needs {modules}", f"pip install 'rewriter[{extra}]'")])
