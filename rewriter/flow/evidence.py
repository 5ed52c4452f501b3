"""Evidence for and against templates: what a leg's end says, and what is held by it (see `decide/quarantine`)."""

from __future__ import annotations

from rewriter.decide.quarantine import Evidence, Leg, Version
from rewriter.flow.body_form import form_of, works_out_per_hit
from rewriter.flow.steps import Ask
from rewriter.index_facts import term_fields
from rewriter.journal import redacted
from rewriter.report import Reason


def held_by(ask: Ask, leg: Leg, version: str) -> tuple[Reason, str] | None:
    """Return why a leg of this search is not sent, or None."""
    request = ask.request
    held = ask.core.quarantine.held(
        Version(ask.name, version, leg), request.expression.key, lambda: form_of(request.body), ask.clock_s()
    )
    if held is None:
        return None
    if held.template:
        return Reason.QUARANTINED, f"template {held} was rejected; it is tried again by itself"
    return Reason.REJECTED_BEFORE, "searches of this form were rejected with boosts; they are tried again by themselves"


def template_failed(ask: Ask, leg: Leg, version: str, cause: str) -> None:
    """Take a template that failed to render as evidence: whatever the form of the search, that is not its fault."""
    _failed(ask, leg, version, cause, of_form=False)


def rejected(ask: Ask, leg: Leg, version: str, cause: str) -> None:
    """Take a leg that the server rejected as evidence, where it bears the caller's own search."""
    _failed(ask, leg, version, cause, of_form=works_out_per_hit(ask.request.body))


def accepted(ask: Ask, leg: Leg, version: str) -> None:
    """Note that the server accepted a leg."""
    request = ask.request
    ask.core.quarantine.worked(
        Version(ask.name, version, leg), request.expression.key, lambda: form_of(request.body), ask.clock_s()
    )


def _failed(ask: Ask, leg: Leg, version: str, cause: str, *, of_form: bool) -> None:
    who = hash(ask.subject.unit or tuple(ask.subject.segments))
    evidence = Evidence(ask.request.expression.key, form_of(ask.request.body), who, of_form)
    names = term_fields(ask.policy) | {ask.policy.date_field or "", "dict object", *ask.request.indices}
    ask.core.quarantine.failed(Version(ask.name, version, leg), evidence, redacted(cause, names), ask.clock_s())
