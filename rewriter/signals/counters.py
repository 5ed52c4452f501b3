"""Forward-decayed counters: what a subject did, as one weight per value.

Each event at time t adds w · 2^((t − landmark) / half_life) to the weight of every value that it shows, and reading at
time T multiplies by 2^(−(T − landmark) / half_life): Cormode, Shkapenyuk, Srivastava, Xu, "Forward Decay", ICDE 2009.
Weights so only ever grow, updates commute, no job has to age anything, and within one half-life decay keeps the order.
One form holds sessions, profiles, segments and the population.

Fields may have half-lives of their own. Their order in one sorted set then drifts apart with the distance from the
landmark, so a writer moves the landmark (`aged`) once that distance exceeds a quarter of the shortest half-life: the
top by rank is the top by weight to within 2^(1/4), and the powers stay far from what a double can hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Value = tuple[str, ...]
"""A signal field's name, then one value for each document field that it is made of: ("brand", "nike")."""

SEPARATOR = "\x1f"
MAX_MEMBER_BYTES = 1024
MAX_WEIGHT = 1e100


@dataclass(frozen=True, slots=True)
class Counters:
    """The counters of one subject and scope, as of their landmark.

    weights:      per value, ≥ 0, heaviest first when read from a store.
    totals:       per field, the sum over all values ever counted, those since pruned included.
    landmark_s:   the time at which the weights are true, in seconds since the epoch.
    last_event_s: the time of the latest event counted.
    events:       how many were counted (in a session: its age in events).
    lag_s:        how long the latest event took to become visible; 0 where nobody measured it.
    """

    weights: Mapping[Value, float]
    totals: Mapping[str, float]
    landmark_s: float
    last_event_s: float = 0.0
    events: float = 0.0
    lag_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Observation:
    """One thing a subject did: what it says about whom, how much, and when (seconds since the epoch)."""

    values: tuple[Value, ...]
    weight: float
    at_s: float


@dataclass(frozen=True, slots=True)
class HalfLives:
    """Half-lives in seconds: the scope's, and those of fields that have their own."""

    default_s: float
    by_field_s: Mapping[str, float] = field(default_factory=dict)

    def of(self, field_name: str) -> float:
        """Return the half-life of a field's counts."""
        return self.by_field_s.get(field_name, self.default_s)

    @property
    def shortest_s(self) -> float:
        """Return the shortest of them: it decides how far the landmark may lie back."""
        return min((self.default_s, *self.by_field_s.values()))


def growth(from_s: float, to_s: float, half_life_s: float) -> float:
    """Return 2^((to − from) / half-life), within what a double holds."""
    return float(2.0 ** max(-1000.0, min(1000.0, (to_s - from_s) / half_life_s)))


def aged(counters: Counters, now_s: float, half_lives: HalfLives) -> Counters:
    """Return `counters` as they are worth now: the landmark moved to `now_s`, every weight and total decayed."""
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
    """Return what `observations`, in any order, add up to as of `landmark_s`; of the weights the heaviest `keep`."""
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
    """Return the bytes that stand for a value in its sorted set: field and values, joined by U+001F, in UTF-8.

    None where they would not be read back as the same value: it is empty, holds a U+001F, is no text, or takes over 1,024 bytes.
    """
    try:
        raw = SEPARATOR.join(value).encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return None
    return raw if value_of(raw) == value else None


def value_of(raw: bytes) -> Value | None:
    """Return the value that a member stands for, or None where it is no value of ours. An empty id has a search refused."""
    if len(raw) > MAX_MEMBER_BYTES:
        return None
    try:
        parts = tuple(raw.decode().split(SEPARATOR))
    except UnicodeDecodeError:
        return None
    return parts if len(parts) > 1 and all(parts) else None


def sound(number: object) -> float | None:
    """Return a weight or time as a float, or None for what is none: text, NaN, infinity, negative, beyond 1e100."""
    try:
        found = float(number)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return found if 0.0 <= found <= MAX_WEIGHT else None  # a NaN is on neither side
