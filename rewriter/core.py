"""Core: the state that all searches of one rewriter share, which is the settings, the background's snapshot and the guards.

`snapshot` is immutable; the background refresh replaces it as a whole, and a search reads the attribute once. The guards (breakers,
quarantine, late legs, caches) are the only other state that changes, each behind its own short lock.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

from rewriter.boost.templates import TemplateSet
from rewriter.decide.breaker import Breaker, State
from rewriter.decide.exposure import Arms
from rewriter.decide.guards import Guards
from rewriter.decide.hedging import Hedging
from rewriter.decide.lag import Lag
from rewriter.decide.late_legs import LateLegs
from rewriter.decide.leg_sizes import LegSizes
from rewriter.decide.quarantine import Quarantine
from rewriter.decide.switches import Switches
from rewriter.decide.trial import trials_of
from rewriter.decide.unrewritten import Unrewritten
from rewriter.explore.plan_memory import PlanMemory
from rewriter.explore.pool_cache import PoolCache
from rewriter.expression import Searched
from rewriter.index_facts import IndexFacts
from rewriter.journal import Journal
from rewriter.settings import Settings
from rewriter.signals.affinities import (
    EMPTY_POPULATION,
    Population,
    class_combinations,
    profile_half_lives,
    signal_fields,
)
from rewriter.signals.counters import Counters, HalfLives
from rewriter.signals.kinds.kind import SignalField
from rewriter.signals.query_classes import QueryClasses
from rewriter.signals.stale import LastKnown
from rewriter.signals.store import Keys, StoreName
from rewriter.snapshot import Write

MAX_WANTED_FIELDS = 64
"""Per policy, of fields whose mappings are read besides those of its own."""
PLAIN_NAME = re.compile(r"[A-Za-z0-9_@-]{1,64}")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The results of the latest background refresh.

    facts:      index facts by index expression key.
    unreadable: for expressions whose facts could not be read, the cause in words, by index expression key.
    trials:     the template set on trial by policy, where there is one that could be loaded.
    fields:     each policy's signal fields, without those that are dead on every index that was read.
    fields_on:  the live signal fields on one index expression, by its key.
    """

    switches: Switches = field(default_factory=Switches)
    lag: Lag = field(default_factory=Lag)
    population: Population = EMPTY_POPULATION
    segments: Mapping[str, Counters] = field(default_factory=dict)
    facts: Mapping[str, IndexFacts] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)
    templates: Mapping[str, TemplateSet] = field(default_factory=dict)
    trials: Mapping[str, TemplateSet] = field(default_factory=dict)
    fields: Mapping[str, Mapping[str, SignalField]] = field(default_factory=dict)
    fields_on: Mapping[str, Mapping[str, SignalField]] = field(default_factory=dict)


class Core:
    """The shared state of a rewriter: one per process and rewriter, built anew after a fork.

    stores: names of the configured stores.
    write:  the serializer of the caller's client.
    before: the previous core after a fork; its index facts serve until they are read again.
    """

    def __init__(
        self,
        settings: Settings,
        templates: Mapping[str, TemplateSet],
        stores: Iterable[StoreName] = (),
        write: Write = json.dumps,
        before: Core | None = None,
    ) -> None:
        self._swapping = Lock()
        self.settings = settings
        self.write = write
        self.keys = Keys(settings.store.prefix, settings.store.key_salt.get_secret_value())
        self.profile_half_lives = profile_half_lives(settings.policies.values(), settings.signals)
        self.session_half_lives = HalfLives(settings.signals.session_half_life_s)
        self.journal = Journal()
        self.searched = Searched()
        self.index_reader: object | None = None  # belongs to the shell; all event loops of a process share it
        self.trials = trials_of(settings.policies)
        self.quarantine = Quarantine(self.journal)
        self.breakers = {
            name: Breaker(settings.breaker, on_change=self._noting(f"the optional legs of policy {name}"))
            for name in settings.policies
        }
        late_reads = settings.breaker.late_reads_in_a_row
        self.store_breakers: Mapping[StoreName, Breaker] = {
            name: Breaker(
                settings.breaker, late_in_a_row=late_reads, on_change=self._noting(f"the {name.replace('_', ' ')}")
            )
            for name in stores
        }
        self.arms = Arms()
        self.late_legs = {name: LateLegs() for name in settings.policies}
        self.leg_sizes = {name: LegSizes() for name in settings.policies}
        self.last_known = LastKnown(settings.signals)
        self.hedging = {
            name: Hedging(policy.hedge_share, policy.hedge_ms / 1000.0 if policy.hedge_ms is not None else None)
            for name, policy in settings.policies.items()
            if policy.mode == "rewrite"
        }
        self.guards = Guards(self.breakers, self.arms, self.late_legs, self.hedging)
        self.unrewritten = Unrewritten()
        oldest_s = max((policy.exploration_stale_s for policy in settings.policies.values()), default=0.0)
        self.pools = PoolCache(oldest_s, settings.budget.pool_bytes)
        self.plans = PlanMemory(settings.store)
        self.query_classes = QueryClasses()
        self.wanted_fields: Mapping[str, set[str]] = {name: set() for name in settings.policies}
        fields = {name: signal_fields(policy) for name, policy in settings.policies.items()}
        every = {name: one for named in fields.values() for name, one in named.items()}
        self.class_combinations = class_combinations(every, settings.class_field)
        self.field_names = tuple(sorted({name for named in fields.values() for name in named}))
        self.snapshot = Snapshot(templates=templates, fields=fields)
        if before is not None:
            known = before.snapshot
            self.swap(facts=known.facts, fields=known.fields, fields_on=known.fields_on)

    def swap(self, **changes: Any) -> None:
        """Replace the snapshot by a copy with `changes`. Two background loops call this, hence the lock."""
        with self._swapping:
            self.snapshot = replace(self.snapshot, **changes)

    def want_fields(self, policy: str, names: Iterable[str]) -> None:
        """Have the mappings of these outermost document fields read too: they decide whether a query has a gate.

        Names are the caller's own, so their form and number are bounded.
        """
        wanted = self.wanted_fields[policy]
        for name in names:
            if len(wanted) < MAX_WANTED_FIELDS and PLAIN_NAME.fullmatch(name):
                wanted.add(name)

    def _noting(self, whose: str) -> Callable[[State, str, float], None]:
        """Return the callback that writes one breaker's state changes to the journal."""

        def note(state: State, why: str, now_s: float) -> None:
            text = f"breaker of {whose} opened: {why}" if state == "open" else f"breaker of {whose} closed"
            self.journal.note(f"breaker of {whose}", text, now_s, "warning" if state == "open" else "info")

        return note
