"""Assignment of experiment arms by a salted hash of the unit, before any signal is read.

A unit has the same bucket on every machine and after every restart; a new salt makes a new experiment. Rollout, interleaving and
holdout hash independently, so that a change of the rollout never changes the holdout, and the interleaved units leave treatment and
holdout in their ratio.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Literal

Arm = Literal["treatment", "holdout", "interleaved", "not_rolled_out"]


def bucket(unit: str, experiment: str, salt: str) -> float:
    """Return the bucket of a unit in an experiment, uniform in [0, 1): BLAKE2b-64 of salt, experiment and unit."""
    digest = blake2b(f"{salt}\x1f{experiment}\x1f{unit}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2.0**53


def arm(unit: str | None, *, rollout: float, holdout: float, salt: str, interleaved: float = 0.0) -> Arm:
    """Return the arm of a unit.

    unit: a user's or session's id. None, for a subject with segments only, is in no experiment: it is treated if rollout > 0.
    rollout, holdout, interleaved: shares of the units, in [0, 1].
    """
    if unit is None:
        return "treatment" if rollout > 0.0 else "not_rolled_out"
    if rollout < 1.0 and bucket(unit, "rollout", salt) >= rollout:
        return "not_rolled_out"
    if interleaved > 0.0 and bucket(unit, "interleaved", salt) < interleaved:
        return "interleaved"
    return "holdout" if holdout > 0.0 and bucket(unit, "holdout", salt) < holdout else "treatment"
