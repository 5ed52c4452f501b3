"""Preview of the personal part of a search for a subject of the store, without a call of the cluster."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rewriter.boost.templates import TemplateSet
from rewriter.core import Core
from rewriter.errors import ConfigurationError, Fault, StoreError
from rewriter.flow.personal import prepared
from rewriter.flow.steps import FetchSignals, Personal, Progress, SearchContext
from rewriter.parsed_search import ParsedSearch
from rewriter.settings import Settings
from rewriter.shell.background.population import PopulationReader
from rewriter.shell.background.refresh import Refresh
from rewriter.shell.background.sources import BackgroundStep, ReadTexts
from rewriter.shell.background.store_texts import read_texts
from rewriter.shell.drive import drive
from rewriter.signals.redis_store import open_stores
from rewriter.signals.store import Store, StoreName
from rewriter.subject import Subject


def preview_personal(
    subject: Subject, settings: Settings, policy: str, templates: TemplateSet, search: ParsedSearch
) -> Personal:
    """Prepare the personalized leg as a search does, with the store's present signals and population, and send nothing.

    Raises ConfigurationError without a store, and the store's errors.
    """
    stores = open_stores(*settings.store.plain_urls, connections=2)
    if "store" not in stores:
        raise ConfigurationError([Fault("store.url", "is not set, so no subject is known", "give --sample FILE")])
    core = Core(settings, {policy: templates}, stores)
    refresh = Refresh(core, time.monotonic, time.time, has_store=True)
    drive(refresh.store_values(), lambda step: _background(step, stores["store"]))
    population = PopulationReader(core, stores.get("profile_store", stores["store"]), refresh.errors, lambda: True)
    population.tried()
    population.release()
    if refresh.errors:
        raise StoreError(", ".join(sorted(set(refresh.errors.values()))))
    context = SearchContext(
        core, core.snapshot, search, subject, 0, time.time(), time.monotonic, settings.policies[policy], templates,
        settings.policies[policy].max_boost, block=0, exposure=None,
    )  # fmt: skip
    return drive(prepared(context, Progress()), lambda step: _perform(step, stores))


def _background(step: BackgroundStep, store: Store) -> Any:
    match step:
        case ReadTexts(keys):
            return read_texts(store, keys)
        case _:
            return None  # nothing is announced


def _perform(step: Any, stores: Mapping[StoreName, Store]) -> Any:
    assert isinstance(step, FetchSignals), (
        "preparing a search that is not of a batch reads signals, and does nothing else"
    )
    return [stores[read.store].read(read.query) for read in step.reads]
