"""Blocking times of each script in its worst cases, from the server's SLOWLOG.

    python -m bench.scripts

It starts a Valkey. One call of a script changes a bounded number of members, so no case can be worse than these: arrays of the
largest size, a bot that fills a whole batch, a full population that is due for aging, dead letters and waiting entries of 60 KB.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rewriter.client.registry import around
from rewriter.settings import IngestSettings, PolicySettings, Settings, SignalSettings, StoreSettings
from rewriter.signals.counters import Counters, Value
from rewriter.signals.events import MAX_VALUES, Event, parse
from rewriter.signals.ingest.batch import POPULATION_KEPT, CountingRules
from rewriter.signals.ingest.contract import StreamKeys, append_command
from rewriter.signals.ingest.erasure import forget_all
from rewriter.signals.ingest.objects import Objects
from rewriter.signals.ingest.scripts import NAMES, digest_of, text_of
from rewriter.signals.ingest.worker import Worker
from rewriter.signals.near_table import name_table, write_slots
from rewriter.signals.neighbours import Table
from rewriter.signals.redis_store import RedisStore
from rewriter_engines import Valkey

BATCH = 1_000
LARGE = 60_000
"""Bytes of a large event."""
FIELDS = ("brand", "color", "size")


class NoIndex:
    """An index without documents."""

    def field_caps(self, *, index: str, **_: Any) -> Any:
        """Return the index alone."""
        return {"indices": [index], "fields": {"_id": {"_id": {"searchable": True, "aggregatable": True}}}}

    def search(self, **_: Any) -> Any:
        """Find nothing."""
        return {"hits": {"total": {"value": 0}, "hits": []}}


@dataclass
class Scene:
    """One worker, one partition, one store."""

    url: str
    store: RedisStore
    settings: Settings
    plan: CountingRules
    keys: StreamKeys
    worker: Worker

    @classmethod
    def of(cls, url: str, prefix: str, **policy: Any) -> Scene:
        """Return a scene with a prefix of its own. policy: further settings of its policy."""
        settings = Settings(
            store=StoreSettings(prefix=prefix),
            signals=SignalSettings(max_counters=1024, action_weights={"view": 1.0}),
            ingest=IngestSettings(partitions=1, batch=BATCH, retry_s=0.001),
            policies={
                "bench": PolicySettings.model_validate({"index": "x", "fields": {name: {} for name in FIELDS}} | policy)
            },
        )
        store, plan = RedisStore(url), CountingRules.of(settings)
        objects = Objects(
            around(NoIndex(), is_async=False),
            ["x"],
            plan.attributes,
            max_objects=10_000,
            age_s=60.0,
            clock_s=time.monotonic,
        )
        worker = Worker(store, store, objects, plan, clock_s=time.monotonic, now_s=time.time)
        return cls(url, store, settings, plan, StreamKeys(prefix), worker)

    def append(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Append events as producers do."""
        commands = []
        for one in events:
            raw = json.dumps(one).encode()
            found = parse(raw)
            assert isinstance(found, Event)
            commands.append(append_command(self.keys, found, raw, 1))
        for start in range(0, len(commands), 100):
            for reply in self.store.run(commands[start : start + 100]):
                assert not isinstance(reply, Exception), reply

    def drain(self) -> None:
        """Work until no entry waits."""
        self.worker.due()
        until_s = time.monotonic() + 120.0
        while self.worker.step() or self.worker.backlog.entries:
            self.worker.due()
            assert time.monotonic() < until_s, self.worker.trouble
        assert not self.worker.trouble, self.worker.trouble


def view(user: str, number: int, values: int = MAX_VALUES, size: int = 0, **more: Any) -> dict[str, Any]:
    """Return a view of an object with `values` new values in each field, in at least `size` bytes."""
    document = {name: [f"{name} {number} {at}" for at in range(values)] for name in FIELDS}
    return {
        "action_name": "view",
        "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "user_id": user,
        "session_id": f"session-{user}",
        "padding": "x" * size,
        "event_attributes": {"object": {"object_id": f"p{number}", "attributes": document}},
    } | more


def many_values(scene: Scene) -> None:
    """A batch of users whose objects have 49 values each, all counted in one population."""
    scene.append([view(f"u{number}", number) for number in range(BATCH)])
    scene.drain()


def one_bot(scene: Scene) -> None:
    """A batch of one user in one session."""
    scene.append([view("bot", number) for number in range(BATCH)])
    scene.drain()


def one_value_each(scene: Scene) -> None:
    """A batch of entries with one member each: the cost of an entry itself."""
    for _ in range(2):
        scene.append([view("bot", number, values=0) for number in range(BATCH)])
        scene.drain()


def full_population(scene: Scene) -> None:
    """A population of 20,000 members whose landmark must move."""
    at_s = time.time() - scene.settings.signals.profile_half_life_s / 3
    weights: dict[Value, float] = {("brand", f"value {at}"): 1.0 + at for at in range(POPULATION_KEPT)}
    for _ in range(3):
        counters = Counters(weights, {"brand": sum(weights.values())}, at_s, at_s, 1.0)
        scene.store.write(scene.plan.keys.population(0), counters, None)
        scene.append([view("u1", 1)])
        scene.drain()


def large_dead_letters(scene: Scene) -> None:
    """A batch of refused events of 60 KB each."""
    scene.append([view(f"u{number}", number, size=LARGE, action_name="yawn") for number in range(BATCH // 2)])
    scene.drain()


def large_waiting(scene: Scene) -> None:
    """A batch of events of 60 KB each whose objects are not in the index: they wait, are retried, and become dead letters."""
    lone = {"object": {"object_id": "missing"}}
    scene.append([view(f"u{number}", number, size=LARGE, event_attributes=lone) for number in range(BATCH // 2)])
    scene.drain()
    time.sleep(0.01)
    scene.drain()


def many_segments(scene: Scene) -> None:
    """Events that name eight segments each, new ones until there are as many as a store knows."""
    for number in range(150):
        names = {"segments": [f"segment-{number}-{at}" for at in range(8)]}
        scene.append([view("u1", number, event_attributes=view("u1", number, values=1)["event_attributes"] | names)])
        scene.drain()


def come_and_go(scene: Scene) -> None:
    """A worker that acquires and releases its partition."""
    for _ in range(120):
        scene.worker.beat()
        scene.worker.close()


def jobs(scene: Scene) -> None:
    """Profiles of 500 members that a job writes, and users that are forgotten."""
    users = [f"u{number}" for number in range(120)]
    now_s = time.time()
    weights: dict[Value, float] = {("brand", f"value {at}"): 1.0 + at for at in range(500)}
    for user in users:
        scene.store.write(scene.plan.keys.profile(user), Counters(weights, {"brand": 9.0}, now_s, now_s, 1.0), None)
    scene.append([view(user, 1, values=1) for user in users])
    scene.drain()
    forget_all(scene.store, scene.store, scene.plan, users)


def by_class(scene: Scene) -> None:
    """A bot in one class: 64 items, 64 attributes and 64 neighbours of it are packed anew with each of its events."""
    within = {"class_and_size": {"of": ["kind", "size"]}}
    scene = Scene.of(scene.url, scene.keys.prefix, fields=within, class_field="kind", discovery=1)
    items = [f"p{number}" for number in range(BATCH)]
    near = {one: tuple((items[(at + step) % BATCH], 0.5) for step in range(1, 6)) for at, one in enumerate(items)}
    table = Table("bench", 16, BATCH)
    write_slots(scene.store.run, scene.plan.keys, table, near.items())
    name_table(scene.store.run, scene.plan.keys, table)
    for start in (0, 1):
        events = []
        for number, one in enumerate(items[start::2]):
            acted_on = {"object_id": one, "attributes": {"kind": "k" * 40, "size": f"s{number}"}}
            events.append(view("bot", number, event_attributes={"object": acted_on}))
        scene.append(events)
        scene.drain()


CASES = (
    by_class,
    many_values,
    one_bot,
    one_value_each,
    full_population,
    large_dead_letters,
    large_waiting,
    many_segments,
    come_and_go,
    jobs,
)


def durations_ms(
    server: Valkey, cases: Sequence[Callable[[Scene], None]] = CASES
) -> Iterator[tuple[str, str, list[float]]]:
    """Yield case, script and the sorted milliseconds of its calls: at least 100 for the scripts that the case measures."""
    names = {digest_of(name): name for name in NAMES}
    with server.client() as client:
        for name in NAMES:
            client.script_load(text_of(name))
        client.config_set("slowlog-log-slower-than", 0)
        client.config_set("slowlog-max-len", 1_000_000)
        for number, case in enumerate(cases):
            client.slowlog_reset()
            case(Scene.of(server.url, f"case{number}"))
            found: dict[str, list[float]] = {}
            for one in client.slowlog_get(1_000_000):
                command, _, rest = one["command"].partition(b" ")
                if command == b"EVAL":  # the stores' own
                    found.setdefault("write", []).append(one["duration"] / 1000.0)
                if command == b"EVALSHA":
                    found.setdefault(names[rest.partition(b" ")[0].decode()], []).append(one["duration"] / 1000.0)
            for name, taken in sorted(found.items()):
                yield case.__name__, name, sorted(taken)
            client.flushall()


def main() -> None:
    """Print the table."""
    print(f"{'case':20}{'script':10}{'calls':>7}{'p50 ms':>9}{'p99 ms':>9}{'worst ms':>10}")
    with Valkey() as server:
        for case, name, taken in durations_ms(server):
            p50, p99 = taken[len(taken) // 2], taken[int(len(taken) * 0.99)]
            print(f"{case:20}{name:10}{len(taken):7,}{p50:9.2f}{p99:9.2f}{taken[-1]:10.2f}")


if __name__ == "__main__":
    main()
