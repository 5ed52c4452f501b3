"""Personalized search for OpenSearch and Elasticsearch: the caller's own search where signals are late, stale, broken or off."""

import sys

try:
    from rewriter.errors import ConfigurationError, RewriterError
    from rewriter.observe.hooks import Hook, SearchDetails
    from rewriter.report import BoostUsed, Reason, Report, Slot
    from rewriter.settings import Settings
    from rewriter.shell.aio import AsyncRewriter
    from rewriter.shell.status import Status
    from rewriter.shell.sync import Rewriter
    from rewriter.subject import Subject
except KeyboardInterrupt:
    # `python -m rewriter` imports the package before any code of the command runs. It ends as `rewriter_command` ends.
    if sys.argv[:1] != ["-m"]:
        raise
    sys.exit(2)

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
