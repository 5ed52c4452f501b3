"""Texts of several keys of a store, read in one round trip; a key that cannot be read does not hide the others.

In a cluster each key is read by itself: redis-py fails a whole pipeline if one of its nodes is away, and the switches are to be
read while the node of the heartbeat is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rewriter.signals.commands import text_command, text_in
from rewriter.signals.store import AsyncStore, Store

Text = str | None | Exception
"""The text of a key, None without one, or the error of its read."""


def read_texts(store: Store, keys: Sequence[str]) -> list[Text]:
    """Return the text of each key. Raises the store's exception if none could be read."""
    if not getattr(store, "is_cluster", False):
        return _texts_in(store.run([text_command(key) for key in keys]))
    found: list[Text] = []
    for key in keys:
        try:
            found.append(store.read_text(key))
        except Exception as error:  # noqa: BLE001  of this key alone
            found.append(error)
    return found


async def read_texts_async(store: AsyncStore, keys: Sequence[str]) -> list[Text]:
    """See read_texts."""
    if not getattr(store, "is_cluster", False):
        return _texts_in(await store.run([text_command(key) for key in keys]))
    found: list[Text] = []
    for key in keys:
        try:
            found.append(await store.read_text(key))
        except Exception as error:  # noqa: BLE001  of this key alone
            found.append(error)
    return found


def _texts_in(replies: Sequence[Any]) -> list[Text]:
    return [reply if isinstance(reply, Exception) else text_in(reply) for reply in replies]
