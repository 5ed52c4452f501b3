"""Personalized search for OpenSearch and Elasticsearch: the caller's own search where signals are late, stale, broken or off."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rewriter.errors import ConfigurationError, RewriterError
    from rewriter.observe.hooks import Hook, SearchDetails
    from rewriter.report import BoostUsed, Reason, Report, Slot
    from rewriter.settings import Settings
    from rewriter.shell.aio import AsyncRewriter
    from rewriter.shell.status import Status
    from rewriter.shell.sync import Rewriter
    from rewriter.subject import Subject
else:
    _MODULES = {
        "AsyncRewriter": "shell.aio",
        "BoostUsed": "report",
        "ConfigurationError": "errors",
        "Hook": "observe.hooks",
        "Reason": "report",
        "Report": "report",
        "Rewriter": "shell.sync",
        "RewriterError": "errors",
        "SearchDetails": "observe.hooks",
        "Settings": "settings",
        "Slot": "report",
        "Status": "shell.status",
        "Subject": "subject",
    }

    def __getattr__(name):  # noqa: ANN001, ANN202  type checkers read the imports above
        """Import a public name when it is first used: `rewriter --help` needs none, and a program one of both shells."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(import_module(f"rewriter.{_MODULES[name]}"), name)
        globals()[name] = found
        return found

    def __dir__():  # noqa: ANN202  as above
        return sorted({*globals(), *__all__})


__all__ = [
    "AsyncRewriter",
    "BoostUsed",
    "ConfigurationError",
    "Hook",
    "Reason",
    "Report",
    "Rewriter",
    "RewriterError",
    "SearchDetails",
    "Settings",
    "Slot",
    "Status",
    "Subject",
]
