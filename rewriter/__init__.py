"""Personalised search for OpenSearch that steps aside whenever its signals are late, stale, broken or switched off."""

from rewriter.errors import ConfigurationError, RewriterError
from rewriter.observe.hooks import SearchDetails
from rewriter.report import Reason, Report
from rewriter.settings import Settings
from rewriter.shell.aio import AsyncRewriter
from rewriter.shell.sync import Rewriter
from rewriter.subject import Subject

__all__ = [
    "AsyncRewriter",
    "ConfigurationError",
    "Reason",
    "Report",
    "Rewriter",
    "RewriterError",
    "SearchDetails",
    "Settings",
    "Subject",
]
