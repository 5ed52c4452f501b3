"""Errors of engines.

EngineError             the engine was started and did not answer in time; the message ends with its log.
└── EngineUnavailable   this machine cannot run it; the message names what is missing.
"""

from __future__ import annotations


class EngineError(Exception):
    """An engine did not start, or a call of it failed."""


class EngineUnavailable(EngineError):
    """An engine cannot run on this machine: nothing was started."""
