"""Row counts of a history: rows = events + left-out rows, by reason.

A reason that leaves out more than 1 % of the rows fails the run, unless it is allowed by name. Reasons that the user requested
(`--until`, `forget`, `horizon_s`) never fail it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from rewriter.plural import count_of

LIMIT = 0.01
REASONS: Mapping[str, str] = {
    "malformed": "the line is not a row of its file",
    "no_time": "no timestamp, or an invalid one",
    "in_future": "the timestamp is in the future",
    "after_until": "later than --until",
    "too_old": "more than horizon_s before the end of the history",
    "long_id": "an identifier has more than 256 characters",
    "no_person": "neither user_id nor client_id",
    "unknown_action": "the action has no weight in [signals] action_weights",
    "no_consent": "no consent",
    "forgotten": "the user was erased since",
    "no_object": "no object_id, or it is not in the index",
    "doubled": "an earlier row has the same event_id",
    "no_value": "the object has none of the fields that are counted",
}
"""Reasons in order: a row is counted under the first that applies."""
REQUESTED = frozenset({"after_until", "forgotten", "too_old"})


@dataclass(frozen=True, slots=True)
class RowCounts:
    """The counts of a history's rows.

    left_out: number of rows by reason.
    first:    by reason, file and number of its first row.
    actions:  unknown action names with their number of rows, the most frequent first; at most a few.
    mean_weight: the mean weight of the events that add to counters, so those of a weight above 0; 0.0 if there are none.
    """

    rows: int
    events: int
    left_out: Mapping[str, int]
    first: Mapping[str, str] = field(default_factory=dict)
    actions: Sequence[tuple[str, int]] = ()
    mean_weight: float = 0.0

    def too_many(self, allowed: Collection[str]) -> list[str]:
        """Return the reasons that leave out more than LIMIT of the rows and are not `allowed`."""
        return [
            reason
            for reason, count in self.left_out.items()
            if count > LIMIT * self.rows and reason not in REQUESTED and reason not in allowed
        ]

    def counts(self) -> dict[str, int]:
        """Return rows, events and each reason by name, for printing."""
        return {"rows": self.rows, "events": self.events, **self.left_out}

    def lines(self) -> list[str]:
        """Return one line for each reason that left out rows."""
        found = []
        for reason, count in self.left_out.items():
            if count:
                where = f"; first: {self.first[reason]}" if reason in self.first else ""
                line = f"{reason}: {count:,} of {count_of(self.rows, 'row')} ({count / self.rows:.2%}): {REASONS[reason]}{where}"
                found.append(line + (f"; {self._names()}" if reason == "unknown_action" and self.actions else ""))
        return found

    def _names(self) -> str:
        return ", ".join(f"{name!r} {count:,}" if name else f"(empty) {count:,}" for name, count in self.actions)
