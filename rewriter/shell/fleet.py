"""The fleet's reports: each process that searches writes one into the store, and parses those of the others.

Anybody may write into the store, so reports are not trusted. A part that cannot be read is left out alone. Texts for people hold no
control characters and at most one line.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rewriter.core import Core
from rewriter.decide.breaker import worst_of
from rewriter.decide.quarantine import in_words
from rewriter.decide.switches import Switches, SwitchValue

MAX_LEVELS = 5
MAX_CHARACTERS = 200
MAX_COUNT = 10**15


def fleet_key(prefix: str) -> str:
    """Return the key under which the processes of an installation write their reports."""
    return f"{prefix}:{{fleet}}"


@dataclass(frozen=True, slots=True)
class ProcessReport:
    """One process's report.

    breakers: state and cause by name: `breaker` (the optional legs'), `breaker of the store`.
    switches: None if the report holds none that can be read.
    """

    name: str
    breakers: Mapping[str, str] = field(default_factory=dict)
    switches: Switches | None = None
    lagging: bool = False
    quarantined: tuple[str, ...] = ()
    paused: tuple[str, ...] = ()
    in_flight: int = 0
    max_in_flight: int = 0
    arms: Mapping[str, int] = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)

    @property
    def problems(self) -> list[str]:
        """The problems in it, as texts."""
        broken = [f"{name} {state}" for name, state in self.breakers.items() if state != "closed"]
        return [*broken, *self.remarks]

    @property
    def remarks(self) -> list[str]:
        """The problems in it other than its breakers, as texts."""
        return [
            *(["signals lag"] if self.lagging else []),
            *(f"template {one} is quarantined" for one in self.quarantined),
            *(f"policy {name} is paused: its legs or its rewritten searches come too late" for name in self.paused),
        ]


def report_of(core: Core, in_flight: int, reasons: Mapping[str, int], now_s: float, clock_s: float) -> str:
    """Return the report of this process as JSON, in the form that `parse_report` and `process_of` read.

    reasons: searches of the last minute by reason; now_s: seconds since the epoch; clock_s: monotonic seconds.
    """
    return json.dumps(
        {
            "at": now_s,
            "breaker": asdict(worst_of(one.status(clock_s) for one in core.breakers.values())),
            "store_breakers": {name: asdict(one.status(clock_s)) for name, one in core.store_breakers.items()},
            "switches": switches_by(core.snapshot.switches),
            "lagging": core.snapshot.lag.lagging,
            "quarantined": quarantined(core, clock_s),
            "paused": list(paused_policies(core, clock_s)),
            "in_flight": in_flight,
            "max_in_flight": core.settings.budget.max_in_flight,
            "arms": core.arms.status().searches,
            "reasons": reasons,
        }
    )


def parse_report(text: str) -> dict[str, Any]:
    """Return a process's report from its JSON text; empty if the text cannot be read."""
    try:
        report = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return report if isinstance(report, dict) and _fits(report, MAX_LEVELS) else {}


def process_of(name: str, report: Mapping[str, Any]) -> ProcessReport:
    """Return the typed report of the process `name` from what `parse_report` returned."""
    breakers = {"breaker": report.get("breaker")}
    breakers |= {
        f"breaker of the {printable(one.replace('_', ' '))}": its
        for one, its in _mapping(report.get("store_breakers")).items()
    }
    return ProcessReport(
        name=printable(name),
        breakers={one: _state(its) for one, its in breakers.items() if isinstance(its, dict)},
        switches=_switches(report.get("switches")),
        lagging=report.get("lagging") is True,
        quarantined=_texts(report.get("quarantined")),
        paused=_texts(report.get("paused")),
        in_flight=_count(report.get("in_flight")),
        max_in_flight=_count(report.get("max_in_flight")),
        arms=_counts(report.get("arms")),
        reasons=_counts(report.get("reasons")),
    )


def printable(text: object) -> str:
    """Return a text as one line of at most `MAX_CHARACTERS` printable characters."""
    shown = "".join(one if one.isprintable() else "?" for one in str(text)[: MAX_CHARACTERS + 1])
    return shown if len(shown) <= MAX_CHARACTERS else f"{shown[: MAX_CHARACTERS - 1]}…"


def switches_by(switches: Switches) -> dict[str, dict[str, Any]]:
    """Return the value and the source of each switch that is set."""
    return {name: {"value": value, "source": switches.sources.get(name)} for name, value in switches.values.items()}


def quarantined(core: Core, now_s: float, *, trials: bool = False) -> list[str]:
    """Return a text for each quarantined template, with the indices where it is held back; with `trials` of drafts on trial alone.

    A draft that is held back is no problem of the service: the live version serves its subjects.
    """
    drafts = {(name, made.version) for name, made in core.snapshot.trials.items()}
    held = core.quarantine.status(now_s)
    return list(in_words([one for one in held if (one.cell.version[:2] in drafts) is trials]))


def paused_policies(core: Core, now_s: float) -> dict[str, str]:
    """Return the policies that send nothing personal for a while, and why."""
    found = {
        name: "its legs come too late and are paused" for name, legs in core.late_legs.items() if legs.paused(now_s)
    }
    for name, hedging in core.hedging.items():
        if hedging.paused(now_s):
            status = hedging.status(now_s)
            found[name] = f"{status.why}; for {status.paused_for_s:.0f} s it sends the callers' own searches alone"
    return found


def _fits(value: Any, levels: int) -> bool:
    """Whether nothing in `value` is nested deeper than `levels`: functions that read it would run out of stack."""
    inner: Iterable[Any] = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_fits(one, levels - 1) for one in inner)


def _state(breaker: Mapping[str, Any]) -> str:
    state, why = printable(breaker.get("state")), printable(breaker.get("why") or "")
    return f"{state}: {why}" if state != "closed" and why else state


def _switches(report: Any) -> Switches | None:
    if not isinstance(report, dict):
        return None
    values: dict[str, SwitchValue] = {}
    sources: dict[str, str] = {}
    for name, one in report.items():
        value = _mapping(one).get("value")
        if isinstance(value, (bool, int, float)) and abs(value) <= MAX_COUNT:
            values[printable(name)], sources[printable(name)] = value, printable(one.get("source"))
    return Switches(values, sources)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(printable(one) for one in value) if isinstance(value, list) else ()


def _counts(value: Any) -> dict[str, int]:
    return {printable(name): count for name, its in _mapping(value).items() if (count := _count(its))}


def _count(value: Any) -> int:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return int(value) if is_number and 0 <= value <= MAX_COUNT else 0
