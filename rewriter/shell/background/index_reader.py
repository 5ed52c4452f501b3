"""The background round that reads index facts from the cluster into the snapshot, for each index expression that is searched.

An expression is read with the same parameters as its searches, since these decide which indices it names. Of a mapping, only the
fields that the policy's boosts use are read, and fields in queries whose analyzers decide whether a query has a gate (`all_words`).
New expressions come first, then those read longest ago. The number of reads per second is bounded: with more expressions than
`READS_PER_S` · `PERIOD_S` (300), facts are read less often, and none is dropped.

At the start the round also reads each policy's own patterns, so that the first search of an index behind them has its facts. An
expression that is not searched for `IDLE_S` is not read again, and its faults are no longer reported.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import count
from threading import Lock
from typing import Any

from rewriter.client.faults import server_cause
from rewriter.client.seam import ClientFault, RequestFailed
from rewriter.core import Core
from rewriter.expression import ANOTHER_CLUSTER, Expression
from rewriter.index_facts import IndexFacts, alias_paths, dead_fields, facts_of, term_fields, term_rules
from rewriter.journal import redacted
from rewriter.plural import count_of
from rewriter.settings import PolicySettings
from rewriter.shell.background.sources import BackgroundStep, GetMapping, GetSettings
from rewriter.signals.affinities import signal_fields
from rewriter.signals.kinds.kind import SignalField

INDICES_PERIOD_S = 0.1
LONGEST_WAIT_S = 1.0
PERIOD_S = 30.0
RETRY_S = 5.0
IDLE_S = 300.0
READS_PER_S = 10.0
BURST = 50.0
READ_TIMEOUT_S = 5.0
MAX_BEHIND_PATTERN = 100
MAX_PROBLEMS = 10
MAX_STALE = 1_024
"""How many outdated entries the schedule may hold before it is cleaned up."""
SETTINGS = (
    "index.max_result_window", "index.max_rescore_window", "index.max_docvalue_fields_search", "index.search.default_pipeline",
    "index.number_of_replicas",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Judged:
    """Facts, and their consequences for a policy: usable fields, dead fields, texts. Expressions with equal facts share one."""

    facts: IndexFacts
    fields: Mapping[str, SignalField]
    dead: frozenset[str]
    texts: tuple[tuple[str, str], ...]


def reader_of(core: Core, clock_s: Callable[[], float]) -> IndexReader:
    """Return the reader of a core, made at first use."""
    if not isinstance(core.index_reader, IndexReader):
        core.index_reader = IndexReader(core, clock_s)
    return core.index_reader


class IndexReader:
    """The index facts of one core. At most one round runs at a time, even with several event loops.

    dead: by policy, texts on fields that no index of the policy can boost. Other threads read it and `problems`.
    """

    def __init__(self, core: Core, clock_s: Callable[[], float]) -> None:
        self._core = core
        self._clock_s = clock_s
        self._own: dict[Expression, bool] = {}
        self._known: dict[Expression, _Judged] = {}
        self._inherited = dict.fromkeys(core.snapshot.facts)
        self._behind: dict[Expression, dict[str, _Judged]] = {}
        self._unreadable: dict[Expression, str] = {}
        self._same: dict[Any, _Judged] = {}
        self._due: list[tuple[float, int, Expression]] = []
        self._planned: dict[Expression, int] = {}
        self._numbers = count()
        self._reading = Lock()
        self._tokens = BURST
        self._filled_s = clock_s()
        self.rounds = 0
        self.dead: dict[str, list[str]] = {}
        for policy in core.settings.policies.values():
            for name in policy.index:
                pattern = "*" in name or "?" in name
                own = Expression((name,))
                if own.remote and not pattern:
                    self._unreadable[own] = ANOTHER_CLUSTER
                elif name != "*" and not own.remote:  # a policy for all indices must not read the whole cluster
                    self._own[own] = pattern
        for expression in self._own:
            self._plan(expression, float("-inf"))

    @property
    def knows_own(self) -> bool:
        """Whether the snapshot holds the facts of all indices and patterns that policies name."""
        facts = self._core.snapshot.facts
        return all(expression.key in facts for expression in self._own)

    @property
    def problems(self) -> list[str]:
        """Texts on facts that could not be read, for expressions that are searched and indices that a policy names."""
        found = [
            f"facts of {one.key}: {text}"
            for one, text in dict(self._unreadable).items()
            if not self._own.get(one) or self._core.searched.last_s(one) is not None
        ]
        return found[:MAX_PROBLEMS] + (
            [f"facts of {count_of(len(found) - MAX_PROBLEMS, 'more index expression')}"] if found[MAX_PROBLEMS:] else []
        )

    @property
    def wait_s(self) -> float:
        """How long the next round may wait, if no expression is new meanwhile."""
        if self._core.searched.has_new:
            return INDICES_PERIOD_S
        if not self._due:
            return LONGEST_WAIT_S
        return min(LONGEST_WAIT_S, max(INDICES_PERIOD_S, self._due[0][0] - self._clock_s()))

    def round(self) -> Generator[BackgroundStep, Any, None]:
        """Read the expressions that are due, as many as the bound per second allows."""
        if not self._reading.acquire(blocking=False):
            return  # another event loop's round is running
        try:
            yield from self._round()
        finally:
            self._reading.release()

    def _round(self) -> Generator[BackgroundStep, Any, None]:
        changed = False
        for expression in self._core.searched.take_gone():
            back = expression in self._own or self._core.searched.last_s(expression) is not None
            if not back and self._planned.pop(expression, None) is not None:
                changed = self._forget(expression) or changed
        for expression in self._core.searched.take_new():
            if expression not in self._own and not expression.remote:
                self._plan(expression, float("-inf"))
        if len(self._due) > 2 * len(self._planned) + MAX_STALE:  # most entries are outdated
            self._due = [one for one in self._due if self._planned.get(one[2]) == one[1]]
            heapify(self._due)
        now_s = self._clock_s()
        self._tokens = min(BURST, self._tokens + READS_PER_S * (now_s - self._filled_s))
        self._filled_s = now_s
        while self._due and self._due[0][0] <= now_s and self._tokens >= 1.0:
            _, number, expression = heappop(self._due)
            if self._planned.get(expression) != number:
                continue  # the expression was dropped or has a newer entry
            wanted = expression in self._own
            last_s = self._core.searched.last_s(expression)
            if not wanted and last_s is None:
                del self._planned[expression]
                changed = self._forget(expression) or changed
            elif not wanted and last_s is not None and now_s - last_s > IDLE_S:
                changed = self._unreadable.pop(expression, None) is not None or changed
                self._plan(expression, now_s + PERIOD_S)
            else:
                self._tokens -= 1.0
                due_s = now_s  # at once, if the event loop ends in the middle of the read
                try:
                    read = yield from self._read(expression)
                    due_s = self._clock_s() + (PERIOD_S if read else RETRY_S)
                finally:
                    self._plan(expression, due_s)
                changed = True
        if changed:
            self._publish()
        self.rounds += 1

    def _plan(self, expression: Expression, due_s: float) -> None:
        self._planned[expression] = number = next(self._numbers)
        heappush(self._due, (due_s, number, expression))

    def _forget(self, expression: Expression) -> bool:
        """Drop an expression's facts and faults. Returns whether there were any."""
        found = (
            self._known.pop(expression, None),
            self._inherited.pop(expression.key, self),
            self._unreadable.pop(expression, None),
        )
        return found != (None, self, None)

    def _read(self, expression: Expression) -> Generator[BackgroundStep, Any, bool]:
        """Read one expression. Returns whether that succeeded; if not, earlier facts are kept unless access or index is gone."""
        named = tuple(name for name in expression.indices if not name.startswith("-"))
        policy_name = self._core.settings.policy_for(named)
        pattern = self._own.get(expression, False)
        if policy_name is None and pattern:
            policy_name = next(name for name, one in self._core.settings.policies.items() if named[0] in one.index)
        if policy_name is None:
            return True
        policy = self._core.settings.policies[policy_name]
        index = ",".join(expression.indices)
        try:
            settings = yield GetSettings(index, ",".join(SETTINGS), expression.arguments, READ_TIMEOUT_S)
            mapping = yield from _mapping(index, expression.arguments, policy, self._core.wanted_fields[policy_name])
            facts = facts_of(mapping, settings)
        except Exception as error:  # noqa: BLE001  the error is reported, and searches of the expression pass through
            return self._failed(expression, error)
        self._known[expression] = self._judged(policy_name, facts)
        self._inherited.pop(expression.key, None)
        if self._unreadable.pop(expression, None):
            self._core.journal.note("index facts", f"index facts of {expression.key} are read", self._clock_s(), "info")
        if pattern:
            self._behind[expression] = {
                name: self._judged(policy_name, facts_of(_part(mapping, name), _part(settings, name)))
                for name in list(settings)[:MAX_BEHIND_PATTERN]
            }
        return True

    def _failed(self, expression: Expression, error: Exception) -> bool:
        fault = error.fault if isinstance(error, RequestFailed) else ClientFault("unreadable", type(error).__name__)
        status = fault.status
        kind, reason = server_cause(fault.body)
        text = fault.name if status is None else f"{fault.name}({status})"
        text += f": {kind}" if kind else ""
        if status == 403 and isinstance(error, RequestFailed):
            text += f"; the optional legs' user needs {error.needs} on them"
        if status == 404 and expression not in self._own:
            self._forget(expression)  # the server's answer to the search itself reports the missing index
            return False
        if status in (403, 404):  # a lasting error: earlier facts do not hold any more
            self._known.pop(expression, None)
            self._inherited.pop(expression.key, None)
        if expression not in self._unreadable and not self._own.get(expression):
            cause = f": {redacted(reason, expression.indices)}" if reason else ""
            note = f"index facts of {expression.key} cannot be read: {text}{cause}"
            self._core.journal.note("index facts", note, self._clock_s())
        self._unreadable[expression] = text
        return False

    def _judged(self, policy_name: str, facts: IndexFacts) -> _Judged:
        same = (
            policy_name, facts.max_result_window, facts.max_rescore_window, facts.max_docvalue_fields, facts.default_pipeline,
            facts.replicas,
            tuple(sorted(facts.fields.items())), tuple(sorted(facts.analyzers.items())),
            tuple((name, tuple(sorted(kinds.items()))) for name, kinds in sorted(facts.differing.items())),
        )  # fmt: skip
        found = self._same.get(same)
        if found is None:
            policy = self._core.settings.policies[policy_name]
            faults = dead_fields(policy, facts)
            dead = frozenset(fault.where for fault in faults)
            fields = signal_fields(policy, dead, term_rules(policy, facts))
            texts = tuple((fault.where, str(fault)) for fault in faults)
            if len(self._same) > 2 * (len(self._known) + MAX_BEHIND_PATTERN):
                self._same.clear()  # most of its facts are no longer in use
            found = self._same[same] = _Judged(facts, fields, dead, texts)
        return found

    def _publish(self) -> None:
        """Swap the facts read so far into the snapshot."""
        before = self._core.snapshot
        facts = {key: before.facts[key] for key in self._inherited if key in before.facts}
        fields_on = {key: before.fields_on[key] for key in self._inherited if key in before.fields_on}
        known: dict[str, _Judged] = {}
        for behind in self._behind.values():
            known |= behind
        known |= {expression.key: one for expression, one in self._known.items()}
        policies = self._core.settings.policies
        by_policy: dict[str, dict[int, _Judged]] = {name: {} for name in policies}
        for expression, one in self._known.items():
            name = self._core.settings.policy_for(tuple(n for n in expression.indices if not n.startswith("-")))
            if name is not None:
                by_policy[name][id(one)] = one
        fields = {}
        for name, policy in policies.items():
            own = list(by_policy[name].values())
            dead = frozenset.intersection(*(one.dead for one in own)) if own else frozenset()
            fields[name] = signal_fields(policy, dead)
            self.dead[name] = sorted({text for one in own for where, text in one.texts if where in dead})
        self._core.swap(
            facts=facts | {key: one.facts for key, one in known.items()},
            fields_on=fields_on | {key: one.fields for key, one in known.items()},
            fields=fields,
            unreadable={
                expression.key: f"mappings and settings of these indices cannot be read: {text}"
                for expression, text in self._unreadable.items()
            },
        )


def _mapping(
    index: str, params: Mapping[str, Any], policy: PolicySettings, more: Iterable[str]
) -> Generator[BackgroundStep, Any, Mapping[str, Any]]:
    """Read the mappings of the fields of a policy and of `more`: outermost objects whole, and what aliases among them stand for."""
    wanted = {*term_fields(policy), *filter(None, (policy.date_field, policy.class_field)), *more}
    requested: set[str] = set()
    while True:
        requested |= {name.partition(".")[0] for name in wanted}
        paths = ",".join(f"*.mappings.properties.{name}" for name in sorted(requested))
        mapping = yield GetMapping(index, {**params, "filter_path": paths}, READ_TIMEOUT_S)
        wanted = {path for path in alias_paths(mapping) if path.partition(".")[0] not in requested}
        if not wanted:
            return mapping  # type: ignore[no-any-return]


def _part(answer: Mapping[str, Any], index: str) -> Mapping[str, Any]:
    return {index: answer[index]} if index in answer else {}
