"""What every search of one rewriter shares: the settings, what the background last saw, and the guards.

`snapshot` is immutable and swapped whole by the background refresh; a search reads the attribute once and works with what it got.
The guards are the only other things that change, each behind its own short lock.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

from rewriter.boost.templates import TemplateSet
from rewriter.decide.breaker import Breaker
from rewriter.decide.exposure import Arms
from rewriter.decide.lag import Lag
from rewriter.decide.leg_sizes import LegSizes
from rewriter.decide.pace import Pace
from rewriter.decide.switches import Switches
from rewriter.explore.plan_memory import PlanMemory
from rewriter.explore.pool_cache import PoolCache
from rewriter.index_facts import IndexFacts
from rewriter.settings import Settings
from rewriter.signals.affinities import NOBODY, Population, SignalField, profile_half_lives, signal_fields
from rewriter.signals.counters import Counters, HalfLives
from rewriter.signals.stale import LastKnown
from rewriter.signals.store import Keys, StoreName
from rewriter.snapshot import Write

MAX_REJECTIONS_IN_A_ROW = 10


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the background last saw. `fields` are each policy's signal fields without the dead ones."""

    switches: Switches = field(default_factory=Switches)
    lag: Lag = field(default_factory=Lag)
    population: Population = NOBODY
    segments: Mapping[str, Counters] = field(default_factory=dict)
    facts: Mapping[str, IndexFacts] = field(default_factory=dict)
    templates: Mapping[str, TemplateSet] = field(default_factory=dict)
    fields: Mapping[str, Mapping[str, SignalField]] = field(default_factory=dict)


class Core:
    """The shared part of a rewriter. One per process and rewriter; made anew after a fork.

    stores: those that it has. write: the serializer of the caller's client.
    """

    def __init__(
        self,
        settings: Settings,
        templates: Mapping[str, TemplateSet],
        stores: Iterable[StoreName] = (),
        write: Write = json.dumps,
    ) -> None:
        self._swapping = Lock()
        self.settings = settings
        self.write = write
        self.keys = Keys(settings.store.prefix, settings.store.key_salt.get_secret_value())
        self.profile_half_lives = profile_half_lives(settings.policies.values(), settings.signals)
        self.session_half_lives = HalfLives(settings.signals.session_half_life_s)
        self.breaker = Breaker(settings.breaker)
        late_reads = settings.breaker.late_reads_in_a_row
        self.store_breakers: Mapping[StoreName, Breaker] = {
            name: Breaker(settings.breaker, late_in_a_row=late_reads) for name in stores
        }
        self.arms = Arms()
        self.paces = {name: Pace() for name in settings.policies}
        self.leg_sizes = {name: LegSizes() for name in settings.policies}
        self._rejections: dict[tuple[str, str, str], int] = {}
        self.quarantined: set[tuple[str, str, str]] = set()
        self.last_known = LastKnown(settings.signals)
        self.pools = PoolCache(max_bytes=settings.budget.pool_bytes)
        self.plans = PlanMemory(settings.store)
        fields = {name: signal_fields(policy) for name, policy in settings.policies.items()}
        self.field_names = tuple(sorted({name for named in fields.values() for name in named}))
        self.snapshot = Snapshot(templates=templates, fields=fields)

    def swap(self, **changes: Any) -> None:
        """Put a new snapshot in the place of the old one, with `changes`; the background has two halves that do so."""
        with self._swapping:
            self.snapshot = replace(self.snapshot, **changes)

    def quarantine(self, policy: str, version: str, leg: str) -> None:
        """Stop using a version of a policy's templates for a leg; a new version is a new key and starts afresh."""
        self.quarantined.add((policy, version, leg))

    def rejected(self, policy: str, version: str, leg: str, *, surely: bool) -> None:
        """Note that the server rejected a leg's body: the version is quarantined at once where it is `surely` at fault.

        Where it may be the search that does not bear other hits (an over-long field to highlight), only the tenth rejection in
        a row condemns the template.
        """
        count = self._rejections.get((policy, version, leg), 0) + 1
        self._rejections[policy, version, leg] = count
        if surely or count >= MAX_REJECTIONS_IN_A_ROW:
            self.quarantine(policy, version, leg)

    def accepted(self, policy: str, version: str, leg: str) -> None:
        """Note that the server accepted a leg's body."""
        self._rejections.pop((policy, version, leg), None)
