"""The store of a preview: it reads all of a subject's signals but the plans of lists, and writes nothing."""

from __future__ import annotations

from dataclasses import fields

from rewriter.cli.preview.read_only import ReadOnlyStore
from rewriter.signals.class_counters import ClassCounters
from rewriter.signals.counters import Counters
from rewriter.signals.memory_store import MemoryStore
from rewriter.signals.store import Keys, NewPlan, SavedPlans, Signals, SignalsQuery

LIKED = Counters({("brand", "nike"): 3.0}, {"brand": 3.0}, 1_000.0, 1_000.0, events=2.0)
BOOTS = ClassCounters({("size", "44"): 2.0}, 2.0, 1_000.0, 1_000.0)


def test_a_preview_reads_all_but_the_plans() -> None:
    store, keys = MemoryStore(), Keys()
    store.write(keys.profile("ann"), LIKED, None, {"boots": BOOTS})
    store.write(keys.session("s1"), LIKED, None)
    store.save_plans([NewPlan("plan", b"text", 60), NewPlan("other", b"text", 60)])
    query = SignalsQuery(
        keys.session("s1"), keys.profile("ann"), "plan", ("brand", "size"), 32, ("other",), classes=("boots",)
    )
    whole, read = store.read(query), ReadOnlyStore(store).read(query)
    assert (whole.plan, dict(whole.more_plans)) == (b"text", {"other": b"text"})
    assert (read.plan, dict(read.more_plans)) == (None, {})
    others = [one.name for one in fields(Signals) if one.name not in ("plan", "more_plans")]
    assert [getattr(read, name) for name in others] == [getattr(whole, name) for name in others]
    assert read.classes["boots"].weights == BOOTS.weights


def test_a_preview_writes_nothing() -> None:
    store, keys = MemoryStore(), Keys()
    preview = ReadOnlyStore(store)
    assert not preview.write(keys.profile("ann"), LIKED, None, {"boots": BOOTS})
    assert preview.save_plans([NewPlan("plan", b"text", 60)]) == SavedPlans()
    preview.write_text("text", "x")
    preview.change_text("text", lambda _: "x")
    preview.announce("fleet", "one", "x", 1.0)
    assert store._kept == {}
