"""Strength of an item: the weight of the strongest action that a subject did with it, kept in the last bits of its counter.

Whether people use items again is counted by it (`repeats`): who viewed a film and buys it later did not come back to it. A session
and a profile keep an item's counter as a double. Of its 53 bits the last 26 hold an 11-bit pattern and 15 bits q, the weight as in
`class_layout`: the counter is exact to 1.5 · 10⁻⁸ all the same. So nothing is longer, nothing more is read, and a program that
knows of no strengths reads and writes the same counters; what it writes has a strength by chance in one of 2,048. decay.lua does
the same. Items that are kept by class have theirs in `class_layout`. Pure.
"""

from __future__ import annotations

from math import floor, frexp, ldexp, log2

STEPS, MIDDLE, LAST = 512, 16_384, 32_767
"""Steps of an octave of weight, the number of weight 1, and the largest number."""
_BITS, _NUMBER, _PATTERN = 1 << 26, 1 << 15, 1_371


def number_of(weight: float) -> int:
    """Return the number q of a weight, at most `LAST`; 0 for one below 2⁻³², which is none."""
    if weight <= 0.0:
        return 0
    return max(0, min(LAST, floor(STEPS * log2(weight) + 0.5) + MIDDLE))


def marked(counter: float, number: int) -> float:
    """Return a counter with a strength in its last bits; the counter itself for 0."""
    if number <= 0 or counter <= 0.0:
        return counter
    mantissa, exponent = frexp(counter)
    whole = int(ldexp(mantissa, 53))
    return ldexp(float(whole - whole % _BITS + _PATTERN * _NUMBER + number), exponent - 53)


def strength_in(counter: float) -> int:
    """Return the strength in a counter's last bits, 0 if there is none."""
    pattern, number = divmod(int(ldexp(frexp(counter)[0], 53)) % _BITS, _NUMBER)
    return number if pattern == _PATTERN else 0
