"""Forward-decayed counters: a subject's events, aggregated to one weight per value.

Each event at time t adds w · 2^((t − landmark) / half_life) to the weight of each of its values, and reading at time T multiplies
by 2^(−(T − landmark) / half_life): Cormode, Shkapenyuk, Srivastava, Xu, "Forward Decay", ICDE 2009. So updates commute, no job has
to age counters, and with one half-life decay keeps the order of weights. Sessions, profiles, segments and the population use the
same form.

Fields may have half-lives of their own. The order of their weights in one sorted set then becomes wrong with the distance from the
landmark. So a writer moves the landmark (`aged`) once that distance exceeds a quarter of the shortest half-life: the order by rank
is the order by weight to within a factor of 2^(1/4), and the powers stay far below the limits of a double.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field

from rewriter.record import record

Value = tuple[str, ...]
"""A signal field's name, then one value for each of its document fields: ("brand", "nike")."""

SEPARATOR = "\x1f"
MAX_MEMBER_BYTES = 1024
MAX_WEIGHT = 1e100


@record(frozen=True, slots=True)
class Counters:
    """The counters of one subject and scope, as of their landmark.

    weights:      weight ≥ 0 by value, heaviest first when read from a store.
    totals:       by field, the sum over all values ever counted, including pruned ones.
    landmark_s:   the time for which the weights hold (seconds since the epoch).
    last_event_s: the time of the latest counted event (seconds since the epoch).
    events:       number of counted events.
    lag_s:        seconds until the latest event became visible; 0 if it was not measured.
    """

    weights: Mapping[Value, float]
    totals: Mapping[str, float]
    landmark_s: float
    last_event_s: float = 0.0
    events: float = 0.0
    lag_s: float = 0.0


@record(frozen=True, slots=True)
class Observation:
    """One event: the values of its object, its action's weight, and its time (seconds since the epoch)."""

    values: tuple[Value, ...]
    weight: float
    at_s: float


@record(frozen=True, slots=True)
class HalfLives:
    """Half-lives in seconds: the scope's, and those of fields that have their own."""

    default_s: float
    by_field_s: Mapping[str, float] = field(default_factory=dict)

    def of(self, field_name: str) -> float:
        """Return the half-life of a field's counts."""
        return self.by_field_s.get(field_name, self.default_s)

    @property
    def shortest_s(self) -> float:
        """The shortest half-life, which limits the age of a landmark."""
        return min((self.default_s, *self.by_field_s.values()))


def growth(from_s: float, to_s: float, half_life_s: float) -> float:
    """Return 2^((to − from) / half-life), with the exponent clamped to ±1000, within a double's range."""
    return float(2.0 ** max(-1000.0, min(1000.0, (to_s - from_s) / half_life_s)))


def aged(counters: Counters, now_s: float, half_lives: HalfLives) -> Counters:
    """Return `counters` with the landmark at `now_s`: every weight and total decayed."""
    factors: dict[str, float] = {}

    def factor(name: str) -> float:
        if name not in factors:
            factors[name] = growth(now_s, counters.landmark_s, half_lives.of(name))
        return factors[name]

    return Counters(
        {value: weight * factor(value[0]) for value, weight in counters.weights.items()},
        {name: total * factor(name) for name, total in counters.totals.items()},
        now_s,
        counters.last_event_s,
        counters.events,
        counters.lag_s,
    )


def counted(
    observations: Iterable[Observation], half_lives: HalfLives, landmark_s: float, keep: int | None = None
) -> Counters:
    """Return the counters of `observations`, in any order, as of `landmark_s`.

    keep: number of weights to keep, the heaviest; None for all.
    """
    weights: dict[Value, float] = {}
    totals: dict[str, float] = {}
    last_event_s, events = 0.0, 0
    for seen in observations:
        events += 1
        last_event_s = max(last_event_s, seen.at_s)
        for value in seen.values:
            worth = seen.weight * growth(landmark_s, seen.at_s, half_lives.of(value[0]))
            weights[value] = weights.get(value, 0.0) + worth
            totals[value[0]] = totals.get(value[0], 0.0) + worth
    heaviest = sorted(weights.items(), key=lambda item: (-item[1], item[0]))
    return Counters(dict(heaviest[:keep]), totals, landmark_s, last_event_s, float(events))


def member(value: Value) -> bytes | None:
    """Return a value's member in the sorted set: field and values, joined by U+001F, in UTF-8.

    None if it would not be read back as the same value: a part is empty, contains U+001F or is no valid text, or the member has
    more than 1,024 bytes.
    """
    text = SEPARATOR.join(value)
    if len(value) < 2 or "" in value or text.count(SEPARATOR) != len(value) - 1:
        return None
    try:
        raw = text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return None
    return raw if len(raw) <= MAX_MEMBER_BYTES else None


def value_of(raw: bytes) -> Value | None:
    """Return the value of a member, or None if it is not valid; no part may be empty, since the server refuses an empty id."""
    if len(raw) > MAX_MEMBER_BYTES:
        return None
    try:
        parts = raw.decode().split(SEPARATOR)
    except UnicodeDecodeError:
        return None
    return tuple(parts) if len(parts) > 1 and "" not in parts else None


def weights_of(members: Iterable[tuple[bytes, object]]) -> dict[Value, float]:
    """Return the values of members with their weights, without the malformed ones: `value_of` and `sound` for all of a read.

    A read has 128 of each scope, so that two calls for each would take longer than the read itself.
    """
    found: dict[Value, float] = {}
    for raw, score in members:
        try:
            weight, parts = float(score), raw.decode().split(SEPARATOR)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):  # UnicodeDecodeError is a ValueError
            continue
        if 0.0 < weight <= MAX_WEIGHT and len(parts) > 1 and "" not in parts and len(raw) <= MAX_MEMBER_BYTES:
            found[tuple(parts)] = weight
    return found


def sound(number: object) -> float | None:
    """Return a weight or time as a float; None for texts, NaN, infinity, negative numbers and numbers beyond 1e100."""
    try:
        found = float(number)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return found if 0.0 <= found <= MAX_WEIGHT else None  # False for a NaN
