"""DNS look-ups: one thread for all that wait for a name, and a cancelled one disturbs no other. No resolver is called."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from threading import enumerate as threads
from typing import Any

import pytest
import redis
import redis.asyncio as aio
from redis.exceptions import ConnectionError as Unreachable
from redis.exceptions import TimeoutError as Late

from rewriter.signals import dns as dns_module
from rewriter.signals.dns import ResolvingConnection, ResolvingSSLConnection, ThreadResolvingConnection, addresses
from rewriter.signals.redis_clients import EVENT_LOOP, THREADS, Api, opened, sentinels, store_address
from tests.fakes import awaited, waited

NAME, PORT = "store.invalid", 6379
V4, V6 = "192.0.2.1", "2001:db8::1"


class Dns:
    """Answers for `NAME` when `answers` is set, with both kinds of address, or with `error`. `asked` counts."""

    def __init__(self) -> None:
        self.asked = 0
        self.answers = Event()
        self.error: Exception | None = None

    def getaddrinfo(self, host: str, port: int, **_: Any) -> list[Any]:
        assert host == NAME
        self.asked += 1
        assert self.answers.wait(10)
        if self.error:
            raise self.error
        stream = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [(socket.AF_INET6, *stream, (V6, port, 0, 0)), (socket.AF_INET, *stream, (V4, port))]


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dns]:
    played = Dns()
    monkeypatch.setattr(socket, "getaddrinfo", played.getaddrinfo)
    yield played
    played.answers.set()
    assert waited(lambda: not looking_up())


def looking_up() -> list[str]:
    return [thread.name for thread in threads() if thread.name == "rewriter-names"]


async def under_way(dns: Dns, count: int) -> list[asyncio.Task[list[str]]]:
    """Return that many who wait for one name that is being looked up."""
    waiting = [asyncio.create_task(addresses(NAME, PORT)) for _ in range(count)]
    await awaited(lambda: dns.asked > 0)
    await asyncio.sleep(0)  # each has begun to wait
    return waiting


# --- the look-up ------------------------------------------------------------------------------------------------------


async def test_all_who_want_a_name_share_one_look_up(dns: Dns) -> None:
    waiting = await under_way(dns, 50)
    assert len(looking_up()) == 1
    dns.answers.set()
    assert await asyncio.gather(*waiting) == [[V6, V4]] * 50
    assert dns.asked == 1


async def test_what_was_found_is_not_kept(dns: Dns) -> None:
    dns.answers.set()
    for asked in (1, 2):
        await addresses(NAME, PORT)
        assert dns.asked == asked


async def test_an_error_reaches_everybody_who_waits_and_the_next_look_up_is_a_new_one(dns: Dns) -> None:
    dns.error = socket.gaierror(socket.EAI_NONAME, "no such name")
    waiting = await under_way(dns, 3)
    dns.answers.set()
    assert await asyncio.gather(*waiting, return_exceptions=True) == [dns.error] * 3
    dns.error = None
    assert await addresses(NAME, PORT) == [V6, V4]


async def test_who_stops_waiting_takes_nothing_from_the_others(dns: Dns, caplog: pytest.LogCaptureFixture) -> None:
    first, second, third = await under_way(dns, 3)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert not second.done()
    assert not third.done()
    dns.answers.set()
    assert [await second, await third] == [[V6, V4]] * 2
    assert caplog.records == []  # nor does waking it up, which asyncio would log


async def test_no_thread_to_be_had_is_an_error_and_the_next_look_up_is_a_new_one(
    dns: Dns, monkeypatch: pytest.MonkeyPatch
) -> None:
    dns.answers.set()

    def none(*_: Any, **__: Any) -> Any:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(dns_module, "Thread", none)
        with pytest.raises(RuntimeError):
            await addresses(NAME, PORT)
    assert await addresses(NAME, PORT) == [V6, V4]


@pytest.mark.parametrize("error", [None, socket.gaierror("no such name")], ids=["found", "not found"])
def test_a_look_up_that_ends_after_its_loop_disturbs_nobody(
    dns: Dns, error: Exception | None, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    dns.error = error
    waiting = addresses(NAME, PORT)

    async def begin() -> None:
        waiting.send(None)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())
    loop.close()
    dns.answers.set()
    assert waited(lambda: not looking_up())
    waiting.close()
    gc.collect()
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_looks_up_anew_what_its_parent_was_looking_up(dns: Dns) -> None:
    loop = asyncio.new_event_loop()
    waiting = loop.run_until_complete(under_way(dns, 1))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            dns.answers = Event()  # the parent's may have been forked while a thread held its lock
            dns.answers.set()
            found = asyncio.new_event_loop().run_until_complete(asyncio.wait_for(addresses(NAME, PORT), 5))
            code = 0 if found == [V6, V4] else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    dns.answers.set()
    loop.run_until_complete(asyncio.gather(*waiting))
    loop.close()


# --- connections ------------------------------------------------------------------------------------------------------


class Opened:
    """Stands for asyncio.open_connection: notes what it is asked for, and refuses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> None:
        self.asked: list[dict[str, Any]] = []
        self._error = error or ConnectionRefusedError(111, "refused")
        monkeypatch.setattr(asyncio, "open_connection", self._open)

    async def _open(self, **arguments: Any) -> Any:
        self.asked.append(arguments)
        raise self._error


async def test_addresses_are_tried_in_their_order_and_all_that_was_wrong_is_said(
    dns: Dns, monkeypatch: pytest.MonkeyPatch
) -> None:
    dns.answers.set()
    connecting = Opened(monkeypatch)
    with pytest.raises(Unreachable, match=f"refused; .*refused connecting to {NAME}:{PORT}"):
        await opened(store_address(f"redis://{NAME}"), 1, EVENT_LOOP).ping()
    assert connecting.asked == [{"host": V6, "port": PORT}, {"host": V4, "port": PORT}]


async def test_tls_verifies_the_name_at_whichever_address(dns: Dns, monkeypatch: pytest.MonkeyPatch) -> None:
    dns.answers.set()
    connecting = Opened(monkeypatch)
    with pytest.raises(Unreachable):
        await opened(store_address(f"rediss://{NAME}"), 1, EVENT_LOOP).ping()
    assert [(asked["host"], asked["server_hostname"]) for asked in connecting.asked] == [(V6, NAME), (V4, NAME)]
    for asked in connecting.asked:
        assert asked["ssl"].check_hostname
        assert asked["ssl"].verify_mode is ssl.CERT_REQUIRED


async def test_check_hostname_can_be_turned_off(dns: Dns, monkeypatch: pytest.MonkeyPatch) -> None:
    dns.answers.set()
    connecting = Opened(monkeypatch)
    with pytest.raises(Unreachable):
        await opened(store_address(f"rediss://{NAME}?ssl_check_hostname=no"), 1, EVENT_LOOP).ping()
    assert not connecting.asked[0]["ssl"].check_hostname


async def test_a_certificate_that_does_not_verify_is_not_tried_elsewhere(
    dns: Dns, monkeypatch: pytest.MonkeyPatch
) -> None:
    dns.answers.set()
    connecting = Opened(monkeypatch, ssl.SSLCertVerificationError(1, "another's name"))
    with pytest.raises(Unreachable, match="another's name"):
        await opened(store_address(f"rediss://{NAME}"), 1, EVENT_LOOP).ping()
    assert len(connecting.asked) == 1


@pytest.mark.parametrize("host", ["192.0.2.7", "[2001:db8::7]"])
async def test_an_address_is_not_looked_up(dns: Dns, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    connecting = Opened(monkeypatch)
    with pytest.raises(Unreachable):
        await opened(store_address(f"redis://{host}"), 1, EVENT_LOOP).ping()
    assert connecting.asked == [{"host": host.strip("[]"), "port": PORT}]
    assert dns.asked == 0


async def test_a_slow_look_up_ends_with_the_time_to_connect(dns: Dns) -> None:
    with pytest.raises(Late):
        await opened(store_address(f"redis://{NAME}?socket_connect_timeout=0.05"), 1, EVENT_LOOP).ping()
    assert dns.asked == 1


# --- with threads -----------------------------------------------------------------------------------------------------


class Reached:
    """Addresses that threads connect to, and the names that TLS verifies there; none answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answers: str = "") -> None:
        self.addresses: list[str] = []
        self.verified: list[str] = []

        def connect(connection: redis.Connection) -> socket.socket:
            self.addresses.append(connection.host)
            if connection.host != answers:
                raise ConnectionRefusedError(f"{connection.host} refused")
            return socket.socket()

        def wrap(connection: redis.SSLConnection, _: object) -> object:
            self.verified.append(connection.host)
            raise ConnectionResetError("that was all")

        monkeypatch.setattr(redis.Connection, "_connect", connect)
        monkeypatch.setattr(redis.SSLConnection, "_wrap_socket_with_ssl", wrap)


def test_threads_try_the_addresses_in_their_order(dns: Dns, monkeypatch: pytest.MonkeyPatch) -> None:
    dns.answers.set()
    reached = Reached(monkeypatch)
    client = opened(store_address(f"redis://{NAME}"), 1, THREADS)
    with pytest.raises(Unreachable, match=f"{V6} refused; {V4} refused"):
        client.ping()
    assert reached.addresses == [V6, V4]


@pytest.mark.parametrize("url", ["rediss://{}", "rediss+sentinel://{}/main"])
def test_threads_verify_the_name_at_whichever_address(url: str, dns: Dns, monkeypatch: pytest.MonkeyPatch) -> None:
    dns.answers.set()
    reached = Reached(monkeypatch, answers=V4)
    with pytest.raises(Unreachable):
        opened(store_address(url.format(NAME)), 1, THREADS).ping()
    assert reached.addresses[:2] == [V6, V4]
    assert set(reached.verified) == {NAME}


def test_a_thread_waits_for_a_name_no_longer_than_for_a_connection(dns: Dns) -> None:
    client = opened(store_address(f"redis://{NAME}?socket_connect_timeout=0.05"), 8, THREADS)
    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(client.ping) for _ in range(8)]
        assert all(isinstance(one.exception(10), Late) for one in asking)
    assert dns.asked == 1
    assert len(looking_up()) == 1


# --- which clients ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("api", "kind"), [(EVENT_LOOP, ResolvingConnection), (THREADS, ThreadResolvingConnection)])
@pytest.mark.parametrize("plain", ["redis", "rediss"])
@pytest.mark.parametrize("url", ["{}://h", "{}+sentinel://h,i/main"])
def test_clients_of_ours_look_names_up_here(api: Api, kind: type, plain: str, url: str) -> None:
    client = opened(store_address(url.format(plain)), 7, api)
    for one in (client, *sentinels(client)):
        assert issubclass(one.connection_pool.connection_class, kind)
        assert isinstance(one.connection_pool.make_connection(), one.connection_pool.connection_class)


@pytest.mark.parametrize(("plain", "kind"), [("redis", ResolvingConnection), ("rediss", ResolvingSSLConnection)])
def test_so_do_a_cluster_s_nodes_and_those_that_it_will_name(plain: str, kind: type) -> None:
    cluster = opened(store_address(f"{plain}+cluster://h,i"), 7, EVENT_LOOP)
    nodes = cluster.nodes_manager.startup_nodes.values()
    assert [node.connection_class for node in nodes] == [kind] * 2
    assert aio.cluster.ClusterNode("j", 1, **cluster.nodes_manager.connection_kwargs).connection_class is kind


def test_others_stay_as_they_are() -> None:
    assert opened(store_address("unix:///run/valkey.sock"), 7, EVENT_LOOP).connection_pool.connection_class is (
        aio.UnixDomainSocketConnection
    )
