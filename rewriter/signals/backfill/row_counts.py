"""The account of a history: rows = events + the rows left out, by reason.

A reason for which more than 1 % of the rows are left out fails the run, unless it is allowed by name. What somebody asked for
(`--until`, `forget`) never fails it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

LIMIT = 0.01
REASONS: Mapping[str, str] = {
    "malformed": "the line is no row of its file",
    "no_time": "no timestamp, or none that can be read",
    "in_future": "the timestamp lies ahead",
    "after_until": "later than --until",
    "too_old": "more than horizon_s before the end of the history",
    "no_person": "neither user_id nor client_id",
    "unknown_action": "the action has no weight in [signals] action_weights",
    "no_consent": "no consent",
    "forgotten": "the user was forgotten since",
    "no_object": "no object_id, or it is not in the index",
    "doubled": "an earlier row has the same event_id",
    "no_value": "the object has none of the fields that are counted",
}
"""In this order: a row is left out for the first that holds."""
ASKED_FOR = frozenset({"after_until", "forgotten"})


@dataclass(frozen=True, slots=True)
class RowCounts:
    """What became of the rows.

    left_out: the number of rows by reason. first: where the first row of a reason stands.
    actions:  unknown action names with their number of rows, the most frequent first; at most a few.
    """

    rows: int
    events: int
    left_out: Mapping[str, int]
    first: Mapping[str, str] = field(default_factory=dict)
    actions: Sequence[tuple[str, int]] = ()

    def too_many(self, allowed: Collection[str]) -> list[str]:
        """Return the reasons for which more rows were left out than may be."""
        return [
            reason
            for reason, count in self.left_out.items()
            if count > LIMIT * self.rows and reason not in ASKED_FOR and reason not in allowed
        ]

    def counts(self) -> dict[str, int]:
        """Return rows, events and each reason by name, as they are printed."""
        return {"rows": self.rows, "events": self.events, **self.left_out}

    def lines(self) -> list[str]:
        """Return a sentence for each reason for which rows were left out."""
        found = []
        for reason, count in self.left_out.items():
            if count:
                where = f"; first: {self.first[reason]}" if reason in self.first else ""
                said = f"{reason}: {count:,} of {self.rows:,} rows ({count / self.rows:.2%}): {REASONS[reason]}{where}"
                found.append(said + (f"; {self._names()}" if reason == "unknown_action" and self.actions else ""))
        return found

    def _names(self) -> str:
        return ", ".join(f"{name!r} {count:,}" if name else f"(empty) {count:,}" for name, count in self.actions)
