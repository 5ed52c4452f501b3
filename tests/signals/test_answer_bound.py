"""Errors whose chain of causes contains a cycle, as when one is raised while another is handled."""

from __future__ import annotations

from redis.exceptions import ConnectionError as Unreachable

from rewriter.signals.answer_bound import _TooManyBytesError, too_large


def test_a_chain_of_errors_that_leads_back_to_itself_ends() -> None:
    first, second = Unreachable("away"), OSError("refused")
    first.__cause__, second.__context__ = second, first
    assert not too_large(first)
    assert not too_large(second)


def test_the_bound_is_found_behind_whatever_was_raised_from_it() -> None:
    bound, outer = _TooManyBytesError(), Unreachable("away")
    outer.__context__ = bound
    bound.__context__ = outer
    assert too_large(outer)
    assert too_large(bound)
    assert not too_large(None)
