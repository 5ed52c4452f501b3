"""The results of a search's parts, as its page takes them: a part that raised counts as one that failed."""

from __future__ import annotations

from rewriter.flow.steps import Collected, Explored, Personal
from rewriter.report import Reason, internal_fault


def personal_of(result: Personal | BaseException | None) -> Personal | None:
    """Return the result of a personal part; None if it did not arrive in time."""
    return Personal(Reason.SEARCH_FAILED, internal_fault(result)) if isinstance(result, BaseException) else result


def explored_of(result: Explored | BaseException | None) -> Explored | None:
    """Return the result of an exploration leg; None if it did not arrive in time."""
    return Explored(error=internal_fault(result)) if isinstance(result, BaseException) else result


def collected_in(results: list[Collected] | BaseException | None, number: int) -> Collected:
    """Return the results of one search of a batch, whose parts ran as one."""
    if isinstance(results, BaseException):
        return Collected(personal_of(results), None)
    return Collected(None, None) if results is None else results[number]
