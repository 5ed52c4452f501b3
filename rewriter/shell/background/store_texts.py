"""Texts of several keys of a store, read in one round trip; a key that cannot be read does not hide the others.

In a cluster each key is read by itself: redis-py fails a whole pipeline if one of its nodes is away, and the switches are to be
read while the node of the heartbeat is.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from rewriter.shell.drive import drive, drive_async
from rewriter.signals.commands import Command, text_command, text_in
from rewriter.signals.store import AsyncStore, Store

Text = str | None | Exception
"""The text of a key, None without one, or the error of its read."""


def read_texts(store: Store, keys: Sequence[str]) -> list[Text]:
    """Return the text of each key. Raises the store's exception if none could be read."""
    return drive(_texts(keys, alone=getattr(store, "is_cluster", False)), store.run)


async def read_texts_async(store: AsyncStore, keys: Sequence[str]) -> list[Text]:
    """See read_texts."""
    return await drive_async(_texts(keys, alone=getattr(store, "is_cluster", False)), store.run)


def _texts(keys: Sequence[str], *, alone: bool) -> Generator[list[Command], list[Any], list[Text]]:
    """Read keys in one round trip, or each alone; yields the commands of a round trip, and is sent their replies."""
    found: list[Text] = []
    for together in ([key] for key in keys) if alone else (keys,):
        try:
            replies = yield [text_command(key) for key in together]
        except Exception as error:
            if not alone:
                raise
            replies = [error]  # of this key alone
        found += [reply if isinstance(reply, Exception) else text_in(reply) for reply in replies]
    return found
