"""The shop of the demo: engines, an index of twelve product types, and the counters of 2,358 households in a store."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import OpenSearchException
from rich.progress import Progress

from rewriter.demo.corpus import DEMO_PRODUCT_TYPES, Corpus, baseline_query, create_index, load
from rewriter.demo.households import Households
from rewriter.demo.launching import launching
from rewriter.demo.names import product_names
from rewriter.errors import RewriterError
from rewriter.report import Reason, Report
from rewriter.settings import Settings
from rewriter.shell.sync import Rewriter
from rewriter.signals.affinities import profile_half_lives, signal_fields
from rewriter.signals.redis_store import RedisStore
from rewriter.signals.store import Keys
from rewriter.subject import Subject

if TYPE_CHECKING:
    from rewriter_engines import Valkey

POLICY = "shop"
Explain = Callable[[Reason], str]
"""Says what a reason means."""
READY_S = 30.0
POLL_S = 0.02
WARM_SEARCHES = 80
WARM_SEED = 2
WARM_S = 20.0
PATIENCE_MS = 10_000
SETTINGS = """\
[opensearch]
hosts = ["{opensearch}"]

[store]
url = "{store}"

[switches]
file = "{switches}"

[budget]
signals_ms = {signals_ms}
cutoff_ms = {cutoff_ms}

[experiment]
holdout = 0

[policies.shop]
index = "products*"
class_field = "product_type"
category_field = "manufacturer"

[policies.shop.fields.manufacturer]
"""
"""The settings of the demo. Without `holdout = 0`, one household in twenty would see the plain page."""


ERRORS = (OpenSearchException,)
"""The errors of the demo's search client."""


class Engine(StrEnum):
    """The search engine of the demo."""

    OSMEM = "osmem"
    OPENSEARCH = "opensearch"


BUDGET_MS = {Engine.OSMEM: (50, 250), Engine.OPENSEARCH: (10, 30)}
"""`signals_ms` and `cutoff_ms`; the library's defaults are 10 and 30. osmem answers plain searches in 8 ms, but three legs at once
keep two cores busy: of 150 personalized pages half came 21 ms after the plain one, and the last 116 ms after it."""


@dataclass(frozen=True, slots=True)
class ShownPage:
    """One search both ways: the plain page and the rewriter's page, with its report and the time of each."""

    plain: list[dict[str, Any]]
    hits: list[dict[str, Any]]
    report: Report
    plain_ms: float
    whole_ms: float

    @property
    def is_plain(self) -> bool:
        """Whether the page has the hits of the plain page, in the same order."""
        return [hit["_id"] for hit in self.hits] == [hit["_id"] for hit in self.plain]


@dataclass(frozen=True, slots=True)
class Shop:
    """The running shop: engines, corpus, households, rewriter."""

    engine: str
    index: str
    corpus: Corpus
    households: Households
    client: OpenSearch
    rewriter: Rewriter
    valkey: Valkey
    signals: RedisStore
    keys: Keys
    switch_file: Path
    names: Mapping[str, str]

    def search(self, words: str, subject: Subject | None) -> ShownPage:
        """Search plainly, then through the rewriter."""
        arguments: dict[str, Any] = {"index": self.index, "body": {"query": baseline_query(words)}}
        started_s = time.perf_counter()
        plain = self.client.search(**arguments)
        between_s = time.perf_counter()
        response, report = self.rewriter.search_details(subject=subject, **arguments)
        ended_s = time.perf_counter()
        return ShownPage(
            plain["hits"]["hits"],
            response["hits"]["hits"],
            report,
            (between_s - started_s) * 1000,
            (ended_s - between_s) * 1000,
        )


@contextmanager
def opened(engine: Engine, progress: Progress) -> Iterator[Shop]:
    """Start the engines and load the shop; close and remove everything at the end.

    Raises LaunchError and CorpusError if something is missing or does not start.
    """
    with launching(), ExitStack() as stack:
        from rewriter_engines import Valkey

        started = progress.add_task("engines", total=2)
        valkey = stack.enter_context(Valkey())
        progress.advance(started)
        url = _url_of(engine, stack)
        client = stack.enter_context(OpenSearch(hosts=[url], timeout=30))
        progress.advance(started)
        corpus = load(DEMO_PRODUCT_TYPES)
        index = f"products-{uuid.uuid4().hex[:8]}"
        stack.callback(client.indices.delete, index=index, ignore_unavailable=True)
        loaded = progress.add_task("products", total=len(corpus.products))
        create_index(
            client, index, corpus.products.values(), on_progress=lambda at: progress.update(loaded, completed=at)
        )
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="rewriter-demo-")))
        toml, switch_file = folder / "rewriter.toml", folder / "switches"
        signals_ms, cutoff_ms = BUDGET_MS[engine]
        targets = {"opensearch": url, "store": valkey.url, "switches": switch_file}
        toml.write_text(SETTINGS.format(**targets, signals_ms=signals_ms, cutoff_ms=cutoff_ms))
        settings = Settings.from_toml(toml)
        households = _households(corpus, settings)
        keys = Keys(settings.store.prefix, settings.store.key_salt.get_secret_value())
        signals = RedisStore(valkey.url)
        stack.callback(signals.close)
        _write(households, signals, keys, settings.signals.kept_counters, progress)
        _warm(client, settings, households, index, progress)
        rewriter = stack.enter_context(Rewriter.from_settings(toml))
        _wait_until_ready(rewriter)
        _wait_until_personalized(rewriter, households, index, progress)
        names = product_names(corpus.products.values())
        name = "osmem-server" if engine is Engine.OSMEM else f"OpenSearch {client.info()['version']['number']}"
        yield Shop(name, index, corpus, households, client, rewriter, valkey, signals, keys, switch_file, names)


def _url_of(engine: Engine, stack: ExitStack) -> str:
    from rewriter_engines import OpenSearchServer, Osmem

    if engine is Engine.OSMEM:
        return stack.enter_context(Osmem()).url
    return os.environ.get("OPENSEARCH_URL") or stack.enter_context(OpenSearchServer()).url


def _households(corpus: Corpus, settings: Settings) -> Households:
    fields = signal_fields(settings.policies[POLICY])
    half_lives = profile_half_lives(settings.policies.values(), settings.signals)
    return Households(corpus, fields, half_lives, time.time())


def _write(households: Households, store: RedisStore, keys: Keys, keep: int, progress: Progress) -> None:
    store.write(keys.population(), households.population(), None)
    for household_id in progress.track(households.ids, description="households"):
        store.write(keys.profile(household_id), households.profile(household_id, keep), None)


def _warm(client: OpenSearch, settings: Settings, households: Households, index: str, progress: Progress) -> None:
    """Warm the engine up with a rewriter of long timeouts: the first searches are slow, and not typical of later ones."""
    patience = settings.budget.model_copy(update={"signals_ms": PATIENCE_MS, "cutoff_ms": PATIENCE_MS})
    with Rewriter(client, settings=settings.model_copy(update={"budget": patience})) as patient:
        _wait_until_ready(patient)
        for visit in progress.track(households.drawn(WARM_SEARCHES, WARM_SEED), description="warming up"):
            body = {"query": baseline_query(visit.words)}
            patient.search(index=index, body=body, subject=Subject(user_id=visit.household_id))


def _wait_until_personalized(rewriter: Rewriter, households: Households, index: str, progress: Progress) -> None:
    """Search with the rewriter's own budgets until a page is personalized, for `WARM_S` at most; pages then show their reason."""
    visit = households.most_loyal(1)[0]
    until_s = time.monotonic() + WARM_S
    task = progress.add_task("first page", total=None)
    while time.monotonic() < until_s:
        body = {"query": baseline_query(visit.words)}
        _, report = rewriter.search_details(index=index, body=body, subject=Subject(user_id=visit.household_id))
        progress.advance(task)
        if report.reason is Reason.PERSONALIZED:
            return
        time.sleep(POLL_S)


def _wait_until_ready(rewriter: Rewriter) -> None:
    if not rewriter.wait_ready(READY_S):
        status = rewriter.status()
        why = ", ".join((*status.missing, *status.problems))
        raise RewriterError(f"the rewriter is not ready after {READY_S:g} s: {why}")
