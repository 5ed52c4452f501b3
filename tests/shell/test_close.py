"""`close()` in a signal handler: what it interrupts holds locks, and goes on only after it returns."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

SIGNALLED = """
    import signal, threading, time
    from rewriter import Rewriter, Settings, Subject
    from tests.fakes import Client, FakeEngine, waited

    NOWHERE = "redis://127.0.0.1:1"
    POLICY = {"index": "products", "fields": {"brand": {}}}
    SETTINGS = Settings.model_validate(
        {"store": {"url": NOWHERE}, "signals": {"action_weights": {"click": 1.0}}, "policies": {"p": POLICY}}
    )
    EVENT = {"action_name": "click", "user_id": "u", "event_attributes": {"object": {"object_id": "p1"}}}

    class Interrupted:
        def __init__(self, queue):
            self.queue = queue

        def __getattr__(self, name):
            return getattr(self.queue, name)

        def put(self, *item):
            if threading.current_thread() is threading.main_thread():
                signal.raise_signal(signal.SIGTERM)
            return self.queue.put(*item)

        def __len__(self):
            return len(self.queue)

    def ours():
        return {one.name for one in threading.enumerate() if one.name.startswith("rewriter-")}

    for call in ("search", "track"):
        engine, took_s = FakeEngine(), []
        rewriter = Rewriter(Client(engine), settings=SETTINGS, leg_client=Client(engine, "personal"))

        def closes(*_):
            began_s = time.monotonic()
            rewriter.close()
            took_s.append(time.monotonic() - began_s)

        signal.signal(signal.SIGTERM, closes)
        runtime = rewriter._runtime
        if call == "search":
            runtime.parts._queue = Interrupted(runtime.parts._queue)
        else:
            runtime.tracker._outbox = Interrupted(runtime.tracker._outbox)
        while not took_s:
            found = rewriter.search(index="products", body={"query": {"match": {"title": "x"}}, "from": 0}, subject=Subject("u"))
            assert len(found["hits"]["hits"]) == 10
            rewriter.track({**EVENT, "timestamp": int(time.time() * 1000)})
        assert waited(lambda: not ours()), ours()
        assert rewriter.status().problems == ("the rewriter is closed",)
        print(call, took_s[0] < 1.0)
"""


def test_close_in_a_signal_handler_waits_for_no_lock_of_what_it_interrupts() -> None:
    command = [sys.executable, "-c", textwrap.dedent(SIGNALLED)]
    ran = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False, timeout=90
    )
    assert ran.stdout == "search True\ntrack True\n", ran.stderr
