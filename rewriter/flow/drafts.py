"""The draft on trial that a search is served, if any.

A draft never stands in anybody's way. What is not loaded, switched off, equal to the live version or held by the quarantine is not
served: the live version is. A search with a draft goes parallel, is outside the experiment, and counts neither for the breaker and
late legs nor for hedges and classes of queries, which all searches of the policy share.
"""

from __future__ import annotations

from rewriter.boost.templates import TemplateSet
from rewriter.flow.evidence import held_by
from rewriter.flow.steps import CallContext


def draft_for(call: CallContext) -> TemplateSet | None:
    """Return the draft that this search is served, None for the live version."""
    name = call.search.policy
    trial = call.core.trials.get(name) if name is not None and call.core.trials else None
    if trial is None or name is None or call.search.passed is not None:
        return None
    draft = call.snapshot.trials.get(name)
    if draft is None or not trial.serves(call.subject, call.search.headers) or not call.is_draft(draft.version):
        return None
    if not call.snapshot.switches.of("trial", name, call.core.settings.switches.trial):
        return None
    return None if held_by(call, "personalized", draft.version) else draft
