"""Parsing of a large answer on the event loop in pieces, by hit or by a batch's response, so that other tasks run in between.

`json.loads` of 1 MB takes 4 ms and more, and holds the interpreter's lock on any thread. The text is cut where a hit may begin.
Each piece must be a JSON value by itself, and the text before the first must open the list `hits.hits`: then the result equals
that of parsing the whole text. Otherwise the answer is not read in pieces.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

FROM_CHARS = 64 * 2**10
"""The length from which a text is read in pieces, and the length of text between two pauses: it takes about 0.25 ms to parse."""

_HIT = re.compile(r'\{"_index":')
_MARK = "rewriter"
_END = "]}}"
_RESPONSE = re.compile(r'\{"(?:took|error)":')
_RESPONSES = '"responses":['


class Parsed:
    """An answer that was parsed in pieces, on its way through the client's own deserializer, which must not parse it again."""

    __slots__ = ("answer",)

    def __init__(self, answer: Any) -> None:
        self.answer = answer


async def read_in_pieces(text: str, loads: Callable[[str], Any]) -> Any:
    """Return what `loads(text)` returns for the answer to a search or a batch, or None where it cannot be read in pieces."""
    head = text.find(_RESPONSES, 0, 100)
    return await (_hits(text, loads) if head < 0 else _responses(text, head + len(_RESPONSES), loads))


async def _responses(text: str, begin: int, loads: Callable[[str], Any]) -> Any:
    """Read a batch response by response. begin: where the first one starts."""
    starts = [found.start() for found in _RESPONSE.finditer(text, begin)]
    if not starts or starts[0] != begin or not text.endswith("]}"):
        return None
    try:
        answer = loads(f"{text[:begin]}]}}")
        return answer if await _filled(answer["responses"], text, starts, len(text) - 2, loads) else None
    except Exception:  # noqa: BLE001  as below
        return None


async def _hits(text: str, loads: Callable[[str], Any]) -> Any:
    """Read one search's answer hit by hit."""
    starts = [found.start() for found in _HIT.finditer(text)]
    if not starts or not text.endswith(_END):
        return None
    try:
        answer = loads(f'{text[: starts[0]]}"{_MARK}"{_END}')
        hits = answer["hits"]["hits"]
        if hits != [_MARK]:
            return None
        hits.clear()
        return answer if await _filled(hits, text, starts, len(text) - len(_END), loads) else None
    except Exception:  # noqa: BLE001  the client then parses the whole text and raises the proper error
        return None


async def _filled(values: list[Any], text: str, starts: list[int], end: int, loads: Callable[[str], Any]) -> bool:
    """Append the values that begin at `starts`, the last of which ends at `end`. Returns False if no comma parts two of them."""
    since = 0
    for start, stop in zip(starts, [*(one - 1 for one in starts[1:]), end], strict=True):
        if stop != end and text[stop] != ",":
            return False
        values.append(loads(text[start:stop]))
        since += stop - start
        if since >= FROM_CHARS:
            since = 0
            await asyncio.sleep(0)
    return True
