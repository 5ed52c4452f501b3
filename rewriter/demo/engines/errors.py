"""What can go wrong with an engine.

RewriterError
└── EngineError             the engine was started and did not come up; the message ends with its log.
    └── EngineUnavailable   this machine cannot run it; the message says what is missing.
"""

from __future__ import annotations

from rewriter.errors import RewriterError


class EngineError(RewriterError):
    """An engine that did not come up, or did not do what it was asked."""


class EngineUnavailable(EngineError):
    """An engine that cannot be had on this machine: nothing was started."""
