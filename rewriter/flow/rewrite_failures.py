"""Failures of rewritten searches: which of them draw on the policy's budget of hedges, and which searches are not rewritten next.

One caller's search must not stop the rewriting of the others. So a failure that the search itself may have caused is kept for
searches of its form alone: one that its own `timeout` cut short, and one that a shard refused while it computes something per hit.
"""

from __future__ import annotations

from rewriter.client.faults import overloaded
from rewriter.flow.body_form import form_of, works_out_per_hit
from rewriter.flow.page import cut_short, own_timeout, partial
from rewriter.flow.personal import NOT_SENT
from rewriter.flow.steps import Personal, SearchContext
from rewriter.report import Reason


def failed(part: Personal) -> bool:
    """Whether a rewritten search failed, so that another one was sent for nothing. An answer that covers only a part of the
    matches is remembered instead, unless the server was overloaded.
    """
    if part.reason not in (Reason.SEARCH_FAILED, Reason.SEARCH_LATE) or part.detail == NOT_SENT:
        return False
    return not part.response or not partial(part.response) or overloaded(part.response)


def shows_the_server(part: Personal) -> bool:
    """Whether a failure shows the state of the server. A client that sends nothing, for a malformed header, fails as one without a
    connection does.
    """
    return part.reason is Reason.SEARCH_LATE or part.status is not None or bool(part.response)


def remember(context: SearchContext, part: Personal, *, own_sound: bool, now_s: float) -> None:
    """Have searches go parallel that would cover only a part of the matches again, if this one did.

    own_sound: whether the caller's own search covered all of them.
    """
    lost = partial(part.response)
    if not lost or overloaded(part.response):
        return
    body, key = context.search.body, context.search.expression.key
    refused = part.reason is Reason.SEARCH_REJECTED or bool(part.response.get("terminated_early"))
    facts, why = (context.facts if refused and own_sound else None), f"a rewritten search of these indices {lost}"
    if cut_short(context, part) or (refused and (not own_sound or works_out_per_hit(body))):
        key, why = _form_key(context), f"a rewritten search of this form {lost}"
    context.core.unrewritten.put_expression(key, facts, why, now_s)


def remembered(context: SearchContext) -> str:
    """Return in words why the search goes parallel, after what others of its indices or form have shown, or ""."""
    unrewritten = context.core.unrewritten
    if not unrewritten.any_expression:
        return ""
    now_s, facts = context.clock_s(), context.facts
    found = unrewritten.expression(context.search.expression.key, facts, now_s)
    return found or unrewritten.expression(_form_key(context), facts, now_s)


def _form_key(context: SearchContext) -> str:
    form = form_of(context.search.body)
    return f"{context.search.expression.key} {form:x} {own_timeout(context)!s:.20}"
