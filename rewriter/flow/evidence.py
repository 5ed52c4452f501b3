"""Evidence for and against templates: noted from the outcomes of legs, and read before a leg is sent (see `decide/quarantine`)."""

from __future__ import annotations

from rewriter.decide.quarantine import Attempt, Evidence, Leg, Version
from rewriter.decide.senders import Sender, sender_of
from rewriter.flow.body_form import form_of, works_out_per_hit
from rewriter.flow.steps import CallContext, Explored, Personal, SearchContext
from rewriter.index_facts import term_fields
from rewriter.journal import redacted
from rewriter.parsed_search import ParsedSearch
from rewriter.report import Reason


def held_by(context: CallContext, leg: Leg, version: str) -> tuple[Reason, str] | None:
    """Return the reason and detail for which a leg of this search is held back, or None."""
    held = context.core.quarantine.held(_attempt(context, leg, version), context.clock_s())
    if held is None:
        return None
    if held.template:
        return Reason.QUARANTINED, f"template {held} was rejected; it is tried again by itself"
    return Reason.REJECTED_BEFORE, "searches of this form were rejected with boosts; they are tried again by themselves"


def _attempt(context: CallContext, leg: Leg, version: str) -> Attempt:
    search = context.search
    of = Version(context.name, version, leg)
    return Attempt(of, search.expression.key, lambda: form_of(search.body), lambda: sender(search))


def sender(search: ParsedSearch) -> Sender:
    """Return what a search carries to the server besides its body."""
    return sender_of(search.headers, search.params)


def template_failed(context: SearchContext, leg: Leg, version: str, cause: str) -> None:
    """Note that a template failed to render. The search's form is never the cause of that, nor its headers."""
    _failed(context, leg, version, cause, None, of_form=False)


def rejected(context: SearchContext, leg: Leg, version: str, cause: str) -> None:
    """Note that the server rejected a leg whose baseline it accepted."""
    _failed(context, leg, version, cause, sender(context.search), of_form=works_out_per_hit(context.search.body))


def accepted(context: SearchContext, leg: Leg, version: str) -> None:
    """Note that the server accepted a leg."""
    context.core.quarantine.worked(_attempt(context, leg, version), context.clock_s())


def judge(context: SearchContext, part: Personal, explored: Explored | None) -> None:
    """Note the outcomes of the legs as evidence for or against their templates.

    Only once the search itself is known to be sound: the baseline was answered, or the search that stands in for it. What the
    caller wrote wrongly, the server refuses in the legs too.
    """
    version = part.version or context.templates.version
    if part.reason is Reason.TEMPLATE_FAILED:
        template_failed(context, "personalized", version, part.cause)
    elif part.reason is Reason.SEARCH_REJECTED:
        rejected(context, "personalized", version, part.cause or part.detail)
    elif part.reason in (Reason.PERSONALIZED, Reason.ANSWERS_DIFFER):
        accepted(context, "personalized", version)
    if explored is not None and explored.rejected:
        rejected(context, "exploration", context.templates.version, explored.rejected)


def _failed(context: SearchContext, leg: Leg, version: str, cause: str, by: Sender | None, *, of_form: bool) -> None:
    subject = hash(context.subject.unit or tuple(context.subject.segments))
    evidence = Evidence(
        context.search.expression.key, form_of(context.search.body), subject, of_form, context.is_draft(version), by
    )
    names = term_fields(context.policy) | {context.policy.date_field or "", "dict object", *context.search.indices}
    context.core.quarantine.failed(
        Version(context.name, version, leg), evidence, redacted(cause, names), context.clock_s()
    )
