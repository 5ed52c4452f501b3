"""A role whose rights are narrowed while the store is used: nothing is lost, doubled or taken for missing."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.exceptions import ResponseError

from rewriter.signals.counters import Counters
from rewriter.signals.ingest.erasure import forget
from rewriter.signals.ingest.worker import Worker
from rewriter.signals.redis_store import RedisStore
from rewriter.signals.store import NewPlan, SignalsQuery
from rewriter_engines import Valkey
from tests.fakes import waited
from tests.live.shop import Shop, an_event
from tests.needed import needed

DOCS = (Path(__file__).parents[2] / "docs" / "signals.md").read_text("utf-8")
NAME, PASSWORD = "shopkeeper", "open-sesame"
PRODUCT = {"brand": "b1", "type": "t1"}
LIKED = Counters({("item", "p1"): 1.0}, {"item": 1.0}, 1.0, 1.0)


class Role:
    """A role of a server, which may be narrowed and widened."""

    def __init__(self, server: Valkey) -> None:
        self.admin: Any = server.client()
        self.url = server.url.replace("//", f"//{NAME}:{PASSWORD}@")
        self.may("reset", "on", f">{PASSWORD}", "~*", "+@all")

    def may(self, *rules: str) -> None:
        self.admin.execute_command("ACL SETUSER", NAME, *rules)


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    with needed():
        found = Valkey()
    with found:
        yield found


@pytest.fixture
def role(server: Valkey) -> Iterator[Role]:
    found = Role(server)
    yield found
    found.admin.close()


@pytest.fixture
def shop(role: Role, prefix: str) -> Shop:
    return Shop(role.url, prefix, partitions=1, retry_s=0.01, dead_letters=10)


def beaten(worker: Worker) -> bool:
    """Run a round with a beat, which moves back what waited."""
    worker.due()
    return worker.step() >= 0


def profile(shop: Shop, user: str) -> Counters | None:
    query = SignalsQuery(None, shop.plan.keys.profile(user), None, ("item",), 500)
    return shop.store.read(query).profile


def test_the_rights_that_the_docs_name_suffice(role: Role, shop: Shop) -> None:
    (rules,) = re.findall(r"`ACL SETUSER NAME on >PASSWORD ~rw:\* ([^`]+)`", DOCS)
    role.may("resetkeys", "nocommands", f"~{shop.settings.store.prefix}:*", *rules.split())
    segments = {"object": {"object_id": "p1", "object_id_field": "_id"}, "segments": ["s1"]}
    shop.append([an_event("u1"), an_event("u2", "p-gone"), an_event("u2", event_attributes=segments)])
    worker = shop.worker()
    assert waited(lambda: beaten(worker) and worker.counts["missing"] == 1)
    assert worker.trouble == ""
    assert forget(shop.store, shop.store, shop.plan, "u1")["profiles"] == 1
    keys, prefix = shop.plan.keys, shop.settings.store.prefix
    assert shop.store.write(keys.profile("u3"), LIKED, 100)
    query = SignalsQuery(keys.session("s-u2"), keys.profile("u2"), f"{keys.session('s-u2')}:plan:0", ("item",), 9)
    assert shop.store.save_plans([NewPlan(query.plan or "", b"{}", 100)]).refused == 0
    found = shop.store.read(query)
    assert (found.failed, found.plan) == (frozenset(), b"{}")
    shop.store.change_text(f"{prefix}:switches", lambda _: "{}")
    shop.store.announce(f"{prefix}:fleet", "me", "{}", time.time())
    assert shop.store.announced(f"{prefix}:fleet") == {"me": "{}"}
    assert shop.store.run([("GET", f"{prefix}:switches")], atomic=True) == [b"{}"]
    shop.store.ping()


@pytest.mark.parametrize(
    "command", ["zrem", "xadd", "xtrim", "zcount", "hincrby", "hmget", "pexpire", "zrange", "time", "evalsha"]
)
def test_a_command_that_the_role_loses_during_ingest_loses_and_doubles_nothing(
    role: Role, shop: Shop, command: str, caplog: pytest.LogCaptureFixture
) -> None:
    worker = shop.worker()
    shop.drain(worker)
    known, late, never = (an_event("u1", one) for one in ("p1", "late", "never"))
    shop.append([known, late, never])
    assert worker.step() == 3  # two wait
    shop.append([known, late, known, never])
    role.may(f"-{command}")
    time.sleep(0.02)  # what waits is due
    with caplog.at_level(logging.ERROR, "rewriter"):
        for _ in range(4):
            worker.step()
            worker.due()
    assert "the store refuses a command" in worker.trouble or command == "zrange"
    assert "is paused" not in caplog.text  # it is no fault of a partition
    assert PASSWORD not in caplog.text
    role.may(f"+{command}")
    shop.index.documents["late"] = PRODUCT
    caplog.clear()
    assert waited(lambda: beaten(worker) and shop.total("counted") + shop.total("missing") == 7)
    assert worker.trouble == ""
    assert shop.total("passed") == shop.added(0) == 7 + shop.total("waiting")
    assert len(shop.dead()) == shop.total("missing") in (2, 3, 4)  # whether the second look-up came before the object
    assert shop.total("lost") == 0
    found = profile(shop, "u1")
    assert found is not None
    assert found.events == shop.total("counted")
    assert found.totals["item"] == pytest.approx(2.0 * found.events, rel=1e-3)


@pytest.mark.parametrize("command", ["zrange", "hgetall", "unlink", "hset", "expire"])
def test_a_user_is_forgotten_as_a_whole_or_not_at_all(role: Role, shop: Shop, command: str) -> None:
    """Before, sessions that the role could not list stayed, and the command said that all was removed."""
    shop.append([an_event("u1")])
    shop.drain(shop.worker())
    role.may(f"-{command}")
    with pytest.raises(ResponseError):
        forget(shop.store, shop.store, shop.plan, "u1")
    role.may(f"+{command}")
    assert profile(shop, "u1") is not None
    done = forget(shop.store, shop.store, shop.plan, "u1")
    assert (done["profiles"], done["sessions"]) == (1, 1)


def test_what_a_role_may_not_read_is_not_overwritten(role: Role, shop: Shop) -> None:
    """A tombstone, and the list of segments: they are no other kind of key, but they cannot be read."""
    user = shop.plan.keys.profile("u1")
    shop.append([an_event("u1", event_attributes={**an_event("u1")["event_attributes"], "segments": ["s1"]})])
    shop.drain(worker := shop.worker())
    forget(shop.store, shop.store, shop.plan, "u1")
    role.may("-hgetall", "-hget", "-get")
    with pytest.raises(ResponseError):
        shop.store.write(user, LIKED, 100)
    assert shop.store.save_plans([NewPlan(f"{user}:plan:0", b"{}", 100)]).refused == 1
    shop.append([an_event("u2", event_attributes={**an_event("u2")["event_attributes"], "segments": ["s2"]})])
    worker.step()
    role.may("+@all")
    assert waited(lambda: beaten(worker) and worker.counts["counted"] == 2)
    assert shop.store.run([("GET", shop.keys.segments)]) == [b'["s1","s2"]']
    assert not shop.store.write(user, LIKED, 100)  # it is forgotten still
    assert profile(shop, "u1") is None


def test_a_password_that_changes_under_a_worker_costs_a_pause(
    role: Role, shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    worker = shop.worker()
    shop.drain(worker)
    shop.append([an_event("u1")] * 3)
    role.may("resetpass", ">another")
    role.admin.client_kill_filter(skipme=True, _type="normal")
    assert worker.step() == 0
    assert "AuthenticationError" in worker.trouble or "ConnectionError" in worker.trouble
    assert worker.step() == 0
    assert "AuthenticationError" in worker.trouble
    with pytest.raises(redis.AuthenticationError):
        RedisStore(role.url).ping()
    role.may("resetpass", f">{PASSWORD}")
    shop.drain(worker)
    assert worker.counts["counted"] == 3
    assert PASSWORD not in caplog.text
    assert NAME not in caplog.text
