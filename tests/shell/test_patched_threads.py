"""Threads that gevent or eventlet replace after the import: searches are the caller's own, and nothing waits in vain."""

from __future__ import annotations

import time

import pytest

from rewriter import Reason
from tests.fakes import SyncHarness
from tests.likes import ANN, SEARCH, SETTINGS, store


def test_searches_are_the_caller_s_own_and_nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real locks would stop the greenlet that waits for one, and with it all others: the search among them."""
    with SyncHarness(SETTINGS, store()) as harness:
        assert harness.search(ANN, SEARCH)[1].reason is Reason.PERSONALIZED
        with monkeypatch.context() as patched:
            patched.setattr("_thread.start_new_thread", lambda *_: pytest.fail("a greenlet was started"))
            started_s = time.monotonic()
            page, report = harness.search(ANN, SEARCH)
            assert (report.reason, page["hits"]["hits"] != []) == (Reason.BUSY, True)
            assert "monkey patch" in report.detail
            assert harness.rewriter.track({}) is False
            problems = harness.rewriter.status().problems
            assert [one.partition(":")[0] for one in problems if "monkey patch" in one] == ["store", "round threads"]
            assert time.monotonic() - started_s < 1.0
