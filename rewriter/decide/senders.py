"""Senders of refused searches: what searches carry besides their body, and which of it the refused ones share.

A gateway may refuse a leg because of a header of one caller. What is kept about a refusal must not cost other callers anything, so
it holds the same headers and parameters alone. Only where many differ, as with an id for each request, it holds every search that
has what all of the refused ones had.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rewriter.encodings import header_text

Sender = frozenset[int]
"""Hashes of the name of each header and parameter, and of each name with its value. Of this process; never sent or kept."""

MAX_SENDERS = 8
"""So many different senders of refused searches are told apart."""

MAX_PARTS = 32
"""Headers and parameters that are read of each search."""

NOBODY: Sender = frozenset()


def sender_of(headers: Mapping[str, Any], params: Mapping[str, Any]) -> Sender:
    """Return the sender of a search with these headers and parameters for every leg."""
    if not headers and not params:
        return NOBODY
    parts = [("header", header_text(name).lower(), header_text(value)) for name, value in headers.items()]
    parts += [("parameter", name, str(value)) for name, value in params.items()]
    parts = sorted(parts)[:MAX_PARTS]
    return frozenset({hash(part) for part in parts} | {hash(part[:2]) for part in parts})


class RefusedSenders:
    """Those whose searches were refused, at most MAX_SENDERS, and what all of them have in common."""

    __slots__ = ("_common", "_everybody", "_own")

    def __init__(self) -> None:
        self._everybody = False
        self._own: frozenset[int] = frozenset()
        self._common: Sender | None = None

    def add(self, sender: Sender | None) -> None:
        """Note that a search of a sender was refused; None where the sender cannot be the cause."""
        if sender is None:
            self._everybody = True
            return
        self._common = sender if self._common is None else self._common & sender
        if len(self._own) < MAX_SENDERS:
            self._own |= {hash(sender)}

    def holds(self, sender: Sender) -> bool:
        """Whether a search of a sender is expected to be refused, too."""
        if self._everybody or hash(sender) in self._own:
            return True
        return len(self._own) >= MAX_SENDERS and self._common is not None and self._common <= sender
