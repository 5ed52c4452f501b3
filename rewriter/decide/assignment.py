"""Which arm a person is in: by a salted hash of who they are, before anything is read.

The same unit falls into the same place on every machine and after every restart; another salt makes another experiment, and
rollout, interleaving and holdout hash independently of each other, so that a rollout never eats into the holdout, and the
interleaved leave treatment and holdout in their ratio.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Literal

Arm = Literal["treatment", "holdout", "interleaved", "not_rolled_out"]


def bucket(unit: str, experiment: str, salt: str) -> float:
    """Return the place of a unit in an experiment, uniform in [0, 1)."""
    digest = blake2b(f"{salt}\x1f{experiment}\x1f{unit}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2.0**53


def arm(unit: str | None, *, rollout: float, holdout: float, salt: str, interleaved: float = 0.0) -> Arm:
    """Return the arm of a unit. A search that nobody stands behind (a segment alone) is in no experiment, and so treated."""
    if unit is None:
        return "treatment" if rollout > 0.0 else "not_rolled_out"
    if bucket(unit, "rollout", salt) >= rollout:
        return "not_rolled_out"
    if interleaved > 0.0 and bucket(unit, "interleaved", salt) < interleaved:
        return "interleaved"
    return "holdout" if bucket(unit, "holdout", salt) < holdout else "treatment"
