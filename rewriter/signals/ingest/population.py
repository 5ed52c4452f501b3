"""Background thread of a worker that builds the packed population and segments; see `population_builder`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from logging import getLogger
from secrets import token_hex
from threading import Event, Thread

from redis.exceptions import RedisError

from rewriter.errors import StoreError
from rewriter.signals.ingest.batch import CountingRules
from rewriter.signals.population_builder import LOOK_EVERY_S, UNMADE_EVERY_S, PopulationBuilder
from rewriter.signals.population_reader import Engine, Stopped
from rewriter.signals.store_failures import described

STOP_S = 2.0

_log = getLogger("rewriter")


@contextmanager
def population_made(profiles: Engine, plan: CountingRules) -> Iterator[None]:
    """Build the population on a background thread while the block runs. Each error is logged once."""
    stopping = Event()
    signals = plan.settings.signals
    maker = PopulationBuilder(
        profiles,
        plan.keys,
        plan.scopes["population"].half_lives,
        role="worker",
        token=token_hex(8),
        max_counters=signals.max_counters,
        ttl_s=signals.profile_ttl_s,
        now_s=time.time,
        wait=stopping.wait,
    )
    thread = Thread(target=_make, args=(maker, stopping), name="rewriter-population", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(STOP_S)


def _make(maker: PopulationBuilder, stopping: Event) -> None:
    trouble = ""
    while not stopping.is_set():
        found, wait_s = "", LOOK_EVERY_S
        try:
            look = maker.reader.look()
            wait_s = LOOK_EVERY_S if look.population else UNMADE_EVERY_S
            if maker.leads(look):
                maker.make(look)
        except Stopped:
            break
        except Exception as error:  # noqa: BLE001  if this thread ended, nobody would build them while the worker runs
            found = f"the population cannot be built: {described(error)}"
        if found and found != trouble:
            _log.error("%s", found)
        trouble = found
        stopping.wait(wait_s)
    with suppress(RedisError, StoreError, OSError):  # then the lease expires
        maker.release()
