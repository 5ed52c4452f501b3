"""Quarantine: stops sending legs that are rejected for every subject, and probes them again.

A rejection (the template failed, or the server refused the body that it rendered) proves that one subject, one form of body, one
index expression and one template do not work together, but not which of them is at fault. So evidence is kept in four cells, each
of which leaves something open (*). A cell opens only on evidence from several values of everything that it leaves open:

    expression   form       opens after FAILURES in a row, of at least SUBJECTS subjects, and
    this one     this one   nothing more: searches of this form are held on this expression
    this one     *          of at least FORMS forms: the template is held on this expression
    *            this one   of at least EXPRESSIONS expressions
    *            *          of at least FORMS forms and EXPRESSIONS expressions: the template is held everywhere

"In a row" means without a success in the cell, since a template that works for one subject does not fail for all. A form for which
the server computes something per hit (a highlight, a script) can be rejected because of one hit; such a rejection counts only in
the first cell. One subject never opens a cell, one form never opens a cell of other forms, one expression never one of other
expressions. An open cell holds the senders whose searches were rejected, see `senders`: a header of one caller's, which a gateway
refuses, costs the others nothing. With the limits below, a template that fails for every subject is held after 8 searches.

    closed ──▶ open         as in the table
    open ──▶ half_open      OPEN_S later, doubled with each opening in a row up to MAX_OPEN_S
    half_open ──▶ closed    a search that the cell held was accepted
    half_open ──▶ open      a search of the cell was rejected
    any ──▶ (gone)          the policy has another version of its templates

A draft on trial has a version of its own, so that nothing about it is evidence on the live one. It may have a single subject, so
one subject is enough for it: while it is held, the live version serves its subjects.

In half_open one search per PROBE_S is let through, whatever its outcome: one without signals sends no leg and gives no evidence.
Only evidence of this process counts. Cells are bounded in number; the least recently changed are dropped first.

Methods are called from many threads and hold the lock for a few steps. Time is an argument (monotonic seconds).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from threading import Lock
from typing import Literal, NamedTuple

from rewriter.decide.senders import RefusedSenders, Sender
from rewriter.journal import Journal
from rewriter.plural import count_of

State = Literal["closed", "open", "half_open"]
Leg = Literal["personalized", "exploration"]

FAILURES = 8
SUBJECTS = 3
FORMS = 2
EXPRESSIONS = 3
OPEN_S = 5.0
MAX_OPEN_S = 60.0
PROBE_S = 1.0
MAX_CELLS = 2_048
MAX_DISTINCT = 8
"""Limit of the subjects, forms and expressions that a cell remembers: more than it needs to open."""


class Version(NamedTuple):
    """One version of a policy's templates, for one leg."""

    policy: str
    version: str
    leg: Leg


class Evidence(NamedTuple):
    """One rejection. `subject` and `form` are hashes, never identifiers.

    of_form: whether the form or one hit may be at fault, so that it counts only for this form on this expression.
    trial:   whether the template is a draft on trial. Then one subject is enough: it is served to few, and the live one serves
             them instead.
    sender:  what the search carried besides its body; None if that cannot be at fault.
    """

    expression: str
    form: int
    subject: int
    of_form: bool
    trial: bool = False
    sender: Sender | None = None


class Attempt(NamedTuple):
    """A leg that is about to be sent, or was. `form` and `sender` are called only where a cell may hold it."""

    version: Version
    expression: str
    form: Callable[[], int]
    sender: Callable[[], Sender] = frozenset


class Cell(NamedTuple):
    """A set of searches that are held together: those of one version, and of one expression and form unless these are None."""

    version: Version
    expression: str | None
    form: int | None


@dataclass(slots=True)
class _Standing:
    state: State = "closed"
    failures: int = 0
    subjects: set[int] = field(default_factory=set)
    forms: set[int] = field(default_factory=set)
    expressions: set[str] = field(default_factory=set)
    senders: RefusedSenders = field(default_factory=RefusedSenders)
    of_form: bool = True
    openings: int = 0
    until_s: float = 0.0
    why: str = ""


@dataclass(frozen=True, slots=True)
class Held:
    """A held cell: its state, its cause in words, and whether the template (else the search's form) is taken to be at fault."""

    cell: Cell
    state: State
    template: bool
    why: str

    def __str__(self) -> str:
        policy, version, leg = self.cell.version
        where = f"on {self.cell.expression}" if self.cell.expression is not None else "on every index"
        form = " for one form of search" if self.cell.form is not None else ""
        return f"{policy} {version} ({leg}) {where}{form}"


class Quarantine:
    """The cells of one process; see the module's docstring."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._lock = Lock()
        self._cells: OrderedDict[Cell, _Standing] = OrderedDict()

    def held(self, leg: Attempt, now_s: float) -> Held | None:
        """Return the cell that holds a leg, or None if it may be sent."""
        if not self._cells:
            return None
        with self._lock:
            known = [cell for cell in _cells_of(leg.version, leg.expression, leg.form()) if cell in self._cells]
            holding = [held for cell in known if (held := self._holds(cell, leg.sender, now_s))]
            return next((held for held in holding if held.template), holding[0] if holding else None)

    def failed(self, version: Version, evidence: Evidence, why: str, now_s: float) -> None:
        """Count a rejection as evidence. `why` is the server's cause for the log, without identifiers."""
        self._journal.note(
            f"template {version.policy} ({version.leg})",
            f"template of policy {version.policy}, version {version.version} ({version.leg} leg), was rejected on "
            f"{evidence.expression}: {why}",
            now_s,
        )
        with self._lock:
            for cell in _cells_of(version, evidence.expression, evidence.form)[: 1 if evidence.of_form else None]:
                standing = self._cells.setdefault(cell, _Standing())
                self._cells.move_to_end(cell)
                self._count(cell, standing, evidence, why, now_s)
            while len(self._cells) > MAX_CELLS:
                self._cells.popitem(last=False)

    def worked(self, leg: Attempt, now_s: float) -> None:
        """Clear the cells of a leg that was accepted, but for those that are open for other senders alone."""
        if not self._cells:
            return
        with self._lock:
            for cell in _cells_of(leg.version, leg.expression, leg.form()):
                standing = self._cells.get(cell)
                if standing is None or (standing.state != "closed" and not standing.senders.holds(leg.sender())):
                    continue
                del self._cells[cell]
                if standing.openings:
                    self._released(cell, "a search was accepted", now_s)

    def release(self, policy: str, loaded: str, now_s: float, kept: Collection[str] = ()) -> None:
        """Remove the cells of all versions of a policy's templates other than the one that was `loaded`, and those `kept`."""
        if not self._cells:
            return
        with self._lock:
            gone = [
                cell
                for cell in self._cells
                if cell.version.policy == policy and cell.version.version not in (loaded, *kept)
            ]
            for cell in gone:
                if self._cells.pop(cell).openings:
                    self._released(cell, f"version {loaded} was loaded", now_s)

    def status(self, now_s: float) -> list[Held]:
        """Return all open and half-open cells."""
        with self._lock:
            return [
                Held(cell, _state(standing, now_s), not standing.of_form, standing.why)
                for cell, standing in self._cells.items()
                if standing.state != "closed"
            ]

    def _holds(self, cell: Cell, sender: Callable[[], Sender], now_s: float) -> Held | None:
        standing = self._cells[cell]
        if standing.state == "closed" or not standing.senders.holds(sender()):
            return None
        if now_s >= standing.until_s:
            standing.state, standing.until_s = "half_open", now_s + PROBE_S
            return None  # this one is the probe
        return Held(cell, standing.state, not standing.of_form, standing.why)

    def _count(self, cell: Cell, standing: _Standing, evidence: Evidence, why: str, now_s: float) -> None:
        standing.senders.add(evidence.sender)
        if standing.state == "open":
            return  # this search was sent before the cell opened, or by another sender
        standing.failures += 1
        standing.of_form = standing.of_form and evidence.of_form
        if len(standing.subjects) < MAX_DISTINCT:
            standing.subjects.add(evidence.subject)
        if len(standing.forms) < MAX_DISTINCT:
            standing.forms.add(evidence.form)
        if len(standing.expressions) < MAX_DISTINCT:
            standing.expressions.add(evidence.expression)
        if standing.state == "half_open" or (
            standing.failures >= FAILURES
            and len(standing.subjects) >= (1 if evidence.trial else SUBJECTS)
            and (cell.form is not None or len(standing.forms) >= FORMS)
            and (cell.expression is not None or len(standing.expressions) >= EXPRESSIONS)
        ):
            for_s = min(MAX_OPEN_S, OPEN_S * 2.0 ** min(standing.openings, 10))
            standing.state, standing.until_s, standing.why = "open", now_s + for_s, why
            standing.openings += 1
            held = Held(cell, "open", not standing.of_form, why)
            self._journal.note(
                f"quarantine {cell.version.policy} ({cell.version.leg})",
                f"quarantined for {for_s:.0f} s: {held}, after {count_of(standing.failures, 'rejection')} in a row: {why}",
                now_s,
            )

    def _released(self, cell: Cell, because: str, now_s: float) -> None:
        held = Held(cell, "closed", True, "")
        topic = f"quarantine {cell.version.policy} ({cell.version.leg})"
        self._journal.note(topic, f"released from quarantine: {held}: {because}", now_s, "info")


class NoQuarantine(Quarantine):
    """Holds nothing: in an evaluation or a comparison, what fails for one subject must not change another's page."""

    def failed(self, version: Version, evidence: Evidence, why: str, now_s: float) -> None:
        """Count nothing."""


def _cells_of(version: Version, expression: str, form: int) -> tuple[Cell, ...]:
    """Return the four cells of a search, the narrowest first."""
    return (
        Cell(version, expression, form),
        Cell(version, expression, None),
        Cell(version, None, form),
        Cell(version, None, None),
    )


def _state(standing: _Standing, now_s: float) -> State:
    return "half_open" if standing.state == "open" and now_s >= standing.until_s else standing.state


def in_words(held: list[Held], limit: int = 20) -> Iterator[str]:
    """Yield, in words, the cells held by a template's fault, the widest first, at most `limit` of them."""
    by_width = sorted((one for one in held if one.template), key=lambda one: (one.cell.form is not None, str(one)))
    yield from map(str, by_width[:limit])
    if len(by_width) > limit:
        yield f"and {len(by_width) - limit} more"
