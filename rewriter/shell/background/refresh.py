"""The background rounds that read switches, templates and index facts, and swap the snapshot; `population` has its own thread.

Four rounds run separately, so that none waits for another. `local` reads the kill switch and never waits. `templates` compiles and
validates templates that changed, which can take seconds, and writes the journal. `store_values` reads from the store what must be
known within a second: switches and the pipeline's heartbeat. `facts` reads index facts from the cluster (see `index_reader`). The
last two are generators whose calls a shell performs. A source that fails keeps its last good value, and `status()` reports it. A
round that fails as a whole is reported and repeated too.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Generator, Mapping
from logging import INFO, WARNING, getLogger
from math import isfinite
from typing import Any

from redis.exceptions import ResponseError

from rewriter.boost.templates import TemplateSet
from rewriter.boost.validation import compile_set, version_of
from rewriter.core import Core
from rewriter.decide.lag import Heartbeat, LastHeartbeat, in_partitions, judge_lag, note_heartbeat
from rewriter.decide.switches import Switches
from rewriter.errors import ConfigurationError, Fault
from rewriter.observe.tally import Tally
from rewriter.shell.background.index_reader import reader_of
from rewriter.shell.background.population import PopulationReader
from rewriter.shell.background.sources import Announce, BackgroundStep, Sources
from rewriter.shell.background.switch_sources import SwitchSources
from rewriter.shell.bulkhead import Bulkhead
from rewriter.shell.fleet import fleet_key, report_of
from rewriter.shell.template_files import own_folder, template_files, template_folder
from rewriter.signals.store_failures import described, failure_of

LOCAL_PERIOD_S = 0.25
SWITCHES_PERIOD_S = 0.5
ANNOUNCE_PERIOD_S = 2.0
DROP_FOR_S = 5.0
"""How long memory is dropped after an erasure: longer than a search or a read of signals may be under way."""
_UNREAD = object()
TRIAL = "trial of "
"""Begins the keys of drafts on trial, among those of template sets."""

_log = getLogger("rewriter")


def _heartbeat(text: str | None) -> Heartbeat | None:
    """Return the heartbeat in a JSON text. For anything else it raises one of the errors that its caller catches."""
    if not text:
        return None
    beat = json.loads(text)
    at_s, lag_s = float(beat["at"]), float(beat["lag"])
    lags_s = tuple(float(one) for one in beat.get("lags", ()))
    if not all(map(isfinite, (at_s, lag_s, *lags_s))):
        raise ValueError("a heartbeat is numbers")
    return Heartbeat(at_s, lag_s, lags_s)


class Refresh:
    """The background work of one rewriter. One thread or task calls each round.

    clock_s is monotonic, now_s is wall time.
    """

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
        self._heartbeat = LastHeartbeat()
        self._forgets: object = _UNREAD
        self._drop_until_s = float("-inf")
        self._store_fails = ""
        self._faults: dict[str, list[Fault]] = {}
        self._tried: dict[str, Mapping[str, str]] = {}
        self._own_templates = {
            policy.templates
            for policy in core.settings.policies.values()
            if template_folder(core.settings, policy.templates) == own_folder(core.settings, policy.templates)
        }
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
        """Load the templates that changed, and write the journal. An error with one set is raised after the others were loaded."""
        policies = self._core.settings.policies
        sets = [(name, policy.templates, False) for name, policy in policies.items()]
        sets += [(name, policy.trial.version, True) for name, policy in policies.items() if policy.trial is not None]
        wrong: Exception | None = None
        for name, templates, trial in sets:
            try:
                self._reload(name, templates, trial=trial)
            except Exception as error:  # noqa: BLE001  raised below
                wrong = error
        self.write_journal()
        if wrong is not None:
            raise wrong

    def write_journal(self) -> None:
        """Write the journal's new lines into the log. Called neither on a search's thread nor on an event loop."""
        for line in self._core.journal.drain(self._clock_s()):
            _log.log(WARNING if line.level == "warning" else INFO, "%s", line.text)

    def store_values(self) -> Generator[BackgroundStep, Any, None]:
        """Read switches, heartbeat and erasures from the store, and write this process's report for the fleet."""
        prefix = self._core.settings.store.prefix
        if self._has_store:
            keys = {name: f"{prefix}:{name}" for name in ("switches", "heartbeat", "forgets")}
            texts = yield from self.sources.read_texts(keys)
            if (text := texts["switches"]) is not None:
                self.switches.take_store_value(text, keys["switches"])
                self._swap_switches()
            self._judge_lag(texts["heartbeat"])
            if "forgets" not in self.errors:
                self._drop_forgotten(texts["forgets"])
            # `rewriter switch` waits until this process's report holds the new value, so a change is reported at once.
            switches = self._core.snapshot.switches
            if len(self._core.searched) and (self._due("announce", ANNOUNCE_PERIOD_S) or switches != self._announced):
                now_s = self._now_s()
                report = self.report(now_s)
                yield from self.sources.read("fleet", Announce(fleet_key(prefix), self._name, report, now_s))
                if "fleet" not in self.errors:
                    self._announced = switches
        self._rounds["store values"] += 1

    def facts(self) -> Generator[BackgroundStep, Any, None]:
        """Read the index facts that are due from the cluster."""
        yield from self.indices.round()
        self._rounds["facts"] += 1

    @property
    def errors(self) -> dict[str, str]:
        """By source whose last read failed, and by round that failed as a whole (`round NAME`): the error as text."""
        return self.sources.errors

    def failed(self, name: str, error: Exception | None, why: str = "") -> None:
        """Note that a round failed as a whole with `error`, or that it succeeded (None).

        why: the cause in words, for `status()`; by default the error's class, since its text may hold an identifier.
        """
        if error is None:
            self.errors.pop(f"round {name}", None)
        else:
            self.errors[f"round {name}"] = why or type(error).__name__

    @property
    def has_read_store(self) -> bool:
        """Whether switches and heartbeat were read from the store at least once, and the last read succeeded."""
        return bool(self._rounds["store values"]) and not {"switches", "heartbeat"} & self.errors.keys()

    @property
    def read_facts(self) -> bool:
        """Whether the facts of all indices and patterns that policies name were read."""
        return self.indices.knows_own

    @property
    def rounds(self) -> int:
        """How often store and cluster were read in the background; 0 until the population was read once too."""
        return min(self._rounds.values()) if self.population is None or self.population.looks else 0

    @property
    def reasons(self) -> dict[str, int]:
        """The number of searches of the last minute by reason."""
        return self._tally.last_minute(self._clock_s())

    def report(self, now_s: float) -> str:
        """Return the report of this process for the fleet, as JSON."""
        in_flight = self._in_flight.count if self._in_flight else 0
        return report_of(self._core, in_flight, self.reasons, now_s, self._clock_s())

    @property
    def faults(self) -> list[str]:
        """Texts on the present faults of switches, templates and segments, for `status()`."""
        templates = self._template_faults(trials=False)
        segments = self.population.faults if self.population else []
        return [*(str(fault) for fault in (*self.switches.faults, *templates)), *segments]

    @property
    def notes(self) -> list[str]:
        """Texts on switches that are ignored, and on drafts that cannot be loaded: no fault of the service, for `status()`."""
        trials = [f"on trial, not loaded: {fault}" for fault in self._template_faults(trials=True)]
        return [*(f"ignored: {fault}" for fault in self.switches.notes), *trials]

    def _template_faults(self, *, trials: bool) -> list[Fault]:
        loaded = list(self._faults.items())
        return [fault for key, faults in loaded if key.startswith(TRIAL) is trials for fault in faults]

    def _swap_switches(self) -> None:
        before = self._core.snapshot.switches
        found = self.switches.combine_sources(before)
        if found != before:
            self._core.swap(switches=found)

    def _reload(self, policy_name: str, templates: str, *, trial: bool = False) -> None:
        """Load a policy's live template set, or the one on trial, if its files have changed. One with faults is not loaded."""
        core = self._core
        folder = template_folder(core.settings, templates)
        if folder == own_folder(core.settings, templates):
            self._own_templates.add(templates)
        elif templates in self._own_templates:  # it is away for the moment, and was never meant to be the packaged one
            folder = own_folder(core.settings, templates) or folder
        key = f"{TRIAL if trial else 'templates of '}{policy_name}"
        used: dict[bool, Mapping[str, TemplateSet]] = {False: core.snapshot.templates, True: core.snapshot.trials}
        now = used[trial].get(policy_name)
        # Contents are compared: files that are replaced (a ConfigMap, `cp -p`, an archive) may keep their times and sizes.
        tried = self._tried.pop(key, None)
        try:
            self._tried[key] = files = template_files(folder)
            if tried == files:
                return
            if tried is None and now is not None and now.version == version_of(files):
                self._faults.pop(key, None)  # this version is in use already
                return
            made = compile_set(templates, files, core.settings.policies[policy_name], time.perf_counter, str(folder))
        except ConfigurationError as error:
            faults = list(error.faults)
            if self._faults.get(key) != faults:
                self._faults[key] = faults
                serving = (
                    "the live version serves its subjects"
                    if trial and now is None
                    else "the last good ones keep serving"
                )
                _log.error(
                    "%s (policy %s) refused, %s: %s", "trial" if trial else "templates", policy_name, serving, error
                )
            return
        self._faults.pop(key, None)
        core.swap(**{"trials" if trial else "templates": {**used[trial], policy_name: made}})
        other = used[not trial].get(policy_name)
        kept = () if other is None else (other.version,)
        core.quarantine.release(policy_name, made.version, self._clock_s(), kept)

    def _answered(self, error: Exception | None) -> None:
        """Note in the journal when the store stops answering the background's reads or refuses them, and when it answers again."""
        fails = ""
        if error is not None:
            answers = isinstance(error, ResponseError) or failure_of(error).is_lasting
            fails = "refuses a command" if answers else "does not answer"
        if fails != self._store_fails:
            self._store_fails = fails
            text = (
                "the store answers again" if error is None else f"the store {fails}: {described(error, quotes=False)}"
            )
            self._core.journal.note("the store", text, self._clock_s(), "warning" if error else "info")

    def _drop_forgotten(self, forgets: str | None) -> None:
        """Drop the memory of plans and signals after an erasure, and repeat it for `DROP_FOR_S`: searches under way add to it."""
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
                self._heartbeat = note_heartbeat(self._heartbeat, _heartbeat(beat), self._clock_s(), self._now_s())
            except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
                self.errors["heartbeat"] = "unreadable"
        lag = judge_lag(core.snapshot.lag, self._heartbeat, self._clock_s(), core.settings.signals.max_lag_s)
        before = core.snapshot.lag
        if (lag.lagging, lag.behind) != (before.lagging, before.behind):
            self.lag_changes += 1
            text = f"signals {'lag' if lag.lagging else 'caught up'}: {lag.seconds or 0.0:.1f} s behind{in_partitions(lag)}"
            # Not into the log from here: this may run on an event loop, and partitions may flap.
            core.journal.note("the signals", text, self._clock_s())
        if lag != core.snapshot.lag:
            core.swap(lag=lag)

    def _due(self, what: str, period_s: float) -> bool:
        now_s = self._clock_s()
        if now_s < self._due_s.get(what, float("-inf")):
            return False
        self._due_s[what] = now_s + period_s
        return True
