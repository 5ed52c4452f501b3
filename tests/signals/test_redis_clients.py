"""Store URLs and clients: which are accepted, and the faults of the others. No test connects."""

from __future__ import annotations

from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import pytest
import redis
import redis.asyncio as aio
from redis.backoff import NoBackoff
from redis.retry import Retry

from rewriter.errors import ConfigurationError, StoreError
from rewriter.signals import redis_store
from rewriter.signals.memory_store import AsyncMemoryStore, MemoryStore
from rewriter.signals.redis_clients import EVENT_LOOP, THREADS, Api, StoreAddress, opened, sentinels, store_address
from rewriter.signals.redis_store import AsyncRedisStore, RedisStore, open_async_store, open_store

NEVER = Retry(NoBackoff(), 0)
PATIENT = Retry(NoBackoff(), 3)
sync: Any = redis
"""Much of redis-py has no types."""


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("redis://h", StoreAddress("redis://h", None, (("h", 6379),))),
        ("rediss://u:p%40@h:1/3?protocol=3", StoreAddress("rediss://u:p%40@h:1/3?protocol=3", None, (("h", 1),))),
        ("redis://[::1]:5/0", StoreAddress("redis://[::1]:5/0", None, (("::1", 5),))),
        ("unix:///run/valkey.sock?db=2", StoreAddress("unix:///run/valkey.sock?db=2")),
        ("unix://u@/run/valkey.sock", StoreAddress("unix://u@/run/valkey.sock")),
        (
            "redis+cluster://:p@a:1,b,[::1]:7/",
            StoreAddress("redis://:p@a:1", "cluster", (("a", 1), ("b", 6379), ("::1", 7))),
        ),
        ("rediss+cluster://a/0", StoreAddress("rediss://a/0", "cluster", (("a", 6379),))),
        ("redis+sentinel://a:1,b/main", StoreAddress("redis://a:1", "sentinel", (("a", 1), ("b", 26379)), "main")),
        (
            "rediss+sentinel://u:p@a/main/2?ssl_ca_certs=/ca.pem",
            StoreAddress("rediss://u:p@a/2?ssl_ca_certs=/ca.pem", "sentinel", (("a", 26379),), "main"),
        ),
    ],
)
def test_a_store_url_gives_its_address(url: str, meant: StoreAddress) -> None:
    assert store_address(url) == meant


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("h:6379", "cannot be read"),
        ("http://h", "cannot be read"),
        ("redis://", "cannot be read"),
        ("redis://a,b", "cannot be read"),
        ("redis://h:port", "cannot be read"),
        ("redis://h:99999", "cannot be read"),
        ("redis://h/sessions", "cannot be read"),
        ("redis://:unquoted/password@h", "cannot be read"),
        ("unix://", "cannot be read"),
        ("unix+cluster:///run/valkey.sock", "cannot be read"),
        ("redis+cluster://a,,b", "cannot be read"),
        ("redis+cluster://a/3", "cannot be read"),
        ("redis+sentinel://a:1,b:2", "cannot be read"),
        ("redis+sentinel://a/main/x", "cannot be read"),
        ("redis://h?socket_timeout=soon", "cannot be read"),
        ("redis://h?decode_responses=yes&retry_on_timeout=yes", "may not set decode_responses, retry_on_timeout"),
        ("redis://h?socket_timeout=nan&max_connections=0", "sets max_connections, socket_timeout out of range"),
        ("redis+cluster://h?protocol=1", "sets protocol out of range"),
        ("redis://:S3cret?password@h:6379/0", "cannot be read"),
        ("redis://h?S3cretPassword=x", "may not set an option whose name is none"),
        ("redis://h?ssl_ca_certs=/ca.pem&ssl_keyfile=/k", "sets ssl_ca_certs, ssl_keyfile without TLS"),
        ("redis+cluster://h?ssl_cert_reqs=none", "sets ssl_cert_reqs without TLS"),
        ("redis+sentinel://h/main?ssl_password=x", "sets ssl_password without TLS"),
        ("rediss://h?ssl_cert_reqs=CERT_REQUIRED", "sets an unknown ssl_cert_reqs"),
        ("rediss+cluster://h?ssl_cert_reqs=2", "sets an unknown ssl_cert_reqs"),
        ("redis://h?client_name=my%20shop", "client_name has a blank"),
        ("redis://h?client_name=", "client_name has a blank"),
        ("redis://h?client_name=caf%C3%A9", "client_name has a blank"),
    ],
)
def test_urls_that_are_refused(url: str, what: str) -> None:
    for opening in (open_store, open_async_store):
        with pytest.raises(ConfigurationError, match=what) as refused:
            opening(url)
        assert not [secret for secret in ("password@", "S3cret") if secret in str(refused.value)]


@pytest.mark.parametrize("api", [THREADS, EVENT_LOOP], ids=["threads", "loop"])
@pytest.mark.parametrize("url", ["redis://h", "rediss://h", "redis+sentinel://h/main", "rediss+sentinel://h/main"])
def test_clients_of_ours_ask_once_and_wait_for_nothing_but_the_answer(url: str, api: Api) -> None:
    client = opened(store_address(url), 7, api)
    for one in (client, *sentinels(client)):
        arguments = one.connection_pool.connection_kwargs
        assert arguments["retry"].get_retries() == 0
        assert (arguments["socket_timeout"], arguments["socket_connect_timeout"]) == (1.0, 1.0)
        assert not arguments.get("decode_responses")
        assert not arguments["health_check_interval"]
        assert ("SSL" in one.connection_pool.connection_class.__name__) == url.startswith("rediss")
    assert client.connection_pool.max_connections == 7


def test_what_a_url_says_wins() -> None:
    client = opened(store_address("redis://h/3?socket_timeout=0.5&max_connections=9&protocol=3"), 7, THREADS)
    arguments = client.connection_pool.connection_kwargs
    assert (arguments["db"], arguments["socket_timeout"], int(arguments["protocol"])) == (3, 0.5, 3)
    assert client.connection_pool.max_connections == 9


def test_credentials_are_for_the_servers_and_not_for_their_sentinels() -> None:
    client = opened(store_address("redis+sentinel://u:p@a/main/2"), 7, THREADS)
    arguments = client.connection_pool.connection_kwargs
    assert (arguments["username"], arguments["password"], arguments["db"]) == ("u", "p", 2)
    assert [one.connection_pool.connection_kwargs["password"] for one in sentinels(client)] == [None]


# --- clients that were given ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "faults"),
    [
        (redis.Redis(socket_timeout=1), ["retries"]),
        (redis.Redis(retry=PATIENT, socket_timeout=1), ["retries"]),
        (redis.Redis(retry=NEVER, socket_timeout=1, decode_responses=True), ["decodes"]),
        (redis.Redis(retry=NEVER, socket_timeout=1, health_check_interval=30), ["pings"]),
        (redis.Redis(retry=NEVER, socket_timeout=None), ["waits for an answer"]),
        (redis.Redis(connection_pool=sync.BlockingConnectionPool()), ["waits for a free connection"]),
        (redis.Redis(connection_pool=redis.ConnectionPool(retry_on_timeout=True)), ["retries"]),
        (redis.Redis(decode_responses=True, socket_timeout=None), ["retries", "decodes", "waits for an answer"]),
        (sync.Sentinel([("h", 1)], retry=NEVER, socket_timeout=1).master_for("main"), ["retries"]),
    ],
)
def test_a_client_that_cannot_serve_searches_is_refused_with_all_its_faults(client: Any, faults: list[str]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        open_store(client)
    assert [
        fault.what.removeprefix("the client ")[: len(what)]
        for fault, what in zip(refused.value.faults, faults, strict=True)
    ] == faults


def test_a_patient_client_for_the_event_loop_is_refused_too() -> None:
    for client in (aio.Redis(), aio.RedisCluster(host="h")):
        with pytest.raises(ConfigurationError, match="retries"):
            open_async_store(client)


@pytest.mark.parametrize("given", [aio.Redis(), 17, object()])
def test_what_is_no_store_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"is not a store \(pass a URL, a redis.Redis"):
        open_store(given)


def test_a_url_a_client_or_a_store_makes_a_store() -> None:
    store = MemoryStore()
    assert open_store(None) is None
    assert open_store(store) is store
    assert isinstance(open_store("memory://"), MemoryStore)
    assert isinstance(open_store("redis+cluster://nobody.invalid"), RedisStore)
    assert isinstance(open_store(redis.Redis(retry=NEVER, socket_timeout=1)), RedisStore)


async def test_what_makes_a_store_for_the_event_loop() -> None:
    store = AsyncMemoryStore()
    assert open_async_store(None) is None
    assert open_async_store(store) is store
    assert isinstance(open_async_store("memory://"), AsyncMemoryStore)
    assert isinstance(open_async_store(MemoryStore()), AsyncMemoryStore)
    assert isinstance(open_async_store("redis+cluster://nobody.invalid"), AsyncRedisStore)
    assert isinstance(
        open_async_store(aio.Redis(retry=aio.retry.Retry(NoBackoff(), 0), socket_timeout=1)), AsyncRedisStore
    )


# --- connecting -------------------------------------------------------------------------------------------------------


def test_while_one_thread_connects_the_others_fail_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = Event(), Event()

    def slow(*_: Any) -> Any:
        begun.set()
        assert go_on.wait(10)
        return SimpleNamespace(ping=lambda: True, close=lambda: None)

    monkeypatch.setattr(redis_store, "opened", slow)
    store = RedisStore("redis+cluster://h")
    first = Thread(target=store.ping)
    first.start()
    assert begun.wait(10)
    with pytest.raises(StoreError, match="still connecting"):
        store.ping()
    go_on.set()
    first.join(10)
    store.ping()
    store.close()


def test_after_a_failure_to_connect_the_next_read_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[StoreAddress] = []

    def refused(where: StoreAddress, *_: Any) -> Any:
        tried.append(where)
        raise redis.ConnectionError("refused")

    monkeypatch.setattr(redis_store, "opened", refused)
    store = RedisStore("redis+cluster://h")
    for _ in range(2):
        with pytest.raises(redis.ConnectionError):
            store.ping()
    assert len(tried) == 2


def test_a_closed_store_connects_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a background thread that was in the middle of several reads looks the name up again after `close`."""

    def never(*_: Any) -> Any:
        raise AssertionError("it connects")

    store = RedisStore("redis://store.invalid")
    monkeypatch.setattr(redis_store, "opened", never)
    store.close()
    for call in (store.ping, lambda: store.run([("GET", "a")]), lambda: list(store.keys("*"))):
        with pytest.raises(StoreError, match="the store is closed"):
            call()
    store.close()


@pytest.mark.parametrize(
    ("opening", "given"),
    [(open_store, AsyncMemoryStore()), (open_async_store, SimpleNamespace(read_many=print))],
)
def test_a_store_of_the_other_shell_is_refused(opening: Any, given: Any) -> None:
    with pytest.raises(ConfigurationError, match="is not a store"):
        opening(given)
