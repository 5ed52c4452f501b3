"""The check that the extra of a command is installed, before the command does anything."""

from __future__ import annotations

from importlib.util import find_spec

from rewriter.errors import ConfigurationError, Fault


def require_extra(command: str, extra: str, *modules: str) -> None:
    """Raise ConfigurationError that names the extra if one of its modules is missing."""
    missing = [module.replace("_", "-") for module in modules if find_spec(module) is None]
    if missing:
        raise ConfigurationError(
            [Fault(f"rewriter {command}", f"needs {', '.join(missing)}", f"pip install 'rewriter[{extra}]'")]
        )
