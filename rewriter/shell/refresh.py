"""What the background does: reads switches, templates and index facts, and swaps the snapshot; see `population` for the rest.

Four rounds, run apart so that none waits for what holds up another: `local` reads the kill switch and never waits, `templates`
tries templates that changed, which can take seconds, and writes the journal, `words` is what the store says that must be known
within a second (switches, the pipeline's heartbeat), `facts` asks the cluster for index facts (see `index_reader`). The latter two
are generators that ask a shell. A source that fails keeps its last good word, and says so in `status()`; so does a round that
fails as a whole, and comes again.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict
from logging import INFO, WARNING, getLogger
from math import isfinite
from pathlib import Path
from typing import Any

from rewriter.boost.templates import TemplateSet
from rewriter.boost.validation import compile_set, version_of
from rewriter.core import Core
from rewriter.decide.lag import Heartbeat, LastHeartbeat, in_partitions, judge_lag, note_heartbeat
from rewriter.decide.switches import Switches
from rewriter.encodings import decoded
from rewriter.errors import ConfigurationError, Fault
from rewriter.observe.tally import Tally
from rewriter.settings import Settings
from rewriter.shell.index_reader import reader_of
from rewriter.shell.legs import Bulkhead
from rewriter.shell.population import PopulationReader
from rewriter.shell.sources import Call, Sources
from rewriter.shell.status import paused_policies, quarantined, switches_by
from rewriter.shell.switch_sources import SwitchSources

LOCAL_PERIOD_S = 0.25
SWITCHES_PERIOD_S = 0.5
ANNOUNCE_PERIOD_S = 2.0
DROP_FOR_S = 5.0
"""Longer than a search or a read of signals may be under way."""
_UNREAD = object()

_log = getLogger("rewriter")


def fleet_key(prefix: str) -> str:
    """Return the key under which the processes of an installation say how they stand."""
    return f"{prefix}:{{fleet}}"


def packaged_templates() -> Path:
    """Return the folder of the templates that ship: inside an installed package, beside it in a checkout."""
    inside = Path(__file__).parent.parent / "templates"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "templates"


def template_files(folder: Path) -> dict[str, str]:
    """Return the texts of one template set by path within its folder. Raises ConfigurationError."""
    if not folder.is_dir():
        raise ConfigurationError([Fault(str(folder), "is not a folder", "a template set is templates_dir/NAME")])
    files: dict[str, str] = {}
    faults: list[Fault] = []
    for path in sorted([*folder.glob("*.j2"), *folder.glob("samples/*.json")]):
        try:
            files[path.relative_to(folder).as_posix()] = decoded(path.read_bytes())
        except (OSError, UnicodeDecodeError) as error:
            faults.append(Fault(str(path), f"cannot be read: {error}"))
    if faults:
        raise ConfigurationError(faults)
    return files


def load_templates(settings: Settings) -> dict[str, TemplateSet]:
    """Return each policy's templates, compiled and tried. Raises ConfigurationError with the faults of all of them."""
    loaded: dict[str, TemplateSet] = {}
    faults: list[Fault] = []
    if settings.templates_dir is not None and not settings.templates_dir.is_dir():
        remedy = "make it, or leave templates_dir out to use the template sets that ship"
        faults.append(Fault(str(settings.templates_dir), "templates_dir names no folder", remedy))
    for name, policy in settings.policies.items():
        folder = template_folder(settings, policy.templates)
        try:
            loaded[name] = compile_set(policy.templates, template_files(folder), policy, time.perf_counter, str(folder))
        except ConfigurationError as error:
            faults += error.faults
    if faults:
        raise ConfigurationError(faults)
    return loaded


def template_folder(settings: Settings, name: str) -> Path:
    """Return where a template set lies: in the team's own folder, else among those that ship."""
    own = settings.templates_dir / name if settings.templates_dir else None
    return own if own is not None and (own.is_dir() or name != "default") else packaged_templates() / name


def _heartbeat(text: str | None) -> Heartbeat | None:
    """Return the heartbeat in a text. Raises ValueError, TypeError, KeyError or OverflowError for anything else."""
    if not text:
        return None
    said = json.loads(text)
    at_s, lag_s = float(said["at"]), float(said["lag"])
    lags_s = tuple(float(one) for one in said.get("lags", ()))
    if not all(map(isfinite, (at_s, lag_s, *lags_s))):
        raise ValueError("a heartbeat is numbers")
    return Heartbeat(at_s, lag_s, lags_s)


class Refresh:
    """The background work of one rewriter. Each round is called by one thread or task."""

    def __init__(
        self,
        core: Core,
        clock_s: Callable[[], float],
        now_s: Callable[[], float],
        *,
        has_store: bool,
        in_flight: Bulkhead | None = None,
        tally: Tally | None = None,
        switches: SwitchSources | None = None,
    ) -> None:
        self._core = core
        self._in_flight = in_flight
        self._tally = tally or Tally()
        self._has_store = has_store
        self._clock_s = clock_s
        self._now_s = now_s
        self.switches = switches or SwitchSources(core.settings)
        self._announced: Switches | None = None
        self._heard = LastHeartbeat()
        self._forgets: object = _UNREAD
        self._drop_until_s = float("-inf")
        self._answers = True
        self._faults: dict[str, list[Fault]] = {}
        self._tried: dict[str, Mapping[str, str]] = {}
        self._due_s: dict[str, float] = {}
        self._name = f"{socket.gethostname()}:{os.getpid()}:{id(core):x}"
        self._rounds = {"store values": 0, "facts": 0}
        self.population: PopulationReader | None = None
        self.sources = Sources(self._answered)
        self.indices = reader_of(core, clock_s)
        self.lag_changes = 0

    def local(self) -> None:
        """Read the kill-switch file and the environment."""
        self.switches.read_local(os.environ)
        self._swap_switches()

    def templates(self) -> None:
        """Load the templates that changed."""
        for name, policy in self._core.settings.policies.items():
            self._reload(name, policy.templates)
        self.write_journal()

    def write_journal(self) -> None:
        """Write what changed state since the last time into the log: off the searches' threads and off every event loop."""
        for line in self._core.journal.drain(self._clock_s()):
            _log.log(WARNING if line.level == "warning" else INFO, "%s", line.text)

    def store_values(self) -> Generator[Call, Any, None]:
        """Ask the store for switches and heartbeat, and tell the fleet how this process stands."""
        prefix = self._core.settings.store.prefix
        if self._has_store:
            key = f"{prefix}:switches"
            text = yield from self.sources.read("switches", Call("text", (key,)))
            if text is not None:
                self.switches.take_store_value(text, key)
                self._swap_switches()
            beat = yield from self.sources.read("heartbeat", Call("text", (f"{prefix}:heartbeat",)))
            self._judge_lag(beat)
            forgets = yield from self.sources.read("forgets", Call("text", (f"{prefix}:forgets",)))
            if "forgets" not in self.errors:
                self._drop_forgotten(forgets)
            # Whoever changed a switch waits for this process to say that it follows.
            switches = self._core.snapshot.switches
            if len(self._core.searched) and (self._due("announce", ANNOUNCE_PERIOD_S) or switches != self._announced):
                now_s = self._now_s()
                standing = self.standing(now_s)
                yield from self.sources.read(
                    "fleet", Call("announce", (fleet_key(prefix), self._name, standing, now_s))
                )
                if "fleet" not in self.errors:
                    self._announced = switches
        self._rounds["store values"] += 1

    def facts(self) -> Generator[Call, Any, None]:
        """Ask the cluster for index facts, where they are due."""
        yield from self.indices.round()
        self._rounds["facts"] += 1

    @property
    def errors(self) -> dict[str, str]:
        """The sources that failed when they were last read, and the rounds that failed as a whole."""
        return self.sources.errors

    def failed(self, name: str, error: Exception | None) -> None:
        """Note that a round failed as a whole, or that it did not."""
        if error is None:
            self.errors.pop(f"round {name}", None)
        else:
            self.errors[f"round {name}"] = type(error).__name__

    @property
    def asked_store(self) -> bool:
        """Whether switches and heartbeat were asked for once, and the store answered."""
        return bool(self._rounds["store values"]) and not {"switches", "heartbeat"} & self.errors.keys()

    @property
    def read_facts(self) -> bool:
        """Whether the facts of all indices and patterns that policies name are known."""
        return self.indices.knows_own

    @property
    def rounds(self) -> int:
        """How many rounds of the background are through; none while the population was not looked for."""
        return min(self._rounds.values()) if self.population is None or self.population.looks else 0

    @property
    def reasons(self) -> dict[str, int]:
        """How many searches of the last minute ended for which reason."""
        return self._tally.last_minute(self._clock_s())

    def standing(self, now_s: float) -> str:
        """Return, as JSON, what the fleet may know of this process; `fleet` reads it."""
        core, clock_s = self._core, self._clock_s()
        return json.dumps(
            {
                "at": now_s,
                "breaker": asdict(core.breaker.status(clock_s)),
                "store_breakers": {name: asdict(one.status(clock_s)) for name, one in core.store_breakers.items()},
                "switches": switches_by(core.snapshot.switches),
                "lagging": core.snapshot.lag.lagging,
                "quarantined": quarantined(core, clock_s),
                "paused": paused_policies(core, clock_s),
                "in_flight": self._in_flight.count if self._in_flight else 0,
                "max_in_flight": core.settings.budget.max_in_flight,
                "arms": core.arms.status().searches,
                "reasons": self.reasons,
            }
        )

    @property
    def faults(self) -> list[str]:
        """What is wrong with a source now, in words, for `status()`."""
        templates = [fault for faults in list(self._faults.values()) for fault in faults]
        segments = self.population.faults if self.population else []
        return [*(str(fault) for fault in (*self.switches.faults, *templates)), *segments]

    @property
    def notes(self) -> list[str]:
        """What is ignored and no fault, in words, for `status()`."""
        return [f"ignored: {fault}" for fault in self.switches.notes]

    def _swap_switches(self) -> None:
        before = self._core.snapshot.switches
        found = self.switches.combine_sources(before)
        if found != before:
            self._core.swap(switches=found)

    def _reload(self, policy_name: str, templates: str) -> None:
        core = self._core
        folder = template_folder(core.settings, templates)
        key = f"templates of {policy_name}"
        # Compared by content: files that are swapped (a ConfigMap, `cp -p`, an archive) may keep their times and sizes.
        tried = self._tried.pop(key, None)
        try:
            self._tried[key] = files = template_files(folder)
            if tried == files:
                return
            if tried is None and core.snapshot.templates[policy_name].version == version_of(files):
                self._faults.pop(key, None)  # loaded before, or when the rewriter was made
                return
            made = compile_set(templates, files, core.settings.policies[policy_name], time.perf_counter, str(folder))
        except ConfigurationError as error:
            faults = list(error.faults)
            if self._faults.get(key) != faults:
                self._faults[key] = faults
                _log.error("templates of policy %s refused, the last good ones keep serving: %s", policy_name, error)
            return
        self._faults.pop(key, None)
        core.swap(templates={**core.snapshot.templates, policy_name: made})
        core.quarantine.release(policy_name, made.version, self._clock_s())

    def _answered(self, error: Exception | None) -> None:
        """Note in the journal where the store begins or ceases to answer the background."""
        if self._answers is not (error is None):
            self._answers = error is None
            text = "the store answers again" if error is None else f"the store does not answer: {type(error).__name__}"
            self._core.journal.note("the store", text, self._clock_s(), "warning" if error else "info")

    def _drop_forgotten(self, forgets: str | None) -> None:
        """Drop what this process keeps of people once somebody was forgotten, and for a while what searches under way put there."""
        clock_s = self._clock_s()
        if self._forgets is not _UNREAD and forgets != self._forgets:
            self._drop_until_s = clock_s + DROP_FOR_S
        self._forgets = forgets
        if clock_s < self._drop_until_s:
            self._core.plans.clear()
            self._core.last_known.clear()

    def _judge_lag(self, beat: str | None) -> None:
        core = self._core
        if "heartbeat" not in self.errors:  # where the store did not answer, the last heartbeat grows older
            try:
                self._heard = note_heartbeat(self._heard, _heartbeat(beat), self._clock_s(), self._now_s())
            except (ValueError, TypeError, KeyError, OverflowError):
                self.errors["heartbeat"] = "unreadable"
        lag = judge_lag(core.snapshot.lag, self._heard, self._clock_s(), core.settings.signals.max_lag_s)
        before = core.snapshot.lag
        if (lag.lagging, lag.behind) != (before.lagging, before.behind):
            self.lag_changes += 1
            what = "lag" if lag.lagging else "caught up"
            _log.warning("signals %s: %.1f s behind%s", what, lag.seconds or 0.0, in_partitions(lag))
        if lag != core.snapshot.lag:
            core.swap(lag=lag)

    def _due(self, what: str, period_s: float) -> bool:
        now_s = self._clock_s()
        if now_s < self._due_s.get(what, float("-inf")):
            return False
        self._due_s[what] = now_s + period_s
        return True
