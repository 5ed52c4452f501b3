"""Decision whether to personalize a search: checks in a fixed order, of which the first that fails gives the reason.

    subject and consent → switches → shape → rollout → holdout → shadow → late legs → breaker

The shape is checked before the experiment, so that both arms consist of searches on which boosts could act. The arm is assigned
before any signal is read, and a search of the holdout never reads the store.
"""

from __future__ import annotations

from functools import lru_cache

from rewriter.decide.assignment import arm
from rewriter.decide.breaker import Outcome, Permit
from rewriter.decide.guards import Guards
from rewriter.decide.switches import Switches, SwitchValue
from rewriter.parsed_search import ParsedSearch
from rewriter.record import record
from rewriter.report import Exposure, Reason
from rewriter.settings import Settings
from rewriter.subject import Subject, pseudonym


@record(frozen=True, slots=True)
class Decision:
    """The outcome of the checks.

    reason:   why not to personalize, with `detail` in words; None to personalize.
    permit:   the breaker's permit if `reason` is None; the caller must return it.
    shadow:   serve the baseline whatever the outcome; the report's detail then names the reason of the personalized search.
    exposure: the search's record in the experiment, None if it is not part of it.
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
"""Reasons that count for a policy's breaker, with their outcome; a shadow search counts by the reason that it would
have had. Late legs have a rate of their own, since a leg that is late for one search in ten still serves nine. Every other reason
returns its permit unused: no leg was sent, or the outcome is no evidence about the server. `flow/signals` has the rules of a
store's breaker.
"""


@record(frozen=True, slots=True)
class DecisionContext:
    """All that the decision for one search depends on.

    settings: those of the rewriter; `switches` override them.
    now_s:    monotonic seconds.
    trial:    whether the search is served a draft on trial. It is then outside the experiment.
    """

    search: ParsedSearch
    subject: Subject | None
    settings: Settings
    switches: Switches
    guards: Guards
    now_s: float
    trial: bool = False

    def switch(self, name: str, default: SwitchValue) -> SwitchValue:
        """Return the value of a switch for this search, `default` if nothing overrides it."""
        return self.switches.of(name, self.search.policy, default)


def decide(context: DecisionContext) -> Decision:
    """Return the decision for one search, and count it by its arm.

    From the holdout check on, the decision has an exposure, in both arms.
    """
    search, subject, guards = context.search, context.subject, context.guards
    defaults = context.settings.switches
    if subject is not None and not isinstance(subject, Subject):
        found = type(subject).__qualname__  # type: ignore[unreachable]  # callers need not check types
        return Decision(Reason.NO_SUBJECT, f"`subject` is of type {found}, not a Subject or None")
    if subject is None or not (subject.known or not subject.consent):
        return Decision(Reason.NO_SUBJECT, "the subject has no id and no segment")
    if not subject.consent:
        return Decision(Reason.NO_CONSENT)
    if not context.switch("personalization", defaults.personalization):
        return Decision(Reason.SWITCHED_OFF, f"by {context.switches.source_of('personalization', search.policy)}")
    if search.passed is not None or search.policy is None:
        return Decision(search.passed or Reason.NO_POLICY, search.detail)
    exposure: Exposure | None = None
    if not context.trial:
        assigned = _assigned(context, subject)
        if assigned.reason is not None:
            return assigned
        exposure = assigned.exposure
    shadow = bool(context.switch("shadow", defaults.shadow))
    if guards.late_legs[search.policy].paused(context.now_s):
        late = "too many of this policy's legs were late; none is sent for a minute"
        return Decision(Reason.SEARCH_LATE, late, shadow=shadow, exposure=exposure)
    hedging = guards.hedging.get(search.policy)
    if hedging is not None and hedging.paused(context.now_s):
        late = "too many of this policy's rewritten searches were late or failed; it sends none for a while"
        return Decision(Reason.SEARCH_LATE, late, shadow=shadow, exposure=exposure)
    breaker = guards.breakers[search.policy]
    permit = breaker.permit(context.now_s)
    if permit is None:
        return Decision(Reason.BREAKER_OPEN, breaker.why, shadow=shadow, exposure=exposure)
    return Decision(None, "", permit, shadow, exposure)


@lru_cache(maxsize=16)
def _experiment(salt: str) -> str:
    """Return the identifier of an experiment, which does not reveal its salt."""
    return pseudonym("e", "", salt)[:8]


def _assigned(context: DecisionContext, subject: Subject) -> Decision:
    """Assign the subject to an arm of the experiment, and count the search by it."""
    experiment, guards = context.settings.experiment, context.guards
    rollout = float(context.switch("rollout", experiment.rollout))
    holdout = float(context.switch("holdout", experiment.holdout))
    assigned = arm(
        subject.unit, rollout=rollout, holdout=holdout, salt=experiment.salt, interleaved=experiment.interleaved
    )
    guards.arms.note(subject, assigned)
    if assigned == "not_rolled_out":
        return Decision(Reason.NOT_ROLLED_OUT, f"rollout {rollout:g}")
    exposure = (
        Exposure(assigned, pseudonym("x", subject.unit, experiment.salt), holdout, _experiment(experiment.salt))
        if subject.unit
        else None
    )
    if assigned == "holdout":
        return Decision(Reason.HOLDOUT, f"holdout {holdout:g}", exposure=exposure)
    return Decision(None, exposure=exposure)
