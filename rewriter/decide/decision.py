"""May we personalize this search? The questions in their order; the first "no" is the reason.

    subject and consent → switches → shape → rollout → holdout → shadow → late legs → breaker

Shape comes before the experiment, so that both arms consist of searches on which boosts could have acted. The arm is known
before anything is read, and the holdout never touches the store.
"""

from __future__ import annotations

from dataclasses import dataclass

from rewriter.decide.assignment import arm
from rewriter.decide.breaker import Breaker, Outcome, Permit
from rewriter.decide.exposure import Arms
from rewriter.decide.late_legs import LateLegs
from rewriter.decide.switches import Switches
from rewriter.parsed_search import ParsedSearch
from rewriter.report import Exposure, Reason
from rewriter.settings import ExperimentSettings, PolicySettings, SwitchSettings
from rewriter.subject import Subject, pseudonym


@dataclass(frozen=True, slots=True)
class Decision:
    """A reason not to personalize, with what it was in words; or none, and the breaker's permit, which must be given back.

    shadow: whatever comes of the search, the plain page is served, and the reason is only what would have been.
    """

    reason: Reason | None
    detail: str = ""
    permit: Permit | None = None
    shadow: bool = False
    exposure: Exposure | None = None


BREAKER_TABLE: dict[Reason, Outcome] = {
    Reason.PERSONALIZED: "success",
    Reason.SEARCH_FAILED: "failure",
    Reason.SEARCH_LATE: "slow",
}
"""What counts for the breaker of the optional legs, and as what; a shadow search counts as what it would have been. Lateness has a
rate of its own, since a leg that is late for one search in ten still serves nine. Every other reason gives its permit back unused:
nothing was sent, or it was nobody's fault. What counts for a store's breaker, `flow/signals` says.
"""


def decide(
    search: ParsedSearch,
    subject: Subject | None,
    policy: PolicySettings | None,
    switches: Switches,
    defaults: SwitchSettings,
    experiment: ExperimentSettings,
    late_legs: LateLegs | None,
    breaker: Breaker,
    arms: Arms,
    now_s: float,
) -> Decision:
    """Return whether to personalize. `now_s` is monotonic. From holdout on, every decision carries the exposure, in both arms."""
    if subject is not None and not isinstance(subject, Subject):
        found = type(subject).__qualname__  # type: ignore[unreachable]  # callers need not check types
        return Decision(Reason.NO_SUBJECT, f"`subject` is of type {found}, not a Subject or None")
    if subject is None or not (subject.known or not subject.consent):
        return Decision(Reason.NO_SUBJECT, "nothing names who is searching")
    if not subject.consent:
        return Decision(Reason.NO_CONSENT)
    if not switches.of("personalization", search.policy, defaults.personalization):
        return Decision(Reason.SWITCHED_OFF, f"by {switches.source_of('personalization', search.policy)}")
    if search.passed is not None or policy is None or late_legs is None:
        return Decision(search.passed or Reason.NO_POLICY, search.detail)
    rollout = float(switches.of("rollout", search.policy, experiment.rollout))
    holdout = float(switches.of("holdout", search.policy, experiment.holdout))
    assigned = arm(
        subject.unit, rollout=rollout, holdout=holdout, salt=experiment.salt, interleaved=experiment.interleaved
    )
    arms.note(subject, assigned)
    if assigned == "not_rolled_out":
        return Decision(Reason.NOT_ROLLED_OUT, f"rollout {rollout:g}")
    exposure = (
        Exposure(
            assigned, pseudonym("x", subject.unit, experiment.salt), holdout, pseudonym("e", "", experiment.salt)[:8]
        )
        if subject.unit
        else None
    )
    if assigned == "holdout":
        return Decision(Reason.HOLDOUT, f"holdout {holdout:g}", exposure=exposure)
    shadow = bool(switches.of("shadow", search.policy, defaults.shadow))
    if late_legs.paused(now_s):
        late = "too many of this policy's legs came too late; none is sent for a minute"
        return Decision(Reason.SEARCH_LATE, late, shadow=shadow, exposure=exposure)
    permit = breaker.permit(now_s)
    if permit is None:
        return Decision(Reason.BREAKER_OPEN, breaker.why, shadow=shadow, exposure=exposure)
    return Decision(None, "", permit, shadow, exposure)
