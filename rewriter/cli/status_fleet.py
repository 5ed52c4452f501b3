"""The table of the service's processes in `rewriter status`: one row each; among many, healthy processes share a row."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from rewriter.cli.switch.fleet import NO_PROCESS, value_by
from rewriter.decide.switches import Switches
from rewriter.plural import agreeing, count_of
from rewriter.shell.fleet import ProcessReport

SHOWN = 20
REASONS = 6
HEAD = ("process", "breaker", "in flight", "notes")


def problems_of(fleet: Sequence[ProcessReport]) -> list[str]:
    """Return the problems of each process, as texts."""
    return [f"process {process.name}: {problem}" for process in fleet for problem in process.problems]


def unwell(fleet: Sequence[ProcessReport]) -> str:
    """Return a line with the number of processes that have problems; "" if none has."""
    count = sum(bool(process.problems) for process in fleet)
    return (
        f"{count} of {count_of(len(fleet), 'process')} {agreeing(count, 'have')} problems, see below" if count else ""
    )


def sums(fleet: Sequence[ProcessReport], store: str | None) -> list[tuple[str, str]]:
    """Return the rows on the sums of all processes."""
    if not fleet:
        unknown = "the store does not answer" if store else "without a store, none can announce itself"
        return [("processes", NO_PROCESS if store == "ok" else f"unknown: {unknown}")]
    arms: Counter[str] = Counter()
    for process in fleet:
        arms.update(process.arms)
    reasons = sum((Counter(process.reasons) for process in fleet), Counter[str]())
    rows = [("processes", f"{len(fleet)}, {_in_flight(fleet)} permits taken")]
    if reasons:
        shares = ", ".join(f"{reason} {count / reasons.total():.1%}" for reason, count in reasons.most_common(REASONS))
        rows.append(("last minute", f"{count_of(reasons.total(), 'search')}: {shares}"))
    if arms:
        searches = ", ".join(f"{count:,} {arm}" for arm, count in arms.most_common())
        taking_part = arms["treatment"] + arms["holdout"]
        share = f": {arms['holdout'] / taking_part:.1%} held out" if taking_part else ""
        rows.append(("arms", f"{count_of(arms.total(), 'search')}, {searches}{share}"))
    return rows


def table(fleet: Sequence[ProcessReport], here: Switches) -> Sequence[tuple[str, ...]]:
    """Return a row for each process. Beyond `SHOWN` processes, those without problems and with equal notes share a row."""
    rows, alike = [HEAD], defaultdict[str, list[ProcessReport]](list)
    for one in fleet:
        notes = ", ".join([*one.remarks, *not_as(here, one.switches)])
        if len(fleet) > SHOWN and not one.problems:
            alike[notes].append(one)
        else:
            rows.append((one.name, _breakers(one), _in_flight([one]), notes))
    for notes, those in sorted(alike.items(), key=lambda item: len(item[1])):
        name = those[0].name if len(those) == 1 else f"{len(those)} {'processes' if len(rows) == 1 else 'more'}"
        rows.append((name, "closed", _in_flight(those), notes))
    return rows


def not_as(here: Switches, there: Switches | None) -> list[str]:
    """Return the switches whose value in a process differs from that on this machine, as texts."""
    if there is None:
        return ["reports no switches"]
    found = []
    for name in sorted({*here.values, *there.values}):
        policy, _, switch = name.rpartition(".")
        rules = name if name in there.values or not policy else switch
        if there.values.get(rules) != here.values.get(name if name in here.values or not policy else switch):
            found.append(f"{rules} {value_by(there, rules)}")
    return list(dict.fromkeys(found))


def _breakers(process: ProcessReport) -> str:
    own = process.breakers.get("breaker", "not reported")
    others = (f"{name} {state}" for name, state in process.breakers.items() if name != "breaker" and state != "closed")
    return "; ".join((own, *others))


def _in_flight(fleet: Sequence[ProcessReport]) -> str:
    return f"{sum(one.in_flight for one in fleet):,} of {sum(one.max_in_flight for one in fleet):,}"
