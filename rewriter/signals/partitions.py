"""The number of partitions, as the store holds it. Pure."""

from __future__ import annotations

import re

from rewriter.errors import StoreError

MAX_PARTITIONS = 4_096


def partition_count(key: str, reply: object) -> int:
    """Return the number of partitions in the reply to a GET of `key`. Raises StoreError for any other value."""
    if isinstance(reply, Exception):
        raise StoreError(f"{key} cannot be read: {type(reply).__name__}")
    text = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else str(reply)
    if re.fullmatch("[1-9][0-9]{0,3}", text) and int(text) <= MAX_PARTITIONS:
        return int(text)
    what = f"{key} holds {text[:20]!r}, not a number from 1 to {MAX_PARTITIONS:,}"
    raise StoreError(f"{what}: set it to the number of streams")
