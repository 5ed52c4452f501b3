"""The part of `rewriter check` and `rewriter status` that looks for the table of neighbours, which `discovery` needs."""

from __future__ import annotations

from redis.exceptions import RedisError

from rewriter.cli.store_check import profile_store
from rewriter.errors import StoreError
from rewriter.settings import Settings
from rewriter.signals.near_table import read_table
from rewriter.signals.store import Keys


def check_neighbours(settings: Settings) -> list[str]:
    """Return a note on each policy with `discovery`, if the store has no table of neighbours.

    A store that does not answer was noted before: then, nothing is known.
    """
    discovering = {name: one.discovery for name, one in settings.policies.items() if one.has_neighbours}
    if not discovering or _has_table(settings) is not False:
        return []
    missing = (
        "but the store has no table of neighbours yet, so it boosts nothing; run `rewriter backfill`, which makes it"
    )
    return [f"policy {name}: discovery is {value:g}, {missing}" for name, value in discovering.items()]


def _has_table(settings: Settings) -> bool | None:
    store = profile_store(settings)
    if isinstance(store, str):
        return None
    keys = Keys(settings.store.prefix, settings.store.key_salt.get_secret_value())
    try:
        return read_table(store, keys) is not None
    except (RedisError, StoreError, OSError):
        return None
    finally:
        store.close()
