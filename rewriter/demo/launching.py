"""Use of the launchers of engines, which are a package of their own: `rewriter-engines`, the extra `engines`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rewriter.errors import RewriterError


class LaunchError(RewriterError):
    """The launchers are not installed, or an engine did not start; the message says what to do."""


@contextmanager
def launching() -> Iterator[None]:
    """Around whatever imports and uses `rewriter_engines`. Raises LaunchError if it is missing, and for errors of engines."""
    try:
        from rewriter_engines import EngineError
    except ImportError:
        raise LaunchError("rewriter-engines is not installed: pip install 'rewriter[engines]'") from None
    try:
        yield
    except EngineError as error:
        raise LaunchError(str(error)) from None
